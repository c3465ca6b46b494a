// The messages that this device is sending, in the order in which the user wrote them (SPEC 4, 17.5). Each is stored before it
// is sent, and sent with the same bytes, over as many connections and starts of the program as it takes, until it is committed
// or refused. With encryption, what is stored first is the plaintext, and then, with the state of the encryption after it, the
// bytes; of each conversation one message is under way at a time (20.4, 20.6).

import { equal } from './bytes.js'
import { ConnectionLost } from './errors.js'
import { LIMITS } from './tables.js'

/** @typedef {import('./codec.js').Frame} Frame */
/** @typedef {{ conversation: Uint8Array, plaintext: any, fields: Record<string, any> }} Draft `fields`: of the `send` */
/** @typedef {{ key: string, draft: Draft, frame: any, isControl: boolean, isStored: boolean, isBusy: boolean, isAwaited: boolean,
 *   resolve: (sent: any) => void, reject: (error: any) => void }} Outgoing `frame`: its bytes, if there are any yet */

/**
 * Encrypts. Both call back in the step that changes the state of the encryption, so that one transaction has both.
 * @typedef {object} Sender
 * @property {(draft: Draft, accept: (frame: any, isControl: boolean) => void) => Promise<void>} prepare
 * @property {(frame: any, error: any, again: () => void) => Promise<boolean>} refused whether it is sent in another way
 */

const ROOM = 16 // requests that are left for others

export class Outbox {
  /** @type {Outgoing[]} */
  #items = []
  #nextKey = 0
  #isHeld = true // until the client has caught up (17.5)

  /**
   * @param {import('./journal.js').Journal} journal
   * @param {object} by
   * @param {() => import('./connection.js').Connection | undefined} by.connection
   * @param {(entry: any, plaintext?: any) => void} by.sent a message is committed: holds it
   * @param {(draft: Draft, error: any) => void} by.refused
   * @param {(error: any) => void} by.failed the store or the encryption cannot go on
   * @param {Sender} [by.sender] with encryption
   */
  constructor(journal, by) {
    this.journal = journal
    this.by = by
  }

  // The messages that are not committed yet.
  get drafts() {
    return this.#items.map(({ draft }) => draft)
  }

  /** Resolves with the `sent`. Rejects with RequestRefused. A draft whose temp_id waits already is that one.
   * @param {Draft} draft @returns {Promise<any>} */
  add(draft) {
    return new Promise((resolve, reject) => {
      const same = this.#items.find((item) => equal(item.draft.fields.temp_id, draft.fields.temp_id) && !item.isAwaited)
      if (same) return Object.assign(same, { resolve, reject, isAwaited: true })
      const frame = this.by.sender ? undefined : frameOf(draft)
      const key = String(this.#nextKey++).padStart(12, '0')
      this.#store({ key, draft, frame, isControl: false, isStored: false, isBusy: false, isAwaited: true, resolve, reject })
    })
  }

  /** Takes what a store has. @param {[string, any][]} items */
  restore(items) {
    for (const [path, value] of items.filter(([key]) => key.startsWith('outgoing/')).sort(([one], [other]) => (one < other ? -1 : 1))) {
      const key = path.split('/')[1]
      this.#items.push({ key, ...value, isStored: true, isBusy: false, isAwaited: false, resolve() {}, reject() {} })
      this.#nextKey = Number(key) + 1
    }
  }

  // The client has caught up after a start or a lost connection.
  release() {
    this.#isHeld = false
    this.pump()
  }

  // The connection is lost.
  hold() {
    this.#isHeld = true
  }

  /** A lost `sent`: the message comes with the other missed ones (4.6). @param {any} message */
  came({ temp_id, ...message }) {
    const item = temp_id && this.#items.find(({ frame }) => frame && equal(frame.temp_id, temp_id))
    if (item) this.#sent(item, message)
  }

  // Sends the waiting messages, in order, as far as there is room.
  pump() {
    const connection = this.by.connection()
    if (!connection || this.#isHeld) return
    for (const item of [...this.#items]) {
      if (item.isBusy || (this.by.sender && this.#isBehind(item))) continue
      if (!item.isStored || connection.inFlight >= LIMITS.requests_in_flight - ROOM) return
      item.isBusy = true
      if (item.frame) connection.ask(item.frame, (error, sent) => this.#answered(item, error, sent))
      else this.#encrypt(item)
    }
  }

  /** Whether an earlier message of the same conversation is under way. @param {Outgoing} item */
  #isBehind(item) {
    return this.#items.find(({ draft }) => equal(draft.conversation, item.draft.conversation)) !== item
  }

  /** @param {Outgoing} item */
  #store(item) {
    if (!this.#items.includes(item)) this.#items.push(item)
    item.isStored = false
    const { draft, frame, isControl } = item
    this.journal.put(`outgoing/${item.key}`, { draft, frame, isControl })
    this.journal.flush().then(() => {
      item.isStored = true
      this.pump()
    }, this.by.failed)
  }

  /** @param {Outgoing} item */
  #encrypt(item) {
    const { sender } = /** @type {{ sender: Sender }} */ (this.by)
    sender.prepare(item.draft, (frame, isControl) => {
      Object.assign(item, { frame, isControl, isBusy: false })
      this.#store(item)
    }).catch((error) => this.#notEncrypted(item, error))
  }

  /** @param {Outgoing} item @param {any} error */
  #notEncrypted(item, error) {
    if (error instanceof ConnectionLost) item.isBusy = false
    else if (error.retry_after_ms !== undefined) this.#later(item, error.retry_after_ms)
    else this.#refuse(item, error)
  }

  /** @param {Outgoing} item @param {any} error @param {any} sent */
  #answered(item, error, sent) {
    if (!this.#items.includes(item)) return // its message came first
    if (!error) this.#sent(item, sent)
    else if (error instanceof ConnectionLost) item.isBusy = false // the next connection sends it again
    else if (error.retry_after_ms !== undefined) this.#later(item, error.retry_after_ms)
    else if (this.by.sender) this.#changed(item, error)
    else this.#refuse(item, error)
  }

  /** @param {Outgoing} item @param {number} ms */
  #later(item, ms) {
    setTimeout(() => {
      item.isBusy = false
      this.pump()
    }, ms)
  }

  /** Nothing of it is stored: the encryption says whether it can be sent in another way. @param {Outgoing} item @param {any} error */
  #changed(item, error) {
    const { sender } = /** @type {{ sender: Sender }} */ (this.by)
    sender.refused(item.frame, error, () => this.#again(item)).then((isAgain) => {
      if (!isAgain) this.#refuse(item, error)
    }).catch((failure) => this.#notEncrypted(item, failure))
  }

  /** @param {Outgoing} item */
  #again(item) {
    Object.assign(item, { frame: undefined, isControl: false, isBusy: false })
    this.#store(item)
  }

  /** @param {Outgoing} item @param {any} sent */
  #sent(item, sent) {
    const { frame, draft, isControl } = item
    this.by.sent(entryOf(frame, sent), isControl ? undefined : draft.plaintext)
    if (isControl) return this.#again(item)
    this.#remove(item)
    this.journal.flush().then(() => item.resolve({ type: 'sent', ...sent }), this.by.failed)
    this.pump()
  }

  /** @param {Outgoing} item @param {any} error */
  #refuse(item, error) {
    this.#remove(item)
    this.by.refused(item.draft, error)
    item.reject(error)
    this.journal.flush().catch(this.by.failed)
    this.pump()
  }

  /** @param {Outgoing} item */
  #remove(item) {
    this.#items.splice(this.#items.indexOf(item), 1)
    this.journal.remove(`outgoing/${item.key}`)
  }
}

/** Without encryption. @param {Draft} draft @returns {Frame} */
function frameOf({ conversation, plaintext, fields }) {
  return { type: 'send', conversation, content: plaintext, ...fields }
}

/** A message that this device has sent, as others get it; without its sender. @param {any} frame @param {any} sent */
function entryOf({ conversation, content_type, content, nonce, ephemeral_public_key, temp_id, ...more }, sent) {
  const { seq, message, created, device, quiet_count } = sent
  const { reply_to, attachments, thumbnail, is_quiet, envelopes, follows } = more
  return {
    type: 'message', conversation, seq, message, created, device, content_type, content, nonce, ephemeral_public_key, temp_id,
    reply_to, attachments, thumbnail, is_quiet, has_envelopes: envelopes && true, follows, quiet_count,
  }
}
