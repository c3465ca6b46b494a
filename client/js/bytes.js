// Byte strings: Uint8Arrays, in browsers and in Node.

const DIGITS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))
const ENCODER = new TextEncoder()
const DECODER = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** @param {Uint8Array} bytes */
export function hex(bytes) {
  let text = ''
  for (const byte of bytes) text += DIGITS[byte]
  return text
}

/** @param {string} text two digits for each byte; dashes are left out, as in UUIDs */
export function unhex(text) {
  const digits = text.replaceAll('-', '')
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(2 * at, 2 * at + 2), 16))
}

/**
 * An id as HTTP shows it.
 * @param {Uint8Array} id
 */
export function uuid(id) {
  return hex(id).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/**
 * Whether both are the same bytes, or both are absent.
 * @param {Uint8Array | undefined} one
 * @param {Uint8Array | undefined} other
 */
export function equal(one, other) {
  if (one === other) return true
  if (!one || !other || one.length !== other.length) return false
  return one.every((byte, at) => byte === other[at])
}

/** @param {Uint8Array[]} parts */
export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** @param {string} text */
export function utf8(text) {
  return ENCODER.encode(text)
}

/**
 * The text that the bytes are in UTF-8; throws a TypeError if they are none.
 * @param {Uint8Array} bytes
 */
export function textOf(bytes) {
  return DECODER.decode(bytes)
}

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
  let text = ''
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192))
  return btoa(text)
}

/** @param {string} text */
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0))
}

/** @param {number} count */
export function randomBytes(count) {
  return crypto.getRandomValues(new Uint8Array(count))
}

/** @param {Uint8Array | Blob | ArrayBuffer} bytes @returns {Promise<Uint8Array>} */
export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', /** @type {BufferSource} */ (bytes)))
}

/** A UUID of version 7: its time lets the server forget it some day. @param {number} ms since 1970 */
export function uuid7(ms) {
  const id = randomBytes(16)
  new DataView(id.buffer).setBigUint64(0, (BigInt(Math.max(0, Math.round(ms))) << 16n) | BigInt((id[6] << 8) | id[7]))
  id[6] = (id[6] & 0x0f) | 0x70
  id[8] = (id[8] & 0x3f) | 0x80
  return id
}
