// The devices of other users that this device knows, and how a new list differs from them (protocol/SPEC.md, 19.4).

export class KnownDevices {
  #users = new Map() // user in hex -> device in hex -> a device, as `device_list` has it

  // The known devices of a user.
  of(user) {
    return [...(this.#users.get(user.toString('hex'))?.values() ?? [])]
  }

  // Takes all devices of these users. Returns what has changed of users who were known before: [event, device], with the
  // event `new`, `gone` or `changed` (another identity), and the device as it is now, or as it was if it is gone.
  take(users, listed) {
    const told = new Map(users.map((user) => [user.toString('hex'), new Map()]))
    for (const each of listed) told.get(each.user.toString('hex')).set(each.device.toString('hex'), each)
    const changes = []
    for (const [user, devices] of told) {
      const known = this.#users.get(user)
      if (known) changes.push(...differences(known, devices))
      this.#users.set(user, devices)
    }
    return changes
  }
}

function differences(known, devices) {
  const changes = []
  for (const [id, before] of known) if (!devices.has(id)) changes.push(['gone', before])
  for (const [id, device] of devices) {
    const before = known.get(id)
    if (!before) changes.push(['new', device])
    else if (device.identity_revision < before.identity_revision) devices.set(id, before) // an older list
    else if (!device.identity.equals(before.identity)) changes.push(['changed', device])
  }
  return changes
}

// All devices of users, page by page (19.3), by a connected client.
export async function allDevices(client, users) {
  const most = client.limits.get('users_per_devices') ?? 100
  const found = []
  for (let start = 0; start < users.length; start += most) {
    const some = users.slice(start, start + most)
    for (let more = true, device; more; device = found.at(-1)?.device) {
      const page = await client.request({ type: 'devices', users: some, device })
      found.push(...page.devices)
      more = page.more
    }
  }
  return found
}
