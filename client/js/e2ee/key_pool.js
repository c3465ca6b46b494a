// Keeps one-time keys of this device at the server (SPEC 19.5 to 19.9). The private parts are stored before the public ones are
// uploaded, and numbers only grow.

const POOL = 50
const LEAST = 20

/** @typedef {{ kind: string, identity: () => Uint8Array,
 *   makeKeys: (numbers: number[], isLastResort: boolean) => Promise<{ keys: [number, Uint8Array][], commit: () => void }> }} KeyMaker */

export class KeyPool {
  #client
  #maker
  #nextNumber = 1
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
  }

  // Publishes the identity, and uploads as many keys as are missing. After an error the next welcome or `keys_low` begins again.
  async fill() {
    this.#isDue = true
    if (this.#isBusy) return
    this.#isBusy = true
    try {
      while (this.#isDue) {
        this.#isDue = false
        await this.#fill()
      }
    } finally {
      this.#isBusy = false
    }
  }

  async #fill() {
    const { kind, identity } = this.#maker
    const { key_history, pools = [] } = await this.#client.request({ type: 'key_status' })
    const [, count = 0, , highest = 0, , lastResort = 0, isGiven = false] = pools.find((/** @type {any[]} */ pool) => pool[0] === kind) ?? []
    this.#nextNumber = Math.max(this.#nextNumber, highest + 1, lastResort + 1)
    const one = count < LEAST ? await this.#make(POOL - count, false) : []
    const last = !lastResort || isGiven ? await this.#make(1, true) : []
    await this.#client.request({
      type: 'put_keys', identity: identity(), key_history,
      one_time_keys: one.length ? one : undefined, last_resort_keys: last.length ? last : undefined,
    })
  }

  /** @param {number} count @param {boolean} isLastResort @returns {Promise<[string, number, Uint8Array][]>} */
  async #make(count, isLastResort) {
    const numbers = Array.from({ length: count }, (_, at) => this.#nextNumber + at)
    this.#nextNumber += count
    const { keys, commit } = await this.#maker.makeKeys(numbers, isLastResort)
    commit()
    this.#client.journal.put('crypto/next_number', this.#nextNumber)
    await this.#client.journal.flush()
    return keys.map(([number, key]) => [this.#maker.kind, number, key])
  }
}
