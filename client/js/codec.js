// Frames as bytes and back (protocol/SPEC.md, section 2). A frame is a plain object: its type by name, its fields by
// name; ids and byte strings are Buffers, numbers above 2^53 are BigInts.

import { Decoder, Encoder } from 'cbor-x'
import { KEYS, TYPES } from './tables.js'

const FIELD_NAMES = new Map(Object.entries(KEYS).map(([name, key]) => [key, name]))
const NAMES = Object.fromEntries(Object.entries(TYPES).map(([name, type]) => [type, name]))

const encoder = new Encoder({ useRecords: false, mapsAsObjects: false, tagUint8Array: false })
const decoder = new Decoder({ useRecords: false, mapsAsObjects: false })

// One WebSocket message of these frames, in core deterministic encoding.
export function encode(...frames) {
  return Buffer.concat(frames.map((frame) => Buffer.from(encoder.encode(toMap(frame)))))
}

function toMap(frame) {
  const known = Object.entries(frame).filter(([, value]) => value !== undefined && value !== null)
  const keyed = known.map(([name, value]) => [KEYS[name], name === 'type' ? TYPES[value] : toItem(value)])
  return new Map(keyed.sort(([one], [other]) => one - other))
}

function toItem(value) {
  if (typeof value === 'number' && value > 0xffffffff) return BigInt(value) // else cbor-x makes it a float
  if (Array.isArray(value)) return value.map(toItem)
  return value?.constructor === Object ? toMap(value) : value
}

// The frames of one WebSocket message, without fields and frames of later versions.
export function decode(data) {
  return (decoder.decodeMultiple(data) ?? []).map(fromMap).filter((frame) => frame !== undefined)
}

// A frame, or a map within one, which has no type; undefined for a type that this version does not know.
function fromMap(map) {
  const frame = {}
  for (const [key, value] of map) {
    const name = FIELD_NAMES.get(key)
    const item = name === 'type' ? NAMES[value] : fromItem(value)
    if (name !== undefined && item !== undefined && item !== null) frame[name] = item
  }
  return map.has(0) && frame.type === undefined ? undefined : frame
}

function fromItem(value) {
  if (typeof value === 'bigint' && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value)
  if (value instanceof Map) return fromMap(value)
  if (Array.isArray(value)) return value.map(fromItem).filter((each) => each !== undefined)
  return value
}
