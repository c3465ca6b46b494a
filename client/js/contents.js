// What a message says (SPEC 20.11), in the form that programs use and in the bytes that are encrypted. Other clients, whose
// ciphers differ, have the same bytes within them.

import { equal, hex, textOf } from './bytes.js'
import { NotCbor, decodeItems, encodeItem } from './cbor.js'

/**
 * @typedef {object} EncryptedFile a file of the message; what is in the object store is encrypted (`e2ee/sealed_files.js`)
 * @property {Uint8Array} attachment
 * @property {string} name as its sender had it: no path
 * @property {number} sizeBytes before its encryption
 * @property {Uint8Array} key
 * @property {string} [mediaType]
 * @property {Uint8Array} [preview] a small picture, in JPEG
 * @property {number} [width] of the picture that the file is, in pixels
 * @property {number} [height]
 */
/** @typedef {{ user: Uint8Array, text: string }} Quote the message that a reply answers, as the writer of the reply saw it */
/** @typedef {{ message: Uint8Array, text: string }} Reaction `message`: the id of the other message; `text`: an emoji, or none to
 * take the reaction back */
/** @typedef {{ text?: string, files?: EncryptedFile[], quote?: Quote, reaction?: Reaction }} Content */

export const CONTENT_TYPE = 'application/alo'

export class NotContent extends Error {}

/** @typedef {[name: string, is: (value: any) => boolean, isOptional?: boolean]} Field */

const isText = (/** @type {any} */ value) => typeof value === 'string'
const isBytes = (/** @type {any} */ value) => value instanceof Uint8Array
const isId = (/** @type {any} */ value) => isBytes(value) && value.length === 16
const isKey = (/** @type {any} */ value) => isBytes(value) && value.length === 32
const isNumber = (/** @type {any} */ value) => Number.isSafeInteger(value) && value >= 0

/** Each field is at its place in an array. @type {Field[]} */
const FILE = [
  ['attachment', isId], ['name', isText], ['sizeBytes', isNumber], ['key', isKey], ['mediaType', isText, true], ['preview', isBytes, true],
  ['width', isNumber, true], ['height', isNumber, true],
]
/** @type {Field[]} */
const QUOTE = [['user', isId], ['text', isText]]
/** @type {Field[]} */
const REACTION = [['message', isId], ['text', isText]]

/** @param {Content} content @returns {Uint8Array} */
export function encodeContent({ text, files = [], quote, reaction }) {
  const fields = [text || undefined, files.length ? files.map((file) => arrayOf(file, FILE)) : undefined, quote && arrayOf(quote, QUOTE), reaction && arrayOf(reaction, REACTION)]
  const bytes = encodeItem(new Map([...fields.entries()].filter(([, value]) => value !== undefined)))
  decodeContent(bytes) // a content that others would refuse is not sent
  return bytes
}

/** @param {any} value @param {Field[]} fields without absent ones at the end */
function arrayOf(value, fields) {
  const all = fields.map(([name]) => value[name] ?? null)
  return all.slice(0, all.findLastIndex((each) => each !== null) + 1)
}

/** Keys and places of later versions are left out. Throws NotContent. @param {Uint8Array} bytes @returns {Content} */
export function decodeContent(bytes) {
  const items = itemsOf(bytes)
  const [item] = items
  if (items.length !== 1 || !(item instanceof Map)) throw new NotContent('a content has to be one map')
  if ([...item.keys()].some((key) => !Number.isInteger(key))) throw new NotContent('the keys of a content have to be numbers')
  const [text, files, quote, reaction] = [0, 1, 2, 3].map((key) => item.get(key) ?? undefined)
  if (text !== undefined && !isText(text)) throw new NotContent('the text of a content has to be a text')
  if (files !== undefined && !Array.isArray(files)) throw new NotContent('the files of a content have to be an array')
  const found = {
    text,
    files: files?.map((/** @type {any} */ file) => fieldsOf(file, FILE, 'file')),
    quote: quote && fieldsOf(quote, QUOTE, 'quote'),
    reaction: reaction && fieldsOf(reaction, REACTION, 'reaction'),
  }
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined))
}

/** @param {Uint8Array} bytes */
function itemsOf(bytes) {
  try {
    return decodeItems(bytes)
  } catch (error) {
    throw error instanceof NotCbor ? new NotContent(`a content has to be CBOR: ${error.message}`) : error
  }
}

/** @param {any} array @param {Field[]} fields @param {string} of @returns {any} */
function fieldsOf(array, fields, of) {
  if (!Array.isArray(array)) throw new NotContent(`a ${of} has to be an array`)
  const found = fields.map(([name, is, isOptional], at) => {
    const value = array[at] ?? undefined
    if (!(value === undefined ? isOptional : is(value))) throw new NotContent(`${name} of a ${of} is missing, or of another type`)
    return [name, value]
  })
  return Object.fromEntries(found.filter(([, value]) => value !== undefined))
}

/** Whether the files of a content are the attachments that its message names. @param {Content} content
 * @param {Uint8Array[]} [attachments] */
export function hasFiles({ files = [] }, attachments = []) {
  const named = files.map(({ attachment }) => attachment)
  return named.length === attachments.length && named.every((each) => attachments.some((other) => equal(each, other)))
}

/** What a message says, encrypted or not; undefined if it cannot be read here. @param {any} entry
 * @param {import('./plaintexts.js').Plaintexts} plaintexts @returns {Content | undefined} */
export function contentOf(entry, plaintexts) {
  if (entry.type !== 'message') return undefined
  const plaintext = plaintexts.of(entry)
  if (plaintext !== undefined) return plaintext
  try {
    if (entry.content_type === 'text/plain') return { text: textOf(entry.content) }
    return entry.content_type === CONTENT_TYPE ? decodeContent(entry.content) : undefined
  } catch (error) {
    if (error instanceof NotContent || error instanceof TypeError) return undefined
    throw error
  }
}

/** The reactions in a conversation: message in hex -> user in hex -> the text of that user's latest one.
 * @param {any[]} entries in order of seq @param {(entry: any) => Content | undefined} says */
export function reactionsOf(entries, says) {
  /** @type {Map<string, Map<string, string>>} */
  const found = new Map()
  for (const entry of entries) {
    const reaction = entry.type === 'message' ? says(entry)?.reaction : undefined
    if (!reaction) continue
    const [message, user] = [hex(reaction.message), hex(entry.sender)]
    if (!found.has(message)) found.set(message, new Map())
    if (reaction.text) found.get(message)?.set(user, reaction.text)
    else found.get(message)?.delete(user)
  }
  return found
}
