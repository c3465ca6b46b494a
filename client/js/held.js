// One conversation, as far as this device holds it (SPEC 17.1 to 17.3). `state` is plain data, which a store keeps; the
// messages are apart, each under its seq.

import { equal, hex } from './bytes.js'
import { Participants, noParticipants, sinceOf } from './participants.js'

/** @typedef {import('./codec.js').Frame} Frame */

const COUNTED = 50 // the last messages whose counts each sync renews (5.8)

/** @param {Uint8Array} id */
export function noConversation(id) {
  return {
    id,
    head: /** @type {any} */ (undefined), // the latest `conversation` that counts
    devicesVersion: 0,
    floor: 1, // messages below it are not for this user
    lastSeq: 0, // the greatest known to exist
    controlSeq: 0, // of the last control message known to exist (19.15)
    begin: 0, // the first seq of the run, the messages without a gap
    upTo: 0, // its last seq; begin - 1 if it is empty
    delivered: 0, // the mark that the server has noted
    read: 0, // the mark that the user has asked for
    readNoted: 0,
    handled: 0, // the seq up to which messages were decrypted, or cannot be; only with encryption
    again: /** @type {Set<number>} */ (new Set()), // seqs below it that have changed since, or have come later
    reasons: /** @type {Map<number, string>} */ (new Map()), // seq -> why it cannot be decrypted
    uncounted: /** @type {Set<number>} */ (new Set()),
    quiet: /** @type {Map<number, number>} */ (new Map()), // seq -> how many messages up to it are quiet
    ownVersion: [-1, 0], // of the latest frame with the user's own settings
    mutedUntil: /** @type {number | undefined} */ (undefined),
    participants: noParticipants(),
  }
}

export class Held {
  /** @param {ReturnType<typeof noConversation>} state @param {Uint8Array} user
   * @param {(entry: any) => void} onGone called with each entry that is held no longer */
  constructor(state, user, onGone = () => {}) {
    this.state = state
    this.user = user
    this.onGone = onGone
    this.participants = new Participants(state.participants, hex(user))
    /** @type {Map<number, any>} */
    this.entries = new Map()
  }

  /** Applies a `conversation`. @param {any} told @param {boolean} isFresh whether the device held nothing before this sync */
  learn(told, isFresh) {
    const { state } = this
    const isFirst = !state.head
    const before = state.head?.participants_version ?? -1
    if (!isFirst && told.participants_version > before) state.floor = Math.min(state.floor, told.first_seq)
    if (told.participants_version >= before) this.#takeHead(told)
    this.takeDevices(told)
    state.controlSeq = Math.max(state.controlSeq, told.control_seq ?? 0)
    const own = [told.participants_version, told.own_revision ?? 0]
    if (own[0] > state.ownVersion[0] || (own[0] === state.ownVersion[0] && own[1] >= state.ownVersion[1])) {
      Object.assign(state, { ownVersion: own, mutedUntil: told.muted_until })
    }
    this.raiseFloor(told.first_seq)
    state.lastSeq = Math.max(state.lastSeq, told.last_seq)
    this.participants.countAll(told.participant_count, told.participants_version)
    if (told.participants) this.participants.takeAll(told.participants, told.participants_version)
    this.participants.takeStays(told.former ?? [])
    this.#countQuiet(told)
    for (const seq of told.uncounted_seqs ?? []) state.uncounted.add(seq)
    this.#forgetCounted()
    this.#haveWritten(told.last_seq)
    if (!isFirst) return
    // The server tells this device only the last message of a new conversation (6.3): it begins there.
    state.begin = told.last_message?.seq ?? (isFresh ? told.last_seq + 1 : told.first_seq)
    state.upTo = state.handled = state.begin - 1
  }

  /** Applies any other frame about the conversation but for messages. @param {any} frame */
  take(frame) {
    const { participants } = this
    const { participants_version: version } = frame
    if (frame.type === 'participants') {
      participants.countAll(frame.participant_count, version)
      participants.take(frame.participants, version)
      for (const each of frame.participants) this.#haveWritten(sinceOf(each), each.user)
    } else if (frame.type === 'departed') {
      participants.countAll(frame.participant_count, version)
      participants.remove(frame.users, version)
      participants.takeStays(frame.former ?? [])
    } else if (frame.type === 'receipts') {
      for (const [user, delivered, read] of frame.receipts) participants.mark(user, delivered, read)
    } else if (frame.type === 'receipt_counts') {
      for (const each of frame.counts) participants.count(each)
    } else if (frame.type === 'settings') this.#takeSettings(frame)
    else if (frame.type === 'devices_changed') this.takeDevices(frame)
    this.#countQuiet(frame)
    if (frame.type === 'settings') this.raiseFloor(frame.first_seq)
  }

  /** The version of the device set (19.10). @param {{ devices_version?: number }} frame */
  takeDevices({ devices_version = 0 }) {
    this.state.devicesVersion = Math.max(this.state.devicesVersion, devices_version)
  }

  /** Holds a message or tombstone if it is news (17.4); returns whether it is. @param {any} entry */
  put(entry) {
    const { state } = this
    this.#noteWritten(entry)
    if (equal(entry.sender, this.user) && entry.seq > state.head.last_seq) this.#accept()
    if (entry.seq < state.floor) return false
    if (entry.type === 'tombstone' && !entry.is_quiet) state.uncounted.add(entry.seq)
    const former = this.entries.get(entry.seq)
    if (entry.seq < state.begin && !former) return false
    if (former && !supersedes(entry, former)) return false
    this.entries.set(entry.seq, entry)
    if (entry.follows !== undefined) state.controlSeq = Math.max(state.controlSeq, entry.seq)
    if (entry.seq <= state.handled && entry.type === 'message') state.again.add(entry.seq)
    state.lastSeq = Math.max(state.lastSeq, entry.seq)
    return true
  }

  // Lets the run grow by the entries that adjoin it.
  advance() {
    const { state } = this
    for (;;) {
      while (this.entries.has(state.upTo + 1)) state.upTo += 1
      if (state.upTo + 1 >= state.floor) return
      state.upTo = state.floor - 1 // messages that are missing below the floor never come
    }
  }

  /** A page of history without gaps, which may lower the beginning (17.2). @param {any[]} seqs ascending */
  lowerTo(seqs) {
    const { state } = this
    if (seqs.length && seqs[0] < state.begin && seqs.at(-1) >= state.begin - 1) state.begin = Math.max(seqs[0], state.floor)
  }

  /** Messages below it are gone, or not for this user. @param {number} first_seq */
  raiseFloor(first_seq) {
    const { state } = this
    if (first_seq <= state.floor) return
    state.floor = first_seq
    state.lastSeq = Math.max(state.lastSeq, first_seq - 1)
    if (state.head) {
      state.begin = Math.max(state.begin, first_seq)
      state.upTo = Math.max(state.upTo, first_seq - 1)
      state.handled = Math.max(state.handled, first_seq - 1)
    }
    this.#drop((seq) => seq < first_seq)
  }

  // Gives up what is missing above the run, and what waits above that.
  forgetMissing() {
    const { upTo } = this.state
    this.#drop((seq) => seq > upTo)
    this.state.lastSeq = upTo
  }

  /** The server has told of a control message that may be missing. @param {number} seq */
  expectControl(seq) {
    this.state.lastSeq = Math.max(this.state.lastSeq, seq)
    this.state.controlSeq = Math.max(this.state.controlSeq, seq)
  }

  /** The server has noted this mark: it is the user's own (17.3). @param {'delivered' | 'read'} kind @param {number} seq */
  marked(kind, seq) {
    const { state } = this
    const counted = Math.min(seq, state.lastSeq)
    if (kind === 'delivered') state.delivered = Math.max(state.delivered, seq)
    else state.readNoted = Math.max(state.readNoted, seq)
    this.participants.mark(this.user, counted, kind === 'read' ? counted : undefined)
  }

  // The seq of the next message to decrypt: those of the run in order, then those that have changed or have come later. An edit
  // was encrypted after later messages, so it comes after all that are known.
  nextToHandle() {
    const { state, entries } = this
    while (state.handled < state.upTo && (entries.get(state.handled + 1)?.revision ?? 0)) state.again.add(++state.handled)
    if (state.handled < state.upTo) return state.handled + 1
    if (state.upTo < state.lastSeq) return undefined
    const edited = (/** @type {number} */ seq) => entries.get(seq)?.edited ?? 0
    return [...state.again].sort((one, other) => edited(one) - edited(other))[0]
  }

  /** The message is decrypted, or cannot be. @param {number} seq @param {string} [reason] */
  haveHandled(seq, reason) {
    const { state } = this
    state.again.delete(seq)
    if (seq === state.handled + 1) state.handled = seq
    if (reason) state.reasons.set(seq, reason)
    else state.reasons.delete(seq)
  }

  // The messages right above the run that exist and are missing; undefined if there are none.
  get gap() {
    const { id, upTo, lastSeq } = this.state
    if (lastSeq <= upTo) return undefined
    let before = lastSeq + 1
    for (const seq of this.entries.keys()) if (seq > upTo && seq < before) before = seq
    return { conversation: id, after: upTo, before }
  }

  // The messages of the run, by seq.
  get messages() {
    const { begin, upTo } = this.state
    const found = []
    for (let seq = begin; seq <= upTo; seq++) if (this.entries.has(seq)) found.push(this.entries.get(seq))
    return found
  }

  // 5.6.1.
  get unreadCount() {
    const { lastSeq, uncounted } = this.state
    const base = this.#base
    const unread = lastSeq - base - [...uncounted].filter((seq) => seq > base && seq <= lastSeq).length
    return unread > 0 ? Math.max(0, unread - this.#quietUpTo(lastSeq) + this.#quietUpTo(base)) : 0
  }

  /** @param {any} entry @returns {import('./participants.js').Status} */
  status(entry) {
    const isCounted = entry.type === 'message' && entry.seq > this.state.lastSeq - COUNTED
    return this.participants.status(entry, isCounted)
  }

  // The conversation as it is now, without messages.
  get shown() {
    const { head, floor, lastSeq, controlSeq, devicesVersion, mutedUntil, ownVersion } = this.state
    const last = this.messages.findLast((entry) => !entry.is_quiet)
    const { last_message, former, uncounted_seqs, quiet_counts, ...settings } = head
    return {
      ...settings,
      active_at: Math.max(head.active_at ?? 0, last?.created ?? 0),
      first_seq: floor,
      last_seq: lastSeq,
      unread_count: this.unreadCount,
      participants: this.participants.all,
      participant_count: this.state.participants.number,
      control_seq: controlSeq || undefined,
      devices_version: devicesVersion || undefined,
      muted_until: mutedUntil,
      own_revision: ownVersion[1] || undefined,
    }
  }

  /** @param {(seq: number) => boolean} isGone */
  #drop(isGone) {
    for (const [seq, entry] of this.entries) {
      if (!isGone(seq)) continue
      this.entries.delete(seq)
      this.onGone(entry)
    }
  }

  get #base() {
    const own = this.participants.of(this.user) ?? {}
    return Math.max(own.read_seq ?? 0, sinceOf(own), this.state.floor - 1)
  }

  /** The server tells it for each base and each last message; else it is the number up to an earlier one (5.6.2).
   * @param {number} seq @returns {number} */
  #quietUpTo(seq) {
    const [entry, next] = [this.entries.get(seq), this.entries.get(seq + 1)]
    if (entry) return entry.quiet_count ?? 0
    if (next) return (next.quiet_count ?? 0) - (next.is_quiet ? 1 : 0)
    const { quiet } = this.state
    if (quiet.has(seq)) return /** @type {number} */ (quiet.get(seq))
    let most = 0
    for (const [at, count] of quiet) if (at < seq) most = Math.max(most, count)
    for (const [at, { quiet_count = 0 }] of this.entries) if (at < seq) most = Math.max(most, quiet_count)
    return most
  }

  /** @param {{ quiet_counts?: [number, number][] }} frame */
  #countQuiet({ quiet_counts = [] }) {
    for (const [seq, count] of quiet_counts) this.state.quiet.set(seq, count)
  }

  #forgetCounted() {
    const base = this.#base
    for (const seq of this.state.uncounted) if (seq <= base) this.state.uncounted.delete(seq)
    for (const seq of this.state.quiet.keys()) if (seq < base) this.state.quiet.delete(seq)
  }

  /** At the same version an accepted request stays accepted (16.2). @param {any} told */
  #takeHead(told) {
    const { head } = this.state
    const isAccepted = head && head.participants_version === told.participants_version && !head.is_request
    this.state.head = { ...told, last_message: undefined, participants: undefined }
    if (isAccepted) this.#accept()
  }

  #accept() {
    const { head } = this.state
    if (head.is_request) this.state.head = { ...head, is_request: undefined, asked_by: undefined }
  }

  /** @param {any} frame */
  #takeSettings({ participants_version, name, avatar, joiners_see_all, lifetime_s, actor }) {
    const { head } = this.state
    if (participants_version <= head.participants_version) return
    this.state.head = { ...head, participants_version, name, avatar, joiners_see_all, lifetime_s, actor }
  }

  /** A user who writes has read, unless the message is quiet (5.6, 4.8). @param {any} entry */
  #noteWritten(entry) {
    if (!entry.is_quiet) this.participants.hasWritten(entry.sender, entry.seq)
  }

  /** Also if the message came before the frame that brought the user. @param {number} after @param {Uint8Array} [only] */
  #haveWritten(after, only) {
    for (const entry of this.entries.values()) {
      if (entry.seq > after && (!only || equal(only, entry.sender))) this.#noteWritten(entry)
    }
  }
}

/** Whether an entry replaces the one held under the same key (5.2). @param {any} entry @param {any} former */
function supersedes(entry, former) {
  if (former.type === 'tombstone') return false
  if (entry.type === 'tombstone') return true
  const newer = (entry.revision ?? 0) - (former.revision ?? 0)
  const isHealed = entry.envelope && !(former.envelope && equal(entry.envelope, former.envelope)) // 19.13, 19.17
  return newer > 0 || (newer === 0 && Boolean(isHealed))
}
