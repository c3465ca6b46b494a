// The participants of one conversation, and their marks (SPEC 5.7, 5.8, 6.6). Each frame about them carries a version of the
// list, and marks never go back, so the order of frames does not matter. The state is plain data, which a store can keep.

import { hex } from './bytes.js'

/** @typedef {import('./codec.js').Frame} Frame */
/** @typedef {'sent' | 'delivered' | 'read'} Status */

export function noParticipants() {
  return {
    version: -1, // of the latest whole list
    number: /** @type {number | undefined} */ (undefined), // of participants, where the server does not tell all of them
    numberVersion: -1,
    /** @type {Map<string, any>} user in hex -> participant */
    users: new Map(),
    /** @type {Map<string, number>} user in hex -> the version with which the user came, changed or left */
    versions: new Map(),
    /** @type {Map<number, [number, number, number]>} seq -> [delivered, read, recipients] */
    counts: new Map(),
    /** @type {Map<string, any>} key -> a stay that has ended */
    stays: new Map(),
  }
}

export class Participants {
  /** @param {ReturnType<typeof noParticipants>} state changed in place @param {string} own the user in hex */
  constructor(state, own) {
    this.state = state
    this.own = own
  }

  // Whether the server tells the marks of the others: not where too many take part.
  get areShown() {
    return this.state.number === undefined
  }

  get all() {
    const { users } = this.state
    return [...users.keys()].sort().map((user) => users.get(user))
  }

  // Stays that have ended, the latest first.
  get former() {
    return [...this.state.stays.values()].sort((one, other) => other.left_seq - one.left_seq || (hex(one.user) < hex(other.user) ? -1 : 1))
  }

  /** @param {Uint8Array} user */
  of(user) {
    return this.state.users.get(hex(user))
  }

  /** These are all participants, as of this version. @param {any[]} told @param {number} version */
  takeAll(told, version) {
    this.take(told, version)
    if (version < this.state.version) return
    this.state.version = version
    const here = new Set(told.map(({ user }) => hex(user)))
    this.remove([...this.state.users.values()].map(({ user }) => user).filter((user) => !here.has(hex(user))), version)
  }

  /** The number of participants, if the server does not tell all of them: then only the user is held (6.10).
   * @param {number | undefined} number @param {number} version */
  countAll(number, version) {
    if (version >= this.state.numberVersion) Object.assign(this.state, { number, numberVersion: version })
    this.#dropMany()
  }

  /** @param {any[]} told @param {number} version */
  take(told, version) {
    for (const each of told) {
      const key = hex(each.user)
      const held = this.state.users.get(key)
      if (version >= Math.max(this.state.versions.get(key) ?? -1, held ? -1 : this.state.version)) {
        this.state.versions.set(key, version)
        this.state.users.set(key, merged(each, held))
      } else if (held) {
        this.mark(each.user, each.delivered_seq, each.read_seq)
        this.rename(each)
      }
    }
    this.#dropMany()
  }

  /** @param {Uint8Array[]} users @param {number} version */
  remove(users, version) {
    for (const key of users.map(hex)) {
      if (version < (this.state.versions.get(key) ?? -1)) continue
      this.state.versions.set(key, version)
      this.state.users.delete(key)
    }
  }

  /** @param {any[]} stays */
  takeStays(stays) {
    for (const each of stays) {
      const key = [hex(each.user), each.since_seq, each.left_seq].join()
      this.state.stays.set(key, withMarks(each, this.state.stays.get(key) ?? {}))
    }
  }

  /** Lifts the marks of a user. @param {Uint8Array} user @param {number} [delivered_seq] @param {number} [read_seq] */
  mark(user, delivered_seq, read_seq) {
    const held = this.of(user)
    if (held) this.state.users.set(hex(user), withMarks(held, { delivered_seq, read_seq }))
  }

  /** A user who writes has read. @param {Uint8Array} user @param {number} seq */
  hasWritten(user, seq) {
    if (this.of(user)?.read_seq !== undefined) this.mark(user, seq, seq)
  }

  /** @param {[number, number, number, number]} counts of one message */
  count([seq, delivered, read, recipients]) {
    const [d, r] = this.state.counts.get(seq) ?? [0, 0]
    this.state.counts.set(seq, [Math.max(d, delivered), Math.max(r, read), recipients])
  }

  /** How a user is shown from now on. @param {any} profile */
  rename({ user, revision = 0, display_name, avatar }) {
    const held = this.of(user)
    if (held && revision > (held.revision ?? 0)) this.state.users.set(hex(user), { ...held, revision, display_name, avatar })
  }

  /** 5.7.2. @param {{ seq: number, sender: Uint8Array }} message @param {boolean} isCounted whether each sync renews its counts
   * @returns {Status} */
  status({ seq, sender }, isCounted) {
    if (!this.areShown) return isCounted ? statusOf(...(this.state.counts.get(seq) ?? [0, 0, 0])) : 'sent'
    const now = [...this.state.users.values()].filter((each) => sinceOf(each) < seq)
    const before = [...this.state.stays.values()].filter((stay) => stay.since_seq < seq && seq <= stay.left_seq)
    const recipients = [...now, ...before].filter(({ user }) => hex(user) !== hex(sender))
    const delivered = recipients.filter(({ delivered_seq = 0 }) => delivered_seq >= seq)
    const read = recipients.filter(({ read_seq = 0 }) => read_seq >= seq)
    return statusOf(delivered.length, read.length, recipients.length)
  }

  #dropMany() {
    if (this.areShown) return
    for (const key of [...this.state.users.keys()]) if (key !== this.own) this.state.users.delete(key)
  }
}

/** The seq above which the user is a recipient. @param {any} participant @returns {number} */
export function sinceOf({ since_seq, joined_seq }) {
  return since_seq ?? joined_seq ?? 0
}

/** @param {any} told @param {any} [held] */
function merged(told, held) {
  if (!held) return told
  const { revision, display_name, avatar } = (told.revision ?? 0) < (held.revision ?? 0) ? held : told
  return { ...withMarks(told, held), revision, display_name, avatar }
}

/** @param {any} one @param {any} other */
function withMarks(one, other) {
  return { ...one, delivered_seq: most(one.delivered_seq, other.delivered_seq), read_seq: most(one.read_seq, other.read_seq) }
}

/** @param {number} [one] @param {number} [other] */
function most(one, other) {
  return one === undefined ? other : other === undefined ? one : Math.max(one, other)
}

/** @param {number} delivered @param {number} read @param {number} recipients @returns {Status} */
function statusOf(delivered, read, recipients) {
  if (!recipients || delivered < recipients) return 'sent'
  return read >= recipients ? 'read' : 'delivered'
}
