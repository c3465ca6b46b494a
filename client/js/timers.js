// Timers by name: a second one of a name does not start while the first waits.
export class Timers {
  /** @type {Map<string, any>} */
  #waiting = new Map()

  /** @param {string} name @param {number} ms @param {() => void} act */
  after(name, ms, act) {
    if (this.#waiting.has(name)) return
    this.#waiting.set(name, setTimeout(() => {
      this.#waiting.delete(name)
      act()
    }, ms))
  }

  clear() {
    for (const timer of this.#waiting.values()) clearTimeout(timer)
    this.#waiting.clear()
  }
}
