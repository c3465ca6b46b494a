// Who types and who is online (SPEC 9): nothing of it is stored, and all of it ends with the connection.

import { equal, hex, unhex } from './bytes.js'

const TYPING_MS = 6000 // 9.1

export class Signs {
  /** @type {Map<string, Map<string, number>>} conversation in hex -> user in hex -> until when that user types */
  #typing = new Map()
  /** @type {Map<string, any>} user in hex -> the latest `presence` */
  #presence = new Map()
  /** @type {Uint8Array[]} */
  #watched = []

  /** @param {{ request(frame: any): Promise<any> }} client */
  constructor(client) {
    this.client = client
  }

  /** Who types in a conversation now. @param {Uint8Array} conversation */
  typing(conversation) {
    const now = Date.now()
    return [...(this.#typing.get(hex(conversation)) ?? [])].filter(([, until]) => now < until).map(([user]) => unhex(user))
  }

  /** Whether a watched user is online, and else since when not; undefined if that is not known.
   * @param {Uint8Array} user @returns {{ isOnline: boolean, lastSeen?: number } | undefined} */
  presence(user) {
    const known = this.#presence.get(hex(user))
    return known && { isOnline: known.is_online, lastSeen: known.last_seen }
  }

  // The watched users who are online.
  get online() {
    return this.#watched.filter((user) => this.presence(user)?.isOnline)
  }

  /** Tells the presence of these users from now on, and of no others, over all connections (9.2). @param {Uint8Array[]} users */
  watch(users) {
    this.#watched = users
    for (const key of this.#presence.keys()) if (!users.some((user) => hex(user) === key)) this.#presence.delete(key)
    this.#ask()
  }

  // A connection is open: it tells everything anew.
  begin() {
    this.#typing.clear()
    this.#presence.clear()
    if (this.#watched.length) this.#ask()
  }

  // The connection is lost.
  stop() {
    this.#typing.clear()
    this.#presence.clear()
  }

  /** @param {any} frame `typing`, `presence` or a message, which ends the typing of its sender */
  take(frame) {
    if (frame.type === 'presence') {
      if (this.#watched.some((user) => equal(user, frame.user))) this.#presence.set(hex(frame.user), frame)
      return
    }
    const users = this.#typing.get(hex(frame.conversation)) ?? new Map()
    if (frame.is_typing) users.set(hex(frame.user), Date.now() + TYPING_MS)
    else users.delete(hex(frame.user ?? frame.sender))
    this.#typing.set(hex(frame.conversation), users)
  }

  #ask() {
    this.client.request({ type: 'watch', users: this.#watched }).catch(() => {}) // the next connection asks again
  }
}
