// The plaintexts of messages that this device has decrypted (SPEC 20.5). The key that decrypts a message is often gone once it
// was used, and the server has no plaintext: so they outlive the order of messages (6.4), under the ids of their messages.

import { equal, hex } from './bytes.js'
import { Journal } from './journal.js'

/** @typedef {{ conversation: Uint8Array, message: Uint8Array, [field: string]: any }} Message */

const NONE = new Map()

export class Plaintexts {
  /** @type {Map<string, Map<string, any>>} conversation -> message, both in hex */
  #kept = new Map()
  /** @type {Set<string>} the conversations, in hex, of which plaintexts may wait for their messages */
  #incomplete = new Set()
  #journal

  constructor(journal = new Journal()) {
    this.#journal = journal
  }

  /** Keeps what a message says; an earlier revision of it goes. @param {Message} message @param {any} plaintext */
  keep(message, plaintext) {
    const { revision = 0 } = message
    const key = hex(message.conversation)
    const kept = { revision, from: sources(message), plaintext, isPlaced: true }
    if (!this.#kept.has(key)) this.#kept.set(key, new Map())
    this.#kept.get(key)?.set(hex(message.message), kept)
    this.#journal.put(`plaintext/${key}/${hex(message.message)}`, kept)
  }

  /** What a message says; undefined if this device has not decrypted these bytes of it. In another history an id and a
   * revision may belong to other bytes. @param {Message} message */
  of(message) {
    const kept = this.#of(message)
    if (!kept || kept.revision !== (message.revision ?? 0)) return undefined
    return sources(message).every((bytes, at) => equal(bytes, kept.from[at])) ? kept.plaintext : undefined
  }

  /** The message is held. @param {Message} message */
  place(message) {
    const kept = this.#of(message)
    if (kept) kept.isPlaced = true
  }

  // The order of all messages is dropped: another history has other messages at each seq.
  loseOrder() {
    for (const kept of this.#kept.values()) for (const each of kept.values()) each.isPlaced = false
    this.#incomplete = new Set(this.#kept.keys())
  }

  /** The message was deleted, or has disappeared. @param {Message} message */
  forget({ conversation, message }) {
    this.#forget(hex(conversation), hex(message))
  }

  /** Whether plaintexts of the conversation may wait for their messages. @param {string} key the conversation in hex */
  isIncomplete(key) {
    return this.#incomplete.has(key)
  }

  /** All messages of the conversation are held: those that have not come again are gone. @param {string} key */
  forgetPlaceless(key) {
    this.#incomplete.delete(key)
    for (const [id, { isPlaced }] of this.#kept.get(key) ?? NONE) if (!isPlaced) this.#forget(key, id)
  }

  /** The user no longer takes part. @param {string} key the conversation in hex */
  forgetConversation(key) {
    for (const id of [...(this.#kept.get(key) ?? NONE).keys()]) this.#forget(key, id)
    this.#kept.delete(key)
    this.#incomplete.delete(key)
  }

  // The conversations, in hex, of which it may have plaintexts.
  conversations() {
    return [...this.#kept.keys()]
  }

  /** Takes one from a store; it has no place until its message is taken, too.
   * @param {string} key the conversation in hex @param {string} id the message in hex @param {any} kept undefined: it is gone */
  take(key, id, kept) {
    if (!this.#kept.has(key)) this.#kept.set(key, new Map())
    if (!kept) this.#kept.get(key)?.delete(id)
    else {
      this.#kept.get(key)?.set(id, { ...kept, isPlaced: this.#kept.get(key)?.get(id)?.isPlaced ?? false })
      this.#incomplete.add(key)
    }
  }

  /** @param {Message} message */
  #of({ conversation, message }) {
    return (this.#kept.get(hex(conversation)) ?? NONE).get(hex(message))
  }

  /** @param {string} key @param {string} id */
  #forget(key, id) {
    if (this.#kept.get(key)?.delete(id)) this.#journal.remove(`plaintext/${key}/${id}`)
  }
}

/** @param {Message} message */
function sources({ content, nonce, ephemeral_public_key }) {
  return [content, nonce, ephemeral_public_key]
}
