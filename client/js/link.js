// Keeps this device connected: tries the gateways in turn, connects again after a loss, moves to another node before one stops,
// and ends for good where another attempt would not help (SPEC 3, 13.3, 13.4).

import { Backoff } from './backoff.js'
import { Connection } from './connection.js'
import { FINAL_CLOSES } from './tables.js'
import { Timers } from './timers.js'

/** @typedef {import('./codec.js').Frame} Frame */

export class Link {
  /** @type {Connection | undefined} the one that was welcomed last */
  connection
  /** @type {Connection | undefined} */
  #opening
  #isLeaving = false
  #hasEnded = false
  #turn = 0
  #timers = new Timers()
  #backoff = new Backoff()

  /**
   * @param {string[]} urls
   * @param {typeof globalThis.WebSocket} WebSocket
   * @param {object} by
   * @param {() => Frame} by.hello
   * @param {(welcome: any) => [number, string] | undefined} by.misfit why the server does not fit, as a close code and a reason
   * @param {(connection: Connection, welcome: any, former?: Connection) => void} by.opened
   * @param {(frame: any, connection: Connection) => void} by.pushed
   * @param {(code: number, reason: string) => void} by.lost the connection that was open
   * @param {(code: number, reason: string) => void} by.ended
   */
  constructor(urls, WebSocket, by) {
    this.urls = urls
    this.WebSocket = WebSocket
    this.by = by
  }

  // Whether it has left or has ended for good, so that it does not connect again by itself.
  get isOver() {
    return this.#isLeaving || this.#hasEnded
  }

  connect() {
    this.#hasEnded = false
    this.#open(this.urls[this.#turn++ % this.urls.length])
  }

  /** The node is about to stop: opens another connection at the time that it gave, then says bye here.
   * @param {Connection} connection @param {number} ms */
  move(connection, ms) {
    if (connection !== this.connection) return
    this.#backoff.move(ms)
    this.#timers.after('move', ms, () => !this.isOver && !this.#opening && this.connect())
  }

  // It is not to connect again. Returns the connection that is open, which the caller closes.
  leave() {
    this.#isLeaving = true
    this.#timers.clear()
    if (!this.connection) this.#opening?.abandon('leaving')
    return this.connection
  }

  // The program cannot go on; returns whether that is news.
  fail() {
    if (this.#hasEnded) return false
    this.#hasEnded = true
    this.#timers.clear()
    for (const each of [this.connection, this.#opening]) each?.abandon('the client has failed')
    return true
  }

  /** @param {string} url */
  #open(url) {
    const former = this.connection
    const connection = this.#opening = new Connection(url, this.WebSocket)
    connection.on('push', (frame) => this.by.pushed(frame, connection))
    connection.on('closed', (code, reason, leastMs) => this.#closed(connection, code, reason, leastMs))
    connection.hello(this.by.hello(), (welcome) => this.#opened(connection, welcome, former))
  }

  /** @param {Connection} connection @param {any} welcome @param {Connection} [former] */
  #opened(connection, welcome, former) {
    if (connection.isClosed) return
    if (this.isOver) return connection.bye()
    const misfit = this.by.misfit(welcome)
    if (misfit) {
      this.#hasEnded = true
      connection.bye()
      return this.by.ended(...misfit)
    }
    this.connection = connection
    this.#opening = undefined
    this.#backoff.reset()
    this.by.opened(connection, welcome, former)
    former?.bye()
  }

  /** @param {Connection} connection @param {number} code @param {string} reason @param {number} leastMs */
  #closed(connection, code, reason, leastMs) {
    const wasOnline = connection === this.connection
    if (!wasOnline && connection !== this.#opening) return // one that this client has moved away from
    if (wasOnline) {
      this.connection = undefined
      this.#timers.clear()
      this.by.lost(code, reason)
    } else this.#opening = undefined
    if (this.isOver || this.connection || this.#opening) return
    if (code >= 4500 || FINAL_CLOSES.has(code)) {
      this.#hasEnded = true
      return this.by.ended(code, reason)
    }
    this.#timers.after('again', this.#backoff.next(code, leastMs), () => this.connect())
  }
}
