// For which devices this one has encrypted in each epoch of a group: only these may have a message once more (SPEC 20.13).

import { equal, hex } from '../bytes.js'

/** @typedef {[device: Uint8Array, identity: Uint8Array][]} Roster */

const EPOCHS = 64 // of a group, the latest in which this device has written

export class Rosters {
  /** @type {Map<string, Map<string, Roster>>} conversation in hex -> epoch -> devices */
  #kept = new Map()

  /** @param {import('../journal.js').Journal} journal @param {[string, any][]} items of the store */
  constructor(journal, items) {
    this.journal = journal
    for (const [path, roster] of items) {
      const [kind, part, key, epoch] = path.split('/')
      if (kind === 'crypto' && part === 'roster') this.#of(key).set(epoch, roster)
    }
  }

  /** @param {Uint8Array} conversation @param {bigint} epoch @param {() => Roster} roster */
  keep(conversation, epoch, roster) {
    const key = hex(conversation)
    const kept = this.#of(key)
    if (kept.has(String(epoch))) return
    kept.set(String(epoch), roster())
    this.journal.put(`crypto/roster/${key}/${epoch}`, kept.get(String(epoch)))
    const numbers = [...kept.keys()].sort((one, other) => Number(BigInt(one) - BigInt(other)))
    for (const old of numbers.slice(0, -EPOCHS)) this.#remove(key, old)
  }

  /** Whether a message of this epoch was for the device with the identity that it has. @param {Uint8Array} conversation
   * @param {bigint} epoch @param {{ device: Uint8Array, identity: Uint8Array }} listed */
  had(conversation, epoch, listed) {
    const roster = this.#of(hex(conversation)).get(String(epoch)) ?? []
    return roster.some((/** @type {Uint8Array[]} */ [device, identity]) => equal(device, listed.device) && equal(identity, listed.identity))
  }

  /** @param {Uint8Array} conversation */
  forget(conversation) {
    const key = hex(conversation)
    for (const epoch of [...this.#of(key).keys()]) this.#remove(key, epoch)
    this.#kept.delete(key)
  }

  /** @param {string} key */
  #of(key) {
    const kept = this.#kept.get(key) ?? new Map()
    this.#kept.set(key, kept)
    return kept
  }

  /** @param {string} key @param {string} epoch */
  #remove(key, epoch) {
    this.#of(key).delete(epoch)
    this.journal.remove(`crypto/roster/${key}/${epoch}`)
  }
}
