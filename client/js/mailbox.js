// What a device holds: messages by (conversation, seq), whatever order they come in and however often (SPEC 5.2).

export class Mailbox {
  constructor() {
    this.drop()
  }

  // Hold nothing any more: the server's history is another one.
  drop() {
    this.cursor = undefined
    this.conversations = new Map() // id in hex -> { told, entries: seq -> entry, first, upTo, marked }
    this.isFresh = true
  }

  // Take a conversation, message or tombstone; the entries that are new or changed.
  apply(frame) {
    if (frame.type === 'conversation') return this.#learn(frame)
    const talk = this.#talk(frame.conversation)
    const held = talk.entries.get(frame.seq)
    if (held && !supersedes(frame, held)) return []
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

  // Messages that exist and are missing: those between `after` and `before`, the first hole of each conversation.
  holes() {
    const found = []
    for (const talk of this.conversations.values()) {
      if (talk.first === undefined) continue
      const above = [...talk.entries.keys()].filter((seq) => seq > talk.upTo)
      if (above.length) found.push({ conversation: talk.id, after: talk.upTo, before: Math.min(...above) })
    }
    return found
  }

  // Up-to marks that are due.
  marks() {
    const due = [...this.conversations.values()].filter((talk) => talk.upTo > talk.marked)
    return due.slice(0, 256).map((talk) => [talk.id, talk.upTo])
  }

  marked(marks) {
    for (const [conversation, seq] of marks) this.#talk(conversation).marked = seq
  }

  #talk(id) {
    const key = id.toString('hex')
    if (!this.conversations.has(key)) {
      this.conversations.set(key, { id, told: undefined, entries: new Map(), first: undefined, upTo: 0, marked: 0 })
    }
    return this.conversations.get(key)
  }

  #learn(told) {
    const talk = this.#talk(told.conversation)
    talk.told = told
    if (talk.first === undefined) {
      // A first sync tells of last messages only: this device begins there.
      talk.first = !this.isFresh ? told.first_seq : told.last_message ? told.last_message.seq : told.last_seq + 1
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
