// MLS (RFC 9420) by ts-mls, as a protocol of `encryption.js`. A conversation is a group; its id is the conversation's. Each device is
// a leaf, whose credential is user and device and whose signature key is the identity that the device has published.
//
// Commits are control messages, and each follows the one before (`follows`): of two only one is accepted. A commit is a public message
// of MLS: a private one would encrypt two commits of one epoch with one key, if the first is refused. The server knows
// all that it shows anyway. Welcomes are envelopes of their commit.

import {
  createApplicationMessage, createCommit, createGroup, decodeGroupState, decodeMlsMessage, emptyPskIndex, encodeGroupState,
  encodeMlsMessage, generateKeyPackageWithKey, getCiphersuiteFromName, getCiphersuiteImpl, joinGroup, processPrivateMessage,
  processPublicMessage,
} from 'ts-mls'
import { defaultClientConfig } from 'ts-mls/clientConfig.js'
import { makeKeyPackageRef } from 'ts-mls/keyPackage.js'
import { unprotectPrivateMessage } from 'ts-mls/messageProtection.js'
import { concat, equal, hex } from '../bytes.js'
import { Forged, associatedData, boundOf, seal, unseal } from './sealed.js'

/** @typedef {import('ts-mls').ClientState} ClientState */
/** @typedef {import('../devices.js').Device} Device */
/** @typedef {import('./encryption.js').Prepared} Prepared */
/** @typedef {import('./encryption.js').Received} Received */
/** @typedef {{ state?: ClientState, pending?: { tempId: Uint8Array, state: ClientState }, controlSeq: number }} Group `pending`: the
 * state after this device's own commit, if that is accepted */

const SUITE = 'MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519'
const CONTENT_TYPE = 'application/mls' // the same for all, so that it tells nothing (20.3)
const LIFETIME = { notBefore: 0n, notAfter: 2n ** 63n - 1n } // the server keeps the keys, and this device replaces them
const CAPABILITIES = /** @type {const} */ ({ versions: ['mls10'], ciphersuites: [SUITE], extensions: [], proposals: [], credentials: ['basic'] })

export class NotInGroup extends Error {}

export class Mls {
  kind = 'mls-1' // of cipher suite 1
  features = ['one_time_keys', 'device_sets', 'quiet', 'envelopes', 'control']
  /** @type {Map<string, Group>} conversation in hex -> its group */
  #groups = new Map()
  /** @type {Map<string, any>} reference of a KeyPackage in hex -> its public and private part */
  #packages = new Map()
  /** @type {any} */
  #signing
  /** @type {any} */
  #suite
  /** @type {any} */
  #journal
  /** @type {{ user: Uint8Array, device: Uint8Array }} */
  #own = { user: new Uint8Array(), device: new Uint8Array() }

  /** @param {import('../journal.js').Journal} journal @param {[string, any][]} items of the store */
  async start(journal, items) {
    this.#journal = journal
    this.#suite = await getCiphersuiteImpl(getCiphersuiteFromName(SUITE))
    for (const [path, value] of items) {
      const [kind, part, key] = path.split('/')
      if (kind !== 'crypto') continue
      if (part === 'signing') this.#signing = value
      else if (part === 'package') this.#packages.set(key, value)
      else if (part === 'group') this.#groups.set(key, { ...value, state: unpack(value.state), pending: value.pending && { ...value.pending, state: unpack(value.pending.state) } })
    }
    if (this.#signing) return
    this.#signing = await this.#suite.signature.keygen()
    journal.put('crypto/signing', this.#signing)
  }

  /** @param {{ user: Uint8Array, device: Uint8Array }} own */
  own(own) {
    this.#own = own
  }

  /** @returns {Uint8Array} */
  identity() {
    return this.#signing.publicKey
  }

  /** @param {number[]} numbers @param {boolean} isLastResort */
  async makeKeys(numbers, isLastResort) {
    const made = await Promise.all(numbers.map(() => this.#makePackage(isLastResort)))
    return {
      keys: made.map(({ encoded }, at) => /** @type {[number, Uint8Array]} */ ([numbers[at], encoded])),
      commit: () => made.forEach(({ ref, kept }) => {
        this.#packages.set(ref, kept)
        this.#journal.put(`crypto/package/${ref}`, kept)
      }),
    }
  }

  /** The devices of the set that the group lacks. @param {Uint8Array} conversation @param {import('./device_sets.js').DeviceSet} set */
  missing(conversation, { devices }) {
    const leaves = leavesOf(this.#groups.get(hex(conversation))?.state)
    return devices.filter((each) => !equal(each.device, this.#own.device) && !leaves.some((leaf) => isLeafOf(leaf, each)))
  }

  /** The next thing to send: a commit that makes the group that of the device set, or else the message.
   * @param {import('../outbox.js').Draft} draft @param {import('./device_sets.js').DeviceSet} set
   * @param {Map<string, Uint8Array>} keys @param {Uint8Array} tempId @returns {Promise<Prepared>} */
  async prepare(draft, set, keys, tempId) {
    const { conversation } = draft
    const group = this.#groups.get(hex(conversation)) ?? { controlSeq: 0 }
    if (!group.state && group.controlSeq) throw new NotInGroup('this device was not added to the group of the conversation yet')
    const state = group.state ?? (await this.#create(conversation))
    const missing = this.missing(conversation, set).filter(({ device }) => keys.has(hex(device)))
    const added = await Promise.all(missing.map((each) => packageOf(each, keys)))
    const removed = leavesOf(state).filter(({ device, leaf }) => !equal(device, this.#own.device) && !set.devices.some((each) => isLeafOf({ device, leaf }, each)))
    const proposals = [
      ...added.map((keyPackage) => ({ proposalType: /** @type {const} */ ('add'), add: { keyPackage } })),
      ...removed.map(({ index }) => ({ proposalType: /** @type {const} */ ('remove'), remove: { removed: index } })),
    ]
    const authenticatedData = associatedData({ conversation, sender: this.#own.user, device: this.#own.device })
    if (!proposals.length) return this.#message(draft, set.version, { ...group, state }, authenticatedData)
    const options = { wireAsPublicMessage: true, extraProposals: proposals, ratchetTreeExtension: true, authenticatedData }
    const { commit, welcome, newState } = await createCommit({ state, cipherSuite: this.#suite }, options)
    const envelope = welcome && encodeMlsMessage({ version: 'mls10', wireformat: 'mls_welcome', welcome })
    const frame = {
      type: 'send', conversation, content_type: CONTENT_TYPE, content: encodeMlsMessage(commit), temp_id: tempId, is_quiet: true,
      devices_version: set.version, follows: group.controlSeq,
      envelopes: envelope && missing.map(({ device }) => [device, envelope]),
    }
    return { frame, isControl: true, commit: () => this.#keep(conversation, { ...group, pending: { tempId, state: newState } }) }
  }

  /** Nothing of the frame is stored: it can be sent in another way if others were quicker. @param {any} frame @param {any} error */
  refused(frame, error) {
    if (!['control_conflict', 'devices_changed', 'unknown_devices'].includes(error.code)) return undefined
    return () => {
      const group = this.#groups.get(hex(frame.conversation)) ?? { controlSeq: 0 }
      const isPending = group.pending && equal(group.pending.tempId, frame.temp_id)
      // Without a state there is a group that this device is not in: its control messages may be older than what it holds.
      const controlSeq = group.state ? group.controlSeq : Math.max(group.controlSeq, error.control_seq ?? 0)
      this.#keep(frame.conversation, { ...group, pending: isPending ? undefined : group.pending, controlSeq })
    }
  }

  /** @param {any} message @returns {Promise<Received>} */
  async receive(message) {
    const group = this.#groups.get(hex(message.conversation)) ?? { controlSeq: 0 }
    try {
      return await (message.follows === undefined ? this.#decrypt(message, group) : this.#control(message, group))
    } catch (error) {
      // The chain goes on from an invalid control message, too: none can block the group (RFC 9750, 5.3).
      const controlSeq = message.follows === undefined ? group.controlSeq : message.seq
      return { reason: error instanceof Forged ? 'forged' : `broken: ${/** @type {Error} */ (error).message}`, commit: () => this.#keep(message.conversation, { ...group, controlSeq }) }
    }
  }

  /** @param {any} message @param {Group} group @returns {Promise<Received>} */
  async #control(message, group) {
    const { conversation, seq, temp_id, device, envelope } = message
    const next = (/** @type {ClientState | undefined} */ state) => ({ commit: () => this.#keep(conversation, { state, controlSeq: seq, pending: undefined }) })
    const isOwn = equal(device, this.#own.device)
    if (isOwn && group.pending && equal(group.pending.tempId, temp_id)) return next(group.pending.state)
    if (envelope) return this.#join(message, envelope)
    if (!group.state || isOwn) return { ...next(group.state), reason: group.state ? 'lost' : 'before' }
    const decoded = decodeMlsMessage(message.content, 0)?.[0]
    if (decoded?.wireformat !== 'mls_public_message') throw new Forged('a control message that is no commit')
    const { content } = decoded.publicMessage
    if (content.contentType !== 'commit' || content.sender.senderType !== 'member') throw new Forged('a control message that is no commit')
    isFrom(message, leavesOf(group.state).find(({ index }) => index === /** @type {any} */ (content.sender).leafIndex), content.authenticatedData)
    const { newState } = await processPublicMessage(group.state, decoded.publicMessage, emptyPskIndex, this.#suite)
    return next(newState.groupActiveState.kind === 'active' ? newState : undefined)
  }

  /** @param {any} message @param {Uint8Array} envelope @returns {Promise<Received>} */
  async #join(message, envelope) {
    const decoded = decodeMlsMessage(envelope, 0)?.[0]
    if (decoded?.wireformat !== 'mls_welcome') throw new Forged('an envelope that is no Welcome')
    const ref = decoded.welcome.secrets.map(packageRefOf).find((each) => this.#packages.has(each))
    const kept = ref && this.#packages.get(ref)
    if (!kept) return { reason: 'no key for the Welcome', commit: () => this.#keep(message.conversation, { controlSeq: message.seq }) }
    const state = await joinGroup(decoded.welcome, keyPackageOf(kept.public), kept.private, emptyPskIndex, this.#suite, undefined, undefined, defaultClientConfig)
    if (!equal(state.groupContext.groupId, message.conversation)) throw new Forged('a Welcome to the group of another conversation')
    return {
      commit: () => {
        this.#keep(message.conversation, { state, controlSeq: message.seq })
        if (kept.isLastResort) return
        this.#packages.delete(ref)
        this.#journal.remove(`crypto/package/${ref}`)
      },
    }
  }

  /** @param {any} message @param {Group} group @returns {Promise<Received>} */
  async #decrypt(message, group) {
    const none = { commit: () => {} }
    if (!group.state || equal(message.device, this.#own.device)) return { ...none, reason: group.state ? 'lost' : 'before' }
    const decoded = decodeMlsMessage(message.content, 0)?.[0]
    if (decoded?.wireformat !== 'mls_private_message') throw new Forged('content that is no message of MLS')
    const { privateMessage } = decoded
    const past = group.state.historicalReceiverData.get(privateMessage.epoch)
    if (privateMessage.epoch < group.state.groupContext.epoch && !past) return { ...none, reason: 'before' }
    const { senderDataSecret } = past ?? group.state.keySchedule
    const { secretTree, ratchetTree, groupContext } = past ?? group.state
    const { content } = await unprotectPrivateMessage(senderDataSecret, privateMessage, secretTree, ratchetTree, groupContext, defaultClientConfig.keyRetentionConfig, this.#suite)
    const { sender } = content.content
    isFrom(message, leavesIn(ratchetTree).find(({ index }) => sender.senderType === 'member' && index === sender.leafIndex), privateMessage.authenticatedData)
    const result = await processPrivateMessage(group.state, privateMessage, emptyPskIndex, this.#suite)
    if (result.kind !== 'applicationMessage') throw new Forged('a message that changes the group outside the chain')
    return { plaintext: unseal(result.message, message), commit: () => this.#keep(message.conversation, { ...group, state: result.newState }) }
  }

  /** @param {import('../outbox.js').Draft} draft @param {number} version @param {Group} group @param {Uint8Array} authenticatedData
   * @returns {Promise<Prepared>} */
  async #message(draft, version, group, authenticatedData) {
    const { type, conversation, plaintext, fields } = draft
    const { newState, privateMessage } = await createApplicationMessage(/** @type {ClientState} */ (group.state), seal(plaintext, boundOf(draft)), this.#suite, authenticatedData)
    const frame = {
      ...fields, type, conversation, content_type: CONTENT_TYPE, content: encodeMlsMessage({ version: 'mls10', wireformat: 'mls_private_message', privateMessage }),
      attachments: plaintext.files?.map((/** @type {any} */ file) => file.attachment), thumbnail: undefined, devices_version: version,
    }
    return { frame, isControl: false, commit: () => this.#keep(conversation, { ...group, state: newState }) }
  }

  /** @param {Uint8Array} conversation */
  async #create(conversation) {
    const { keyPackage, privatePackage } = await this.#generate()
    return createGroup(conversation, keyPackage, privatePackage, [], this.#suite, defaultClientConfig)
  }

  /** @param {boolean} isLastResort */
  async #makePackage(isLastResort) {
    const { keyPackage, privatePackage } = await this.#generate()
    const encoded = encodeMlsMessage({ version: 'mls10', wireformat: 'mls_key_package', keyPackage })
    const ref = hex(await makeKeyPackageRef(keyPackage, this.#suite.hash))
    return { ref, encoded, kept: { public: encoded, private: privatePackage, isLastResort } }
  }

  async #generate() {
    const credential = { credentialType: /** @type {const} */ ('basic'), identity: concat(this.#own.user, this.#own.device) }
    const made = await generateKeyPackageWithKey(credential, /** @type {any} */ (CAPABILITIES), LIFETIME, [], this.#signing, this.#suite)
    return { keyPackage: made.publicPackage, privatePackage: made.privatePackage }
  }

  /** @param {Uint8Array} conversation @param {Group} group */
  #keep(conversation, group) {
    this.#groups.set(hex(conversation), group)
    const { state, pending, controlSeq } = group
    const packed = { state: state && encodeGroupState(state), pending: pending && { ...pending, state: encodeGroupState(pending.state) }, controlSeq }
    this.#journal.put(`crypto/group/${hex(conversation)}`, packed)
  }
}

/** @param {Uint8Array | undefined} bytes @returns {ClientState | undefined} */
function unpack(bytes) {
  const state = bytes && decodeGroupState(bytes, 0)?.[0]
  return state && { ...state, clientConfig: defaultClientConfig }
}

/** @typedef {{ index: number, user: Uint8Array, device: Uint8Array, leaf: any }} Leaf */

/** @param {ClientState | undefined} state @returns {Leaf[]} */
function leavesOf(state) {
  return state ? leavesIn(state.ratchetTree) : []
}

/** @param {any} tree @returns {Leaf[]} */
function leavesIn(tree) {
  return [...tree.entries()].filter(([, node]) => node?.nodeType === 'leaf').map(([at, { leaf }]) => {
    const identity = leaf.credential.identity ?? new Uint8Array()
    return { index: at / 2, user: identity.subarray(0, 16), device: identity.subarray(16), leaf }
  })
}

/** @param {{ device: Uint8Array, leaf: any }} leaf @param {Device} listed by the server */
function isLeafOf({ device, leaf }, listed) {
  return equal(device, listed.device) && equal(leaf.signaturePublicKey, listed.identity)
}

/** Throws Forged, unless the leaf is that of the device which the message names. @param {any} message @param {Leaf | undefined} leaf
 * @param {Uint8Array} authenticatedData */
function isFrom(message, leaf, authenticatedData) {
  const isSame = leaf && equal(leaf.user, message.sender) && equal(leaf.device, message.device)
  if (!isSame || !equal(authenticatedData, associatedData(message))) throw new Forged('the message names another sender or conversation than the one that has signed it')
}

/** The reference of the KeyPackage for which a Welcome has these secrets: the one other field beside them.
 * @param {import('ts-mls').EncryptedGroupSecrets} secrets */
function packageRefOf({ encryptedGroupSecrets, ...others }) {
  return hex(Object.values(others)[0])
}

/** The claimed KeyPackage of a device, which has to be of the identity that the device has published. @param {Device} device
 * @param {Map<string, Uint8Array>} keys */
async function packageOf(device, keys) {
  const keyPackage = keyPackageOf(/** @type {Uint8Array} */ (keys.get(hex(device.device))))
  const { leafNode } = keyPackage
  const identity = /** @type {any} */ (leafNode.credential).identity
  const isSame = equal(leafNode.signaturePublicKey, device.identity) && equal(identity, concat(device.user, device.device))
  if (!isSame) throw new Forged('the key of a device is not of its identity')
  return keyPackage
}

/** @param {Uint8Array} bytes */
function keyPackageOf(bytes) {
  const decoded = decodeMlsMessage(bytes, 0)?.[0]
  if (decoded?.wireformat !== 'mls_key_package') throw new Forged('a key that is no KeyPackage')
  return decoded.keyPackage
}
