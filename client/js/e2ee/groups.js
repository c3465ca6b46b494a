// Keeps the groups of an encryption those of their conversations (SPEC 19.10, 19.15, 19.16): after a change of devices it adds and
// removes them, without waiting for a message; it puts the state of a group for devices that join by themselves, and finds it
// where this device is one of them.

import { equal, fromBase64, hex, toBase64, unhex, uuid } from '../bytes.js'
import { ConnectionLost } from '../errors.js'
import { HttpRefused } from '../http.js'
import { Timers } from '../timers.js'

/** @typedef {{ controlSeq: number, state: Uint8Array }} Joining the state of a group after its last control message */

export class NotInGroup extends Error {}

const OWN_MS = 300 // this device sees to its user's other devices
const SPREAD_MS = 2000 // between the devices that could do it
const JOIN_MS = 4000 // for others to add this device
const FIRST_PAUSE_MS = 1000
const MOST_PAUSE_MS = 30_000
const CHECK_MS = [30_000, 90_000]

export class Groups {
  #client
  #protocol
  #http
  #timers = new Timers()
  /** @type {Map<string, number>} conversation in hex -> the version of the device set at which the group was looked at */
  #looked = new Map()
  /** @type {Set<string>} */
  #putting = new Set()

  /** @param {import('../client.js').Client} client @param {import('./encryption.js').Protocol} protocol
   * @param {import('../http.js').Http} [http] without it no device joins by itself */
  constructor(client, protocol, http) {
    this.#client = client
    this.#protocol = protocol
    this.#http = http
  }

  /** @param {[string, any][]} items of the store */
  restore(items) {
    for (const [path, version] of items) {
      const [kind, key] = path.split('/')
      if (kind === 'group_looked') this.#looked.set(key, version)
    }
  }

  // The server has welcomed this device.
  online() {
    for (const key of this.#protocol.toPut?.() ?? []) this.#put(unhex(key))
  }

  stop() {
    this.#timers.clear()
  }

  /** The devices of a conversation may have changed: makes the group that of its device set, after a moment, in which another
   * device may do it. @param {Uint8Array} conversation @param {Uint8Array[]} [users] whose devices have changed */
  look(conversation, users) {
    const state = this.#client.mailbox.held(conversation)?.state
    if (!this.#protocol.isInGroup || !state || !this.#client.isOnline) return
    if (this.#client.mailbox.head(conversation)?.is_request) return // to send into a request accepts it (16.2): the user does that
    const key = hex(conversation)
    const isIn = this.#protocol.isInGroup(conversation)
    if (isIn ? (this.#looked.get(key) ?? 0) >= state.devicesVersion : !state.controlSeq || this.#looked.get(key) === -1) return
    const isOwn = users?.some((user) => equal(user, this.#client.user))
    const ms = !isIn ? JOIN_MS : isOwn ? OWN_MS : OWN_MS + Math.random() * SPREAD_MS
    this.#timers.after(key, ms, () => this.#tidy(conversation, isIn ? state.devicesVersion : -1))
  }

  /** @param {Uint8Array} conversation @param {number} version */
  #tidy(conversation, version) {
    const key = hex(conversation)
    this.#looked.set(key, version)
    this.#client.tidy(conversation).then(() => {
      if (version >= 0) this.#client.journal.put(`group_looked/${key}`, version)
      else this.#looked.delete(key)
    }, () => this.#looked.delete(key))
  }

  /** The user no longer takes part. @param {Uint8Array} conversation */
  forget(conversation) {
    this.#protocol.forget?.(conversation)
    if (this.#looked.delete(hex(conversation))) this.#client.journal.remove(`group_looked/${hex(conversation)}`)
  }

  /** A control message was handled: the device that has sent it puts the state after it, and another one if that is gone.
   * @param {Uint8Array} conversation @param {boolean} isOwn */
  controlHandled(conversation, isOwn) {
    if (!this.#http || !this.#protocol.stateOf) return
    if (isOwn) return this.#put(conversation)
    const [least, most] = CHECK_MS
    this.#timers.after(`check/${hex(conversation)}`, least + Math.random() * (most - least), () => this.#check(conversation))
  }

  /** Waits for a way into a group: the state by which this device joins, or undefined if another has added it. Rejects with
   * ConnectionLost. @param {Uint8Array} conversation @param {NotInGroup} why @param {Joining} [tried] a state that was no way in
   * @returns {Promise<Joining | undefined>} */
  async wayIn(conversation, why, tried) {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(MOST_PAUSE_MS, 2 * pause)) {
      const joining = await this.#stateThere(conversation)
      if (joining && !equal(joining.state, tried?.state)) return joining
      this.#client.emit('waiting', conversation, why.message)
      await Promise.race([this.#client.next('handled'), sleep(pause)])
      if (this.#protocol.isInGroup?.(conversation)) return undefined
      if (!this.#client.isOnline) throw new ConnectionLost('not connected')
    }
  }

  /** @param {Uint8Array} conversation @returns {Promise<Joining | undefined>} */
  async #stateThere(conversation) {
    if (!this.#http) return undefined
    const answer = await this.#http.ask('GET', pathOf(conversation)).catch(() => undefined)
    return answer?.state ? { controlSeq: answer.control_seq, state: fromBase64(answer.state) } : undefined
  }

  /** Puts the state if there is none: 304 says that there is one, without its bytes. @param {Uint8Array} conversation */
  async #check(conversation) {
    const asking = this.#http?.ask('GET', pathOf(conversation), undefined, { 'if-none-match': '*' }).catch(() => undefined)
    const [own, answer] = [await this.#protocol.stateOf?.(conversation), await asking]
    if (own && answer && !answer.state && answer.control_seq === own.controlSeq) await this.#put(conversation)
  }

  /** Until it is stored, or another control message has followed. @param {Uint8Array} conversation */
  async #put(conversation) {
    const key = hex(conversation)
    if (!this.#http || this.#putting.has(key)) return
    this.#putting.add(key)
    for (let pause = FIRST_PAUSE_MS; this.#client.isOnline; pause = Math.min(MOST_PAUSE_MS, 2 * pause)) {
      const own = await this.#protocol.stateOf?.(conversation)
      if (!own) break
      const body = { control_seq: own.controlSeq, state: toBase64(own.state) }
      const error = await this.#http.ask('PUT', pathOf(conversation), body).then(() => undefined, (failure) => failure)
      const isFinal = error instanceof HttpRefused && error.status < 500 && ![408, 429].includes(error.status)
      if (!error || isFinal) {
        this.#protocol.havePut?.(conversation, own.controlSeq)
        this.#client.changed()
        if ((await this.#protocol.stateOf?.(conversation))?.isOwn) continue
        break
      }
      await sleep(pause)
    }
    this.#putting.delete(key)
  }
}

/** @param {Uint8Array} conversation */
function pathOf(conversation) {
  return `/v1/conversations/${uuid(conversation)}/state`
}

/** Without keeping a program of Node alive. @param {number} ms @returns {Promise<void>} */
function sleep(ms) {
  return new Promise((wake) => {
    const timer = /** @type {any} */ (setTimeout(wake, ms))
    timer.unref?.()
  })
}
