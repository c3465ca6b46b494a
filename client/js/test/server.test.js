// The client against a real server: `make js` starts one with two gateways, and gives its addresses in the environment.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test, { after, before } from 'node:test'
import WebSocket from 'ws'
import { hex, textOf, unhex, utf8 } from '../bytes.js'
import { Client, RequestRefused } from '../client.js'
import { MemoryStore } from '../stores/memory.js'

const { ALO_HTTP_URL, ALO_SOCKET_URLS, ALO_GATEWAY_PIDS } = process.env
const [first, second] = ALO_SOCKET_URLS.split(',')
const PASSWORD = 'correct horse battery staple'
const clients = []
const people = {}
let talk

async function ask(method, path, body, token) {
  const headers = { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) }
  const response = await fetch(ALO_HTTP_URL + path, { method, headers, body: body && JSON.stringify(body) })
  const answer = await response.json()
  assert.ok(response.ok, JSON.stringify(answer))
  return answer
}

async function logIn(username, name) {
  const { user, device, token } = await ask('POST', '/v1/devices', { username, password: PASSWORD, name })
  return { user: unhex(user), device: unhex(device), token, came: Date.now(), id: user }
}

// A device that is connected and current; `seen` has each entry that it got, once.
async function device(login, urls, store = new MemoryStore()) {
  const client = await Client.open(urls, { login, store, WebSocket })
  client.seen = []
  client.on('entry', (entry) => client.seen.push(entry))
  clients.push(client)
  client.connect()
  await once(client, 'current')
  return client
}

// Waits until a condition holds; the test's own deadline ends it.
async function until(client, holds) {
  while (!holds()) await once(client, 'entry')
}

function texts(client) {
  return client.mailbox.entries(talk).map((entry) => (entry.content ? textOf(entry.content) : entry.type))
}

before(async () => {
  for (const name of ['alice', 'bob']) {
    await ask('POST', '/v1/users', { username: name, password: PASSWORD })
    people[name] = await logIn(name, 'test')
  }
  const body = { kind: 'direct', participants: [people.bob.id] }
  talk = unhex((await ask('POST', '/v1/conversations', body, people.alice.token)).conversation)
})

after(async () => {
  await Promise.all(clients.map((client) => client.bye()))
})

const options = { timeout: 30_000 }

test('hello, send, receive, edit, delete; then resume on another node after the first was killed', options, async () => {
  const alice = await device(people.alice, [second])
  const bob = await device(people.bob, [first, second])
  assert.equal(hex(alice.user), hex(people.alice.user))

  const sent = await alice.send(talk, utf8('one'))
  assert.equal(sent.seq, 1)
  await until(bob, () => bob.seen.length === 1)
  const [received] = bob.seen
  assert.deepEqual([received.message, received.created], [sent.message, sent.created])
  assert.equal(received.content_type, 'text/plain')

  const again = { tempId: new Uint8Array(16).fill(7) }
  const [once_, twice] = await Promise.all([1, 2].map(() => alice.send(talk, utf8('two'), again)))
  assert.deepEqual([once_.seq, once_.message], [twice.seq, twice.message])

  const content = utf8('uno')
  const edit = { type: 'edit', conversation: talk, seq: 1, content_type: 'text/plain', content, revision: 0 }
  assert.equal((await alice.request(edit)).revision, 1)
  await alice.request({ type: 'delete', conversation: talk, seq: 2, for_everyone: true })
  await until(bob, () => texts(bob).join() === 'uno,tombstone')
  await assert.rejects(bob.request({ ...edit, revision: 1 }), (error) => {
    return error instanceof RequestRefused && error.code === 'not_the_sender' && error.retry_after_ms === undefined
  })

  const seenBefore = bob.seen.length
  process.kill(Number(ALO_GATEWAY_PIDS.split(',')[0]), 'SIGKILL')
  const many = Array.from({ length: 50 }, (_, n) => `while away ${n}`)
  await Promise.all(many.map((text) => alice.send(talk, utf8(text))))
  await until(bob, () => texts(bob).length === 52)
  assert.deepEqual(texts(bob).slice(2), many)
  assert.deepEqual(bob.seen.slice(seenBefore).map((entry) => entry.seq).sort((one, other) => one - other), many.map((_, n) => n + 3))
  assert.deepEqual(texts(alice).slice(2), many)

  await bob.send(talk, utf8('back again'))
  await until(alice, () => texts(alice).at(-1) === 'back again')
})

test('a device that held something gets the rest, and one that held nothing the last message and history', options, async () => {
  const alice = clients[0]
  const kept = new MemoryStore()
  const tabletLogin = await logIn('bob', 'tablet')
  const tablet = await device(tabletLogin, [second], kept)
  assert.deepEqual(texts(tablet), ['back again'])
  const page = await tablet.request({ type: 'history', conversation: talk, count: 2, before: 3 })
  assert.deepEqual(page.messages.map((entry) => entry.type), ['tombstone', 'message'])
  const list = await tablet.request({ type: 'list' })
  assert.equal(list.conversations.length, 1)
  await tablet.bye()

  await alice.send(talk, utf8('missed'))
  const resumed = await device({ ...tabletLogin, token: undefined }, [second], kept)
  assert.deepEqual(texts(resumed), ['back again', 'missed'])
  assert.deepEqual(resumed.seen.map((entry) => textOf(entry.content)), ['missed'])
})

test('an unknown token ends for good', options, async () => {
  const nobody = new Client([second], 'x'.repeat(43), { WebSocket })
  nobody.connect()
  const [code, reason] = await once(nobody, 'end')
  assert.equal(code, 4501)
  assert.ok(reason)
})
