// CBOR (RFC 8949), as far as frames need it: core deterministic encoding, without tags and indefinite lengths (SPEC 2.2).
// It makes no code at run time, so it works under any content security policy. Maps are Maps; integers above 2^53 are BigInts.

import { concat, textOf, utf8 } from './bytes.js'

export class NotCbor extends Error {}

const MOST_NESTING = 16
const MAJOR = { uint: 0, negative: 1, bytes: 2, text: 3, array: 4, map: 5, tag: 6, simple: 7 }
const SAFE = BigInt(Number.MAX_SAFE_INTEGER)
const SIMPLE = new Map([[20, false], [21, true], [22, null], [23, undefined]])

/**
 * An item as bytes. The keys of a Map are in the order in which it has them.
 * @param {unknown} item
 */
export function encodeItem(item) {
  /** @type {Uint8Array[]} */
  const parts = []
  write(item, parts)
  return concat(...parts)
}

/** @param {any} item @param {Uint8Array[]} parts */
function write(item, parts) {
  if (typeof item === 'bigint' || (Number.isInteger(item) && item >= 0)) parts.push(head(MAJOR.uint, item))
  else if (typeof item === 'boolean') parts.push(Uint8Array.of(item ? 0xf5 : 0xf4))
  else if (item === null) parts.push(Uint8Array.of(0xf6)) // a place in an array that has none
  else if (typeof item === 'string') writeBytes(MAJOR.text, utf8(item), parts)
  else if (item instanceof Uint8Array) writeBytes(MAJOR.bytes, item, parts)
  else if (Array.isArray(item)) {
    parts.push(head(MAJOR.array, item.length))
    for (const each of item) write(each, parts)
  } else if (item instanceof Map) {
    parts.push(head(MAJOR.map, item.size))
    for (const each of [...item].flat(1)) write(each, parts)
  } else throw new TypeError(`no frame has a value such as ${item}`)
}

/** @param {number} major @param {Uint8Array} bytes @param {Uint8Array[]} parts */
function writeBytes(major, bytes, parts) {
  parts.push(head(major, bytes.length), bytes)
}

/** @param {number} major @param {number | bigint} value */
function head(major, value) {
  const first = major << 5
  if (value < 24) return Uint8Array.of(first | Number(value))
  const view = new DataView(new ArrayBuffer(9))
  view.setBigUint64(1, BigInt(value))
  const log = value < 0x100 ? 0 : value < 0x10000 ? 1 : value < 0x100000000 ? 2 : 3 // of the size in bytes
  const start = 8 - 2 ** log
  view.setUint8(start, first | (24 + log))
  return new Uint8Array(view.buffer, start)
}

/**
 * The items that the bytes are, one after the other. Throws NotCbor.
 * @param {Uint8Array} bytes
 */
export function decodeItems(bytes) {
  const reader = new Reader(bytes)
  const items = []
  while (reader.at < bytes.length) items.push(reader.item(0))
  return items
}

class Reader {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.at = 0
  }

  /** @param {number} depth @returns {any} */
  item(depth) {
    if (depth > MOST_NESTING) throw new NotCbor('too many levels')
    const first = this.bytes[this.#take(1)]
    const major = first >> 5
    const short = first & 31
    if (major === MAJOR.simple) return this.#simple(short)
    const value = this.#argument(short)
    if (major === MAJOR.uint) return value
    if (major === MAJOR.negative) return typeof value === 'bigint' ? -1n - value : -1 - value
    if (major === MAJOR.tag) throw new NotCbor('a tag')
    if (typeof value === 'bigint' || value > this.bytes.length) throw new NotCbor('the bytes end too early')
    if (major === MAJOR.bytes) return this.#slice(value)
    if (major === MAJOR.text) return this.#text(value)
    if (major === MAJOR.array) return Array.from({ length: value }, () => this.item(depth + 1))
    return this.#map(value, depth)
  }

  /** @param {number} count of bytes @returns {number} where they begin */
  #take(count) {
    const start = this.at
    this.at += count
    if (this.at > this.bytes.length) throw new NotCbor('the bytes end too early')
    return start
  }

  /** A copy: the message as a whole is not kept alive by it. @param {number} count */
  #slice(count) {
    const start = this.#take(count)
    return new Uint8Array(this.bytes.subarray(start, start + count))
  }

  /** @param {number} count */
  #text(count) {
    try {
      return textOf(this.#slice(count))
    } catch (error) {
      throw error instanceof TypeError ? new NotCbor('a text that is no UTF-8') : error
    }
  }

  /** @param {number} count @param {number} depth */
  #map(count, depth) {
    const map = new Map()
    for (let n = 0; n < count; n++) {
      const key = this.item(depth + 1)
      if (map.has(key)) throw new NotCbor('a key that comes twice')
      map.set(key, this.item(depth + 1))
    }
    return map
  }

  /** @param {number} short @returns {number | bigint} */
  #argument(short) {
    if (short < 24) return short
    if (short === 24) return this.view.getUint8(this.#take(1))
    if (short === 25) return this.view.getUint16(this.#take(2))
    if (short === 26) return this.view.getUint32(this.#take(4))
    if (short > 27) throw new NotCbor('an indefinite length')
    const value = this.view.getBigUint64(this.#take(8))
    return value <= SAFE ? Number(value) : value
  }

  /** @param {number} short */
  #simple(short) {
    if (SIMPLE.has(short)) return SIMPLE.get(short)
    if (short === 25) return half(this.view.getUint16(this.#take(2)))
    if (short === 26) return this.view.getFloat32(this.#take(4))
    if (short === 27) return this.view.getFloat64(this.#take(8))
    if (short === 24) return this.#take(1) && undefined // of no meaning yet
    throw new NotCbor('a simple value of no meaning')
  }
}

/** A float of 16 bits, which no known field has. @param {number} bits */
function half(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 0x3ff]
  const size = exponent === 31 ? (fraction ? NaN : Infinity) : exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24
  return bits & 0x8000 ? -size : size
}
