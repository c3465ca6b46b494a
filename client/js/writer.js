// What a program has a client write: messages, edits, deletions, reactions. The outbox keeps them until they are done.

import { equal, uuid7 } from './bytes.js'
import { CONTENT_TYPE, encodeContent } from './contents.js'
import { Events } from './events.js'

export class Writer extends Events {
  /** @type {import('./outbox.js').Outbox} */
  outbox = /** @type {any} */ (undefined)
  /** @type {import('./mailbox.js').Mailbox} */
  mailbox = /** @type {any} */ (undefined)
  isEncrypted = false

  // The time on the server's clock, in ms.
  get now() {
    return Date.now()
  }

  // What is not committed yet, messages, edits and deletions, also those from before a start of the program.
  get drafts() {
    return this.outbox.drafts
  }

  /**
   * Returns the `sent` once the message is committed, over as many connections as it takes (4.2, 4.3). Rejects with
   * RequestRefused.
   * @param {Uint8Array} conversation
   * @param {any} content bytes; with encryption a Content (contents.js)
   * @param {{ contentType?: string, nonce?: Uint8Array, key?: Uint8Array, replyTo?: number, attachments?: Uint8Array[],
   *   thumbnail?: Uint8Array, isQuiet?: boolean, tempId?: Uint8Array, follows?: number }} options `attachments`: ids of complete uploads of the
   *   user's own (18.6); `isQuiet`: it counts neither as unread nor for notices (4.8); `follows`:
   *   it is a control message (19.15), of a program that encrypts by itself
   * @returns {Promise<any>}
   */
  send(conversation, content, options = {}) {
    const { contentType = 'text/plain', nonce, key, replyTo, attachments, thumbnail, isQuiet, tempId = this.newTempId(), follows } = options
    const fields = {
      content_type: contentType, nonce, ephemeral_public_key: key, temp_id: tempId, reply_to: replyTo, attachments, thumbnail,
      is_quiet: isQuiet || undefined, follows,
    }
    return this.outbox.add({ type: 'send', conversation, plaintext: content, fields })
  }

  /**
   * Puts another content into a message of the user's own, all of it (8.1). Returns the `revised`, over as many connections as it
   * takes. Rejects with RequestRefused; `revision_conflict`: another device was quicker, and this one has overwritten nothing.
   * @param {Uint8Array} conversation
   * @param {number} seq
   * @param {any} content as in `send`
   * @param {{ contentType?: string, nonce?: Uint8Array, key?: Uint8Array, attachments?: Uint8Array[], thumbnail?: Uint8Array }} options
   * @returns {Promise<any>}
   */
  async edit(conversation, seq, content, { contentType = 'text/plain', nonce, key, attachments, thumbnail } = {}) {
    const { type, message, temp_id, reply_to, is_quiet, revision = 0 } = this.#held(conversation, seq)
    if (type !== 'message') throw new Error(`message ${seq} is deleted`)
    const fields = {
      seq, revision: revision + this.outbox.edits(conversation, seq), content_type: contentType, nonce, ephemeral_public_key: key,
      attachments, thumbnail,
    }
    return this.outbox.add({ type: 'edit', conversation, plaintext: content, fields, edited: { message, temp_id, reply_to, is_quiet } })
  }

  /** Deletes a message (8.2). Returns once its tombstone is held. Rejects with RequestRefused.
   * @param {Uint8Array} conversation @param {number} seq @param {{ forEveryone?: boolean }} options */
  async delete(conversation, seq, { forEveryone = true } = {}) {
    this.#held(conversation, seq)
    await this.outbox.add({ type: 'delete', conversation, fields: { seq, for_everyone: forEveryone } })
  }

  /** Reacts to a message by a quiet one; `mailbox.reactions` has them. @param {Uint8Array} conversation @param {number} seq
   * @param {string} text an emoji; an empty one takes the user's reaction back */
  async react(conversation, seq, text) {
    const content = { reaction: { message: this.#held(conversation, seq).message, text } }
    if (this.isEncrypted) return this.send(conversation, content, { isQuiet: true })
    return this.send(conversation, encodeContent(content), { contentType: CONTENT_TYPE, isQuiet: true })
  }

  /** Makes the group of the encryption that of the present devices; an Encryption calls it by itself. @param {Uint8Array} conversation */
  async tidy(conversation) {
    if (this.drafts.some((draft) => draft.type === 'tidy' && equal(draft.conversation, conversation))) return
    await this.outbox.add({ type: 'tidy', conversation, fields: {} })
  }

  // An id for a message, by the server's clock (4.2).
  newTempId() {
    return uuid7(this.now)
  }

  /** @param {Uint8Array} conversation @param {number} seq */
  #held(conversation, seq) {
    const entry = this.mailbox.entry(conversation, seq)
    if (!entry) throw new Error(`this device does not hold message ${seq}`)
    return entry
  }
}
