// Collects what has changed, and commits it to a store: changes that were put in one step, without `await` between them, are
// in one transaction. A store keeps values by keys (stores/):
//   load()             all [key, value], as a promise
//   commit(changes)    a Map of key -> value, undefined to remove it; resolves once all of it will outlive a crash

/** @typedef {{ load(): Promise<[string, any][]>, commit(changes: Map<string, any>): Promise<void> }} Store */

export class StoreFailed extends Error {}

export class Journal {
  /** @type {Map<string, any>} */
  #changes = new Map()
  /** @type {Promise<void>} */
  #current = Promise.resolve()
  /** @type {Promise<void> | undefined} */
  #next

  /** @param {Store} [store] without one, nothing is kept */
  constructor(store) {
    this.store = store
  }

  /** @param {string} key @param {any} value data that structuredClone takes; read when it is committed */
  put(key, value) {
    if (this.store) this.#changes.set(key, value)
  }

  /** @param {string} key */
  remove(key) {
    this.put(key, undefined)
  }

  /** All that was put before is stored. One commit takes everything that waited during the one before. Rejects with
   * StoreFailed, then and ever after: what is in memory may not be on the disk.
   * @returns {Promise<void>} */
  flush() {
    if (!this.store) return Promise.resolve()
    this.#next ??= this.#current.then(() => {
      this.#next = undefined
      return (this.#current = this.#commit())
    })
    return this.#next
  }

  async #commit() {
    const changes = this.#changes
    if (!changes.size) return
    this.#changes = new Map()
    try {
      await /** @type {Store} */ (this.store).commit(changes)
    } catch (error) {
      throw new StoreFailed('the store cannot keep the messages', { cause: error })
    }
  }
}
