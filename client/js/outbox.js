// What this device is sending: messages, edits and deletions, in the order in which the user made them (SPEC 4, 8, 17.5). Each is
// stored before it is sent, and sent with the same bytes, over as many connections and starts of the program as it takes, until it
// is committed or refused. With encryption, what is stored first is the plaintext, and then, with the state of the encryption
// after it, the bytes; of each conversation one is under way at a time (20.4, 20.6).

import { equal } from './bytes.js'
import { ConnectionLost } from './errors.js'
import { LIMITS } from './tables.js'

/** @typedef {import('./codec.js').Frame} Frame */
/** @typedef {{ type: 'send' | 'edit' | 'delete' | 'tidy', conversation: Uint8Array, plaintext?: any, fields: Record<string, any>,
 *   edited?: Edited }} Draft `fields`: of the frame; `tidy`: control messages of the encryption alone, as many as it takes */
/** @typedef {{ message: Uint8Array, temp_id?: Uint8Array, reply_to?: number, is_quiet?: boolean }} Edited what an edit leaves as it is */
/** @typedef {{ key: string, draft: Draft, frame: any, isControl: boolean, isStored: boolean, isBusy: boolean, isAwaited: boolean,
 *   resolve: (sent: any) => void, reject: (error: any) => void }} Outgoing `frame`: its bytes, if there are any yet */

/**
 * Encrypts. Both call back in the step that changes the state of the encryption, so that one transaction has both.
 * @typedef {object} Sender
 * @property {(draft: Draft, accept: (frame: any, isControl: boolean) => void) => Promise<void>} prepare no frame: it is done
 * @property {(frame: any, error: any, again: () => void) => Promise<boolean>} refused whether it is sent in another way
 */

const ROOM = 16 // requests that are left for others
const REPLIES = { send: 'sent', edit: 'revised', delete: 'done', tidy: 'done' }

export class Outbox {
  /** @type {Outgoing[]} */
  #items = []
  #nextKey = 0
  #isHeld = true // until the client has caught up (17.5)

  /**
   * @param {import('./journal.js').Journal} journal
   * @param {object} by
   * @param {() => import('./connection.js').Connection | undefined} by.connection
   * @param {(frame: any, reply: any, plaintext?: any) => void} by.sent the server has done it: holds what it makes
   * @param {(draft: Draft, error: any) => void} by.refused
   * @param {(error: any) => void} by.failed the store or the encryption cannot go on
   * @param {Sender} [by.sender] with encryption
   */
  constructor(journal, by) {
    this.journal = journal
    this.by = by
  }

  // What is not committed yet.
  get drafts() {
    return this.#items.map(({ draft }) => draft)
  }

  /** Resolves with the `sent`, `revised` or `done`. Rejects with RequestRefused. A draft whose temp_id waits already is that one.
   * @param {Draft} draft @returns {Promise<any>} */
  add(draft) {
    return new Promise((resolve, reject) => {
      const { temp_id } = draft.fields
      const same = temp_id && this.#items.find((item) => equal(item.draft.fields.temp_id, temp_id) && !item.isAwaited)
      if (same) return Object.assign(same, { resolve, reject, isAwaited: true })
      const frame = this.by.sender && draft.type !== 'delete' ? undefined : frameOf(draft)
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

  /** How many edits of a message wait. @param {Uint8Array} conversation @param {number} seq */
  edits(conversation, seq) {
    return this.#items.filter(({ draft }) => draft.type === 'edit' && equal(draft.conversation, conversation) && draft.fields.seq === seq).length
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

  /** A lost `sent` or `revised`: the message comes with the other missed ones (4.6). @param {any} message
   * @param {Uint8Array | undefined} device this one */
  came({ temp_id, ...message }, device) {
    const item = temp_id && this.#items.find(({ frame }) => frame && equal(frame.temp_id, temp_id))
    if (item) return this.#sent(item, message)
    if (!message.revision || !equal(message.device, device)) return
    const edit = this.#items.find(({ frame }) => frame?.type === 'edit' && isMadeBy(frame, message))
    if (edit) this.#sent(edit, message)
  }

  // Sends what waits, in order, as far as there is room.
  pump() {
    const connection = this.by.connection()
    if (!connection || this.#isHeld) return
    for (const item of [...this.#items]) {
      if (item.isBusy || this.#isBehind(item)) continue
      if (!item.isStored || connection.inFlight >= LIMITS.requests_in_flight - ROOM) return
      item.isBusy = true
      if (item.frame) connection.ask(item.frame, (error, sent) => this.#answered(item, error, sent))
      else this.#encrypt(item)
    }
  }

  /** Whether one that has to come first is under way: one that changes the same message, and with encryption any that is encrypted in
   * the same conversation. @param {Outgoing} item */
  #isBehind(item) {
    const { conversation, fields } = item.draft
    const isEncrypted = (/** @type {Draft} */ draft) => this.by.sender && draft.type !== 'delete'
    const isBefore = (/** @type {Draft} */ draft) => equal(draft.conversation, conversation)
      && ((isEncrypted(draft) && isEncrypted(item.draft)) || (fields.seq !== undefined && draft.fields.seq === fields.seq))
    return this.#items.slice(0, this.#items.indexOf(item)).some(({ draft }) => isBefore(draft))
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
      if (!frame) return this.#done(item, {})
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
    this.by.sent(frame, sent, isControl ? undefined : draft.plaintext)
    if (isControl) return this.#again(item)
    this.#done(item, sent)
  }

  /** @param {Outgoing} item @param {any} sent */
  #done(item, sent) {
    this.#remove(item)
    this.journal.flush().then(() => item.resolve({ ...sent, type: REPLIES[item.draft.type] }), this.by.failed)
    this.pump()
  }

  /** @param {Outgoing} item @param {any} error */
  #refuse(item, error) {
    this.#remove(item)
    if (item.draft.type !== 'tidy') this.by.refused(item.draft, error)
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
function frameOf({ type, conversation, plaintext, fields }) {
  return { type, conversation, content: plaintext, ...fields }
}

/** Whether a message is what an edit has made. @param {any} edit @param {any} message */
function isMadeBy(edit, message) {
  return equal(edit.conversation, message.conversation) && edit.seq === message.seq && edit.revision + 1 === message.revision
    && equal(edit.content, message.content)
}
