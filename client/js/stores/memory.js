// A store that ends with the program: for tests, and for clients that are to hold nothing on a disk.

/** @typedef {import('../journal.js').Store} Store */

/** @implements {Store} */
export class MemoryStore {
  /** @type {Map<string, any>} */
  #items = new Map()

  async load() {
    return structuredClone([...this.#items])
  }

  /** @param {Map<string, any>} changes */
  async commit(changes) {
    for (const [key, value] of structuredClone(changes)) {
      if (value === undefined) this.#items.delete(key)
      else this.#items.set(key, value)
    }
  }
}
