// The devices for which a client encrypts in a conversation (SPEC 19.10), and what of them the user has yet to be shown (19.4).

import { hex } from '../bytes.js'
import { KnownDevices, allDevices } from '../devices.js'

/** @typedef {import('../devices.js').Device} Device */
/** @typedef {{ version: number, devices: Device[] }} DeviceSet */

export class UnknownSet extends Error {}

export class DeviceSets {
  /** @type {Map<string, DeviceSet>} conversation in hex -> its set */
  #sets = new Map()
  #client
  #known

  /** @param {import('../client.js').Client} client @param {(changes: [string, Device][]) => void} onChange called with what
   * [event, device] has changed of known users, before anything is encrypted for them */
  constructor(client, onChange) {
    this.#client = client
    this.#known = new KnownDevices()
    this.onChange = onChange
  }

  /** The set, as of the version that this client knows, or a later one. @param {Uint8Array} conversation
   * @returns {Promise<DeviceSet>} */
  async of(conversation) {
    const head = this.#client.mailbox.head(conversation)
    if (!head || head.participant_count !== undefined) throw new UnknownSet('the participants of the conversation are not known')
    const version = head.devices_version ?? 0 // first the version, then the devices (19.10)
    const key = hex(conversation)
    const held = this.#sets.get(key)
    if (held && held.version === version) return held
    const users = head.participants.map((/** @type {any} */ each) => each.user)
    const set = { version, devices: await allDevices(this.#client, users) }
    this.#note(users, set.devices)
    this.#sets.set(key, set)
    return set
  }

  /** After a refusal the next look asks again. @param {Uint8Array} conversation @param {any} error */
  forget(conversation, error) {
    this.#sets.delete(hex(conversation))
    this.#client.mailbox.apply({ type: 'devices_changed', conversation, devices_version: error.devices_version, changed_users: [] })
  }

  /** @param {[string, any][]} items of the store */
  restore(items) {
    for (const [path, devices] of items) {
      const [kind, user] = path.split('/')
      if (kind === 'devices') this.#known.restore(user, devices)
    }
  }

  /** @param {Uint8Array[]} users @param {Device[]} devices */
  #note(users, devices) {
    const changes = this.#known.take(users, devices)
    for (const user of users) this.#client.journal.put(`devices/${hex(user)}`, this.#known.of(user))
    if (changes.length) this.onChange(changes)
  }
}
