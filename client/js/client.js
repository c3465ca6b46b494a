// A device that stays connected, sends messages, and misses none. Written from protocol/SPEC.md; the numbers in comments are
// its sections. Events:
//   entry (message | tombstone)   new or changed; `mailbox` holds all of them
//   plaintext (message, says)     decrypted; `mailbox.plaintexts` holds it
//   push (frame)                  any push that is not an entry, a conversation or about the connection, to be shown
//   online (welcome)              the server has welcomed this device
//   current ()                    `mailbox` holds everything up to the welcome
//   offline (code, reason)        the connection is lost; the client connects again by itself
//   devices (changes)             [event, device] each: `new`, `gone` or `changed`, to be shown to the user (19.4)
//   not_healed (told, error)      a device cannot decrypt a message of this one, and the server takes no envelope for it
//   waiting (conversation, why)   a message waits until this device is in the group of its conversation
//   refused (draft, error)        a message cannot be sent, also one from before a start of the program
//   token (token, expires, came)  has replaced the old token
//   failed (error)                the store, or the encryption: the client has stopped
//   end (code, reason)            for good: something has to change before another attempt
// `features` is a Set and `limits` a Map: the features and limits of the server's welcome (11).

import { equal, uuid7 } from './bytes.js'
import { ConnectionLost } from './errors.js'
import { Journal } from './journal.js'
import { Link } from './link.js'
import { Mailbox } from './mailbox.js'
import { MarkSender } from './mark_sender.js'
import { Outbox } from './outbox.js'
import { written } from './own_writes.js'
import { Renewal } from './renewal.js'
import { Signs } from './signs.js'
import { Synchronizer } from './synchronizer.js'
import { VERSION } from './tables.js'
import { Writer } from './writer.js'

export { ConnectionLost, RequestRefused } from './errors.js'

/** @typedef {import('./codec.js').Frame} Frame */
/** @typedef {import('./connection.js').Connection} Connection */
/** @typedef {import('./http.js').Login} Login */
/**
 * @typedef {object} Options
 * @property {typeof globalThis.WebSocket} [WebSocket] the global one if left out; Node before 22 has none
 * @property {string} [name] of the program, and its version
 * @property {number} [came]
 * @property {Journal} [journal] of the store
 * @property {(client: Client) => import('./e2ee/encryption.js').Encryption} [encryption]
 */

const NAME = 'alo-js/0.1.0' // 3.2

export class Client extends Writer {
  /** @type {Link} */
  #link
  #renewal = new Renewal(this)
  #marks = new MarkSender(this)
  signs = new Signs(this)
  #ahead = 0 // the ms by which the server's clock is ahead of this one
  /** @type {Synchronizer} */
  #synchronizer
  #encryption

  /**
   * @param {string[]} urls of gateways, tried in turn, such as ws://127.0.0.1:8001
   * @param {string} token
   * @param {Options} options
   */
  constructor(urls, token, { WebSocket = globalThis.WebSocket, name = NAME, came = 0, journal = new Journal(), encryption } = {}) {
    super()
    this.token = token
    this.came = came
    this.name = name
    this.journal = journal
    this.mailbox = new Mailbox(journal)
    this.#link = new Link(urls, WebSocket, {
      hello: () => ({ type: 'hello', token: this.token, version: VERSION, client: this.name, ...this.#synchronizer.resumption }),
      misfit: (welcome) => this.#misfit(welcome),
      opened: (connection, welcome, former) => this.#opened(connection, welcome, former),
      pushed: (frame, connection) => this.#pushes[frame.type]?.(frame, connection),
      lost: (code, reason) => this.#lost(code, reason),
      ended: (code, reason) => this.emit('end', code, reason),
    })
    this.features = /** @type {Set<string>} */ (new Set())
    this.limits = /** @type {Map<string, number>} */ (new Map())
    this.user = this.device = /** @type {Uint8Array | undefined} */ (undefined)
    this.#encryption = encryption?.(this)
    this.#synchronizer = new Synchronizer(this.mailbox, {
      connection: () => this.#link.connection,
      has: (feature) => this.features.has(feature),
      page: (conversation, page) => this.#tell(this.mailbox.takePage(conversation, page)),
      changed: () => this.changed(),
      dropped: () => this.#encryption?.foreign(),
      current: () => { this.outbox.release(); this.emit('current') },
    })
    this.isEncrypted = encryption !== undefined
    this.outbox = new Outbox(journal, {
      connection: () => this.#link.connection,
      sent: (frame, reply, plaintext) => this.#sent(frame, reply, plaintext),
      refused: (draft, error) => this.emit('refused', draft, error),
      failed: (error) => this.fail(error),
      sender: this.#encryption?.sender,
    })
  }

  /**
   * A client with everything that a store holds; the store keeps all that comes. `login` is for a store that is empty, or
   * that has the login of the same device; the stored one counts.
   * @param {string[]} urls
   * @param {Options & { store: import('./journal.js').Store, login?: Login }} options
   */
  static async open(urls, { store, login, ...options }) {
    const items = await store.load()
    const stored = items.find(([key]) => key === 'login')?.[1]
    const chosen = stored ?? login
    if (!chosen) throw new Error('the store has no login: log in first')
    if (login && !equal(login.device, chosen.device)) throw new Error('the store belongs to another device: take another store, or empty it')
    const client = new Client(urls, chosen.token, { ...options, came: chosen.came, journal: new Journal(store) })
    await client.#restore(items, chosen)
    return client
  }

  // Whether it has left or has ended for good, so that it does not connect again by itself.
  get isOver() {
    return this.#link.isOver
  }

  // Whether the server has welcomed it, and the connection is open.
  get isOnline() {
    return this.#link.connection !== undefined
  }

  // The time on the server's clock, in ms.
  get now() {
    return Date.now() + this.#ahead
  }

  connect() {
    this.#link.connect()
    return this
  }

  /** Makes any other request. Returns its reply, or rejects with RequestRefused or ConnectionLost. @param {Frame} frame
   * @returns {Promise<any>} */
  request(frame) {
    return this.#link.connection?.request(frame) ?? Promise.reject(new ConnectionLost('not connected'))
  }

  /** The messages before those that are held (7.1); returns how many came. @param {Uint8Array} conversation @param {number} count */
  async loadOlder(conversation, count = 50) {
    const before = this.mailbox.olderBefore(conversation)
    if (before === undefined) return 0
    const page = await this.request({ type: 'history', conversation, before, count })
    this.#tell(this.mailbox.takePage(conversation, page))
    this.changed()
    return page.messages.length
  }

  /** The user has read up to a message (5.6). @param {Uint8Array} conversation @param {number} seq */
  markRead(conversation, seq) {
    this.mailbox.markRead(conversation, seq)
    this.changed()
  }

  // Leaves: sends the marks that are due; the server answers the requests in flight, then closes (3).
  async bye() {
    const connection = this.#link.leave()
    this.#stopTimers()
    if (!connection) return
    const marks = this.mailbox.marks()
    await this.journal.flush()
    this.#marks.ask(marks)
    await connection.bye()
    await this.journal.flush()
  }

  /** Client and server do not fit together: connecting again would not help (3.1). @param {any} welcome
   * @returns {[number, string] | undefined} */
  #misfit({ version, device }) {
    if (version !== VERSION) return [4503, `the server speaks version ${version}`]
    if (this.device && !equal(this.device, device)) return [4501, 'the token is another device\'s']
    return undefined
  }

  /** @param {Connection} connection @param {any} welcome @param {Connection} [former] */
  #opened(connection, welcome, former) {
    this.features = new Set(welcome.features)
    this.limits = new Map(welcome.limits)
    this.user = this.mailbox.user = welcome.user
    this.device = welcome.device // a message of the user with another `device` was written on another one (4.5)
    this.#ahead = welcome.created / 1000 - Date.now()
    this.#renewal.begin((welcome.expires - welcome.created) / 1000, Date.now() - this.came)
    this.emit('online', welcome)
    this.signs.begin()
    this.#synchronizer.begin(connection, former)
    this.#encryption?.online()
  }

  // The effect of each push (17.3). decode() leaves out the types that are not in the tables.
  /** @type {Record<string, (frame: any, connection: Connection) => void>} */
  #pushes = {
    message: (frame) => { this.signs.take(frame); this.outbox.came(frame, this.device); this.#apply(frame) },
    tombstone: (frame) => this.#apply(frame),
    conversation: (frame) => { if (frame.last_message) this.outbox.came(frame.last_message, this.device); this.#apply(frame) },
    departed: (frame) => this.#depart(frame),
    participants: (frame) => this.#show(frame),
    receipts: (frame) => this.#show(frame),
    settings: (frame) => this.#show(frame),
    receipt_counts: (frame) => this.#show(frame),
    profile: (frame) => this.#show(frame),
    own_settings: (frame) => this.#show(frame),
    contact: (frame) => this.emit('push', frame),
    keys_low: (frame) => { this.#encryption?.keysLow(); this.emit('push', frame) },
    devices_changed: (frame) => { this.#show(frame); this.#encryption?.devicesChanged(frame.conversation, frame.changed_users) },
    undecryptable: (frame) => { this.#encryption?.undecryptable(frame); this.emit('push', frame) },
    typing: (frame) => { this.signs.take(frame); this.emit('push', frame) },
    presence: (frame) => { this.signs.take(frame); this.emit('push', frame) },
    cursor: (frame, connection) => { this.#synchronizer.moved(connection, frame); this.changed() }, // 6.5
    lag: (_, connection) => connection === this.#link.connection && this.#synchronizer.lag(), // 10.1
    move: (frame, connection) => this.#link.move(connection, frame.retry_after_ms), // 13.4
  }

  /** @param {Frame} frame */
  #apply(frame) {
    this.#tell(this.mailbox.apply(frame))
    this.changed()
  }

  /** @param {Frame} frame */
  #depart(frame) {
    const wasKnown = this.mailbox.held(frame.conversation)
    this.#apply(frame)
    if (!wasKnown || this.mailbox.held(frame.conversation)) return
    this.#encryption?.departed(frame.conversation)
    this.changed()
  }

  /** @param {Frame} frame */
  #show(frame) {
    this.#apply(frame)
    this.emit('push', frame)
  }

  /** @param {Frame[]} entries */
  #tell(entries) {
    for (const entry of entries) this.emit('entry', entry)
  }

  // Stores what has changed, and does what is due because of it.
  changed() {
    this.journal.flush().catch((error) => this.fail(error))
    this.#synchronizer.look()
    this.#encryption?.wake()
    this.#marks.look()
  }

  /** What this device writes is pushed to other devices only (4.5). @param {any} frame @param {any} reply @param {any} plaintext */
  #sent(frame, reply, plaintext) {
    const entry = written(frame, reply, this.mailbox.entry(frame.conversation, reply.seq ?? frame.seq), this)
    if (!entry) return
    if (this.#encryption && plaintext !== undefined) this.mailbox.plaintexts.keep(entry, plaintext)
    this.#apply(entry)
  }

  /** @param {[string, any][]} items @param {Login} login */
  async #restore(items, login) {
    Object.assign(this, { user: login.user, device: login.device })
    this.mailbox.user = login.user
    this.mailbox.restore(items)
    this.outbox.restore(items)
    await this.#encryption?.restore(items)
    this.journal.put('login', { ...login })
    await this.journal.flush()
  }

  /** What is in memory may not be stored: only another start can go on from the store. @param {any} error */
  fail(error) {
    if (!this.#link.fail()) return
    this.#stopTimers()
    this.emit('failed', error)
  }

  #stopTimers() {
    this.#renewal.stop()
    this.#marks.stop()
    this.#synchronizer.stop()
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    this.#stopTimers()
    this.outbox.hold()
    this.#encryption?.offline()
    this.signs.stop()
    this.emit('offline', code, reason)
  }
}
