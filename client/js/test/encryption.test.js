// What a client does around a protocol of encryption (SPEC 19, 20.4, 20.6): order, one transaction for a step and its state, the same
// bytes again, changed device sets, keys at the server. The protocol of this test is no cryptography: it counts.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import { concat, equal, hex, sha256, textOf, utf8, uuid } from '../bytes.js'
import { Encryption } from '../e2ee/encryption.js'
import { digestOf } from '../e2ee/key_pool.js'
import { Groups } from '../e2ee/groups.js'
import { Turns } from '../e2ee/turns.js'
import { Http } from '../http.js'
import { MemoryStore } from '../stores/memory.js'
import { BOB, ME, TALK, device, message, serve, synced, told } from './local_server.js'

const options = { timeout: 10_000 }
const OTHER = new Uint8Array(16).fill(8)
const participants = [ME, BOB].map((user) => ({ user, username: 'x', joined_seq: 0, delivered_seq: 0, read_seq: 0 }))
const talk = { ...told, participants, devices_version: 1 }

// The key of each message is the next number, which must never encrypt two of them.
class Counting {
  kind = 'counting'
  features = ['pages']
  count = 0
  made = 0
  received = []

  async start(journal, items) {
    this.journal = journal
    this.count = items.find(([key]) => key === 'crypto/count')?.[1] ?? 0
  }

  own() {}

  identity() {
    return utf8('identity')
  }

  async makeKeys(numbers) {
    return { keys: numbers.map((number) => [number, utf8(`key ${number}`)]), commit: () => this.journal.put('crypto/made', (this.made += numbers.length)) }
  }

  missing() {
    return []
  }

  async prepare({ conversation, plaintext, fields }, { set: { version, devices } }) {
    const count = this.count + 1
    await new Promise((resolve) => setImmediate(resolve))
    const content = concat(utf8(`${count} for ${devices.length}: `), plaintext)
    const frame = { type: 'send', conversation, content, devices_version: version, ...fields }
    return { frame, isControl: false, commit: () => this.journal.put('crypto/count', (this.count = count)) }
  }

  refused(_, { code }) {
    return code === 'devices_changed' ? () => {} : undefined
  }

  async receive({ seq, content }) {
    this.received.push(seq)
    await new Promise((resolve) => setImmediate(resolve))
    if (seq === 3) return { reason: 'before', commit() {} }
    return { plaintext: textOf(content).toUpperCase(), commit: () => this.journal.put(`crypto/read/${seq}`, true) }
  }
}

// A server with one conversation; `devices` is the device set.
async function world(more = {}, features = []) {
  const devices = [ME, BOB].map((user) => ({ user, device: user, identity: user, identity_revision: 1 }))
  let seq = 4
  const answers = {
    sync: ({ cursor }) => (cursor ? [synced('b')] : [{ ...talk, last_seq: 4, last_message: message(2) }, message(4), message(3), synced('a')]),
    devices: () => [{ type: 'device_list', devices, more: false }],
    key_status: () => [{ type: 'keys', key_history: utf8('h'), pools: [] }],
    put_keys: () => [{ type: 'keys', key_history: utf8('h'), pools: [] }],
    send: () => [{ type: 'sent', seq: ++seq, message: new Uint8Array(16).fill(seq), created: seq }],
    ...more,
  }
  return { server: await serve(answers, features), devices }
}

async function encrypted(server, store = new MemoryStore(), more = {}) {
  const protocol = new Counting()
  const client = await device(server, { store, encryption: (each) => new Encryption(each, protocol, more) })
  return { client, protocol, store }
}

const sends = (server) => server.heard.filter(({ type }) => type === 'send').map(({ content }) => textOf(content))

test('messages are decrypted in order of seq, once, and marked delivered only then; what cannot be decrypted says why', options, async () => {
  const { server } = await world()
  const { client, protocol, store } = await encrypted(server)
  const said = []
  client.on('plaintext', (entry, plaintext) => said.push([entry.seq, plaintext]))
  client.on('handled', () => assert.ok(client.mailbox.marks().delivered.every(([, mark]) => mark <= Math.max(...protocol.received))))
  while (client.mailbox.held(TALK)?.state.handled !== 4) await once(client, 'handled')
  assert.deepEqual(protocol.received, [2, 3, 4])
  assert.deepEqual(said, [[2, 'SAYS 2'], [4, 'SAYS 4']])
  assert.deepEqual([2, 3, 4].map((seq) => client.mailbox.reason(TALK, seq)), [undefined, 'before', undefined])
  server.push(message(2, { revision: 1, content: utf8('edited') }))
  await once(client, 'plaintext')
  assert.equal(client.mailbox.plaintexts.of(client.mailbox.entry(TALK, 2)), 'EDITED')
  await client.bye()

  const again = await encrypted(server, store)
  await once(again.client, 'current')
  assert.deepEqual(again.protocol.received, [], 'the plaintexts are in the store')
  assert.equal(again.client.mailbox.plaintexts.of(again.client.mailbox.entry(TALK, 4)), 'SAYS 4')
  await again.client.bye()
  server.close()
})

test('what a step has made and the state after it are in one transaction, whenever the program is killed', options, async () => {
  const { server } = await world({ send: () => [] })
  const store = new MemoryStore()
  const commits = []
  const { client } = await encrypted(server, { load: () => store.load(), commit: (changes) => (commits.push(structuredClone(changes)), store.commit(changes)) })
  await once(client, 'current')
  client.send(TALK, utf8('x')).catch(() => {})
  while (!sends(server).length) await new Promise((resolve) => setImmediate(resolve))
  for (const changes of commits) {
    const outgoing = [...changes].find(([key, value]) => key.startsWith('outgoing/') && value?.frame)
    assert.equal(changes.has('crypto/count'), Boolean(outgoing))
    for (const seq of [2, 4]) {
      const isRead = changes.has(`crypto/read/${seq}`)
      assert.equal(isRead, [...changes.keys()].some((key) => key.startsWith('plaintext/') && key.endsWith(hex(message(seq).message))))
      if (isRead) assert.ok(changes.get(`conversation/${hex(TALK)}`).handled >= seq)
    }
  }
  await client.bye()
  const same = await world()
  const { client: again, protocol } = await encrypted(same.server, store)
  while (again.drafts.length) await once(again, 'entry')
  assert.deepEqual(sends(same.server), sends(server), 'the same bytes')
  assert.equal(protocol.count, 1)
  assert.equal((await again.send(TALK, utf8('y'))).seq, 6)
  assert.deepEqual(sends(same.server).at(-1), '2 for 2: y')
  assert.equal(textOf(again.mailbox.plaintexts.of(again.mailbox.entry(TALK, 6))), 'y')
  await again.bye()
  server.close()
  same.server.close()
})

test('after devices_changed the user is told, and the message is encrypted for the new set, with the same temp_id', options, async () => {
  let isStale = true
  const { server, devices } = await world({
    send: ({ devices_version }) => {
      if (!isStale) return [{ type: 'sent', seq: 5, message: ME, created: 5 }]
      isStale = false
      assert.equal(devices_version, 1)
      devices.push({ user: BOB, device: OTHER, identity: OTHER, identity_revision: 1 })
      return [{ type: 'error', code: 'devices_changed', detail: 'because', devices_version: 2, changed_users: [BOB] }]
    },
  })
  const { client } = await encrypted(server)
  await once(client, 'current')
  const isTold = once(client, 'devices')
  await client.send(TALK, utf8('x'))
  const [[[event, added]]] = await isTold
  assert.deepEqual([event, added.device], ['new', OTHER])
  assert.deepEqual(sends(server), ['1 for 2: x', '2 for 3: x'])
  const [first, second] = server.heard.filter(({ type }) => type === 'send')
  assert.deepEqual([second.temp_id, second.devices_version], [first.temp_id, 2])
  await client.bye()
  server.close()
})

test('in a group of more than 32 HTTP tells who takes part, once for each list of participants', options, async () => {
  const asked = []
  const http = new Http('http://x', () => 'token', async (url) => {
    asked.push(url.split('?')[1])
    const page = url.includes('cursor') ? { participants: [{ user: uuid(BOB) }], cursor: null } : { participants: [{ user: uuid(ME) }], cursor: 'a/b' }
    return new Response(JSON.stringify(page))
  })
  const large = { ...talk, participant_count: 40, participants: participants.slice(0, 1) }
  const { server } = await world({ sync: () => [{ ...large, last_seq: 4, last_message: message(4) }, synced('a')] })
  const { client } = await encrypted(server, new MemoryStore(), { http })
  await once(client, 'current')
  for (const text of ['x', 'y']) await client.send(TALK, utf8(text))
  assert.deepEqual(sends(server), ['1 for 2: x', '2 for 2: y'])
  assert.deepEqual(asked, ['limit=100', 'limit=100&cursor=a%2Fb'])
  assert.deepEqual(server.heard.filter(({ type }) => type === 'devices').map(({ users }) => users), [[ME, BOB]])
  await client.bye()
  const without = await encrypted(server)
  await once(without.client, 'current')
  await assert.rejects(without.client.send(TALK, utf8('z')), /HTTP alone/)
  await without.client.bye()
  server.close()
})

test('a message that cannot be decrypted is reported once, and again only after an envelope that did not help', options, async () => {
  const { server } = await world({ report_undecryptable: () => [{ type: 'done' }] }, ['undecryptable'])
  const { client, protocol } = await encrypted(server)
  protocol.envelopeFor = async () => utf8('e')
  protocol.isInGroup = () => true
  protocol.receive = async ({ seq }) => ({ ...(seq === 3 ? { reason: 'lost' } : { plaintext: 'x' }), commit() {} })
  const reports = () => server.heard.filter(({ type }) => type === 'report_undecryptable')
  while (reports().length < 1) await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(reports().map(({ seq, revision, reason }) => [seq, revision, reason]), [[3, 0, 'no_content_key']])
  for (const [envelope, count] of [['first', 2], ['second', 3], ['third', 4], ['fourth', 5]]) {
    server.push(message(3, { has_envelopes: true, envelope: utf8(envelope) }))
    while (reports().length < count) await new Promise((resolve) => setImmediate(resolve))
  }
  server.push(message(3, { has_envelopes: true, envelope: utf8('fifth') }), message(5))
  while (client.mailbox.held(TALK).state.handled < 5) await once(client, 'handled')
  await client.request({ type: 'mark_read', marks: [[TALK, 1]] })
  assert.equal(reports().length, 5)
  protocol.receive = async () => ({ plaintext: 'healed', commit() {} })
  server.push(message(3, { has_envelopes: true, envelope: utf8('sixth') }))
  await once(client, 'plaintext')
  assert.deepEqual([client.mailbox.says(client.mailbox.entry(TALK, 3)), client.mailbox.reason(TALK, 3)], ['healed', undefined])
  await client.bye()
  server.close()
})

test('a message that the server cannot note beside many others is reported later', options, async ({ mock }) => {
  let isFull = true
  const full = { type: 'error', code: 'quota_exceeded', detail: 'because', limit: 'open_reports_per_device', limit_value: 200 }
  const { server } = await world({ report_undecryptable: () => [isFull ? full : { type: 'done' }] }, ['undecryptable'])
  const { client, protocol } = await encrypted(server)
  protocol.envelopeFor = async () => utf8('e')
  protocol.isInGroup = () => true
  protocol.receive = async ({ seq }) => ({ ...(seq === 3 ? { reason: 'lost' } : { plaintext: 'x' }), commit() {} })
  const reports = () => server.heard.filter(({ type }) => type === 'report_undecryptable')
  while (reports().length < 1) await new Promise((resolve) => setImmediate(resolve))
  server.push(message(5))
  while (client.mailbox.held(TALK).state.handled < 5) await once(client, 'handled')
  await client.request({ type: 'mark_read', marks: [[TALK, 1]] })
  assert.equal(reports().length, 1)
  isFull = false
  const now = Date.now()
  mock.method(Date, 'now', () => now + 3_700_000)
  server.push(message(6))
  while (reports().length < 2) await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(reports().map(({ seq }) => seq), [3, 3])
  await client.bye()
  server.close()
})

test('a device gets a message of this one once more at most 5 times, also over starts of the program', options, async () => {
  const { server, devices } = await world({ add_envelopes: () => [{ type: 'done' }] }, ['undecryptable'])
  const store = new MemoryStore()
  const asked = []
  const start = async () => {
    const { client, protocol } = await encrypted(server, store)
    protocol.envelopeFor = async (entry, plaintext, { device: id }) => (asked.push([entry.seq, plaintext]), equal(id, BOB) ? utf8('e') : undefined)
    await once(client, 'current')
    return client
  }
  let client = await start()
  const { seq } = await client.send(TALK, utf8('mine'))
  devices.push({ user: BOB, device: OTHER, identity: OTHER, identity_revision: 1 })
  const answers = () => server.heard.filter(({ type }) => type === 'add_envelopes')
  const tell = (more) => server.push({ type: 'undecryptable', conversation: TALK, seq, user: BOB, device: BOB, reason: 'no_content_key', ...more })
  for (let count = 1; count <= 5; count++) {
    if (count === 3) {
      await client.bye()
      client = await start()
    }
    tell()
    while (answers().length < count) await new Promise((resolve) => setImmediate(resolve))
  }
  const [{ revision, envelopes }] = answers()
  assert.deepEqual([answers().every((each) => each.seq === seq), revision, envelopes], [true, 0, [[BOB, utf8('e')]]])
  const count = asked.length
  for (const more of [{}, { revision: 1 }, { seq: 2 }, { seq: 99 }, { device: OTHER }, { user: ME }]) tell(more)
  await client.request({ type: 'mark_read', marks: [[TALK, 1]] })
  assert.equal(answers().length, 5)
  assert.equal(asked.length, count, 'nothing was even encrypted')
  await client.bye()
  server.close()
})

test('messages of a conversation are encrypted one after the other, and another error gives the message back', options, async () => {
  const { server } = await world({ send: () => [{ type: 'error', code: 'not_a_participant', detail: 'because' }] })
  const { client, protocol } = await encrypted(server)
  await once(client, 'current')
  const refused = []
  client.on('refused', (draft, { code }) => refused.push([textOf(draft.plaintext), code]))
  await Promise.allSettled(['a', 'b', 'c'].map((text) => client.send(TALK, utf8(text))))
  assert.deepEqual(sends(server), ['1 for 2: a', '2 for 2: b', '3 for 2: c'])
  assert.deepEqual(refused, ['a', 'b', 'c'].map((text) => [text, 'not_a_participant']))
  assert.equal(protocol.count, 3)
  await client.bye()
  server.close()
})

test('keys are stored before they are uploaded, with growing numbers, and again when they run low', options, async () => {
  let pools = []
  const { server } = await world({ key_status: () => [{ type: 'keys', key_history: utf8('h'), pools }] })
  const { client, store } = await encrypted(server)
  const uploads = () => server.heard.filter(({ type }) => type === 'put_keys')
  while (uploads().length < 1) await new Promise((resolve) => setImmediate(resolve))
  const [first] = uploads()
  assert.deepEqual(first.one_time_keys.map(([, number]) => number), Array.from({ length: 50 }, (_, at) => at + 1))
  assert.deepEqual(first.last_resort_keys.map(([kind, number]) => [kind, number]), [['counting', 51]])
  assert.deepEqual([textOf(first.identity), textOf(first.key_history)], ['identity', 'h'])
  assert.equal(Object.fromEntries(await store.load())['crypto/made'], 51)
  const digest = async (number) => [number, await sha256(utf8(`key ${number}`))]
  const held = await digestOf(await Promise.all(Array.from({ length: 10 }, (_, at) => digest(41 + at))), (await digest(51))[1], 51)
  pools = [['counting', 10, 41, 50, held, 51, false]]
  server.push({ type: 'keys_low', kinds: ['counting'] })
  while (uploads().length < 2) await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(uploads()[1].one_time_keys.map(([, number]) => number), Array.from({ length: 40 }, (_, at) => at + 52))
  assert.deepEqual([uploads()[1].last_resort_keys, uploads()[1].is_anew], [undefined, undefined])
  pools = [['counting', 50, 41, 90, new Uint8Array(32), 51, false]]
  server.push({ type: 'keys_low', kinds: ['counting'] })
  while (uploads().length < 3) await new Promise((resolve) => setImmediate(resolve))
  const anew = uploads()[2]
  assert.deepEqual([anew.is_anew, anew.one_time_keys.length, anew.one_time_keys[0][1] > 91, anew.last_resort_keys.length], [true, 50, true, 1], 'the server holds others')
  await client.bye()
  server.close()
})

test('a server that lacks what the encryption needs gets no message', options, async () => {
  const { server } = await world()
  const { client, protocol } = await encrypted(server)
  protocol.features = ['pages', 'envelopes', 'control']
  await once(client, 'current')
  await assert.rejects(client.send(TALK, utf8('x')), /envelopes, control/)
  assert.deepEqual(sends(server), [])
  await client.bye()
  server.close()
})

test('a step of the encryption begins when the one before has ended, also if that has failed', async () => {
  const turns = new Turns()
  const order = []
  const step = (name, failure) => turns.take(async () => {
    order.push(`${name} begins`)
    await new Promise((resolve) => setImmediate(resolve))
    order.push(`${name} ends`)
    if (failure) throw failure
    return name
  })
  const [first, second, third] = [step('one'), step('two', new Error('no')), step('three')]
  assert.equal(await first, 'one')
  await assert.rejects(second, /no/)
  assert.equal(await third, 'three')
  assert.deepEqual(order, ['one begins', 'one ends', 'two begins', 'two ends', 'three begins', 'three ends'])
})

test('nothing is sent into a request by itself, which would accept it, and the group is tidied once the user has accepted', options, ({ mock }) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  const head = { is_request: true }
  const tidied = []
  const mailbox = { held: () => ({ state: { devicesVersion: 2, controlSeq: 1 } }), head: () => head }
  const client = { mailbox, isOnline: true, user: ME, tidy: async (talk) => tidied.push(talk), journal: { put() {} } }
  const groups = new Groups(client, { isInGroup: () => true })
  for (const count of [0, 1]) {
    groups.look(TALK, [BOB])
    mock.timers.tick(10_000)
    assert.equal(tidied.length, count)
    head.is_request = undefined
  }
})
