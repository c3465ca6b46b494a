// The plaintexts of messages that this device has decrypted (SPEC 20.5). The key that decrypts a message is often gone once it
// was used, and the server has no plaintext: so they outlive the order of messages (6.4), under the ids of their messages.

import { equal, hex } from './bytes.js'

const NONE = new Map()

export class Plaintexts {
  #kept = new Map() // conversation in hex -> message in hex -> { seq, revision, from, plaintext }; seq undefined: not seen again yet
  #floors = new Map() // conversation in hex -> its first seq
  #incomplete = new Set() // the conversations, in hex, of which plaintexts may wait for their messages

  // Keeps what a message says; an earlier revision of it goes.
  keep(message, plaintext) {
    const key = hex(message.conversation)
    if (!this.#kept.has(key)) this.#kept.set(key, new Map())
    const { seq, revision = 0 } = message
    this.#kept.get(key).set(hex(message.message), { seq, revision, from: sources(message), plaintext })
  }

  // What a message says; undefined if this device has not decrypted these bytes of it. In another history an id and a
  // revision may belong to other bytes.
  of(message) {
    const kept = this.#of(message.conversation).get(hex(message.message))
    if (!kept || kept.revision !== (message.revision ?? 0)) return undefined
    return sources(message).every((bytes, at) => equal(bytes, kept.from[at])) ? kept.plaintext : undefined
  }

  // The message is held, at this seq.
  place({ conversation, message, seq }) {
    const kept = this.#of(conversation).get(hex(message))
    if (kept) kept.seq = seq
  }

  // No seq counts any longer: another history has other messages there.
  loseOrder() {
    for (const kept of this.#kept.values()) for (const each of kept.values()) each.seq = undefined
    this.#incomplete = new Set(this.#kept.keys())
    this.#floors.clear()
  }

  // The message was deleted.
  forget({ conversation, message }) {
    this.#of(conversation).delete(hex(message))
  }

  // Messages below this seq are gone, or not for this user.
  forgetBelow(conversation, first_seq) {
    const key = hex(conversation)
    const former = this.#floors.get(key) ?? 1
    this.#floors.set(key, first_seq)
    if (first_seq > former) this.#forgetIf(key, ({ seq }) => seq !== undefined && seq < first_seq)
  }

  // Whether plaintexts of the conversation may wait for their messages.
  isIncomplete(conversation) {
    return this.#incomplete.has(hex(conversation))
  }

  // All messages of the conversation are held: those that have not come again are gone.
  forgetPlaceless(conversation) {
    const key = hex(conversation)
    if (this.#incomplete.delete(key)) this.#forgetIf(key, ({ seq }) => seq === undefined)
  }

  // The user no longer takes part. `key`: the conversation in hex.
  forgetConversation(key) {
    this.#kept.delete(key)
    this.#floors.delete(key)
    this.#incomplete.delete(key)
  }

  // The conversations, in hex, of which it may have plaintexts.
  conversations() {
    return [...this.#kept.keys()]
  }

  #of(conversation) {
    return this.#kept.get(hex(conversation)) ?? NONE
  }

  #forgetIf(key, isGone) {
    for (const [id, each] of this.#kept.get(key) ?? NONE) if (isGone(each)) this.#kept.get(key).delete(id)
  }
}

function sources({ content, nonce, ephemeral_public_key }) {
  return [content, nonce, ephemeral_public_key]
}
