// Messages that heal in their place (SPEC 19.17, 19.18, 20.13): this device reports those of others that it could not decrypt, and
// encrypts its own once more for a device that had been given them before. Each report and each answer is counted, so that both end.

import { equal, hex } from '../bytes.js'
import { ConnectionLost } from '../errors.js'

const MOST = 5 // answers to a device for a message, and reports of a message
const BUSY_MS = 3_600_000 // after quota_exceeded
const GIVEN_UP = new Set(['unknown_devices', 'revision_conflict', 'message_deleted', 'unknown_message', 'not_the_sender', 'quota_exceeded', 'not_a_participant', 'invalid_frame'])

export class Healing {
  #client
  #protocol
  #sets
  /** @type {Map<string, any>} conversation and message in hex -> [reports, digest of the last envelope that did not help] */
  #reported = new Map()
  /** @type {Map<string, number>} conversation, message and device in hex -> answers */
  #answered = new Map()
  #isReporting = false
  #busyUntil = 0
  /** @type {Promise<void>} */
  #last = Promise.resolve()

  /** @param {import('../client.js').Client} client @param {import('./encryption.js').Protocol} protocol
   * @param {import('./device_sets.js').DeviceSets} sets */
  constructor(client, protocol, sets) {
    this.#client = client
    this.#protocol = protocol
    this.#sets = sets
  }

  /** @param {[string, any][]} items of the store */
  restore(items) {
    for (const [path, value] of items) {
      if (path.startsWith('reported/')) this.#reported.set(path.slice(9), value)
      if (path.startsWith('answered/')) this.#answered.set(path.slice(9), value)
    }
  }

  // Reports what this device has lost, once it is back in the group: the answer is for its place there.
  look() {
    if (this.#isReporting || !this.#protocol.envelopeFor || !this.#client.features.has('undecryptable')) return
    this.#isReporting = true
    this.#report().catch((error) => {
      if (!(error instanceof ConnectionLost)) this.#client.fail(error)
    }).finally(() => { this.#isReporting = false })
  }

  async #report() {
    for (const conversation of this.#client.mailbox.conversations) {
      if (!this.#protocol.isInGroup?.(conversation)) continue
      const { state, entries } = /** @type {import('../held.js').Held} */ (this.#client.mailbox.held(conversation))
      for (const [seq, reason] of state.reasons) {
        const entry = entries.get(seq)
        if (Date.now() >= this.#busyUntil && entry && this.#isToReport(entry, reason)) await this.#reportOne(entry, reason)
      }
    }
  }

  /** @param {any} entry @param {string} reason */
  #isToReport(entry, reason) {
    if (entry.type !== 'message' || entry.follows !== undefined || reason === 'before' || equal(entry.device, this.#client.device)) return false
    const [count, envelope] = this.#reported.get(keyOf(entry)) ?? [0]
    return count === 0 || (count < MOST && entry.envelope && !equal(entry.envelope, envelope))
  }

  /** @param {any} entry @param {string} reason */
  async #reportOne({ conversation, message, seq, revision = 0, envelope }, reason) {
    const report = { type: 'report_undecryptable', conversation, seq, revision, reason: reason === 'lost' ? 'no_content_key' : 'damaged' }
    const error = await this.#client.request(report).then(() => undefined, (failure) => failure)
    if (error instanceof ConnectionLost) throw error
    if (error?.code === 'quota_exceeded' || error?.retry_after_ms !== undefined) this.#busyUntil = Date.now() + (error.retry_after_ms ?? BUSY_MS)
    // The server has too many reports of other messages: this one comes later.
    if (error?.retry_after_ms !== undefined || error?.limit === 'open_reports_per_device') return
    const key = keyOf({ conversation, message })
    this.#reported.set(key, [(this.#reported.get(key)?.[0] ?? 0) + 1, envelope])
    this.#client.journal.put(`reported/${key}`, this.#reported.get(key))
    this.#client.changed()
  }

  /** A device cannot decrypt a message of this one. @param {any} told `undecryptable` */
  told(told) {
    this.#last = this.#last.then(() => this.#answer(told)).catch((error) => {
      if (!(error instanceof ConnectionLost) && error.retry_after_ms === undefined) this.#client.emit('not_healed', told, error)
    }) // the server tells it again
  }

  /** @param {any} told */
  async #answer({ conversation, seq, user, device, revision = 0 }) {
    const { mailbox, journal } = this.#client
    const entry = mailbox.entry(conversation, seq)
    if (entry?.type !== 'message' || (entry.revision ?? 0) !== revision || !equal(entry.device, this.#client.device)) return
    const key = `${keyOf(entry)}/${hex(device)}`
    const count = this.#answered.get(key) ?? 0
    const plaintext = mailbox.plaintexts.of(entry)
    if (count >= MOST || plaintext === undefined) return
    const { devices } = await this.#sets.of(conversation)
    const listed = devices.find((each) => equal(each.device, device) && equal(each.user, user))
    const envelope = listed && await this.#protocol.envelopeFor?.(entry, plaintext, listed)
    if (!envelope) return
    this.#answered.set(key, count + 1)
    journal.put(`answered/${key}`, count + 1)
    await journal.flush()
    await this.#client.request({ type: 'add_envelopes', conversation, seq, revision, envelopes: [[device, envelope]] }).catch((error) => {
      if (!GIVEN_UP.has(error.code)) throw error
    })
  }
}

/** @param {{ conversation: Uint8Array, message: Uint8Array }} entry */
function keyOf({ conversation, message }) {
  return `${hex(conversation)}/${hex(message)}`
}
