// What a device holds: messages by (conversation, seq), whatever order they come in and however often (SPEC 5.2).

import { LIMITS } from './tables.js'

export class Mailbox {
  constructor() {
    this.drop()
  }

  // Hold nothing any more: the server's history is another one.
  drop() {
    this.cursor = undefined
    this.conversations = new Map() // id in hex -> { told, people, entries: seq -> entry, uncounted, first, floor, upTo, marked }
    this.departed = new Map() // id in hex -> the version from which on the user takes part no more
    this.isFresh = true
  }

  // Take a conversation, message, tombstone or departure; the entries that are new or changed.
  apply(frame) {
    if (frame.type === 'conversation') return this.#learn(frame)
    if (frame.type === 'departed') return this.#depart(frame)
    if (this.departed.has(frame.conversation.toString('hex'))) return [] // 6.6
    const talk = this.#talk(frame.conversation)
    const held = talk.entries.get(frame.seq)
    if (held && !supersedes(frame, held)) return []
    if (frame.seq < talk.floor) return []
    if (frame.type === 'tombstone') talk.uncounted.add(frame.seq)
    // Edits of what this device never loaded are not for it.
    if (talk.first !== undefined && frame.seq < talk.first && !held) return []
    talk.entries.set(frame.seq, frame)
    this.#advance(talk)
    return [frame]
  }

  // All of a conversation that is held, by seq.
  entries(conversation) {
    const { entries } = this.#talk(conversation)
    return [...entries.values()].sort((one, other) => one.seq - other.seq)
  }

  // Ids of conversations of which the server has yet to tell, with a sync.
  get hasUnknown() {
    return [...this.conversations.values()].some((talk) => talk.first === undefined)
  }

  // Messages that exist and are missing: those between `after` and `before`, the first gap of each conversation.
  gaps() {
    const found = []
    for (const talk of this.conversations.values()) {
      if (talk.first === undefined) continue
      const above = [...talk.entries.keys()].filter((seq) => seq > talk.upTo)
      if (above.length) found.push({ conversation: talk.id, after: talk.upTo, before: Math.min(...above) })
    }
    return found
  }

  // How many messages the user has not read (5.6).
  unreadCount(conversation) {
    const { entries, floor, people, told, uncounted } = this.#talk(conversation)
    const { read_seq = 0, since_seq = 0 } = people.get(this.user?.toString('hex')) ?? {}
    const own = [...entries.values()].filter(({ sender }) => this.user?.equals(sender)).map(({ seq }) => seq)
    const read = Math.max(read_seq, since_seq, floor - 1, ...own)
    const last = Math.max(told?.last_seq ?? 0, ...entries.keys())
    return Math.max(last - read - [...uncounted].filter((seq) => seq > read && seq <= last).length, 0)
  }

  // Up-to marks that are due.
  marks() {
    const due = [...this.conversations.values()].filter((talk) => talk.upTo > talk.marked)
    return due.slice(0, LIMITS.marks_per_request).map((talk) => [talk.id, talk.upTo])
  }

  marked(marks) {
    for (const [conversation, seq] of marks) this.#talk(conversation).marked = seq
  }

  // The marks of those who take part: user in hex -> { delivered_seq, read_seq, since_seq }; they never go back (5.7).
  takePeople(frame) {
    const { people } = this.#talk(frame.conversation)
    const told = frame.participants?.map(({ user, delivered_seq, read_seq, joined_seq, since_seq = joined_seq }) => [
      user, delivered_seq, read_seq, since_seq,
    ])
    for (const [user, delivered_seq = 0, read_seq = 0, since_seq = 0] of told ?? frame.receipts) {
      const held = people.get(user.toString('hex')) ?? { delivered_seq: 0, read_seq: 0, since_seq: 0 }
      const most = (one, other) => (one > other ? one : other)
      people.set(user.toString('hex'), {
        delivered_seq: most(held.delivered_seq, delivered_seq),
        read_seq: most(held.read_seq, read_seq),
        since_seq: most(held.since_seq, since_seq),
      })
    }
  }

  // What the conversation is like now, if that is newer than what is held; and its floor (6.6).
  takeSettings({ conversation, name, first_seq, participants_version, joiners_see_all, lifetime_s }) {
    if (this.departed.has(conversation.toString('hex'))) return
    const talk = this.#talk(conversation)
    if (talk.told && participants_version > talk.told.participants_version) {
      talk.told = { ...talk.told, name, joiners_see_all, lifetime_s, participants_version }
    }
    this.raiseFloor(conversation, first_seq)
  }

  // What lies below a first seq is gone, or not for this user (5.3).
  raiseFloor(conversation, first_seq) {
    const talk = this.#talk(conversation)
    if (first_seq <= talk.floor) return
    talk.floor = first_seq
    for (const seq of talk.entries.keys()) if (seq < first_seq) talk.entries.delete(seq)
    if (talk.first !== undefined) {
      talk.first = Math.max(talk.first, first_seq)
      talk.upTo = Math.max(talk.upTo, first_seq - 1)
      this.#advance(talk)
    }
  }

  // If it is this user who takes part no more, nothing of the conversation is held, and nothing older brings it back.
  #depart({ conversation, users, participants_version }) {
    const key = conversation.toString('hex')
    const version = this.conversations.get(key)?.told?.participants_version ?? -1
    if (users.some((user) => this.user?.equals(user)) && participants_version >= version) {
      this.departed.set(key, participants_version)
      this.conversations.delete(key)
    }
    return []
  }

  #talk(id) {
    const key = id.toString('hex')
    if (!this.conversations.has(key)) {
      const nothing = { told: undefined, people: new Map(), entries: new Map(), uncounted: new Set(), first: undefined }
      this.conversations.set(key, { id, ...nothing, floor: 1, upTo: 0, marked: 0 })
    }
    return this.conversations.get(key)
  }

  #learn(told) {
    const key = told.conversation.toString('hex')
    if (told.participants_version <= (this.departed.get(key) ?? -1)) return []
    this.departed.delete(key)
    const talk = this.#talk(told.conversation)
    talk.told = { ...told, participants: told.participants ?? talk.told?.participants }
    if (told.participants) this.takePeople(told)
    for (const seq of told.uncounted_seqs ?? []) talk.uncounted.add(seq)
    this.raiseFloor(told.conversation, told.first_seq)
    if (talk.first === undefined) {
      // Of a conversation that is new to this device it is told the last message only (6.3): it begins there.
      talk.first = told.last_message ? told.last_message.seq : this.isFresh ? told.last_seq + 1 : told.first_seq
      talk.upTo = talk.first - 1
    }
    const changed = told.last_message ? this.apply(told.last_message) : []
    this.#advance(talk)
    return changed
  }

  #advance(talk) {
    if (talk.first !== undefined) while (talk.entries.has(talk.upTo + 1)) talk.upTo += 1
  }
}

function supersedes(frame, held) {
  if (held.type === 'tombstone') return false
  return frame.type === 'tombstone' || (frame.revision ?? 0) > (held.revision ?? 0)
}
