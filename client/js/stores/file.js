// A store in a file, for Node: one process at a time. Each commit appends one record and waits until it is on the disk. The
// file is written anew, under another name first, when most of it has been replaced.
//
// A record is the length of its body (4 bytes), the first 8 bytes of the body's SHA-256, and the body: changes, by v8.serialize.
// A record at the end that is not whole was never acknowledged: it is left out.

import { createHash } from 'node:crypto'
import { open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { deserialize, serialize } from 'node:v8'

const HEAD_BYTES = 12
const LEAST_BYTES = 1024 * 1024 // below it the file is not written anew

/** @typedef {import('../journal.js').Store} Store */

/** @implements {Store} */
export class FileStore {
  #path
  /** @type {Map<string, any>} key -> value in bytes */
  #items = new Map()
  /** @type {import('node:fs/promises').FileHandle | undefined} */
  #file
  #size = 0
  #liveBytes = 0

  /** @param {string} path readable by the user alone; the folder has to exist */
  constructor(path) {
    this.#path = path
  }

  /** @returns {Promise<[string, any][]>} */
  async load() {
    const bytes = await readFile(this.#path).catch((error) => {
      if (error.code === 'ENOENT') return Buffer.alloc(0)
      throw error
    })
    for (let body = bodyAt(bytes, this.#size); body; body = bodyAt(bytes, this.#size)) {
      this.#size += HEAD_BYTES + body.length
      this.#take(deserialize(/** @type {any} */ (body)))
    }
    this.#file = await open(this.#path, 'a+', 0o600)
    await this.#file.truncate(this.#size)
    await syncFolder(this.#path)
    return [...this.#items].map(([key, value]) => [key, deserialize(value)])
  }

  /** @param {Map<string, any>} changes */
  async commit(changes) {
    const packed = [...changes].map(([key, value]) => [key, value === undefined ? undefined : serialize(value)])
    const record = recordOf(packed)
    const file = /** @type {import('node:fs/promises').FileHandle} */ (this.#file)
    await file.appendFile(record)
    await file.datasync()
    this.#size += record.length
    this.#take(packed)
    if (this.#size > LEAST_BYTES && this.#size > 3 * this.#liveBytes) await this.#writeAnew()
  }

  async close() {
    await this.#file?.close()
  }

  /** @param {any[]} packed */
  #take(packed) {
    for (const [key, value] of packed) {
      this.#liveBytes += (value?.length ?? 0) - (this.#items.get(key)?.length ?? 0)
      if (value === undefined) this.#items.delete(key)
      else this.#items.set(key, value)
    }
  }

  async #writeAnew() {
    const record = recordOf([...this.#items])
    const file = await open(`${this.#path}.new`, 'w', 0o600)
    await file.appendFile(record)
    await file.datasync()
    await rename(`${this.#path}.new`, this.#path)
    await syncFolder(this.#path)
    await this.#file?.close()
    this.#file = file
    this.#size = record.length
  }
}

/** @param {any[]} packed */
function recordOf(packed) {
  const body = serialize(packed)
  const head = Buffer.alloc(HEAD_BYTES)
  head.writeUInt32BE(body.length)
  digestOf(body).copy(head, 4, 0, 8)
  return Buffer.concat([head, body])
}

/** The whole record there; undefined if there is none. @param {Buffer} bytes @param {number} at */
function bodyAt(bytes, at) {
  if (bytes.length < at + HEAD_BYTES) return undefined
  const body = bytes.subarray(at + HEAD_BYTES, at + HEAD_BYTES + bytes.readUInt32BE(at))
  const isWhole = body.length === bytes.readUInt32BE(at) && digestOf(body).subarray(0, 8).equals(bytes.subarray(at + 4, at + HEAD_BYTES))
  return isWhole ? body : undefined
}

/** @param {Buffer} body */
function digestOf(body) {
  return createHash('sha256').update(body).digest()
}

/** A file's name is on the disk once its folder is. @param {string} path */
async function syncFolder(path) {
  const folder = await open(dirname(path), 'r')
  await folder.sync()
  await folder.close()
}
