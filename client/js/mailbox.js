// Everything that a device holds: messages by (conversation, seq), in any order and any number of times (SPEC 5.2, 17). Each
// call is one step: what it changes goes into the journal, for one transaction of the store.

import { equal, hex } from './bytes.js'
import { contentOf, reactionsOf } from './contents.js'
import { Held, noConversation } from './held.js'
import { Journal } from './journal.js'
import { Plaintexts } from './plaintexts.js'
import { LIMITS } from './tables.js'

/** @typedef {import('./codec.js').Frame} Frame */

export class Mailbox {
  /** @type {Map<string, Held>} by conversation in hex */
  #held = new Map()
  /** @type {Map<string, number>} conversation in hex -> the participants_version with which this user left */
  #departed = new Map()
  /** @type {Map<string, Frame[]>} frames of conversations that are not known, in their order (6.6.1) */
  #early = new Map()
  /** @type {Uint8Array | undefined} */
  #cursor

  /** @param {Journal} journal */
  constructor(journal = new Journal()) {
    this.journal = journal
    this.plaintexts = new Plaintexts(journal)
    /** @type {Uint8Array} */
    this.user = new Uint8Array()
    /** @type {any} the latest `own_settings` */
    this.own = undefined
    this.isFresh = true // it holds nothing from before the sync that is under way
    this.isHandled = false // whether messages are to be decrypted before they are marked
  }

  // The cursor up to which all frames are held.
  get cursor() {
    return this.#cursor
  }

  set cursor(cursor) {
    this.#cursor = cursor
    this.journal.put('cursor', cursor)
  }

  // Drops the order of the messages, the marks, and what else came from the server's history; keeps the plaintexts (6.4).
  drop() {
    this.plaintexts.loseOrder()
    for (const key of [...this.#held.keys()]) this.#remove(key)
    for (const key of this.#departed.keys()) this.journal.remove(`departed/${key}`)
    this.#departed.clear()
    this.#early.clear()
    this.own = undefined
    this.journal.remove('own')
    this.cursor = undefined
    this.isFresh = true
  }

  /** Takes what a store has. @param {[string, any][]} items */
  restore(items) {
    this.take(new Map(items))
    this.isFresh = this.#cursor === undefined
  }

  /** Takes changes from the journal of another mailbox, whose copy this one is; returns the entries among them. The keys of
   * others are ignored. @param {Map<string, any>} changes @returns {Frame[]} */
  take(changes) {
    const parts = [...changes].map(([path, value]) => ({ path: path.split('/'), value }))
    const kinds = ['conversation', 'departed', 'own', 'cursor', 'plaintext', 'entry'] // an entry needs its conversation
    for (const each of kinds) {
      for (const { path: [kind, key, id], value } of parts) if (kind === each) this.#takeItem(kind, key, id, value)
    }
    return parts.filter(({ path, value }) => path[0] === 'entry' && value).map(({ value }) => value)
  }

  /** @param {string} kind @param {string} key @param {string} id @param {any} value undefined: it is gone */
  #takeItem(kind, key, id, value) {
    if (kind === 'own') this.own = value
    else if (kind === 'cursor') this.#cursor = value
    else if (kind === 'departed') value === undefined ? this.#departed.delete(key) : this.#departed.set(key, value)
    else if (kind === 'plaintext') this.plaintexts.take(key, id, value)
    else if (kind === 'conversation' && value === undefined) this.#held.delete(key)
    else if (kind === 'conversation') {
      const held = this.#newHeld(value)
      held.entries = this.#held.get(key)?.entries ?? held.entries
      this.#held.set(key, held)
    } else if (value === undefined) this.#held.get(key)?.entries.delete(Number(id))
    else {
      this.#held.get(key)?.entries.set(value.seq, value)
      this.plaintexts.place(value)
    }
  }

  /** Takes a push of any kind, or a frame from elsewhere; returns the messages and tombstones that are new or changed.
   * @param {Frame} frame @returns {Frame[]} */
  apply(frame) {
    if (frame.type === 'profile') return this.#rename(frame)
    if (frame.type === 'own_settings') return this.#takeOwn(frame)
    if (!(frame.conversation instanceof Uint8Array)) return []
    if (frame.type === 'conversation') return this.#learn(frame)
    if (frame.type === 'departed' && frame.users.some((/** @type {Uint8Array} */ user) => equal(this.user, user))) {
      return this.#depart(frame)
    }
    const key = hex(frame.conversation)
    const held = this.#held.get(key)
    if (!held) {
      if (['typing', 'presence'].includes(frame.type)) return []
      this.#early.set(key, [...(this.#early.get(key) ?? []), frame])
      return []
    }
    if (frame.type === 'message' || frame.type === 'tombstone') return this.#put(held, frame) ? [frame] : []
    held.take(frame)
    this.#changed(held)
    return []
  }

  /** Takes a page of `history`: its floor, and its messages, which may be earlier than those that are held.
   * @param {Uint8Array} conversation @param {{ first_seq?: number, messages: Frame[] }} page @returns {Frame[]} */
  takePage(conversation, { first_seq, messages }) {
    const held = this.#held.get(hex(conversation))
    if (!held) return []
    if (first_seq) held.raiseFloor(first_seq)
    held.lowerTo(messages.map(({ seq }) => seq).sort((one, other) => one - other))
    const changed = messages.filter((entry) => this.#put(held, entry))
    this.#changed(held)
    return changed
  }

  // A sync is over, or a cursor has come: frames of conversations that are not known by now are not for this user (6.6.1).
  forgetUnknown() {
    this.#early.clear()
    if (!this.isFresh) return
    for (const key of this.plaintexts.conversations()) if (!this.#held.has(key)) this.plaintexts.forgetConversation(key)
  }

  // Whether there are messages of conversations whose `conversation` has yet to come, with a sync (5.4).
  get hasUnknown() {
    return [...this.#early].some(([key, frames]) => {
      return !this.#departed.has(key) && frames.some(({ type }) => ['message', 'tombstone'].includes(type))
    })
  }

  // The ids of the known conversations.
  get conversations() {
    return [...this.#held.values()].map(({ state }) => state.id)
  }

  /** A conversation as it is now, without messages; undefined if it is not known. @param {Uint8Array} conversation */
  head(conversation) {
    return this.#held.get(hex(conversation))?.shown
  }

  /** Its messages and tombstones that can be read, by seq: a run without a gap. @param {Uint8Array} conversation */
  entries(conversation) {
    return this.#held.get(hex(conversation))?.messages ?? []
  }

  /** A message or tombstone, also one above a gap. @param {Uint8Array} conversation @param {number} seq */
  entry(conversation, seq) {
    return this.#held.get(hex(conversation))?.entries.get(seq)
  }

  /** How far the run reaches, and how far its messages were handled: see Client. @param {Uint8Array} conversation */
  held(conversation) {
    return this.#held.get(hex(conversation))
  }

  /** The seq below which there are messages to load; undefined if all are held. @param {Uint8Array} conversation */
  olderBefore(conversation) {
    const state = this.#held.get(hex(conversation))?.state
    return state && state.begin > state.floor ? state.begin : undefined
  }

  /** The number of messages that the user has not read (5.6). @param {Uint8Array} conversation */
  unreadCount(conversation) {
    return this.#held.get(hex(conversation))?.unreadCount ?? 0
  }

  /** Whether all recipients have a message, or have read it (5.7.2). @param {Frame} entry */
  status(entry) {
    return this.#held.get(hex(entry.conversation))?.status(entry) ?? 'sent'
  }

  // Messages that exist and are missing: the first gap of each conversation.
  gaps() {
    return [...this.#held.values()].map((held) => held.gap).filter((gap) => gap !== undefined)
  }

  /** Changes a conversation, if it is known, in one step. @param {Uint8Array} conversation @param {(held: Held) => void} act */
  change(conversation, act) {
    const held = this.#held.get(hex(conversation))
    if (!held) return
    act(held)
    this.#changed(held)
  }

  /** Why a message has no plaintext; undefined if it has, or needs none. @param {Uint8Array} conversation @param {number} seq */
  reason(conversation, seq) {
    return this.#held.get(hex(conversation))?.state.reasons.get(seq)
  }

  /** What a message says, encrypted or not; undefined if it cannot be read here. @param {any} entry */
  says(entry) {
    return contentOf(entry, this.plaintexts)
  }

  /** The reactions to messages: message in hex -> user in hex -> text. @param {Uint8Array} conversation */
  reactions(conversation) {
    return reactionsOf(this.entries(conversation), (entry) => this.says(entry))
  }

  // The up-to marks that are due: of messages that are held, and of those that the user has read.
  marks() {
    const states = [...this.#held.values()].map(({ state }) => state)
    const due = (/** @type {any[]} */ marks) => marks.slice(0, LIMITS.marks_per_request)
    return {
      delivered: due(states.map((state) => ({ state, seq: this.isHandled ? state.handled : state.upTo }))
        .filter(({ state, seq }) => seq > state.delivered).map(({ state, seq }) => [state.id, seq])),
      read: due(states.filter((state) => state.read > state.readNoted).map((state) => [state.id, state.read])),
    }
  }

  /** The user has read up to a message. @param {Uint8Array} conversation @param {number} seq */
  markRead(conversation, seq) {
    this.change(conversation, ({ state }) => { state.read = Math.max(state.read, seq) })
  }

  /** The participants' version of each mark's conversation; undefined if it is not known. @param {[Uint8Array, number][]} marks */
  versions(marks) {
    return marks.map(([conversation]) => this.head(conversation)?.participants_version)
  }

  /** The server has noted these marks: they are the user's own, unless the participants have changed since they were sent: then
   * they stay due (17.3).
   * @param {'delivered' | 'read'} kind @param {[Uint8Array, number][]} marks @param {(number | undefined)[]} versions when they were sent */
  marked(kind, marks, versions) {
    const now = this.versions(marks)
    marks.forEach(([conversation, seq], index) => {
      if (now[index] === versions[index]) this.change(conversation, (held) => held.marked(kind, seq))
    })
  }

  /** @param {Held} held @param {Frame} entry */
  #put(held, entry) {
    const isNews = held.put(entry)
    if (entry.type === 'tombstone') this.plaintexts.forget(/** @type {any} */ (entry))
    if (held.entries.has(entry.seq)) this.plaintexts.place(held.entries.get(entry.seq))
    if (isNews) this.journal.put(pathOf(entry), entry)
    this.#changed(held)
    return isNews
  }

  /** @param {any} told @returns {Frame[]} */
  #learn(told) {
    const key = hex(told.conversation)
    if (told.participants_version <= (this.#departed.get(key) ?? -1)) return []
    if (this.#departed.delete(key)) this.journal.remove(`departed/${key}`)
    const held = this.#held.get(key) ?? this.#newHeld(noConversation(told.conversation))
    this.#held.set(key, held)
    held.learn(told, this.isFresh)
    this.#changed(held)
    const early = this.#early.get(key) ?? []
    this.#early.delete(key)
    const more = told.last_message ? [...early, told.last_message] : early
    return more.flatMap((frame) => this.apply(frame))
  }

  /** If this user has left, the conversation is dropped, and no older frame brings it back. @param {Frame} frame
   * @returns {Frame[]} */
  #depart({ conversation, participants_version: version }) {
    const key = hex(conversation)
    if (version < (this.#held.get(key)?.state.head.participants_version ?? -1) || version < (this.#departed.get(key) ?? -1)) return []
    this.#departed.set(key, version)
    this.journal.put(`departed/${key}`, version)
    this.#remove(key)
    this.#early.delete(key)
    this.plaintexts.forgetConversation(key)
    return []
  }

  /** How a user is shown from now on, in all conversations. @param {Frame} profile @returns {Frame[]} */
  #rename(profile) {
    for (const held of this.#held.values()) {
      if (!held.participants.of(profile.user) || !(held.participants.areShown || equal(profile.user, this.user))) continue
      held.participants.rename(profile)
      this.#changed(held)
    }
    return []
  }

  /** @param {Frame} settings @returns {Frame[]} */
  #takeOwn(settings) {
    const isOlder = this.own && [settings.revision, settings.contacts_revision].some((value, at) => {
      return value < [this.own.revision, this.own.contacts_revision][at]
    })
    if (isOlder) return []
    this.own = settings
    this.journal.put('own', settings)
    return []
  }

  /** @param {ReturnType<typeof noConversation>} state */
  #newHeld(state) {
    return new Held(state, this.user, (entry) => {
      this.journal.remove(pathOf(entry))
      this.plaintexts.forget(entry)
    })
  }

  /** Lets the run grow, and puts the conversation into the journal. @param {Held} held */
  #changed(held) {
    held.advance()
    const { id, begin, floor, upTo, lastSeq } = held.state
    const key = hex(id)
    this.journal.put(`conversation/${key}`, held.state)
    if (begin <= floor && upTo >= lastSeq && this.plaintexts.isIncomplete(key)) this.plaintexts.forgetPlaceless(key)
  }

  /** @param {string} key a conversation in hex, all of whose messages go */
  #remove(key) {
    for (const entry of this.#held.get(key)?.entries.values() ?? []) this.journal.remove(pathOf(entry))
    if (this.#held.delete(key)) this.journal.remove(`conversation/${key}`)
  }
}

/** @param {any} entry */
function pathOf({ conversation, seq }) {
  return `entry/${hex(conversation)}/${String(seq).padStart(19, '0')}`
}
