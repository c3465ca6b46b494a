// Everything that a device holds: messages by (conversation, seq), in any order and any number of times (SPEC 5.2).

import { Plaintexts } from './plaintexts.js'
import { LIMITS } from './tables.js'

export class Mailbox {
  constructor() {
    this.plaintexts = new Plaintexts()
    this.drop()
  }

  // Drops the order of the messages and all marks: the server's history is not the one that these came from. Plaintexts stay
  // (6.4).
  drop() {
    this.plaintexts.loseOrder()
    this.cursor = undefined
    // id in hex -> { told, participants, entries: seq -> entry, uncounted, quiet: seq -> count, first, floor, upTo, marked,
    // devicesVersion }
    this.conversations = new Map()
    this.departed = new Map() // id in hex -> the participants_version with which this user left
    this.isFresh = true
  }

  // Takes a conversation, message, tombstone or departure; returns the entries that are new or changed.
  apply(frame) {
    if (frame.type === 'conversation') return this.#learn(frame)
    if (frame.type === 'departed') return this.#depart(frame)
    if (this.departed.has(frame.conversation.toString('hex'))) return [] // 6.6
    const state = this.#state(frame.conversation)
    const held = state.entries.get(frame.seq)
    if (frame.type === 'tombstone') this.plaintexts.forget(frame)
    else if (frame.seq >= state.floor) this.plaintexts.place(frame)
    if (held && !supersedes(frame, held)) return []
    if (frame.seq < state.floor) return []
    if (frame.type === 'tombstone' && !frame.is_quiet) state.uncounted.add(frame.seq)
    // Edits of messages that this device never loaded are not for it.
    if (state.first !== undefined && frame.seq < state.first && !held) return []
    state.entries.set(frame.seq, frame)
    this.#advance(state)
    return [frame]
  }

  // The entries of a conversation, by seq.
  entries(conversation) {
    const { entries } = this.#state(conversation)
    return [...entries.values()].sort((one, other) => one.seq - other.seq)
  }

  // Whether there are conversations whose `conversation` frame has yet to come, with a sync.
  get hasUnknown() {
    return [...this.conversations.values()].some((state) => state.first === undefined)
  }

  // A sync is over, or a cursor has come: frames of conversations that are not known by now are not for this user (6.6.1).
  forgetUnknown() {
    for (const [key, state] of this.conversations) if (state.first === undefined) this.conversations.delete(key)
    if (!this.isFresh) return
    for (const key of this.plaintexts.conversations()) if (!this.conversations.has(key)) this.plaintexts.forgetConversation(key)
  }

  // Messages that exist and are missing: those between `after` and `before`, the first gap of each conversation.
  gaps() {
    const found = []
    for (const state of this.conversations.values()) {
      if (state.first === undefined) continue
      const above = [...state.entries.keys()].filter((seq) => seq > state.upTo)
      if (above.length) found.push({ conversation: state.id, after: state.upTo, before: Math.min(...above) })
    }
    return found
  }

  // The number of messages that the user has not read (5.6).
  unreadCount(conversation) {
    const state = this.#state(conversation)
    const { entries, floor, participants, told, uncounted } = state
    const { read_seq = 0, since_seq = 0 } = participants.get(this.user?.toString('hex')) ?? {}
    const isRead = ({ sender, is_quiet }) => this.user?.equals(sender) && !is_quiet // 5.6
    const own = [...entries.values()].filter(isRead).map(({ seq }) => seq)
    const read = Math.max(read_seq, since_seq, floor - 1, ...own)
    const last = Math.max(told?.last_seq ?? 0, ...entries.keys())
    const unread = last - read - [...uncounted].filter((seq) => seq > read && seq <= last).length
    return unread > 0 ? Math.max(unread - quietCountAt(state, last) + quietCountAt(state, read), 0) : 0
  }

  // The up-to marks that are due.
  marks() {
    const due = [...this.conversations.values()].filter((state) => state.upTo > state.marked)
    return due.slice(0, LIMITS.marks_per_request).map((state) => [state.id, state.upTo])
  }

  // The server has noted these delivered marks: they are the user's own (17.3).
  marked(marks) {
    for (const [conversation, seq] of marks) {
      const state = this.#state(conversation)
      state.marked = seq
      const own = state.participants.get(this.user?.toString('hex'))
      if (own && own.delivered_seq < seq) own.delivered_seq = seq
    }
  }

  // Takes marks of participants: user in hex -> { delivered_seq, read_seq, since_seq }; they never go back (5.7).
  takeParticipants(frame) {
    const { participants, quiet } = this.#state(frame.conversation)
    for (const [seq, count] of frame.quiet_counts ?? []) quiet.set(seq, count)
    const told = frame.participants?.map(({ user, delivered_seq, read_seq, joined_seq, since_seq = joined_seq }) => [
      user, delivered_seq, read_seq, since_seq,
    ])
    for (const [user, delivered_seq = 0, read_seq = 0, since_seq = 0] of told ?? frame.receipts) {
      const held = participants.get(user.toString('hex')) ?? { delivered_seq: 0, read_seq: 0, since_seq: 0 }
      const most = (one, other) => (one > other ? one : other)
      participants.set(user.toString('hex'), {
        delivered_seq: most(held.delivered_seq, delivered_seq),
        read_seq: most(held.read_seq, read_seq),
        since_seq: most(held.since_seq, since_seq),
      })
    }
  }

  // Takes the settings of a conversation, if they are newer, and its floor (6.6).
  takeSettings({ conversation, name, first_seq, participants_version, joiners_see_all, lifetime_s, avatar, quiet_counts }) {
    if (this.departed.has(conversation.toString('hex'))) return
    const state = this.#state(conversation)
    if (state.told && participants_version > state.told.participants_version) {
      state.told = { ...state.told, name, joiners_see_all, lifetime_s, avatar, participants_version }
    }
    for (const [seq, count] of quiet_counts ?? []) state.quiet.set(seq, count)
    this.raiseFloor(conversation, first_seq)
  }

  // Takes the version of a device set (19.10); the greatest counts.
  takeDevices({ conversation, devices_version = 0 }) {
    const state = this.#state(conversation)
    if (devices_version > state.devicesVersion) state.devicesVersion = devices_version
  }

  // Messages below a first seq are gone, or not for this user (5.3).
  raiseFloor(conversation, first_seq) {
    const state = this.#state(conversation)
    if (first_seq <= state.floor) return
    state.floor = first_seq
    this.plaintexts.forgetBelow(conversation, first_seq)
    for (const seq of state.entries.keys()) if (seq < first_seq) state.entries.delete(seq)
    if (state.first !== undefined) {
      state.first = Math.max(state.first, first_seq)
      state.upTo = Math.max(state.upTo, first_seq - 1)
      this.#advance(state)
    }
  }

  // If this user has left, the conversation is dropped, and no older frame brings it back.
  #depart({ conversation, users, participants_version }) {
    const key = conversation.toString('hex')
    const version = this.conversations.get(key)?.told?.participants_version ?? -1
    if (users.some((user) => this.user?.equals(user)) && participants_version >= version) {
      this.departed.set(key, participants_version)
      this.conversations.delete(key)
      this.plaintexts.forgetConversation(key)
    }
    return []
  }

  #state(id) {
    const key = id.toString('hex')
    if (!this.conversations.has(key)) {
      const maps = { participants: new Map(), entries: new Map(), uncounted: new Set(), quiet: new Map() }
      this.conversations.set(key, { id, told: undefined, ...maps, first: undefined, floor: 1, upTo: 0, marked: 0, devicesVersion: 0 })
    }
    return this.conversations.get(key)
  }

  #learn(told) {
    const key = told.conversation.toString('hex')
    if (told.participants_version <= (this.departed.get(key) ?? -1)) return []
    this.departed.delete(key)
    const state = this.#state(told.conversation)
    state.told = { ...told, participants: told.participants ?? state.told?.participants }
    this.takeDevices(told)
    if (told.participants) this.takeParticipants(told)
    for (const seq of told.uncounted_seqs ?? []) state.uncounted.add(seq)
    for (const [seq, count] of told.quiet_counts ?? []) state.quiet.set(seq, count)
    this.raiseFloor(told.conversation, told.first_seq)
    if (state.first === undefined) {
      // The server tells this device only the last message of a new conversation (6.3): it begins there.
      state.first = told.last_message ? told.last_message.seq : this.isFresh ? told.last_seq + 1 : told.first_seq
      state.upTo = state.first - 1
    }
    const changed = told.last_message ? this.apply(told.last_message) : []
    this.#advance(state)
    return changed
  }

  #advance(state) {
    if (state.first === undefined) return
    while (state.entries.has(state.upTo + 1)) state.upTo += 1
    if (state.first > state.floor || state.upTo < state.told.last_seq || !this.plaintexts.isIncomplete(state.id)) return
    if (state.upTo >= Math.max(...state.entries.keys())) this.plaintexts.forgetPlaceless(state.id)
  }
}

// How many messages up to a seq are quiet (5.6.2): the server tells it for each base and each last message. Without that,
// the number up to an earlier message.
function quietCountAt({ entries, quiet }, seq) {
  const next = entries.get(seq + 1)
  if (entries.has(seq)) return entries.get(seq).quiet_count ?? 0
  if (next) return (next.quiet_count ?? 0) - (next.is_quiet ? 1 : 0)
  if (quiet.has(seq)) return quiet.get(seq)
  const held = [...entries.values()].map((entry) => [entry.seq, entry.quiet_count ?? 0])
  return Math.max(0, ...[...held, ...quiet].filter(([at]) => at < seq).map(([, count]) => count))
}

function supersedes(frame, held) {
  if (held.type === 'tombstone') return false
  if (frame.type === 'tombstone') return true
  const newer = (frame.revision ?? 0) - (held.revision ?? 0)
  return newer > 0 || (newer === 0 && frame.envelope !== undefined && held.envelope === undefined) // 19.13
}
