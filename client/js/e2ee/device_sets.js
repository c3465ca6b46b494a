// The devices for which a client encrypts in a conversation (SPEC 19.10), and what of them the user has yet to be shown (19.4).

import { hex, unhex, uuid } from '../bytes.js'
import { KnownDevices, allDevices } from '../devices.js'
import { HttpRefused } from '../http.js'

/** @typedef {import('../devices.js').Device} Device */
/** @typedef {{ version: number, devices: Device[] }} DeviceSet */
/** @typedef {DeviceSet & { ofUsers: number }} HeldSet `ofUsers`: the participants_version of the users whose devices it has */

const HTTP_PAUSE_MS = 5000

export class UnknownSet extends Error {}

export class DeviceSets {
  /** @type {Map<string, HeldSet>} conversation in hex -> its set */
  #sets = new Map()
  #client
  #known
  #http

  /** @param {import('../client.js').Client} client @param {(changes: [string, Device][]) => void} onChange called with what
   * [event, device] has changed of known users, before anything is encrypted for them
   * @param {import('../http.js').Http} [http] which tells who takes part where too many do for this protocol */
  constructor(client, onChange, http) {
    this.#client = client
    this.#known = new KnownDevices()
    this.onChange = onChange
    this.#http = http
  }

  /** The set, as of the version that this client knows, or a later one. @param {Uint8Array} conversation
   * @returns {Promise<DeviceSet>} */
  async of(conversation) {
    const head = this.#client.mailbox.head(conversation)
    if (!head) throw new UnknownSet('the conversation is not known')
    const version = head.devices_version ?? 0 // first the version, then the devices (19.10)
    const key = hex(conversation)
    const held = this.#sets.get(key)
    if (held && held.version === version && held.ofUsers === head.participants_version) return held
    const users = head.participant_count === undefined ? head.participants.map((/** @type {any} */ each) => each.user) : await this.#participants(conversation)
    const set = { version, devices: await allDevices(this.#client, users), ofUsers: head.participants_version }
    this.#note(users, set.devices)
    this.#sets.set(key, set)
    return set
  }

  /** All participants of a group of more than 32 (6.10). @param {Uint8Array} conversation */
  async #participants(conversation) {
    if (!this.#http) throw new UnknownSet('the participants of so large a group are told over HTTP alone: give the Encryption an Http')
    /** @type {Uint8Array[]} */
    const users = []
    for (let cursor = ''; ;) {
      const page = await this.#http.ask('GET', `/v1/conversations/${uuid(conversation)}/participants?limit=100${cursor}`).catch(lost)
      users.push(...page.participants.map((/** @type {any} */ each) => unhex(each.user)))
      if (!page.cursor) return users
      cursor = `&cursor=${encodeURIComponent(page.cursor)}`
    }
  }

  /** After a refusal the next look asks again. @param {Uint8Array} conversation @param {any} error */
  forget(conversation, error) {
    this.#sets.delete(hex(conversation))
    this.#client.mailbox.apply({ type: 'devices_changed', conversation, devices_version: error.devices_version, changed_users: [] })
  }

  // The server has another history: each next look asks again (6.4, 19.10).
  forgetAll() {
    this.#sets.clear()
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

/** If HTTP cannot be reached, the message is encrypted later. @param {any} error @returns {never} */
function lost(error) {
  throw error instanceof HttpRefused && error.status < 500 && error.status !== 429 ? error : Object.assign(error, { retry_after_ms: HTTP_PAUSE_MS })
}
