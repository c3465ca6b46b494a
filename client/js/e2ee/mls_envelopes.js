// A message that one device could not decrypt, for that device alone (SPEC 19.17, 20.13): sealed by HPKE to the key of its leaf in the
// group, and signed with the identity of the device that has written the message.

import { concat, equal, utf8 } from '../bytes.js'
import { NotCbor, decodeItems, encodeItem } from '../cbor.js'
import { leavesOf } from './mls_parts.js'
import { Forged, associatedData } from './sealed.js'

/** @typedef {import('ts-mls').ClientState} ClientState */

const INFO = utf8('alo-shield mls envelope 1')

/** @param {Uint8Array} padded what `seal` has made @param {any} message of this device @param {ClientState} state
 * @param {Uint8Array} device for which it is @param {any} suite @param {Uint8Array} signKey @returns {Promise<Uint8Array>} */
export async function sealTo(padded, message, state, device, suite, signKey) {
  const leaf = leavesOf(state).find((each) => equal(each.device, device))
  if (!leaf) throw new Forged('the device is not in the group')
  const key = await suite.hpke.importPublicKey(leaf.leaf.hpkePublicKey)
  const { enc, ct } = await suite.hpke.seal(key, padded, INFO, associatedData(message))
  const signature = await suite.signature.sign(signKey, signed(message, device, enc, ct))
  return encodeItem([1, enc, ct, signature])
}

/** The padded plaintext in the envelope of a message. Throws Forged, or what the cipher throws. @param {any} message
 * @param {ClientState} state @param {Uint8Array} device this one @param {any} suite @returns {Promise<Uint8Array>} */
export async function openFrom(message, state, device, suite) {
  const [version, enc, ct, signature] = fieldsOf(message.envelope)
  if (version !== 1) throw new Forged('an envelope of another format')
  const sender = leavesOf(state).find((leaf) => equal(leaf.device, message.device) && equal(leaf.user, message.sender))
  if (!sender) throw new Forged('an envelope of a device that is not in the group')
  const isSigned = await suite.signature.verify(sender.leaf.signaturePublicKey, signed(message, device, enc, ct), signature)
  if (!isSigned) throw new Forged('an envelope that its sender has not signed for this message')
  const { leafIndex, privateKeys } = state.privatePath
  const key = await suite.hpke.importPrivateKey(privateKeys[2 * leafIndex])
  return suite.hpke.open(key, enc, ct, INFO, associatedData(message))
}

/** @param {any} message @param {Uint8Array} device @param {Uint8Array} enc @param {Uint8Array} ct */
function signed(message, device, enc, ct) {
  return concat(INFO, encodeItem([associatedData(message), device, message.message, message.revision ?? 0, enc, ct]))
}

/** @param {Uint8Array} bytes @returns {any[]} */
function fieldsOf(bytes) {
  try {
    const [item] = decodeItems(bytes)
    if (Array.isArray(item) && item.slice(1).every((each) => each instanceof Uint8Array)) return item
  } catch (error) {
    if (!(error instanceof NotCbor)) throw error
  }
  throw new Forged('an envelope of another format')
}
