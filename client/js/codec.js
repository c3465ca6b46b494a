// Frames as bytes and back (protocol/SPEC.md, section 2). A frame is a plain object: its type by name, its fields by name;
// ids and byte strings are Uint8Arrays, numbers above 2^53 are BigInts.

import { concat } from './bytes.js'
import { NotCbor, decodeItems, encodeItem } from './cbor.js'
import { WrongField, checkField, checkFrame } from './fields.js'
import { KEYS, TYPES } from './tables.js'

/** @typedef {{ type: string, [field: string]: any }} Frame */

const FIELD_NAMES = new Map(Object.entries(KEYS).map(([name, key]) => [key, name]))
const NAMES = new Map(Object.entries(TYPES).map(([name, type]) => [type, name]))

/**
 * One WebSocket message of these frames, in core deterministic encoding.
 * @param {Frame[]} frames
 */
export function encode(...frames) {
  return concat(...frames.map((frame) => encodeItem(toMap(frame))))
}

/** @param {Record<string, any>} frame */
function toMap(frame) {
  const known = Object.entries(frame).filter(([, value]) => value !== undefined && value !== null)
  const keyed = known.map(([name, value]) => [keyOf(name), name === 'type' ? TYPES[value] : toItem(value)])
  return new Map(/** @type {[number, any][]} */ (keyed.sort(([one], [other]) => one - other)))
}

/** @param {string} name */
function keyOf(name) {
  if (name in KEYS) return KEYS[name]
  throw new TypeError(`no frame has a field ${name}`)
}

/** @param {any} value @returns {any} */
function toItem(value) {
  if (Array.isArray(value)) return value.map(toItem)
  return value?.constructor === Object ? toMap(value) : value
}

/**
 * The frames of one WebSocket message from a server, without fields and frames of later versions (2.4). Throws NotCbor if the bytes
 * are no frames, and WrongField if a field has a value that it may not have.
 * @param {Uint8Array} data
 * @returns {Frame[]}
 */
export function decode(data) {
  const items = decodeItems(data)
  if (!items.length) throw new NotCbor('no frame')
  return items.map((item) => {
    if (!(item instanceof Map) || typeof item.get(KEYS.type) !== 'number' && typeof item.get(KEYS.type) !== 'bigint') {
      throw new NotCbor('an item that is no frame')
    }
    return fromMap(item)
  }).filter((frame) => frame !== undefined)
}

/** A frame, or a map within one, which has no type; undefined for a type that this version does not know.
 * @param {Map<any, any>} map @returns {any} */
function fromMap(map) {
  /** @type {Record<string, any>} */
  const frame = {}
  const type = map.get(KEYS.type)
  if (map.has(KEYS.type) && typeof type !== 'number' && typeof type !== 'bigint') throw new WrongField('the type of a frame has to be a number')
  const isLater = map.has(KEYS.type) && !NAMES.has(type)
  for (const [key, value] of map) {
    if (typeof key !== 'number' && typeof key !== 'bigint') throw new NotCbor('a key that is no number')
    const name = FIELD_NAMES.get(/** @type {number} */ (key))
    if (name === undefined || isLater) continue
    const item = name === 'type' ? NAMES.get(value) : fromItem(value)
    if (item === undefined || item === null) continue
    if (name !== 'type') checkField(name, item)
    frame[name] = item
  }
  if (isLater) return undefined
  if (frame.type) checkFrame(/** @type {Frame} */ (frame))
  return frame
}

/** @param {any} value @returns {any} */
function fromItem(value) {
  if (value instanceof Map) return fromMap(value)
  if (Array.isArray(value)) return value.map(fromItem).filter((each) => each !== undefined)
  return value
}
