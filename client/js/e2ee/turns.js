// One step after the other: a step of a ratchet begins with the state that the one before has left.
export class Turns {
  /** @type {Promise<unknown>} */
  #last = Promise.resolve()

  /** @template T @param {() => Promise<T>} step @returns {Promise<T>} */
  take(step) {
    const result = this.#last.then(step)
    this.#last = result.catch(() => {})
    return result
  }
}
