// Files of encrypted messages (SPEC 20.12): what goes to the object store and comes from there is ciphertext.
//
//   const { blob, key } = await encryptFile(file)
//   const [upload] = await files.declare([{ blob }])
//   await files.finish(upload, { blob })
//   await client.send(conversation, { files: [{ attachment: upload.attachment, name: file.name, sizeBytes: file.size, key }] })

import { randomBytes } from '../bytes.js'

export const KEY_BYTES = 32
export const CHUNK_BYTES = 64 * 1024
const TAG_BYTES = 16
const SMALLEST_BYTES = 256
const CIPHER = 'AES-GCM'

export class NotTheFile extends Error {}

/** The size to which a file is padded (18.1.1). @param {number} size in bytes */
export function paddedSize(size) {
  if (size <= SMALLEST_BYTES) return SMALLEST_BYTES
  const exponent = Math.floor(Math.log2(size))
  const step = 2 ** (exponent - (Math.floor(Math.log2(exponent)) + 1))
  return Math.ceil(size / step) * step
}

/** @param {Blob} file @param {Uint8Array} key of this file, and no other */
export async function encryptFile(file, key = randomBytes(KEY_BYTES)) {
  const cipher = await importKey(key, 'encrypt')
  const size = paddedSize(file.size)
  const last = Math.ceil(size / CHUNK_BYTES) - 1
  /** @type {ArrayBuffer[]} */
  const parts = []
  for (let number = 0; number <= last; number++) {
    const start = number * CHUNK_BYTES
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, size - start))
    chunk.set(new Uint8Array(await file.slice(start, start + chunk.length).arrayBuffer()))
    parts.push(await crypto.subtle.encrypt({ name: CIPHER, iv: nonce(number, number === last) }, cipher, chunk))
  }
  return { blob: new Blob(parts), key }
}

/** The file as it was. Throws NotTheFile, if these are not the bytes that its sender has encrypted.
 * @param {Blob} sealed @param {{ key: Uint8Array, sizeBytes: number, mediaType?: string }} file as the message has it */
export async function decryptFile(sealed, { key, sizeBytes, mediaType }) {
  if (sealed.size < paddedSize(sizeBytes) + TAG_BYTES) throw new NotTheFile('the file is shorter than its message says')
  const cipher = await importKey(key, 'decrypt')
  const step = CHUNK_BYTES + TAG_BYTES
  const last = Math.ceil(sealed.size / step) - 1
  /** @type {ArrayBuffer[]} */
  const parts = []
  for (let number = 0; number <= last; number++) {
    const chunk = await sealed.slice(number * step, (number + 1) * step).arrayBuffer()
    const opened = crypto.subtle.decrypt({ name: CIPHER, iv: nonce(number, number === last) }, cipher, chunk)
    parts.push(await opened.catch(() => { throw new NotTheFile('the file is not the one that was sent') }))
  }
  return new Blob(parts).slice(0, sizeBytes, mediaType)
}

/** @param {Uint8Array} key @param {'encrypt' | 'decrypt'} use */
function importKey(key, use) {
  return crypto.subtle.importKey('raw', /** @type {BufferSource} */ (key), CIPHER, false, [use])
}

/** The number of a chunk, and whether it is the last: so none can be left out, moved or cut off. @param {number} number
 * @param {boolean} isLast */
function nonce(number, isLast) {
  const bytes = new Uint8Array(12)
  new DataView(bytes.buffer).setBigUint64(3, BigInt(number))
  bytes[11] = isLast ? 1 : 0
  return bytes
}
