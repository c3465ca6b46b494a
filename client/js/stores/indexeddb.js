// A store in a browser's IndexedDB. A commit is one transaction of the durability "strict": it is on the disk before it
// resolves. Ask the browser for `navigator.storage.persist()` once, or it may drop the database when the disk is full.
//
//   const store = await IndexedDbStore.open('alo-shield')

const TABLE = 'state'

/** @typedef {import('../journal.js').Store} Store */

/** @implements {Store} */
export class IndexedDbStore {
  /** @type {IDBDatabase} */
  #database

  /** @param {IDBDatabase} database */
  constructor(database) {
    this.#database = database
    // Another tab wants to delete it, or has a newer program: it would wait for this one.
    database.onversionchange = () => database.close()
  }

  /** @param {string} name of the database: one for each device */
  static async open(name) {
    const request = indexedDB.open(name, 1)
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE)
    return new IndexedDbStore(await resultOf(request))
  }

  /** Deletes all that a device holds, as after its user has logged out. @param {string} name */
  static async delete(name) {
    await resultOf(indexedDB.deleteDatabase(name))
  }

  /** @returns {Promise<[string, any][]>} */
  async load() {
    const table = this.#database.transaction(TABLE, 'readonly').objectStore(TABLE)
    const [keys, values] = await Promise.all([resultOf(table.getAllKeys()), resultOf(table.getAll())])
    return keys.map((key, at) => [String(key), values[at]])
  }

  /** @param {Map<string, any>} changes @returns {Promise<void>} */
  commit(changes) {
    return new Promise((resolve, reject) => {
      const transaction = this.#database.transaction(TABLE, 'readwrite', { durability: 'strict' })
      transaction.oncomplete = () => resolve()
      transaction.onabort = () => reject(transaction.error ?? new Error('the transaction was aborted'))
      try {
        const table = transaction.objectStore(TABLE)
        for (const [key, value] of changes) {
          if (value === undefined) table.delete(key)
          else table.put(value, key)
        }
      } catch (error) {
        reject(error)
        transaction.abort() // else it would commit what came before
      }
    })
  }

  close() {
    this.#database.close()
  }
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function resultOf(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
}
