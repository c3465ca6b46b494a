// What the server has taken of this device, as the entry that it makes: no push tells it to the device itself (SPEC 4.5, 8, 17.3).

import { equal } from './bytes.js'

/** @typedef {import('./codec.js').Frame} Frame */
/** @typedef {{ user: Uint8Array | undefined, device: Uint8Array | undefined }} Own */

/** The entry after a `send`, `edit` or `delete` that the server has answered. @param {any} frame @param {any} reply
 * @param {any} former the entry that an edit or a deletion changes, if it is held @param {Own} own @returns {any} */
export function written(frame, reply, former, own) {
  if (frame.type === 'send') return sent(frame, reply, own)
  if (!former) return undefined
  return frame.type === 'edit' ? revised(frame, reply, former, own) : tombstone(frame, former, own)
}

/** @param {any} frame @param {any} reply @param {Own} own */
function sent({ conversation, content_type, content, nonce, ephemeral_public_key, temp_id, ...more }, reply, own) {
  const { seq, message, created, device = own.device, quiet_count } = reply
  const { reply_to, attachments, thumbnail, is_quiet, envelopes, follows } = more
  return {
    type: 'message', conversation, seq, message, created, sender: own.user, device, content_type, content, nonce, ephemeral_public_key,
    temp_id, reply_to, attachments, thumbnail, is_quiet, has_envelopes: envelopes && true, follows, quiet_count,
  }
}

/** @param {any} frame @param {any} reply @param {any} former @param {Own} own */
function revised({ content_type, content, nonce, ephemeral_public_key, attachments, thumbnail, envelopes }, { revision, edited }, former, own) {
  if (former.type !== 'message') return undefined
  return {
    ...former, content_type, content, nonce, ephemeral_public_key, attachments, thumbnail, revision, edited, device: own.device,
    has_envelopes: former.has_envelopes || (envelopes && true),
  }
}

/** @param {any} frame @param {any} former @param {Own} own */
function tombstone({ for_everyone }, former, own) {
  const { conversation, seq, message, created, sender, is_quiet, quiet_count } = former
  const actor = for_everyone && !equal(sender, own.user) ? own.user : undefined
  return { type: 'tombstone', conversation, seq, message, created, sender, is_quiet, actor, quiet_count }
}
