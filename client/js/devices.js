// The devices of other users that this device knows, and how a new list differs from them (protocol/SPEC.md, 19.4).

import { equal, hex } from './bytes.js'

/** @typedef {{ user: Uint8Array, device: Uint8Array, identity: Uint8Array, identity_revision: number, [field: string]: any }} Device */

export class KnownDevices {
  /** @type {Map<string, Map<string, Device>>} */
  #users = new Map() // user in hex -> device in hex -> a device, as `device_list` has it

  /** The known devices of a user. @param {Uint8Array} user */
  of(user) {
    return [...(this.#users.get(hex(user))?.values() ?? [])]
  }

  /** Takes the devices of a user from a store. @param {string} user in hex @param {Device[]} devices */
  restore(user, devices) {
    this.#users.set(user, new Map(devices.map((each) => [hex(each.device), each])))
  }

  /** Takes all devices of these users. Returns what has changed of users who were known before: [event, device], with the
   * event `new`, `gone` or `changed` (another identity), and the device as it is now, or as it was if it is gone.
   * @param {Uint8Array[]} users @param {Device[]} listed @returns {[string, Device][]} */
  take(users, listed) {
    const told = new Map(users.map((user) => [hex(user), new Map()]))
    for (const each of listed) told.get(hex(each.user))?.set(hex(each.device), each)
    /** @type {[string, Device][]} */
    const changes = []
    for (const [user, devices] of told) {
      const known = this.#users.get(user)
      if (known) changes.push(...differences(known, devices))
      this.#users.set(user, devices)
    }
    return changes
  }
}

/** @param {Map<string, Device>} known @param {Map<string, Device>} devices */
function differences(known, devices) {
  /** @type {[string, Device][]} */
  const changes = []
  for (const [id, before] of known) if (!devices.has(id)) changes.push(['gone', before])
  for (const [id, device] of devices) {
    const before = known.get(id)
    if (!before) changes.push(['new', device])
    else if (device.identity_revision < before.identity_revision) devices.set(id, before) // an older list
    else if (!equal(device.identity, before.identity)) changes.push(['changed', device])
  }
  return changes
}

/** All devices of users, page by page (19.3), by a connected client.
 * @param {{ limits: Map<string, number>, request(frame: any): Promise<any> }} client @param {Uint8Array[]} users
 * @returns {Promise<Device[]>} */
export async function allDevices(client, users) {
  const most = client.limits.get('users_per_devices') ?? 100
  /** @type {Device[]} */
  const found = []
  for (let start = 0; start < users.length; start += most) {
    const some = users.slice(start, start + most)
    for (let more = true, device = /** @type {any} */ (undefined); more; device = found.at(-1)?.device) {
      /** @type {any} */
      const page = await client.request({ type: 'devices', users: some, device })
      found.push(...page.devices)
      more = page.more
    }
  }
  return found
}
