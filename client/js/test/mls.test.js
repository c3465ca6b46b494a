// MLS as a protocol of the client (SPEC 20), with ts-mls and a room in memory that keeps the control chain as a server does: of
// the control messages that follow the same one at most one is accepted, and envelopes are shown to their devices alone.

import assert from 'node:assert/strict'
import test from 'node:test'
import { equal, hex, randomBytes, utf8 } from '../bytes.js'
import { NotInGroup } from '../e2ee/groups.js'
import { Mls } from '../e2ee/mls.js'
import { Journal } from '../journal.js'
import { MemoryStore } from '../stores/memory.js'

const TALK = new Uint8Array(16).fill(7)
const id = (number) => new Uint8Array(16).fill(number)
const options = { timeout: 60_000 }

class Room {
  messages = []
  devices = []
  controlSeq = 0
  version = 0

  async join(user, number) {
    const device = new GroupDevice(this, id(user), id(number))
    await device.start()
    this.devices.push(device)
    this.version += 1
    return device
  }

  leave(device) {
    this.devices.splice(this.devices.indexOf(device), 1)
    this.version += 1
  }

  get set() {
    return { version: this.version, devices: this.devices.map(({ user, device, mls }) => ({ user, device, identity: mls.identity() })) }
  }

  // Returns the seq, or the error of a refusal.
  take(frame, { user, device }) {
    if (frame.devices_version !== this.version) return { code: 'devices_changed', devices_version: this.version }
    if (frame.follows !== undefined && frame.follows !== this.controlSeq) return { code: 'control_conflict', control_seq: this.controlSeq }
    const seq = this.messages.length + 1
    if (frame.follows !== undefined) this.controlSeq = seq
    this.messages.push({ ...structuredClone(frame), type: 'message', seq, message: randomBytes(16), sender: user, device })
    return seq
  }

  // As a device is shown a message: its own envelope alone, and the temp_id of its own user's messages.
  shown({ envelopes, temp_id, ...message }, { user, device }) {
    const own = envelopes?.find(([named]) => equal(named, device))
    return { ...message, temp_id: equal(message.sender, user) ? temp_id : undefined, envelope: own?.[1] }
  }
}

// A device: the steps of Encryption and Outbox, one after the other.
class GroupDevice {
  constructor(room, user, device) {
    Object.assign(this, { room, user, device, store: new MemoryStore(), handled: 0, read: [], reasons: [], pool: [] })
  }

  async start() {
    this.journal = new Journal(this.store)
    this.mls = new Mls()
    this.mls.own({ user: this.user, device: this.device })
    await this.mls.start(this.journal, await this.store.load())
    if (!this.pool.length) {
      const { keys, commit } = await this.mls.makeKeys([1, 2, 3, 4], false)
      commit()
      this.pool = keys.map(([, key]) => key)
    }
    await this.journal.flush()
  }

  // Kills the program: only what was stored is left.
  async restart() {
    await this.start()
  }

  async handle(upTo = this.room.messages.length) {
    while (this.handled < upTo) {
      const message = this.room.shown(this.room.messages[this.handled], this)
      const received = equal(message.device, this.device) && message.follows === undefined ? { commit() {} } : await this.mls.receive(message)
      received.commit()
      await this.journal.flush()
      this.handled += 1
      if (received.plaintext) this.read.push(received.plaintext.text ?? '')
      if (received.reason) this.reasons.push([message.seq, received.reason])
    }
  }

  claim(devices) {
    return new Map(devices.map(({ device }) => [hex(device), this.room.devices.find((each) => equal(each.device, device)).pool.shift()]))
  }

  draft(text, fields) {
    return { type: 'send', conversation: TALK, plaintext: { text }, fields: { content_type: 'text/plain', temp_id: randomBytes(16), ...fields } }
  }

  async prepare(draft) {
    const { set } = this.room
    const keys = this.claim(this.mls.missing(TALK, set, this.controlSeq))
    const prepared = await this.mls.prepare(draft, { set, keys, tempId: randomBytes(16), controlSeq: this.controlSeq, joining: this.joining })
    prepared?.commit()
    await this.journal.flush()
    return prepared
  }

  say(text, fields) {
    return this.do(this.draft(text, fields))
  }

  // Makes the group that of the devices, without a message.
  tidy() {
    return this.do({ type: 'tidy', conversation: TALK, fields: {} })
  }

  // Puts the state of the group, for devices that join by themselves.
  async put() {
    await this.handle()
    const { controlSeq, state } = (await this.mls.stateOf(TALK)) ?? {}
    if (controlSeq === this.room.controlSeq) this.room.state = { controlSeq, state }
  }

  // Joins by itself, from the state that another device has put.
  async join() {
    this.controlSeq = this.room.controlSeq
    this.joining = this.room.state
    await this.tidy()
    this.joining = undefined
  }

  async do(draft) {
    for (;;) {
      await this.handle()
      const prepared = await this.prepare(draft)
      if (!prepared) return undefined
      const { frame, isControl } = prepared
      const outcome = this.room.take(frame, this)
      if (typeof outcome === 'number' && isControl) await this.put()
      if (typeof outcome === 'number' && !isControl) return outcome
      if (typeof outcome !== 'number') this.mls.refused(frame, outcome)()
    }
  }
}

async function room(...numbers) {
  const made = new Room()
  const devices = []
  for (const [user, number] of numbers) devices.push(await made.join(user, number))
  return [made, ...devices]
}

test('devices of two users read what was sent while they were in the set, and nothing before or after', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  await a.say('one')
  await b.handle()
  await b.say('two')
  const c = await talk.join(2, 3)
  await a.say('three')
  for (const each of [a, b, c]) await each.handle()
  talk.leave(b)
  await c.say('four')
  for (const each of [a, b, c]) await each.handle()
  assert.deepEqual([a.read, b.read, c.read], [['two', 'four'], ['one', 'three'], ['three']])
  assert.ok(c.reasons.every(([, reason]) => reason === 'before'), String(c.reasons))
  assert.equal(b.reasons.at(-1)[0], talk.messages.length, 'a device that was removed reads nothing later')
})

test('of two commits that follow the same one the later is refused, and its sender goes on after the winner', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  await a.say('one')
  await b.handle()
  await talk.join(3, 3)
  await talk.join(4, 4)
  const [ofA, ofB] = [await a.prepare(a.draft('x')), await b.prepare(b.draft('y'))]
  assert.equal(ofA.frame.follows, ofB.frame.follows)
  assert.equal(typeof talk.take(ofA.frame, a), 'number')
  const conflict = talk.take(ofB.frame, b)
  assert.deepEqual(conflict, { code: 'control_conflict', control_seq: talk.controlSeq })
  b.mls.refused(ofB.frame, conflict)()
  await b.say('from b')
  for (const each of talk.devices) await each.handle()
  await talk.devices[2].say('from c')
  for (const each of talk.devices) await each.handle()
  assert.deepEqual(talk.devices.map(({ read }) => read), [['from b', 'from c'], ['one', 'from c'], ['from b'], ['from b', 'from c']])
})

test('a control message that is garbage blocks nobody', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  await a.say('one')
  await b.handle()
  const garbage = { type: 'send', conversation: TALK, content: utf8('garbage'), temp_id: randomBytes(16), devices_version: talk.version, follows: talk.controlSeq }
  const seq = talk.take(garbage, b)
  await talk.join(3, 3)
  await a.say('two')
  for (const each of talk.devices) await each.handle()
  assert.deepEqual(talk.devices.map(({ read }) => read), [[], ['one', 'two'], ['two']])
  assert.match(a.reasons.find(([at]) => at === seq)[1], /broken|forged/)
})

test('a program that is killed after any step goes on from its store, and no key encrypts two messages', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  await a.say('one')
  await a.restart()
  await b.handle()
  await b.restart()
  const draft = a.draft('two')
  await a.handle()
  const lost = await a.prepare(draft) // encrypted and stored, and the program is killed before it sends
  await a.restart()
  const again = await a.prepare(a.draft('three'))
  assert.notDeepEqual(lost.frame.content, again.frame.content)
  assert.equal(typeof talk.take(lost.frame, a), 'number', 'the outbox has its bytes')
  assert.equal(typeof talk.take(again.frame, a), 'number')
  await b.handle()
  await b.restart()
  await talk.join(3, 3)
  const commit = await a.prepare(a.draft('four'))
  assert.equal(commit.isControl, true)
  talk.take(commit.frame, a)
  await a.restart() // the commit was accepted, and its `sent` is lost
  await a.say('four')
  for (const each of talk.devices) await each.handle()
  assert.deepEqual(talk.devices.map(({ read }) => read), [[], ['one', 'two', 'three', 'four'], ['four']])
})

test('devices are added and removed without a message, and nothing is sent where nothing has changed', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  await a.tidy()
  assert.equal(talk.messages.length, 0, 'a group begins with its first message')
  await a.say('one')
  const c = await talk.join(1, 3)
  talk.leave(b)
  await a.tidy()
  assert.equal(talk.controlSeq, talk.messages.length)
  const count = talk.messages.length
  await a.tidy()
  await c.tidy()
  assert.equal(talk.messages.length, count)
  await c.say('two')
  for (const each of [a, b, c]) await each.handle()
  assert.deepEqual([a.read, b.read, c.read], [['two'], ['one'], []])
})

test('a device that no other adds, and one that has missed commits, join by themselves from the state that another has put', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  await a.say('one')
  await b.handle()
  const c = await talk.join(3, 3)
  c.handled = talk.messages.length
  await c.join()
  for (const each of talk.devices) await each.handle()
  assert.deepEqual(talk.devices.map(({ mls }) => mls.isInGroup(TALK)), [true, true, true])
  await c.say('two')
  await talk.join(4, 4)
  await a.say('three')
  const missed = talk.controlSeq
  await talk.join(5, 5)
  await a.say('four')
  await b.handle(missed - 1)
  b.handled = missed // the commit was deleted while it was away
  await b.handle()
  assert.equal(b.mls.isInGroup(TALK), false)
  assert.ok(b.reasons.some(([, reason]) => reason === 'lost'))
  await b.restart()
  await assert.rejects(b.prepare(b.draft('x')), NotInGroup)
  await b.join()
  await b.say('five')
  for (const each of talk.devices) await each.handle()
  await a.say('six')
  for (const each of talk.devices) await each.handle()
  assert.deepEqual(talk.devices.map(({ read }) => read.at(-1)), ['five', 'six', 'six', 'six', 'six'])
  assert.equal(c.read.includes('five'), true)
})

test('a state that is not from a device of the conversation, or of another group, is no way in', options, async () => {
  const [talk, a] = await room([1, 1], [2, 2])
  await a.say('one')
  const [other, x] = await room([8, 8], [9, 9])
  await x.say('elsewhere')
  const c = await talk.join(3, 3)
  c.handled = talk.messages.length
  const good = talk.state
  for (const state of [other.state.state, good.state.slice(0, -9), utf8('garbage')]) {
    talk.state = { ...good, state }
    await assert.rejects(c.join(), NotInGroup)
  }
  talk.state = good
  await c.join()
  await c.say('two')
  await a.handle()
  assert.deepEqual(a.read, ['two'])
})

test('a message goes once more to a device that it was for, and to no other, and opens in its place alone', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  const seq = await a.say('one', { reply_to: 1 })
  const c = await talk.join(3, 3)
  await a.say('two')
  for (const each of [b, c]) await each.handle()
  const message = talk.shown(talk.messages[seq - 1], a)
  const listed = (each) => talk.set.devices.find(({ device }) => equal(device, each.device))
  const give = (each, changes) => a.mls.envelopeFor(message, { text: 'one' }, { ...listed(each), ...changes })
  await a.restart()
  const envelope = await give(b)
  assert.equal(await give(c), undefined, 'it was added later')
  assert.equal(await give(b, { identity: id(9) }), undefined, 'it has another identity')
  const open = async (each, changes) => each.mls.receive({ ...talk.shown(talk.messages[seq - 1], b), envelope, ...changes })
  assert.deepEqual((await open(b)).plaintext, { text: 'one' })
  for (const changes of [{ message: id(9) }, { reply_to: 2 }, { sender: id(3), device: id(3) }, { revision: 1 }, { envelope: envelope.slice(0, -1) }, { envelope: id(1) }]) {
    assert.match((await open(b, changes)).reason, /forged|broken/)
  }
  assert.match((await open(c)).reason, /forged|broken/)
  talk.leave(b)
  await a.say('three')
  assert.equal(await give({ device: b.device, identity: b.mls.identity() }).catch(() => undefined), undefined, 'it was removed')
})

test('earlier messages that are loaded later take a device nowhere', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  await a.say('one')
  await b.handle()
  const c = await talk.join(3, 3)
  await a.say('two')
  await c.handle()
  c.handled = 0
  await c.handle()
  await c.say('three')
  await a.handle()
  assert.deepEqual(a.read, ['three'])
})

test('what a message shows is what its sender has bound', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  await a.say('one', { reply_to: 3 })
  const c = await talk.join(1, 3)
  await a.say('two')
  for (const each of talk.devices) await each.handle()
  assert.deepEqual(b.read, ['one', 'two'])
  const forge = async (changes) => {
    const seq = await a.say('to be changed', { reply_to: 1 })
    Object.assign(talk.messages[seq - 1], changes)
    await b.handle()
    return b.reasons.find(([at]) => at === seq)?.[1]
  }
  assert.equal(await forge({ reply_to: 2 }), 'forged')
  assert.equal(await forge({ attachments: [id(6)] }), 'forged')
  assert.equal(await forge({ is_quiet: true }), 'forged')
  assert.equal(await forge({ device: c.device }), 'forged')
  assert.equal(await forge({ sender: b.user }), 'forged')
  assert.equal(await forge({}), undefined)
  const set = { version: 9, devices: [...talk.set.devices, { user: id(8), device: id(8), identity: id(8) }] }
  const { frame, isControl } = await a.mls.prepare(a.draft('x'), { set, keys: new Map([[hex(id(8)), c.pool[0]]]), tempId: id(1) })
  assert.deepEqual([isControl, frame.envelopes], [false, undefined], 'a key that is not of its identity adds nobody')
})

test('an edit belongs to its message and its revision, from whichever device of the sender, and comes after later messages', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  const seq = await a.say('one')
  await a.say('two')
  const first = talk.messages[seq - 1]
  const edited = { message: first.message, temp_id: first.temp_id }
  const { frame } = await a.prepare({ type: 'edit', conversation: TALK, plaintext: { text: 'uno' }, fields: { seq, revision: 0 }, edited })
  assert.deepEqual([frame.type, frame.seq, frame.revision, frame.temp_id], ['edit', seq, 0, undefined])
  const made = { ...first, content: frame.content, revision: 1 }
  const forge = async (changes) => (await b.mls.receive({ ...made, temp_id: undefined, ...changes })).reason
  await b.handle()
  assert.equal(await forge({ revision: 2 }), 'forged')
  assert.equal(await forge({ revision: undefined }), 'forged')
  assert.equal(await forge({ message: id(9) }), 'forged')
  assert.equal(await forge({ temp_id: id(9) }), 'forged')
  const { plaintext } = await b.mls.receive({ ...made, temp_id: undefined })
  assert.deepEqual(plaintext, { text: 'uno' })
})

test('sizes of messages tell little', options, async () => {
  const [talk, a, b] = await room([1, 1], [2, 2])
  await a.say('y')
  const sizes = []
  for (const text of ['', 'y', 'yes, with pleasure']) sizes.push(talk.messages[(await a.say(text)) - 1].content.length)
  assert.equal(new Set(sizes).size, 1)
  await a.say('long '.repeat(1000))
  await b.handle()
  assert.equal(b.read.at(-1).length, 5000)
  assert.deepEqual(b.read.slice(1, 3), ['', 'y'])
})

test('a device that no other has added yet does not begin a second group', options, async () => {
  const [talk, a] = await room([1, 1], [2, 2])
  await a.say('one')
  const late = await talk.join(3, 3)
  late.handled = talk.messages.length // it begins behind the commit
  const { frame } = await late.prepare(late.draft('x'))
  const conflict = talk.take(frame, late)
  assert.equal(conflict.code, 'control_conflict')
  late.mls.refused(frame, conflict)()
  await assert.rejects(late.prepare(late.draft('x')), NotInGroup)
  await a.say('two')
  await late.say('three')
  await a.handle()
  assert.deepEqual([late.read, a.read], [['two'], ['three']])
})
