// Keeps one-time keys of this device at the server (SPEC 19.5 to 19.9). The private parts are stored before the public ones are
// uploaded, and numbers only grow.

import { concat, equal, sha256 } from '../bytes.js'

const POOL = 50
const LEAST = 20
const ATTEMPTS = 3

/** @typedef {{ kind: string, identity: () => Uint8Array,
 *   makeKeys: (numbers: number[], isLastResort: boolean) => Promise<{ keys: [number, Uint8Array][], commit: () => void }> }} KeyMaker */

export class KeyPool {
  #client
  #maker
  #nextNumber = 1
  /** @type {{ one: Map<number, Uint8Array>, last: Map<number, Uint8Array> }} number -> SHA-256 of the key that was made with it */
  #made = { one: new Map(), last: new Map() }
  #isBusy = false
  #isDue = false

  /** @param {import('../client.js').Client} client @param {KeyMaker} maker */
  constructor(client, maker) {
    this.#client = client
    this.#maker = maker
  }

  /** @param {[string, any][]} items of the store */
  restore(items) {
    this.#nextNumber = items.find(([key]) => key === 'crypto/next_number')?.[1] ?? 1
    this.#made = items.find(([key]) => key === 'crypto/made_keys')?.[1] ?? this.#made
  }

  // Publishes the identity, and uploads as many keys as are missing. After an error the next welcome or `keys_low` begins again.
  async fill() {
    this.#isDue = true
    if (this.#isBusy) return
    this.#isBusy = true
    try {
      for (let foreign = 0; this.#isDue;) {
        this.#isDue = false
        await this.#fill().catch((error) => {
          if (error.code !== 'key_history_foreign' || ++foreign >= ATTEMPTS) throw error
          this.#isDue = true // 19.8: with the history that the server tells now
        })
      }
    } finally {
      this.#isBusy = false
    }
  }

  async #fill() {
    const { kind, identity } = this.#maker
    const { key_history, pools = [] } = await this.#client.request({ type: 'key_status' })
    const pool = pools.find((/** @type {any[]} */ each) => each[0] === kind)
    const [, count = 0, first = 0, highest = 0, digest, lastResort = 0, isGiven = false] = pool ?? []
    this.#nextNumber = Math.max(this.#nextNumber, highest + 1, lastResort + 1)
    // 19.7: the server may hold other keys than this device believes, as after it was restored.
    const isOther = pool && !equal(digest, await digestOf([...this.#made.one].filter(([number]) => first && number >= first && number <= highest), this.#made.last.get(lastResort), lastResort))
    const one = isOther ? await this.#make(POOL, false) : count < LEAST ? await this.#make(POOL - count, false) : []
    const last = isOther || !lastResort || isGiven ? await this.#make(1, true) : []
    await this.#client.request({
      type: 'put_keys', identity: identity(), key_history, is_anew: isOther || undefined,
      one_time_keys: one.length ? one : undefined, last_resort_keys: last.length ? last : undefined,
    })
    for (const number of this.#made.one.keys()) if (number < first) this.#made.one.delete(number)
  }

  /** @param {number} count @param {boolean} isLastResort @returns {Promise<[string, number, Uint8Array][]>} */
  async #make(count, isLastResort) {
    const numbers = Array.from({ length: count }, (_, at) => this.#nextNumber + at)
    this.#nextNumber += count
    const { keys, commit } = await this.#maker.makeKeys(numbers, isLastResort)
    commit()
    const made = isLastResort ? this.#made.last : this.#made.one
    for (const [number, key] of keys) made.set(number, await sha256(key))
    this.#client.journal.put('crypto/next_number', this.#nextNumber)
    this.#client.journal.put('crypto/made_keys', this.#made)
    await this.#client.journal.flush()
    return keys.map(([number, key]) => [this.#maker.kind, number, key])
  }
}

/** The digest of a pool (19.7). @param {[number, Uint8Array][]} one number and SHA-256 of each one-time key, by number
 * @param {Uint8Array | undefined} last SHA-256 of the last-resort key @param {number} lastNumber 0: none */
export function digestOf(one, last, lastNumber) {
  const entries = [...one, .../** @type {[number, Uint8Array][]} */ (lastNumber ? [[lastNumber, last ?? new Uint8Array()]] : [])]
  return sha256(concat(...entries.map(([number, digest]) => {
    const head = new Uint8Array(8)
    new DataView(head.buffer).setBigUint64(0, BigInt(number))
    return concat(head, digest)
  })))
}
