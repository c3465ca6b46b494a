// What MLS's structures say in the terms of this client: the devices that are leaves of a group, and who has sent what.

import { createGroupInfoWithExternalPubAndRatchetTree, decodeGroupState, decodeMlsMessage, encodeMlsMessage } from 'ts-mls'
import { defaultClientConfig } from 'ts-mls/clientConfig.js'
import { ratchetTreeFromExtension } from 'ts-mls/groupInfo.js'
import { concat, equal, hex } from '../bytes.js'
import { NotInGroup } from './groups.js'
import { Forged, associatedData } from './sealed.js'

/** @typedef {import('ts-mls').ClientState} ClientState */
/** @typedef {import('../devices.js').Device} Device */
/** @typedef {{ index: number, user: Uint8Array, device: Uint8Array, leaf: any }} Leaf */

// An edit is encrypted long after its message, and skips the keys of others: more of them are kept than usual.
export const CONFIG = { ...defaultClientConfig, keyRetentionConfig: { retainKeysForGenerations: 100, retainKeysForEpochs: 4, maximumForwardRatchetSteps: 1000 } }

/** @param {Uint8Array | undefined} bytes @returns {ClientState | undefined} */
export function unpack(bytes) {
  const state = bytes && decodeGroupState(bytes, 0)?.[0]
  return state && { ...state, clientConfig: CONFIG }
}

/** @param {ClientState | undefined} state @returns {Leaf[]} */
export function leavesOf(state) {
  return state ? leavesIn(state.ratchetTree) : []
}

/** @param {any} tree @returns {Leaf[]} */
export function leavesIn(tree) {
  return [...tree.entries()].filter(([, node]) => node?.nodeType === 'leaf').map(([at, { leaf }]) => ({ index: at / 2, leaf, ...ownerOf(leaf) }))
}

/** @param {any} leaf */
export function ownerOf(leaf) {
  const identity = leaf.credential.identity ?? new Uint8Array()
  return { user: identity.subarray(0, 16), device: identity.subarray(16) }
}

/** @param {{ device: Uint8Array, leaf: any }} leaf @param {Device} listed by the server */
export function isLeafOf({ device, leaf }, listed) {
  return equal(device, listed.device) && equal(leaf.signaturePublicKey, listed.identity)
}

/** Throws Forged, unless the leaf is that of the device which the message names. @param {any} message
 * @param {{ user: Uint8Array, device: Uint8Array } | undefined} leaf @param {Uint8Array} authenticatedData */
export function isFrom(message, leaf, authenticatedData) {
  const isSame = leaf && equal(leaf.user, message.sender) && equal(leaf.device, message.device)
  if (!isSame || !equal(authenticatedData, associatedData(message))) throw new Forged('the message names another sender or conversation than the one that has signed it')
}

/** The commit in a control message, and the leaf that has signed it. @param {any} message @param {ClientState} state */
export function commitOf(message, state) {
  const decoded = decodeMlsMessage(message.content, 0)?.[0]
  if (decoded?.wireformat !== 'mls_public_message') throw new Forged('a control message that is no commit')
  const { publicMessage } = decoded
  const { content } = publicMessage
  if (content.contentType !== 'commit') throw new Forged('a control message that is no commit')
  const { sender } = content
  if (sender.senderType === 'member') isFrom(message, leavesOf(state).find(({ index }) => index === sender.leafIndex), content.authenticatedData)
  else isFrom(message, content.commit.path && ownerOf(content.commit.path.leafNode), content.authenticatedData) // it joins by itself
  return publicMessage
}

/** The reference of the KeyPackage for which a Welcome has these secrets: the one other field beside them.
 * @param {import('ts-mls').EncryptedGroupSecrets} secrets */
export function packageRefOf({ encryptedGroupSecrets, ...others }) {
  return hex(Object.values(others)[0])
}

/** The claimed KeyPackage of a device; undefined if it is not of the identity that the device has published.
 * @param {Device} device @param {Uint8Array} key */
export function packageOf(device, key) {
  const keyPackage = keyPackageOf(key)
  if (!keyPackage) return undefined
  const { leafNode } = keyPackage
  const identity = /** @type {any} */ (leafNode.credential).identity
  return equal(leafNode.signaturePublicKey, device.identity) && equal(identity, concat(device.user, device.device)) ? keyPackage : undefined
}

/** @param {Uint8Array} bytes */
export function keyPackageOf(bytes) {
  const decoded = decodeMlsMessage(bytes, 0)?.[0]
  return decoded?.wireformat === 'mls_key_package' ? decoded.keyPackage : undefined
}

/** What a device needs to join by itself: a GroupInfo with its tree. @param {ClientState} state @param {any} suite */
export async function groupInfoOf(state, suite) {
  const groupInfo = await createGroupInfoWithExternalPubAndRatchetTree(state, [], suite)
  return encodeMlsMessage({ version: 'mls10', wireformat: 'mls_group_info', groupInfo })
}

/** @param {Uint8Array} bytes */
function decoding(bytes) {
  try {
    return decodeMlsMessage(bytes, 0)?.[0]
  } catch (error) {
    throw new NotInGroup(`the state of the group is not valid: ${/** @type {Error} */ (error).message}`)
  }
}

/** @param {Uint8Array} bytes @param {Uint8Array} conversation */
export function groupInfoIn(bytes, conversation) {
  const decoded = decoding(bytes)
  if (decoded?.wireformat !== 'mls_group_info') throw new NotInGroup('the state of the group is no GroupInfo')
  const { groupInfo } = decoded
  if (!equal(groupInfo.groupContext.groupId, conversation)) throw new NotInGroup('the state is that of another conversation')
  return { groupInfo, leaves: leavesIn(ratchetTreeFromExtension(groupInfo) ?? []) }
}
