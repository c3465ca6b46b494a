// What every protocol encrypts, and what it binds (SPEC 20.2, 20.3): the content of a message with its temp_id and its references,
// padded; and the associated data, by which a message cannot be shown in another conversation or under another sender.

import { concat, equal } from '../bytes.js'
import { NotCbor, decodeItems, encodeItem } from '../cbor.js'
import { CONTENT_TYPE, NotContent, decodeContent, encodeContent, hasFiles } from '../contents.js'

/** @typedef {import('../contents.js').Content} Content */
/** @typedef {{ temp_id?: Uint8Array, reply_to?: number, is_quiet?: boolean, edits?: Uint8Array, revision?: number }} Bound `edits`: the
 * id of the message that an edit is for; `revision`: that it makes */

export class Forged extends Error {}

const KEYS = /** @type {const} */ ({ body: 0, temp_id: 1, content_type: 2, reply_to: 3, is_quiet: 4, edits: 5, revision: 6 })
const SMALLEST = 128
const STEP = 1024

/** @param {Content} content @param {Bound} fields @returns {Uint8Array} */
export function seal(content, fields) {
  const known = { ...fields, body: encodeContent(content), content_type: CONTENT_TYPE }
  const items = Object.entries(KEYS).map(([name, key]) => [key, /** @type {any} */ (known)[name]])
  return pad(encodeItem(new Map(/** @type {[number, any][]} */ (items.filter(([, value]) => value !== undefined)))))
}

/** What seal() binds of a draft. @param {import('../outbox.js').Draft} draft @returns {Bound} */
export function boundOf({ fields, edited }) {
  if (!edited) return { temp_id: fields.temp_id, reply_to: fields.reply_to, is_quiet: fields.is_quiet }
  const { message, temp_id, reply_to, is_quiet } = edited
  return { temp_id, reply_to, is_quiet, edits: message, revision: fields.revision + 1 }
}

/** Throws Forged, if the message does not show the fields that its sender has bound.
 * @param {Uint8Array} plaintext @param {any} message @returns {Content} */
export function unseal(plaintext, message) {
  const item = itemOf(unpad(plaintext))
  const [body, temp_id, content_type, reply_to, is_quiet, edits, revision = 0] = Object.values(KEYS).map((key) => item.get(key))
  const isSame = reply_to === message.reply_to && Boolean(is_quiet) === Boolean(message.is_quiet)
    && revision === (message.revision ?? 0) && equal(edits, revision ? message.message : undefined)
    && (!message.temp_id || !temp_id || equal(message.temp_id, temp_id)) && (revision || temp_id instanceof Uint8Array)
  if (!(body instanceof Uint8Array) || content_type !== CONTENT_TYPE || !isSame) throw new Forged('the message shows other fields than its sender has bound')
  const content = contentOf(body)
  if (!hasFiles(content, message.attachments)) throw new Forged('the message names other attachments than its sender has bound')
  return content
}

/** @param {Uint8Array} body */
function contentOf(body) {
  try {
    return decodeContent(body)
  } catch (error) {
    throw error instanceof NotContent ? new Forged(error.message) : error
  }
}

/** @param {{ conversation: Uint8Array, sender: Uint8Array, device: Uint8Array }} message */
export function associatedData({ conversation, sender, device }) {
  return concat(conversation, sender, device)
}

/** @param {Uint8Array} bytes */
function pad(bytes) {
  const least = bytes.length + 1
  const size = least > STEP ? Math.ceil(least / STEP) * STEP : Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(least)))
  const padded = new Uint8Array(size)
  padded.set(bytes)
  padded[bytes.length] = 0x80
  return padded
}

/** @param {Uint8Array} padded */
function unpad(padded) {
  const end = padded.findLastIndex((byte) => byte !== 0)
  if (end < 0 || padded[end] !== 0x80) throw new Forged('the plaintext is not padded')
  return padded.subarray(0, end)
}

/** @param {Uint8Array} bytes @returns {Map<number, any>} */
function itemOf(bytes) {
  try {
    const [item] = decodeItems(bytes)
    if (item instanceof Map) return item
  } catch (error) {
    if (!(error instanceof NotCbor)) throw error
  }
  throw new Forged('the plaintext is no message of this client')
}
