// MLS (RFC 9420) by ts-mls, as a protocol of `encryption.js`. A conversation is a group; its id is the conversation's. Each device is
// a leaf, whose credential is user and device and whose signature key is the identity that the device has published.
//
// Commits are control messages, and each follows the one before (`follows`): of two only one is accepted. A commit is a public message
// of MLS: a private one would encrypt two commits of one epoch with one key, if the first is refused. The server knows
// all that it shows anyway. Welcomes are envelopes of their commit. A device that nobody has added, or that has lost its place in the
// chain, joins by an external commit, from the state that another device has put (19.16).

import {
  createApplicationMessage, createCommit, createGroup, decodeMlsMessage, emptyPskIndex, encodeGroupState, encodeMlsMessage,
  getCiphersuiteFromName, getCiphersuiteImpl, joinGroup, joinGroupExternal, processPrivateMessage, processPublicMessage,
} from 'ts-mls'
import { unprotectPrivateMessage } from 'ts-mls/messageProtection.js'
import { equal, hex } from '../bytes.js'
import { NotInGroup } from './groups.js'
import { openFrom, sealTo } from './mls_envelopes.js'
import { Packages, SUITE } from './mls_packages.js'
import { CONFIG, commitOf, groupInfoIn, groupInfoOf, isFrom, isLeafOf, keyPackageOf, leavesIn, leavesOf, packageOf, unpack } from './mls_parts.js'
import { Rosters } from './rosters.js'
import { Forged, associatedData, boundOf, seal, unseal } from './sealed.js'

/** @typedef {import('ts-mls').ClientState} ClientState */
/** @typedef {import('../devices.js').Device} Device */
/** @typedef {import('../outbox.js').Draft} Draft */
/** @typedef {import('./encryption.js').At} At */
/** @typedef {import('./encryption.js').Prepared} Prepared */
/** @typedef {import('./encryption.js').Received} Received */
/**
 * @typedef {object} Group
 * @property {ClientState} [state]
 * @property {{ tempId: Uint8Array, state: ClientState }} [pending] the state after this device's own commit, if that is accepted
 * @property {number} controlSeq the last control message that this device has handled
 * @property {boolean} [isLost] it has missed a commit
 * @property {boolean} [isToPut] the state after its own commit has yet to be put
 */

const CONTENT_TYPE = 'application/mls' // the same for all, so that it tells nothing (20.3)
const NO_GROUP = { controlSeq: 0 }

export class Mls {
  kind = 'mls-1' // of cipher suite 1
  features = ['one_time_keys', 'device_sets', 'quiet', 'envelopes', 'control']
  /** @type {Map<string, Group>} conversation in hex -> its group */
  #groups = new Map()
  /** @type {Packages} */
  #packages = /** @type {any} */ (undefined)
  /** @type {Rosters} */
  #rosters = /** @type {any} */ (undefined)
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
    this.#rosters = new Rosters(journal, items)
    this.#suite = await getCiphersuiteImpl(getCiphersuiteFromName(SUITE))
    for (const [path, value] of items) {
      const [kind, part, key] = path.split('/')
      if (kind !== 'crypto') continue
      if (part === 'signing') this.#signing = value
      else if (part === 'group') this.#groups.set(key, { ...value, state: unpack(value.state), pending: value.pending && { ...value.pending, state: unpack(value.pending.state) } })
    }
    if (!this.#signing) {
      this.#signing = await this.#suite.signature.keygen()
      journal.put('crypto/signing', this.#signing)
    }
    this.#packages = new Packages(this.#suite, this.#signing, () => this.#own, journal, items)
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
  makeKeys(numbers, isLastResort) {
    return this.#packages.make(numbers, isLastResort)
  }

  /** @param {Uint8Array} conversation */
  isInGroup(conversation) {
    const { state, isLost } = this.#group(conversation)
    return state !== undefined && !isLost
  }

  /** The devices in the group. @param {Uint8Array} conversation */
  devicesOf(conversation) {
    return leavesOf(this.#group(conversation).state).map(({ device }) => device)
  }

  /** The user no longer takes part. @param {Uint8Array} conversation */
  forget(conversation) {
    if (this.#groups.delete(hex(conversation))) this.#journal.remove(`crypto/group/${hex(conversation)}`)
    this.#rosters.forget(conversation)
  }

  /** The devices of the set that the group lacks. @param {Uint8Array} conversation @param {import('./device_sets.js').DeviceSet} set
   * @param {number} [known] the last control message of the conversation */
  missing(conversation, { devices }, known = 0) {
    const { state, controlSeq } = this.#group(conversation)
    if (!this.isInGroup(conversation) && (known || controlSeq) && !this.#isAlone(devices)) return []
    const leaves = leavesOf(state)
    return devices.filter((each) => !equal(each.device, this.#own.device) && !leaves.some((leaf) => isLeafOf(leaf, each)))
  }

  /** The next thing to send: a commit that makes the group that of the device set, or else the message. Throws NotInGroup.
   * @param {Draft} draft @param {At} at @returns {Promise<Prepared | undefined>} */
  async prepare(draft, { set, keys, tempId, controlSeq: known = 0, joining }) {
    const { conversation } = draft
    const group = this.#group(conversation)
    const controlSeq = Math.max(group.controlSeq, known)
    const isInGroup = this.isInGroup(conversation)
    if (!isInGroup) {
      if (joining) return this.#joinBy(conversation, group, joining, set, tempId)
      if (controlSeq && !this.#isAlone(set.devices)) throw new NotInGroup('this device was not added to the group of the conversation yet')
      if (draft.type === 'tidy') return undefined // a group begins with its first message
    }
    const state = isInGroup ? /** @type {ClientState} */ (group.state) : await this.#create(conversation)
    if (!isInGroup) this.#rosters.forget(conversation) // another group counts its epochs anew
    const missing = this.missing(conversation, set, known)
    const added = missing.map((device) => ({ device: device.device, keyPackage: usable(device, keys) })).filter(({ keyPackage }) => keyPackage)
    const removed = leavesOf(state).filter((leaf) => !equal(leaf.device, this.#own.device) && !set.devices.some((each) => isLeafOf(leaf, each)))
    const proposals = [
      ...removed.map(({ index }) => ({ proposalType: /** @type {const} */ ('remove'), remove: { removed: index } })),
      ...added.map(({ keyPackage }) => ({ proposalType: /** @type {const} */ ('add'), add: { keyPackage: /** @type {any} */ (keyPackage) } })),
    ]
    if (!proposals.length) return draft.type === 'tidy' ? undefined : this.#message(draft, set.version, { ...group, state })
    const options = { wireAsPublicMessage: true, extraProposals: proposals, ratchetTreeExtension: true, authenticatedData: this.#associatedData(conversation) }
    const { commit, welcome, newState } = await createCommit({ state, cipherSuite: this.#suite }, options)
    const envelope = welcome && encodeMlsMessage({ version: 'mls10', wireformat: 'mls_welcome', welcome })
    const frame = {
      ...this.#control(conversation, encodeMlsMessage(commit), controlSeq, tempId), devices_version: set.version,
      envelopes: envelope && added.map(({ device }) => [device, envelope]),
    }
    return { frame, isControl: true, commit: () => this.#keep(conversation, { ...group, pending: { tempId, state: newState } }) }
  }

  /** Nothing of the frame is stored: it can be sent in another way if others were quicker. @param {any} frame @param {any} error */
  refused(frame, error) {
    if (!['control_conflict', 'devices_changed', 'unknown_devices'].includes(error.code)) return undefined
    return () => {
      const group = this.#group(frame.conversation)
      const isPending = group.pending && equal(group.pending.tempId, frame.temp_id)
      // Without a state there is a group that this device is not in: its control messages may be older than what it holds.
      const controlSeq = group.state ? group.controlSeq : Math.max(group.controlSeq, error.control_seq ?? 0)
      this.#keep(frame.conversation, { ...group, pending: isPending ? undefined : group.pending, controlSeq })
    }
  }

  /** The state of a group for devices that join by themselves. @param {Uint8Array} conversation
   * @returns {Promise<{ controlSeq: number, state: Uint8Array, isOwn: boolean } | undefined>} */
  async stateOf(conversation) {
    const { state, controlSeq, isToPut = false } = this.#group(conversation)
    if (!state || !this.isInGroup(conversation) || !controlSeq) return undefined
    return { controlSeq, state: await groupInfoOf(state, this.#suite), isOwn: isToPut }
  }

  // The conversations for which this device has to put the state.
  toPut() {
    return [...this.#groups].filter(([, { isToPut }]) => isToPut).map(([key]) => key)
  }

  /** The state after this control message is there, or another one has followed. @param {Uint8Array} conversation @param {number} controlSeq */
  havePut(conversation, controlSeq) {
    const group = this.#group(conversation)
    if (group.isToPut && group.controlSeq === controlSeq) this.#keep(conversation, { ...group, isToPut: undefined })
  }

  /** @param {any} message @returns {Promise<Received>} */
  async receive(message) {
    const group = this.#group(message.conversation)
    try {
      return await (message.follows === undefined ? this.#decrypt(message, group) : this.#receiveControl(message, group))
    } catch (error) {
      // The chain goes on from an invalid control message, too: none can block the group (RFC 9750, 5.3).
      const controlSeq = message.follows === undefined ? group.controlSeq : message.seq
      return { reason: error instanceof Forged ? 'forged' : `broken: ${/** @type {Error} */ (error).message}`, commit: () => this.#keep(message.conversation, { ...group, controlSeq }) }
    }
  }

  /** @param {any} message @param {Group} group @returns {Promise<Received>} */
  async #receiveControl(message, group) {
    const { conversation, seq, temp_id, device, envelope, follows } = message
    if (seq <= group.controlSeq) return { commit() {} } // from before this device has joined, or handled in another order of messages
    const next = (/** @type {Group} */ changes) => ({ commit: () => this.#keep(conversation, { ...changes, controlSeq: seq }) })
    const isOwn = equal(device, this.#own.device)
    if (isOwn && group.pending && equal(group.pending.tempId, temp_id)) return next({ state: group.pending.state, controlSeq: seq, isToPut: true })
    if (envelope) return this.#join(message, envelope, group)
    if (!group.state) return { ...next(group), reason: 'before' }
    const lost = { ...next({ ...group, isLost: true, pending: undefined }), reason: 'lost' }
    if (group.isLost || follows !== group.controlSeq) return lost
    const commit = commitOf(message, group.state)
    if (isOwn) return lost
    const { newState } = await processPublicMessage(group.state, commit, emptyPskIndex, this.#suite)
    return next({ state: newState.groupActiveState.kind === 'active' ? newState : undefined, controlSeq: seq })
  }

  /** @param {any} message @param {Uint8Array} envelope @param {Group} group @returns {Promise<Received>} */
  async #join(message, envelope, group) {
    const { conversation, seq } = message
    const decoded = decodeMlsMessage(envelope, 0)?.[0]
    if (decoded?.wireformat !== 'mls_welcome') throw new Forged('an envelope that is no Welcome')
    const kept = this.#packages.for(decoded.welcome)
    if (!kept) return { reason: 'no key for the Welcome', commit: () => this.#keep(conversation, { ...group, isLost: true, pending: undefined, controlSeq: seq }) }
    const keyPackage = /** @type {any} */ (keyPackageOf(kept.public))
    const state = await joinGroup(decoded.welcome, keyPackage, kept.private, emptyPskIndex, this.#suite, undefined, undefined, CONFIG)
    if (!equal(state.groupContext.groupId, conversation)) throw new Forged('a Welcome to the group of another conversation')
    const isOfSender = leavesOf(state).some((leaf) => equal(leaf.device, message.device) && equal(leaf.user, message.sender))
    if (!isOfSender) throw new Forged('a Welcome to a group where its sender is not')
    return {
      commit: () => {
        this.#keep(conversation, { state, controlSeq: seq })
        this.#packages.used(kept)
      },
    }
  }

  /** An external commit, from the state that another device has put. @param {Uint8Array} conversation @param {Group} group
   * @param {import('./groups.js').Joining} joining @param {import('./device_sets.js').DeviceSet} set @param {Uint8Array} tempId
   * @returns {Promise<Prepared>} */
  async #joinBy(conversation, group, { controlSeq, state }, set, tempId) {
    const { groupInfo, leaves } = groupInfoIn(state, conversation)
    const signer = leaves.find(({ index }) => index === groupInfo.signer)
    if (!signer || !set.devices.some((each) => isLeafOf(signer, each))) throw new NotInGroup('the state of the group is not from a device of the conversation')
    const isThere = leaves.some(({ leaf }) => equal(leaf.signaturePublicKey, this.identity()))
    const { keyPackage, privatePackage } = await this.#packages.generate()
    const joined = joinGroupExternal(groupInfo, keyPackage, privatePackage, isThere, this.#suite, undefined, CONFIG, this.#associatedData(conversation))
    const { publicMessage, newState } = await joined.catch((error) => { throw new NotInGroup(`the state of the group is not valid: ${error.message}`) })
    const content = encodeMlsMessage({ version: 'mls10', wireformat: 'mls_public_message', publicMessage })
    const frame = { ...this.#control(conversation, content, controlSeq, tempId), devices_version: set.version }
    return { frame, isControl: true, commit: () => this.#keep(conversation, { ...group, pending: { tempId, state: newState } }) }
  }

  /** @param {any} message @param {Group} group @returns {Promise<Received>} */
  async #decrypt(message, group) {
    const none = { commit: () => {} }
    const { state } = group
    if (!state || equal(message.device, this.#own.device)) return { ...none, reason: state ? 'lost' : 'before' }
    if (message.envelope) return { ...none, plaintext: unseal(await openFrom(message, state, this.#own.device, this.#suite), message) }
    const decoded = decodeMlsMessage(message.content, 0)?.[0]
    if (decoded?.wireformat !== 'mls_private_message') throw new Forged('content that is no message of MLS')
    const { privateMessage } = decoded
    const past = state.historicalReceiverData.get(privateMessage.epoch)
    if (privateMessage.epoch < state.groupContext.epoch && !past) return { ...none, reason: 'before' }
    if (privateMessage.epoch > state.groupContext.epoch) return { reason: 'lost', commit: () => this.#keep(message.conversation, { ...group, isLost: true }) }
    const { senderDataSecret } = past ?? state.keySchedule
    const { secretTree, ratchetTree, groupContext } = past ?? state
    const { content } = await unprotectPrivateMessage(senderDataSecret, privateMessage, secretTree, ratchetTree, groupContext, CONFIG.keyRetentionConfig, this.#suite)
    const { sender } = content.content
    isFrom(message, leavesIn(ratchetTree).find(({ index }) => sender.senderType === 'member' && index === sender.leafIndex), privateMessage.authenticatedData)
    const result = await processPrivateMessage(state, privateMessage, emptyPskIndex, this.#suite)
    if (result.kind !== 'applicationMessage') throw new Forged('a message that changes the group outside the chain')
    return { plaintext: unseal(result.message, message), commit: () => this.#keep(message.conversation, { ...group, state: result.newState }) }
  }

  /** @param {Draft} draft @param {number} version @param {Group} group @returns {Promise<Prepared>} */
  async #message(draft, version, group) {
    const { type, conversation, plaintext, fields } = draft
    const sealed = seal(plaintext, boundOf(draft))
    const { newState, privateMessage } = await createApplicationMessage(/** @type {ClientState} */ (group.state), sealed, this.#suite, this.#associatedData(conversation))
    const frame = {
      ...fields, type, conversation, content_type: CONTENT_TYPE, content: encodeMlsMessage({ version: 'mls10', wireformat: 'mls_private_message', privateMessage }),
      attachments: plaintext.files?.map((/** @type {any} */ file) => file.attachment), thumbnail: undefined, devices_version: version,
    }
    const commit = () => {
      this.#keep(conversation, { ...group, state: newState })
      this.#rosters.keep(conversation, newState.groupContext.epoch, () => leavesOf(newState).map(({ device, leaf }) => [device, leaf.signaturePublicKey]))
    }
    return { frame, isControl: false, commit }
  }

  /** A message of this device once more, for one that was in the group when it was encrypted, and is with the same identity;
   * undefined for any other (20.13). @param {any} message @param {any} plaintext @param {Device} listed
   * @returns {Promise<Uint8Array | undefined>} */
  async envelopeFor(message, plaintext, listed) {
    const { state } = this.#group(message.conversation)
    const decoded = decodeMlsMessage(message.content, 0)?.[0]
    if (!state || decoded?.wireformat !== 'mls_private_message') return undefined
    const wasFor = this.#rosters.had(message.conversation, decoded.privateMessage.epoch, listed)
    if (!wasFor || !leavesOf(state).some((leaf) => isLeafOf(leaf, listed))) return undefined
    const { temp_id, reply_to, is_quiet, revision = 0 } = message
    const edited = revision ? { message: message.message, temp_id, reply_to, is_quiet } : undefined
    const bound = boundOf(/** @type {any} */ ({ fields: { temp_id, reply_to, is_quiet, revision: revision - 1 }, edited }))
    return sealTo(seal(plaintext, bound), message, state, listed.device, this.#suite, this.#signing.signKey)
  }

  /** @param {Uint8Array} conversation @param {Uint8Array} content @param {number} follows @param {Uint8Array} tempId */
  #control(conversation, content, follows, tempId) {
    return { type: 'send', conversation, content_type: CONTENT_TYPE, content, temp_id: tempId, is_quiet: true, follows }
  }

  /** @param {Uint8Array} conversation */
  async #create(conversation) {
    const { keyPackage, privatePackage } = await this.#packages.generate()
    return createGroup(conversation, keyPackage, privatePackage, [], this.#suite, CONFIG)
  }

  /** @param {Uint8Array} conversation */
  #associatedData(conversation) {
    return associatedData({ conversation, sender: this.#own.user, device: this.#own.device })
  }

  /** Whether this device is the only one, so that no other could add it. @param {Device[]} devices */
  #isAlone(devices) {
    return devices.every(({ device }) => equal(device, this.#own.device))
  }

  /** @param {Uint8Array} conversation @returns {Group} */
  #group(conversation) {
    return this.#groups.get(hex(conversation)) ?? NO_GROUP
  }

  /** @param {Uint8Array} conversation @param {Group} group */
  #keep(conversation, group) {
    this.#groups.set(hex(conversation), group)
    const { state, pending } = group
    const packed = { ...group, state: state && encodeGroupState(state), pending: pending && { ...pending, state: encodeGroupState(pending.state) } }
    this.#journal.put(`crypto/group/${hex(conversation)}`, packed)
  }
}

/** @param {Device} device @param {Map<string, Uint8Array>} keys */
function usable(device, keys) {
  const key = keys.get(hex(device.device))
  return key && packageOf(device, key)
}
