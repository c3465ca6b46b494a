// What every protocol encrypts, and what it binds (SPEC 20.2, 20.3): the text of a message with its temp_id and its references,
// padded; and the associated data, by which a message cannot be shown in another conversation or under another sender.

import { concat, equal } from '../bytes.js'
import { NotCbor, decodeItems, encodeItem } from '../cbor.js'

/** @typedef {{ conversation: Uint8Array, temp_id: Uint8Array, content_type: string, reply_to?: number, is_quiet?: boolean,
 *   attachments?: Uint8Array[] }} Bound */

export class Forged extends Error {}

const KEYS = /** @type {const} */ ({ body: 0, temp_id: 1, content_type: 2, reply_to: 3, is_quiet: 4, attachments: 5 })
const SMALLEST = 128
const STEP = 1024

/** @param {Uint8Array} body what the user wrote @param {Bound} fields @returns {Uint8Array} */
export function seal(body, fields) {
  const known = { body, ...fields }
  const items = Object.entries(KEYS).map(([name, key]) => [key, /** @type {any} */ (known)[name]])
  return pad(encodeItem(new Map(/** @type {[number, any][]} */ (items.filter(([, value]) => value !== undefined)))))
}

/** Throws Forged, if the message does not show the fields that its sender has bound.
 * @param {Uint8Array} plaintext @param {any} message */
export function unseal(plaintext, message) {
  const item = itemOf(unpad(plaintext))
  const [body, temp_id, content_type, reply_to, is_quiet, attachments = []] = Object.values(KEYS).map((key) => item.get(key))
  const shown = message.attachments ?? []
  const isSame = reply_to === message.reply_to && Boolean(is_quiet) === Boolean(message.is_quiet)
    && attachments.length === shown.length && shown.every((/** @type {Uint8Array} */ each, /** @type {number} */ at) => equal(each, attachments[at]))
    && (!message.temp_id || equal(message.temp_id, temp_id))
  if (!(body instanceof Uint8Array) || !(temp_id instanceof Uint8Array) || !isSame) throw new Forged('the message shows other fields than its sender has bound')
  return { body, contentType: content_type, tempId: temp_id }
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
