// One WebSocket: requests and their replies, pushes, signs of life. Events:
//   push (frame)
//   closed (code, reason, leastMs)   once; a code of 0: this side has given the connection up; `leastMs`: no attempt before that

import { NotCbor } from './cbor.js'
import { decode, encode } from './codec.js'
import { ConnectionLost, RequestRefused } from './errors.js'
import { Events } from './events.js'
import { SOCKET_PATH, SUBPROTOCOL } from './tables.js'

/** @typedef {import('./codec.js').Frame} Frame */
/** @typedef {(error: Error | undefined, reply: Frame) => void} Answer */

const OPENING_MS = 15_000 // for the handshake and the welcome
const CLOSING_MS = 5_000

export class Connection extends Events {
  #socket
  /** @type {Map<number, Answer>} */
  #waiting = new Map()
  #nextRequest = 0
  #isClosed = false
  #heardAt = Date.now()
  /** @type {any} */
  #timer

  /** @param {string} url of a gateway, such as wss://chat.example @param {typeof globalThis.WebSocket} WebSocket */
  constructor(url, WebSocket) {
    super()
    this.url = url
    this.#socket = new WebSocket(url.replace(/\/$/, '') + SOCKET_PATH, [SUBPROTOCOL]) // 1.1
    this.#socket.binaryType = 'arraybuffer'
    this.#socket.addEventListener('open', () => this.emit('opened'))
    this.#socket.addEventListener('message', ({ data }) => this.#receive(data))
    this.#socket.addEventListener('error', () => {}) // `close` comes after it
    this.#socket.addEventListener('close', ({ code, reason }) => this.#end(code, reason))
    // The package ws tells of a refused handshake; the WebSocket of a browser does not (13.3).
    const socket = /** @type {any} */ (this.#socket)
    socket.on?.('unexpected-response', (/** @type {any} */ _, /** @type {any} */ answer) => this.#turnedAway(answer))
    this.#timer = setTimeout(() => this.abandon('no welcome in time'), OPENING_MS)
  }

  get isClosed() {
    return this.#isClosed
  }

  // The number of requests without a reply.
  get inFlight() {
    return this.#waiting.size
  }

  /** Sends `hello`; calls `welcomed` before any later frame. Without a welcome it gives the connection up.
   * @param {Frame} frame @param {(welcome: any) => void} welcomed */
  async hello(frame, welcomed) {
    await this.next('opened')
    this.ask(frame, (error, welcome) => {
      if (error) return this.abandon('no welcome')
      this.#keepAlive(welcome.keep_alive_ms)
      welcomed(welcome)
    })
  }

  /** Resolves with the reply. Rejects with RequestRefused or ConnectionLost. @param {Frame} frame @returns {Promise<any>} */
  request(frame) {
    return new Promise((resolve, reject) => this.ask(frame, (error, reply) => (error ? reject(error) : resolve(reply))))
  }

  /** Calls `answer` right when the reply comes, before any later frame. @param {Frame} frame @param {Answer} answer */
  ask(frame, answer) {
    const none = /** @type {any} */ (undefined)
    if (this.#isClosed) return answer(new ConnectionLost('not connected'), none)
    while (this.#waiting.has(this.#nextRequest)) this.#nextRequest = (this.#nextRequest + 1) % 2 ** 32
    const request = this.#nextRequest
    this.#nextRequest = (this.#nextRequest + 1) % 2 ** 32
    const bytes = encode({ ...frame, request })
    this.#waiting.set(request, answer)
    this.#socket.send(bytes)
  }

  // Leaves: the server answers the requests in flight, then closes with 1000 (3).
  async bye() {
    const closed = this.#isClosed ? undefined : this.next('closed')
    const timer = setTimeout(() => this.abandon('no answer to bye'), CLOSING_MS)
    await this.request({ type: 'bye' }).catch(() => this.abandon('it cannot say bye'))
    await closed
    clearTimeout(timer)
  }

  /** Gives the connection up, without waiting for the other side. @param {string} reason @param {number} [leastMs] */
  abandon(reason, leastMs) {
    const socket = /** @type {any} */ (this.#socket)
    if (socket.terminate) socket.terminate()
    else socket.close()
    this.#end(0, reason, leastMs)
  }

  /** @param {{ statusCode: number, headers: Record<string, string> }} answer */
  #turnedAway({ statusCode, headers }) {
    this.abandon(`the handshake was answered with status ${statusCode}`, 1000 * Number(headers['retry-after'] ?? 0) || 0)
  }

  /** @param {any} data */
  #receive(data) {
    if (this.#isClosed || typeof data === 'string') return
    this.#heardAt = Date.now()
    for (const frame of this.#decoded(new Uint8Array(data))) {
      const answer = this.#waiting.get(frame.request)
      if (!answer) this.emit('push', frame)
      else {
        this.#waiting.delete(frame.request)
        answer(frame.type === 'error' ? new RequestRefused(/** @type {any} */ (frame)) : undefined, frame)
      }
    }
  }

  /** @param {Uint8Array} data */
  #decoded(data) {
    try {
      return decode(data)
    } catch (error) {
      if (!(error instanceof NotCbor)) throw error
      this.abandon(`the server sends bytes that are no frames: ${error.message}`)
      return []
    }
  }

  /** 10.4: any byte is a sign of life. A browser does not show a WebSocket ping, so it sends `ping`. @param {number} intervalMs */
  #keepAlive(intervalMs) {
    clearTimeout(this.#timer)
    const silentMs = Date.now() - this.#heardAt
    if (silentMs >= 2 * intervalMs) return this.abandon('the server is silent')
    if (silentMs >= intervalMs) this.request({ type: 'ping' }).catch(() => {})
    this.#timer = setTimeout(() => this.#keepAlive(intervalMs), silentMs < intervalMs ? intervalMs - silentMs : intervalMs / 2)
  }

  /** @param {number} code @param {string} reason @param {number} [leastMs] */
  #end(code, reason, leastMs = 0) {
    if (this.#isClosed) return
    this.#isClosed = true
    clearTimeout(this.#timer)
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const answer of waiting) answer(new ConnectionLost(`${code} ${reason}`), /** @type {any} */ (undefined))
    this.emit('closed', code, reason, leastMs)
  }
}
