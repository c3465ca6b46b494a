// The time before the next attempt to connect (SPEC 13.3, 13.4).

import { CLOSE_DELAYS_MS } from './tables.js'

const FIRST_MS = 500
const MOST_MS = 60_000
const LATE_MS = 60_000 // the server has not kept the time of its `move`

export class Backoff {
  #failures = 0
  #moveAt = 0

  // The server has welcomed the client.
  reset() {
    this.#failures = this.#moveAt = 0
  }

  /** The node stops in so many ms: no attempt before that. @param {number} ms */
  move(ms) {
    this.#moveAt = Date.now() + ms
  }

  /** @param {number} code of the close, 0 if there is none @param {number} leastMs for which a full gateway asks @returns {number} ms */
  next(code, leastMs = 0) {
    const leftMs = this.#moveAt - Date.now()
    const isMove = this.#moveAt && leftMs > -LATE_MS
    this.#moveAt = 0
    if (isMove) return Math.max(leftMs, 0)
    return leastMs + Math.random() * Math.min(MOST_MS, (CLOSE_DELAYS_MS[code] ?? FIRST_MS) * 2 ** this.#failures++)
  }
}
