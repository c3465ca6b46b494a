// Files between two clients, through a real server and its object store: `make js` starts them, and gives their addresses
// in the environment.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import test, { after, before } from 'node:test'
import WebSocket, { WebSocketServer } from 'ws'
import { equal, unhex, utf8 } from '../bytes.js'
import { Client, ConnectionLost } from '../client.js'
import { decode, encode } from '../codec.js'
import { AttachmentGone, digestsOf, Files, PART_BYTES, WrongDigest } from '../files.js'

const { ALO_HTTP_URL, ALO_SOCKET_URLS } = process.env
const NODE = ALO_SOCKET_URLS.split(',')[1] // another file of tests kills the first one
const PASSWORD = 'correct horse battery staple'
const SIZE = 40_000_000 // five parts, the last one shorter
const INTERRUPTIONS = 3
const options = { timeout: 60_000 }
const long = { timeout: 240_000 }
const people = {}
let talk

async function ask(method, path, body, token) {
  const headers = { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) }
  const response = await fetch(ALO_HTTP_URL + path, { method, headers, body: body && JSON.stringify(body) })
  const answer = await response.text()
  assert.ok(response.ok, answer)
  return answer && JSON.parse(answer)
}

async function connected(client) {
  client.connect()
  await once(client, 'current')
  return client
}

before(async () => {
  for (const username of ['carol', 'dave']) {
    await ask('POST', '/v1/users', { username, password: PASSWORD })
    const login = await ask('POST', '/v1/devices', { username, password: PASSWORD, name: 'test' })
    const client = await connected(new Client([NODE], login.token, { WebSocket, came: Date.now() }))
    people[username] = { ...login, client }
  }
  const group = { kind: 'group', name: 'files', participants: [people.dave.user] }
  talk = (await ask('POST', '/v1/conversations', group, people.carol.token)).conversation
})

after(async () => {
  await Promise.all(Object.values(people).map(({ client }) => client.bye()))
})

// A fetch that counts the successes, and breaks off once there are `most` of them. Uploads are parallel: the others wait
// for that, so that no more of them are stored.
function limited(most) {
  const breaker = new AbortController()
  const broken = new Promise((_, reject) => {
    breaker.signal.addEventListener('abort', () => reject(breaker.signal.reason))
  })
  broken.catch(() => {})
  let uploads = 0
  const limitedFetch = async (url, init) => {
    if (limitedFetch.count >= most) breaker.abort()
    if (init.method === 'PUT' && ++uploads > most) await broken
    const answer = await fetch(url, { ...init, signal: breaker.signal })
    if (answer.ok) limitedFetch.count++
    if (init.method === 'PUT' && limitedFetch.count >= most) breaker.abort()
    return answer
  }
  return Object.assign(limitedFetch, { count: 0 })
}

// Keeps what a download writes, as a program's file would.
function sink() {
  const chunks = new Map()
  return {
    digests: [],
    write(bytes, offset) { chunks.set(offset, bytes) },
    bytes: () => Buffer.concat([...chunks.keys()].sort((one, other) => one - other).map((offset) => chunks.get(offset))),
  }
}

async function upload(client, outgoing) {
  const files = new Files(client)
  const [opened] = await files.declare([outgoing])
  await files.finish(opened, outgoing)
  return opened
}

// `make js` has one of five parts; with ALO_LONG it also has one of 300 MB, which takes a minute.
for (const size of process.env.ALO_LONG ? [SIZE, 300_000_000] : [SIZE]) {
  test(`a file of ${size} bytes whose upload and download are interrupted three times each arrives`, long, async () => {
    const { carol, dave } = people
    const outgoing = { blob: new Blob([randomBytes(size)]) }
    const parts = Math.ceil(size / PART_BYTES)
    const [opened] = await new Files(carol.client).declare([outgoing])
    let stored = 0
    for (let n = 0; n < INTERRUPTIONS; n++) {
      const broken = limited(1)
      await assert.rejects(new Files(carol.client, broken).finish(opened, outgoing), { name: 'AbortError' })
      stored += broken.count
    }
    const told = []
    const rest = limited(Infinity)
    await new Files(carol.client, rest).finish(opened, outgoing, (done, total) => told.push([done, total]))
    assert.ok(rest.count <= parts - stored, `${stored} of ${parts} parts were stored, and ${rest.count} came again`)
    assert.deepEqual(told.map(([done]) => done), told.map(([done]) => done).sort((one, other) => one - other))
    assert.deepEqual(told.at(-1), [size, size])

    const arrives = once(dave.client, 'entry')
    await carol.client.send(unhex(talk), utf8('noise.bin'), { attachments: [opened.attachment] })
    const [{ attachments }] = await arrives
    assert.deepEqual(attachments, [opened.attachment])

    const saved = sink()
    for (let n = 1; n <= INTERRUPTIONS; n++) {
      const cut = new Files(dave.client, limited(1))
      await assert.rejects(cut.download(attachments[0], saved), { name: 'AbortError' })
      assert.equal(saved.digests.length, n)
    }
    const [heard, last] = [[], limited(Infinity)]
    const ticket = await new Files(dave.client, last).download(attachments[0], saved, (...progress) => heard.push(progress))
    assert.equal(last.count, parts - INTERRUPTIONS, 'the parts that are there do not come again')
    assert.deepEqual(heard.at(0), [(INTERRUPTIONS + 1) * PART_BYTES, size])
    assert.deepEqual(heard.at(-1), [size, size])
    assert.equal(ticket.size_bytes, size)
    assert.ok(saved.bytes().equals(Buffer.from(await outgoing.blob.arrayBuffer())))
  })
}

test('a file may have a thumbnail, which comes by its own id', options, async () => {
  const { carol, dave } = people
  const outgoing = { blob: new Blob(['a picture']), thumbnail: new Blob(['small']) }
  const opened = await upload(carol.client, outgoing)
  await carol.client.send(unhex(talk), utf8('a.jpg'), { attachments: [opened.attachment] })
  for (const [id, text] of [[opened.attachment, 'a picture'], [opened.thumbnail, 'small']]) {
    const saved = sink()
    await new Files(dave.client).download(id, saved)
    assert.equal(saved.bytes().toString(), text)
  }
})

test('bytes that are not those of the file are thrown away, and the next call fetches them anew', options, async () => {
  const { carol, dave } = people
  const { attachment } = await upload(carol.client, { blob: new Blob(['the truth']) })
  await carol.client.send(unhex(talk), utf8('b'), { attachments: [attachment] })
  const saved = sink()
  const lying = async () => new Response('the fraud', { status: 206 })
  await assert.rejects(new Files(dave.client, lying).download(attachment, saved), WrongDigest)
  await new Files(dave.client).download(attachment, saved)
  assert.equal(saved.bytes().toString(), 'the truth')
})

test('a range that was not asked for is refused, and leaves what has come', options, async () => {
  const { carol, dave } = people
  const outgoing = { blob: new Blob([randomBytes(PART_BYTES + 5)]) }
  const { attachment } = await upload(carol.client, outgoing)
  await carol.client.send(unhex(talk), utf8('r'), { attachments: [attachment] })
  const saved = sink()
  await assert.rejects(new Files(dave.client, limited(1)).download(attachment, saved), { name: 'AbortError' })
  const lying = async () => new Response('01234', {
    status: 206, headers: { 'content-range': `bytes 0-4/${PART_BYTES + 5}` },
  })
  await assert.rejects(new Files(dave.client, lying).download(attachment, saved), /another range/)
  assert.equal(saved.digests.length, 1)
  await new Files(dave.client).download(attachment, saved)
  assert.ok(saved.bytes().equals(Buffer.from(await outgoing.blob.arrayBuffer())))
})

test('a request that has expired is signed again, and a server that is busy is asked again', options, async () => {
  const { carol } = people
  const statuses = [403, 503, 429]
  const moody = async (url, init) => (statuses.length ? new Response(null, { status: statuses.shift() }) : fetch(url, init))
  const outgoing = { blob: new Blob(['patience']) }
  const files = new Files(carol.client, moody)
  const [opened] = await files.declare([outgoing])
  await files.finish(opened, outgoing)
  assert.deepEqual(statuses, [])
})

test('a file that somebody else has not attached, or a participant who was removed, gets no ticket', options, async () => {
  const { carol, dave } = people
  const { attachment } = await upload(carol.client, { blob: new Blob(['for the two of us']) })
  await assert.rejects(new Files(dave.client).download(attachment, sink()), AttachmentGone)
  await carol.client.send(unhex(talk), utf8('c'), { attachments: [attachment] })
  await new Files(dave.client).download(attachment, sink())
  await ask('DELETE', `/v1/conversations/${talk}/participants/${dave.user}`, undefined, carol.token)
  await assert.rejects(new Files(dave.client).download(attachment, sink()), AttachmentGone)
})

test('the digests of a file are those of its parts', async () => {
  const digests = await digestsOf(new Blob([new Uint8Array(PART_BYTES + 1)]))
  assert.equal(digests.length, 2)
  assert.ok(equal((await digestsOf(new Blob(['\0'])))[0], digests[1]))
})

test('a transfer ends with a client that ends for good', options, async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'alo.v1' })
  await once(server, 'listening')
  const welcome = { type: 'welcome', version: 1, created: 1, user: new Uint8Array(16), device: new Uint8Array(16) }
  const answers = {
    hello: { ...welcome, expires: 90 * 86_400_000_000, keep_alive_ms: 30_000 },
    sync: { type: 'synced', cursor: utf8('c'), more: false },
  }
  server.on('connection', (socket) => socket.on('message', (data) => {
    for (const { type, request } of decode(data)) {
      if (type === 'upload') socket.close(4501)
      else socket.send(encode({ ...answers[type], request }))
    }
  }))
  const client = await connected(new Client([`ws://127.0.0.1:${server.address().port}`], 'token', { WebSocket }))
  const files = new Files(client)
  const outgoing = [{ blob: new Blob(['x']) }]
  await assert.rejects(files.declare(outgoing), ConnectionLost)
  await assert.rejects(files.declare(outgoing), ConnectionLost)
  server.close()
})
