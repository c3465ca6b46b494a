// An EventTarget whose listeners get values rather than events: client.on('entry', (entry) => …). `addEventListener` works,
// too; then the values are in `event.detail`.

export class Events extends EventTarget {
  /** @type {Map<string, Map<Function, (event: Event) => void>>} */
  #listeners = new Map()

  /** @param {string} name @param {(...values: any[]) => void} act */
  on(name, act) {
    const listener = (/** @type {Event} */ event) => act(.../** @type {CustomEvent} */ (event).detail)
    const named = this.#listeners.get(name) ?? new Map()
    this.#listeners.set(name, named.set(act, listener))
    this.addEventListener(name, listener)
    return this
  }

  /** @param {string} name @param {(...values: any[]) => void} act */
  off(name, act) {
    const listener = this.#listeners.get(name)?.get(act)
    this.#listeners.get(name)?.delete(act)
    if (listener) this.removeEventListener(name, listener)
    return this
  }

  /** @param {string} name @param {(...values: any[]) => void} act */
  once(name, act) {
    const listener = (/** @type {any[]} */ ...values) => {
      this.off(name, listener)
      act(...values)
    }
    return this.on(name, listener)
  }

  /** The values of the next event of this name. @param {string} name @returns {Promise<any[]>} */
  next(name) {
    return new Promise((resolve) => this.once(name, (...values) => resolve(values)))
  }

  /** @param {string} name @param {any[]} values */
  emit(name, ...values) {
    this.dispatchEvent(new CustomEvent(name, { detail: values }))
  }
}
