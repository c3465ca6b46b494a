// Safety numbers (SPEC 19.4): 60 digits that two users see alike, if both see the same devices, and compare by another way.

import { allDevices } from '../devices.js'
import { concat, equal, hex, utf8 } from '../bytes.js'

const DIGITS = 30 // of a user
const ROUNDS = 5200 // so that a search for keys with the same digits costs that much more (libsignal, fingerprint.rs)
const IDENTITY_BYTES = 32 // a signature key of MLS; a device with another identity takes no part

/** @typedef {{ user: Uint8Array, device: Uint8Array, identity: Uint8Array }} Device */

/** The number of two users. @param {{ limits: Map<string, number>, request(frame: any): Promise<any> }} client
 * @param {Uint8Array} one @param {Uint8Array} other @returns {Promise<string>} */
export async function safetyNumber(client, one, other) {
  const devices = (await allDevices(client, [one, other])).filter(usesMls)
  return numberOf([one, other], devices)
}

/** Whether a device can take part in groups of MLS. @param {{ identity: Uint8Array }} device */
export function usesMls({ identity }) {
  return identity.length === IDENTITY_BYTES
}

/** @param {Uint8Array[]} users two @param {Device[]} devices of both @returns {Promise<string>} */
export async function numberOf(users, devices) {
  const parts = await Promise.all(users.map((user) => digitsOf(user, devices.filter((each) => equal(each.user, user)))))
  return parts.sort().join('')
}

/** @param {Uint8Array} user @param {Device[]} devices of the user */
async function digitsOf(user, devices) {
  const sorted = [...devices].sort((one, other) => (hex(one.device) < hex(other.device) ? -1 : 1))
  const known = sorted.map(({ device, identity }) => concat(device, identity))
  let digest = await sha512(concat(utf8('alo-shield safety number 1\0'), user, ...known))
  for (let round = 0; round < ROUNDS; round++) digest = await sha512(concat(digest, user))
  let digits = ''
  for (let at = 0; at < DIGITS; at += 5) {
    const group = digest.subarray(at, at + 5).reduce((number, byte) => number * 256n + BigInt(byte), 0n)
    digits += String(group % 100_000n).padStart(5, '0')
  }
  return digits
}

/** @param {Uint8Array} bytes */
async function sha512(bytes) {
  return new Uint8Array(await crypto.subtle.digest('SHA-512', /** @type {BufferSource} */ (bytes)))
}
