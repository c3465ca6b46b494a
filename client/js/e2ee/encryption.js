// Encrypts what a client sends, and decrypts what it gets, by a protocol behind an interface: MLS is in `mls.js`. It sees to what
// every protocol needs: one step after the other, messages in order of seq, the state after a step in the transaction of what the
// step has made (SPEC 20.4), device sets, keys at the server.
//
//   const http = new Http('https://chat.example', () => client.token)
//   const client = await Client.open(urls, { store, login, encryption: (client) => new Encryption(client, new Mls(), { http }) })

import { equal, hex } from '../bytes.js'
import { ConnectionLost } from '../errors.js'
import { DeviceSets } from './device_sets.js'
import { Groups, NotInGroup } from './groups.js'
import { Healing } from './healing.js'
import { KeyPool } from './key_pool.js'
import { Turns } from './turns.js'

/** @typedef {import('../outbox.js').Draft} Draft */
/** @typedef {import('./device_sets.js').DeviceSet} DeviceSet */
/** @typedef {{ frame: any, isControl: boolean, commit: () => void }} Prepared */
/** @typedef {{ set: DeviceSet, keys: Map<string, Uint8Array>, tempId: Uint8Array, controlSeq?: number,
 *   joining?: import('./groups.js').Joining }} At `keys`: device in hex -> a claimed key; `tempId`: for a control message, which comes before
 * the draft; `controlSeq`: of the last one that is known */
/** @typedef {{ plaintext?: any, reason?: string, commit: () => void }} Received `reason`: why there is no plaintext; a control
 * message has neither */
/**
 * A protocol. Its methods change nothing; `commit` of what they return changes the state, and puts it into the journal, at once.
 * @typedef {object} Protocol
 * @property {string} kind of its one-time keys
 * @property {string[]} features of the server, without which it does not work
 * @property {(journal: import('../journal.js').Journal, items: [string, any][]) => Promise<void>} start with what a store holds
 * @property {(own: { user: Uint8Array, device: Uint8Array }) => void} own
 * @property {() => Uint8Array} identity
 * @property {import('./key_pool.js').KeyMaker['makeKeys']} makeKeys
 * @property {(conversation: Uint8Array, set: DeviceSet, controlSeq?: number) => import('../devices.js').Device[]} missing the devices whose
 *   keys `prepare` needs
 * @property {(draft: Draft, at: At) => Promise<Prepared | undefined>} prepare a draft of the type `tidy` has no message: undefined, if
 *   nothing is to be done. Throws NotInGroup
 * @property {(frame: any, error: any) => (() => void) | undefined} refused what changes if it can be sent in another way
 * @property {(message: any) => Promise<Received>} receive
 * @property {(conversation: Uint8Array) => boolean} [isInGroup] this and the others: of a protocol with groups (`groups.js`)
 * @property {(conversation: Uint8Array) => void} [forget]
 * @property {(conversation: Uint8Array) => Promise<{ controlSeq: number, state: Uint8Array, isOwn: boolean } | undefined>} [stateOf]
 * @property {() => string[]} [toPut]
 * @property {(conversation: Uint8Array, controlSeq: number) => void} [havePut]
 * @property {(message: any, plaintext: any, device: import('../devices.js').Device) => Promise<Uint8Array | undefined>} [envelopeFor] a message of
 *   this device once more, if that device may read it (`healing.js`)
 */

const KEYLESS_MS = 600_000 // until a device without a usable key is asked for one again
const CONFLICT_MS = 1000 // 19.15

export class Encryption {
  #client
  #protocol
  #turns = new Turns()
  #sets
  #pool
  #groups
  #healing
  /** @type {Map<string, number>} device in hex -> when it had no key */
  #keyless = new Map()
  /** @type {Map<string, number>} conversation in hex -> how often others were quicker in a row */
  #conflicts = new Map()
  #isHandling = false
  #isDue = false
  /** @type {Promise<void> | undefined} */
  #started

  /** `http`: by which a device joins a group that no other device adds it to. @param {import('../client.js').Client} client
   * @param {Protocol} protocol @param {{ http?: import('../http.js').Http }} options */
  constructor(client, protocol, { http } = {}) {
    this.#client = client
    this.#protocol = protocol
    this.#sets = new DeviceSets(client, (changes) => client.emit('devices', changes), http)
    this.#pool = new KeyPool(client, { kind: protocol.kind, identity: () => protocol.identity(), makeKeys: (...given) => protocol.makeKeys(...given) })
    this.#groups = new Groups(client, protocol, http)
    this.#healing = new Healing(client, protocol, this.#sets)
    client.on('current', () => this.#healing.look())
    client.mailbox.isHandled = true
    this.sender = {
      prepare: (/** @type {Draft} */ draft, /** @type {Accept} */ accept) => this.#prepare(draft, accept),
      refused: (/** @type {any} */ frame, /** @type {any} */ error, /** @type {() => void} */ again) => this.#refused(frame, error, again),
    }
  }

  /** @param {[string, any][]} items of the store */
  async restore(items) {
    this.#sets.restore(items)
    this.#pool.restore(items)
    this.#groups.restore(items)
    this.#healing.restore(items)
    await this.#start(items)
  }

  // The server has welcomed this device.
  online() {
    this.#start([]).then(() => {
      this.#fill()
      this.#groups.online()
    }, (error) => this.#client.fail(error))
  }

  // The connection is lost.
  offline() {
    this.#groups.stop()
  }

  /** The devices of users have changed. @param {Uint8Array} conversation @param {Uint8Array[]} users */
  devicesChanged(conversation, users) {
    this.#groups.look(conversation, users)
  }

  /** A device cannot decrypt a message of this one. @param {any} told */
  undecryptable(told) {
    this.#healing.told(told)
  }

  /** The user no longer takes part. @param {Uint8Array} conversation */
  departed(conversation) {
    this.#groups.forget(conversation)
  }

  keysLow() {
    this.#fill()
  }

  // The server has another history, which may have forgotten keys that it has handed out (19.8).
  foreign() {
    this.#sets.forgetAll()
    this.#fill()
  }

  // Messages have come: decrypts them.
  wake() {
    this.#isDue = true
    if (!this.#isHandling) this.#handle().catch((error) => this.#client.fail(error))
  }

  /** @param {[string, any][]} items */
  #start(items) {
    this.#protocol.own({ user: /** @type {Uint8Array} */ (this.#client.user), device: /** @type {Uint8Array} */ (this.#client.device) })
    this.#started ??= this.#protocol.start(this.#client.journal, items)
    return this.#started
  }

  #fill() {
    this.#pool.fill().catch((error) => {
      if (!(error instanceof ConnectionLost)) this.#client.emit('keys_refused', error)
    })
  }

  /** @typedef {(frame: any, isControl: boolean) => void} Accept */
  /** Encrypts, once all that is known to have come is decrypted. @param {Draft} draft @param {Accept} accept takes the frame in the
   * step that changes the state */
  async #prepare(draft, accept) {
    await this.#started
    const missing = this.#protocol.features.filter((name) => !this.#client.features.has(name))
    if (missing.length) throw new Error(`the server cannot do what this encryption needs: ${missing.join(', ')}`)
    const { conversation } = draft
    let joining = /** @type {import('./groups.js').Joining | undefined} */ (undefined)
    for (let isAccepted = false; !isAccepted;) {
      await this.#isHandledThrough(conversation)
      const set = await this.#sets.of(conversation)
      const { controlSeq = 0 } = this.#client.mailbox.held(conversation)?.state ?? {}
      const missing = this.#protocol.missing(conversation, set, controlSeq)
      const keys = await this.#claim(missing)
      try {
        isAccepted = await this.#turns.take(async () => {
          if (!this.#isUpToDate(conversation)) return false
          const prepared = await this.#protocol.prepare(draft, { set, keys, tempId: this.#client.newTempId(), controlSeq, joining })
          prepared?.commit()
          if (!prepared?.isControl) for (const { device } of missing) this.#keyless.set(hex(device), Date.now()) // it cannot be added
          accept(prepared?.frame, prepared?.isControl ?? false)
          return true
        })
      } catch (error) {
        if (!(error instanceof NotInGroup)) throw error
        joining = await this.#groups.wayIn(conversation, error, joining)
      }
    }
  }

  /** @param {any} frame @param {any} error @param {() => void} again @returns {Promise<boolean>} whether it is sent in another way */
  #refused(frame, error, again) {
    return this.#turns.take(async () => {
      if (['devices_changed', 'unknown_devices'].includes(error.code)) this.#sets.forget(frame.conversation, error)
      if (error.control_seq) this.#client.mailbox.change(frame.conversation, (held) => held.expectControl(error.control_seq))
      const commit = this.#protocol.refused(frame, error)
      if (!commit) return false
      commit()
      const pause = this.#conflictPause(frame, error)
      if (pause) setTimeout(again, pause)
      else again()
      return true
    })
  }

  /** After a second conflict in a row it waits, so that one of several gets through (19.15). @param {any} frame @param {any} error */
  #conflictPause({ conversation }, { code }) {
    const count = code === 'control_conflict' ? (this.#conflicts.get(hex(conversation)) ?? 0) + 1 : 0
    this.#conflicts.set(hex(conversation), count)
    return count > 1 ? Math.random() * CONFLICT_MS : 0
  }

  /** @param {import('../devices.js').Device[]} devices @returns {Promise<Map<string, Uint8Array>>} */
  async #claim(devices) {
    const keys = new Map()
    const asked = devices.filter(({ device }) => Date.now() - (this.#keyless.get(hex(device)) ?? -KEYLESS_MS) >= KEYLESS_MS)
    if (!asked.length) return keys
    const wanted = new Set(asked.map(({ device }) => hex(device)))
    const users = [...new Map(asked.map(({ user }) => [hex(user), user])).values()]
    const claim = { type: 'devices', kinds: [this.#protocol.kind] }
    for (let more = true, device = /** @type {any} */ (undefined); more;) {
      const page = await this.#client.request({ ...claim, users, device })
      for (const each of page.devices) {
        const [key] = [...(each.one_time_keys ?? []), ...(each.last_resort_keys ?? [])]
        if (key && wanted.has(hex(each.device))) keys.set(hex(each.device), key[2])
      }
      more = page.more
      device = page.devices.at(-1)?.device
    }
    for (const device of wanted) if (!keys.has(device)) this.#keyless.set(device, Date.now())
    return keys
  }

  /** @param {Uint8Array} conversation */
  #isUpToDate(conversation) {
    const state = this.#client.mailbox.held(conversation)?.state
    return !state || (state.handled >= state.lastSeq && !state.again.size)
  }

  /** @param {Uint8Array} conversation */
  async #isHandledThrough(conversation) {
    while (!this.#isUpToDate(conversation)) await this.#client.next('handled')
  }

  async #handle() {
    this.#isHandling = true
    await this.#started
    while (this.#isDue) {
      this.#isDue = false
      for (const conversation of this.#client.mailbox.conversations) {
        let isMore = true
        while (isMore) isMore = await this.#turns.take(() => this.#handleNext(conversation))
        this.#groups.look(conversation)
      }
    }
    this.#isHandling = false
    this.#healing.look()
  }

  /** @param {Uint8Array} conversation @returns {Promise<boolean>} whether there was a message */
  async #handleNext(conversation) {
    const { mailbox } = this.#client
    const seq = mailbox.held(conversation)?.nextToHandle()
    if (seq === undefined) return false
    const entry = mailbox.entry(conversation, seq)
    const isKnown = !entry || entry.type === 'tombstone' || mailbox.plaintexts.of(entry) !== undefined
    const received = isKnown ? undefined : await this.#protocol.receive(entry)
    const present = mailbox.entry(conversation, seq)
    if (received) received.commit()
    if (received?.plaintext !== undefined && present === entry) mailbox.plaintexts.keep(entry, received.plaintext)
    mailbox.change(conversation, (held) => held.haveHandled(seq, received?.reason))
    this.#client.journal.flush().catch((error) => this.#client.fail(error))
    if (received?.plaintext !== undefined) this.#client.emit('plaintext', entry, received.plaintext)
    if (entry?.follows !== undefined) this.#groups.controlHandled(conversation, equal(entry.device, this.#client.device))
    this.#client.emit('handled', conversation, seq)
    return true
  }
}
