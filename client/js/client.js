// A device that stays connected, sends messages, and misses none. Written from protocol/SPEC.md; the numbers in comments
// are its sections. Events:
//   entry (message | tombstone)   new or changed, once each; `mailbox` holds all of them
//   push (frame)                  any push that is not an entry, a conversation or about the connection, to be shown
//   online (welcome)              the server has welcomed this device
//   current ()                    `mailbox` holds everything up to the welcome
//   token (token, expires, came)  replaces the old token: a listener stores it, and when it came, before it returns
//   end (code, reason)            for good: something has to change before another attempt
// `features` is a Set and `limits` a Map: the features and limits of the server's welcome (11).

import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import WebSocket from 'ws'
import { decode, encode } from './codec.js'
import { Mailbox } from './mailbox.js'
import { CLOSE_DELAYS_MS, CURSOR_ERRORS, FINAL_CLOSES, LIMITS, SOCKET_PATH, SUBPROTOCOL, VERSION } from './tables.js'

const NAME = 'alo-js/0.1.0' // 3.2
const MARK_INTERVAL_MS = 1000 // 5.5
const PAGES_AHEAD = 16 // 6.2
const GAP_PATIENCE_MS = 300 // 5.3
const RENEW_MS = 86_400_000 // 13.1
const FIRST_DELAY_MS = 500
const MAX_DELAY_MS = 60_000

export class RequestRefused extends Error {
  constructor(error) {
    super(`${error.code}: ${error.detail}`)
    Object.assign(this, error)
  }
}

export class ConnectionLost extends Error {}

export class Client extends EventEmitter {
  #socket
  #isOpen = false
  #isLeaving = false
  #hasEnded = false
  #turn = 0
  #failures = 0
  #nextRequest = 0
  #waiting = new Map() // request -> { frame, resolve, reject }
  #sends = [] // not acknowledged yet, in order
  #timers = new Map() // name -> timer
  #isSyncing = false
  #isStale = false // frames are missing that only a sync brings
  #heardAt = 0
  #moveAt = 0 // the time before which it must not connect again
  #ahead = 0 // the ms by which the server's clock is ahead of this one

  // `urls`: the addresses of gateways, tried in turn, such as ws://127.0.0.1:8001.
  // `name`: the name of the program, and its version.
  // `came`: when the token came, by Date.now(); 0: not known.
  constructor(urls, token, mailbox = new Mailbox(), name = NAME, came = 0) {
    super()
    Object.assign(this, { urls, token, mailbox, name, came, features: new Set(), limits: new Map() })
  }

  // Whether it has left or has ended for good, so that it does not connect again by itself.
  get isOver() {
    return this.#isLeaving || this.#hasEnded
  }

  connect() {
    this.#hasEnded = false
    const url = this.urls[this.#turn++ % this.urls.length]
    this.#socket = new WebSocket(`${url}${SOCKET_PATH}`, [SUBPROTOCOL], { perMessageDeflate: false }) // 1.1, 1.2
    this.#heardAt = Date.now()
    this.#socket.on('open', () => this.#hello())
    this.#socket.on('message', (data, isBinary) => isBinary && this.#receive(data))
    for (const sign of ['message', 'ping', 'pong']) this.#socket.on(sign, () => (this.#heardAt = Date.now()))
    this.#socket.on('error', () => {}) // `close` comes after it
    this.#socket.on('close', (code, reason) => this.#closed(code, reason.toString()))
  }

  // Returns the `sent` once the message is committed, over as many connections as it takes (4.2, 4.3).
  // `attachments`: ids of complete uploads of the user's own (18.6).
  // `isQuiet`: it counts neither as unread nor for notices (4.8).
  send(conversation, content, options = {}) {
    const { contentType = 'text/plain', nonce, key, replyTo, attachments, thumbnail, isQuiet, tempId = this.#newTempId() } = options
    const frame = {
      type: 'send', conversation, content_type: contentType, content, nonce, ephemeral_public_key: key, temp_id: tempId,
      reply_to: replyTo, attachments, thumbnail, is_quiet: isQuiet || undefined,
    }
    return new Promise((resolve, reject) => {
      const send = { frame, resolve, reject, isOut: false }
      this.#sends.push(send)
      this.#pump()
    })
  }

  // A UUID of version 7 by the server's clock: its time lets the server forget it some day (4.2).
  #newTempId() {
    const id = randomBytes(16)
    id.writeUIntBE(Math.max(0, Math.round(Date.now() + this.#ahead)), 0, 6)
    id[6] = (id[6] & 0x0f) | 0x70
    id[8] = (id[8] & 0x3f) | 0x80
    return id
  }

  // Makes any other request, on this connection. Returns its reply, or rejects with RequestRefused or ConnectionLost.
  request(frame) {
    if (!this.#isOpen && frame.type !== 'hello') return Promise.reject(new ConnectionLost('not connected'))
    while (this.#waiting.has(this.#nextRequest)) this.#nextRequest = (this.#nextRequest + 1) % 2 ** 32
    const request = this.#nextRequest
    this.#nextRequest = (this.#nextRequest + 1) % 2 ** 32
    return new Promise((resolve, reject) => {
      this.#waiting.set(request, { resolve, reject })
      this.#socket.send(encode({ ...frame, request }))
    })
  }

  // Leaves: the server answers the requests in flight, then closes with 1000 (3).
  async bye() {
    this.#isLeaving = true
    const ended = new Promise((resolve) => this.#socket.once('close', resolve))
    await this.request({ type: 'bye' }).catch(() => this.#socket.terminate())
    if (this.#socket.readyState !== WebSocket.CLOSED) await ended
  }

  async #hello() {
    try {
      const hello = { type: 'hello', token: this.token, version: VERSION, client: this.name }
      this.#opened(await this.request(hello))
    } catch {
      this.#socket.terminate()
    }
  }

  #opened(welcome) {
    this.#isOpen = true
    if (welcome.version !== VERSION) return this.#end(4503, `the server speaks version ${welcome.version}`)
    this.features = new Set(welcome.features)
    this.limits = new Map(welcome.limits)
    this.#failures = 0
    this.user = this.mailbox.user = welcome.user
    this.device = welcome.device // a message of the user with another `device` was written on another one (4.5)
    this.#ahead = welcome.created / 1000 - Date.now()
    this.#keepAlive(welcome.keep_alive_ms)
    this.#renewAfter((welcome.expires - welcome.created) / 1000, Date.now() - this.came)
    this.emit('online', welcome)
    this.#sync()
    this.#pump()
  }

  // The effect of each push (17.3). decode() leaves out the types that are not in the tables.
  #pushes = {
    message: (frame) => this.#apply(frame),
    tombstone: (frame) => this.#apply(frame),
    conversation: (frame) => this.#apply(frame),
    departed: (frame) => this.#apply(frame),
    participants: (frame) => { this.mailbox.takeParticipants(frame); this.emit('push', frame) },
    receipts: (frame) => { this.mailbox.takeParticipants(frame); this.emit('push', frame) },
    settings: (frame) => { this.mailbox.takeSettings(frame); this.emit('push', frame) },
    receipt_counts: (frame) => this.emit('push', frame),
    profile: (frame) => this.emit('push', frame),
    own_settings: (frame) => this.emit('push', frame),
    contact: (frame) => this.emit('push', frame),
    keys_low: (frame) => this.emit('push', frame),
    devices_changed: (frame) => { this.mailbox.takeDevices(frame); this.emit('push', frame) },
    typing: (frame) => this.emit('push', frame),
    presence: (frame) => this.emit('push', frame),
    cursor: (frame) => this.#moved(frame), // 6.5
    lag: () => this.#sync(), // 10.1
    move: (frame) => this.#move(frame.retry_after_ms), // 13.4
  }

  #receive(data) {
    for (const frame of decode(data)) {
      if (this.#waiting.has(frame.request)) this.#answered(frame)
      else this.#pushes[frame.type]?.(frame)
    }
  }

  // The mailbox holds all frames before it on this connection. During a sync, its own cursors say how far it has come.
  #moved({ cursor, more }) {
    if (this.#isSyncing ? more : !this.#isStale) this.mailbox.cursor = cursor // all its pages except the last have more
    if (more && !this.#isSyncing) this.#sync()
  }

  // The node is about to stop: say bye at the time that it gave, which answers the requests in flight first. A client may
  // connect again before that, so that it is never offline; this one does not.
  #move(ms) {
    const socket = this.#socket
    this.#moveAt = Date.now() + ms
    setTimeout(() => {
      if (socket === this.#socket && this.#isOpen) this.request({ type: 'bye' }).catch(() => {})
    }, ms)
  }

  #answered(frame) {
    const { resolve, reject } = this.#waiting.get(frame.request)
    this.#waiting.delete(frame.request)
    if (frame.type === 'error') reject(new RequestRefused(frame))
    else resolve(frame)
    this.#pump()
  }

  #apply(frame) {
    // A lost `sent`: the message comes with the other missed ones (4.6).
    const { temp_id, seq, message, created, device, quiet_count } = frame.last_message ?? frame
    const send = temp_id && this.#sends.find((each) => each.frame.temp_id.equals(temp_id))
    if (send) {
      this.#settle(send)
      send.resolve({ type: 'sent', seq, message, created, device, quiet_count })
    }
    for (const entry of this.mailbox.apply(frame)) this.emit('entry', entry)
    if (this.mailbox.hasUnknown && !this.#isSyncing) this.#sync() // 5.4
    if (this.mailbox.gaps().length) this.#after('gaps', GAP_PATIENCE_MS, () => this.#fillGaps())
    if (this.mailbox.marks().length) this.#after('marks', MARK_INTERVAL_MS, () => this.#mark())
  }

  // Sends the waiting messages, in order, as far as there is room.
  #pump() {
    if (!this.#isOpen) return
    for (const send of this.#sends) {
      if (send.isOut) continue
      if (this.#waiting.size >= LIMITS.requests_in_flight - 16) return
      send.isOut = true
      this.request(send.frame).then(
        (sent) => this.#sent(send, sent),
        (error) => this.#notSent(send, error),
      )
    }
  }

  #sent(send, sent) {
    this.#settle(send)
    const { request, ...content } = send.frame
    const { seq, message, created, device = this.device, quiet_count } = sent
    // Own messages are pushed to other devices only (4.5).
    this.#apply({ ...content, type: 'message', seq, message, created, sender: this.user, device, quiet_count })
    send.resolve(sent)
  }

  #notSent(send, error) {
    if (error instanceof ConnectionLost) send.isOut = false // the next connection sends it again
    else if (error.retry_after_ms !== undefined) {
      setTimeout(() => { send.isOut = false; this.#pump() }, error.retry_after_ms)
    } else {
      this.#settle(send)
      send.reject(error)
    }
  }

  #settle(send) {
    const at = this.#sends.indexOf(send)
    if (at >= 0) this.#sends.splice(at, 1)
  }

  // 6: the news since the cursor come as pushes, then `synced`.
  async #sync() {
    this.#isStale = true
    if (this.#isSyncing || !this.#isOpen) return
    this.#isSyncing = true
    try {
      for (let more = true; more || this.#isStale; ) {
        this.#isStale = false
        const pages = this.features.has('pages') ? PAGES_AHEAD : undefined
        const synced = await this.request({ type: 'sync', cursor: this.mailbox.cursor, pages })
        this.mailbox.cursor = synced.cursor
        more = synced.more
        if (!more) this.mailbox.forgetUnknown()
        this.mailbox.isFresh &&= more
      }
      this.emit('current')
    } catch (error) {
      if (CURSOR_ERRORS.has(error.code)) this.mailbox.drop() // 6.4
      if (this.#isOpen) this.#after('sync', error.retry_after_ms ?? FIRST_DELAY_MS, () => this.#sync())
    } finally {
      this.#isSyncing = false
    }
  }

  // Client and server do not fit together: connecting again would not help (3.1).
  #end(code, reason) {
    this.bye()
    this.emit('end', code, reason)
  }

  async #fillGaps() {
    for (const { conversation, after, before } of this.mailbox.gaps()) {
      const history = { type: 'history', conversation, after, before, count: LIMITS.page_entries }
      const page = await this.request(history).catch(() => null)
      if (page?.first_seq) this.mailbox.raiseFloor(conversation, page.first_seq) // 5.3
      for (const entry of page?.messages ?? []) this.#apply(entry)
    }
  }

  async #mark() {
    const marks = this.mailbox.marks()
    if (!marks.length) return
    const done = await this.request({ type: 'mark_delivered', marks }).catch(() => null)
    if (done) this.mailbox.marked(marks)
  }

  // 10.4: any byte is a sign of life.
  #keepAlive(intervalMs) {
    const quietMs = Date.now() - this.#heardAt
    if (quietMs >= 2 * intervalMs) return this.#socket.terminate()
    if (quietMs >= intervalMs) this.#socket.ping()
    this.#after('alive', quietMs < intervalMs ? intervalMs - quietMs : intervalMs / 2, () => this.#keepAlive(intervalMs))
  }

  // 13.1: once the token is a day old, or half of its life is over.
  #renewAfter(leftMs, ageMs = 0) {
    this.#after('token', Math.max(0, Math.min(RENEW_MS - ageMs, (leftMs - ageMs) / 2)), () => this.#renew())
  }

  async #renew() {
    const askedAt = Date.now()
    const fresh = await this.request({ type: 'refresh', token: this.token }).catch(() => null)
    if (!fresh) return this.#isOpen && this.#after('token', MAX_DELAY_MS, () => this.#renew())
    const came = Date.now()
    this.emit('token', fresh.token, fresh.expires, came)
    Object.assign(this, { token: fresh.token, came }) // only now: it is stored before a server sees it
    this.#renewAfter(fresh.expires / 1000 - askedAt - this.#ahead)
  }

  #closed(code, reason) {
    this.#isOpen = false
    for (const timer of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(new ConnectionLost(`${code} ${reason}`))
    if (this.#isLeaving) return
    if (code >= 4500 || FINAL_CLOSES.has(code)) {
      this.#hasEnded = true
      this.emit('end', code, reason)
    } else {
      const moveMs = this.#moveAt - Date.now()
      const isMove = this.#moveAt && moveMs > -MAX_DELAY_MS
      const delayMs = isMove ? Math.max(moveMs, 0) : this.#delayMs(CLOSE_DELAYS_MS[code] ?? FIRST_DELAY_MS)
      this.#moveAt = 0
      this.#after('again', delayMs, () => this.connect())
    }
  }

  #delayMs(firstMs) {
    return Math.random() * Math.min(MAX_DELAY_MS, firstMs * 2 ** this.#failures++)
  }

  #after(name, ms, act) {
    if (this.#timers.has(name)) return
    this.#timers.set(name, setTimeout(() => { this.#timers.delete(name); act() }, ms))
  }
}
