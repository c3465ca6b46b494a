// A client that resumes: its own message whose `sent` was lost, several pages of one sync, another history, a node that
// stops (SPEC 4.6, 6.2.1, 6.4, 13.4, 17.5).

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import { textOf, utf8 } from '../bytes.js'
import { encode } from '../codec.js'
import { MemoryStore } from '../stores/memory.js'
import { BOB, ME, TALK, device, message, serve, synced, told } from './local_server.js'

const options = { timeout: 10_000 }

test('a message whose sent was lost comes by its temp_id, once, and ends the send', options, async () => {
  let sent
  const server = await serve({
    sync: () => {
      if (!sent) return [synced('a')]
      return [{ ...told, last_seq: 1, last_message: message(1, { sender: ME, temp_id: sent.temp_id }) }, synced('b')]
    },
    send: (frame, socket) => {
      const isFirst = !sent
      sent = frame
      if (isFirst) socket.terminate()
      return []
    },
  })
  const client = await device(server)
  await once(client, 'current')
  const { seq, created } = await client.send(TALK, utf8('x'))
  assert.deepEqual([seq, created], [1, 1])
  assert.deepEqual(client.seen, [1])
  await client.bye()
  server.close()
})

test('a message that this device has sent is held with its device, like those of the others', options, async () => {
  const server = await serve({
    sync: () => [{ ...told, last_seq: 1, last_message: message(1, { device: BOB }) }, synced('a')],
    send: () => [{ type: 'sent', seq: 2, message: ME, created: 2 }],
  })
  const client = await device(server)
  await once(client, 'current')
  await client.send(TALK, utf8('x'))
  assert.deepEqual(client.mailbox.entries(TALK).map((each) => each.device), [BOB, client.device])
  assert.deepEqual(client.device, ME)
  await client.bye()
  server.close()
})

test('a sync asks for several pages, and keeps the cursor of each', options, async () => {
  const asked = []
  const page = { type: 'cursor', cursor: utf8('page'), more: true }
  const server = await serve({
    sync: ({ cursor, pages }, socket) => {
      asked.push([cursor && textOf(cursor), pages])
      if (asked.length > 1) return [message(2), synced('end')]
      // After the first page the connection is lost.
      setTimeout(() => socket.terminate(), 50)
      return [{ ...told, last_seq: 1, last_message: message(1) }, page]
    },
  })
  const client = await device(server)
  await once(client, 'current')
  assert.deepEqual(asked, [[undefined, 16], ['page', 16]])
  assert.deepEqual(client.seen, [1, 2])
  assert.equal(textOf(client.mailbox.cursor), 'end')
  await client.bye()
  server.close()
})

test('a client whose cursor is of another history drops the order of its messages, and keeps what it has decrypted', options, async () => {
  const store = new MemoryStore()
  const first = await serve({ sync: () => [{ ...told, last_seq: 1, last_message: message(1) }, synced('old')] })
  const before = await device(first, { store })
  await once(before, 'current')
  before.mailbox.plaintexts.keep(message(1), 'says')
  await before.bye()
  first.close()

  const moved = message(1, { seq: 2 })
  const foreign = { type: 'error', code: 'cursor_foreign', detail: 'because' }
  const server = await serve({
    sync: ({ cursor }) => (cursor ? [foreign] : [{ ...told, last_seq: 2, last_message: moved }, synced('new')]),
  })
  for (let starts = 0; starts < 2; starts++) {
    const client = await device(server, { store })
    if (!starts) await once(client, 'current')
    assert.deepEqual(client.mailbox.entries(TALK).map((each) => each.seq), [2])
    assert.equal(client.mailbox.plaintexts.of(moved), 'says')
    assert.equal(textOf(client.mailbox.cursor), 'new')
    await client.bye()
  }
  server.close()
})

test('a client that is to move connects again at the time given, then says bye on the old connection, and misses nothing', options, async () => {
  let syncs = 0
  const asked = []
  const server = await serve({
    bye: () => (syncs < 3 ? [] : [{ type: 'done' }]), // the old connection is open until the new one has caught up
    sync: ({ cursor }) => {
      syncs += 1
      if (syncs === 1) return [{ ...told, last_seq: 1, last_message: message(1) }, synced('a')]
      asked.push([textOf(cursor), textOf(client.mailbox.cursor)])
      return syncs === 2 ? [message(2), synced('page', true)] : [message(3), synced('c')]
    },
  })
  const client = await device(server)
  await once(client, 'current')
  const isBack = once(client, 'current')
  server.push({ type: 'move', retry_after_ms: 200 }, message(2), { type: 'cursor', cursor: utf8('b'), more: false })
  const began = performance.now()
  await once(client, 'online')
  assert.ok(performance.now() - began >= 195, 'not sooner')
  await isBack
  assert.deepEqual(client.seen, [1, 2, 3])
  assert.deepEqual(asked, [['b', 'b'], ['page', 'b']], 'the cursor of the old connection counts until the new one has caught up')
  assert.equal(textOf(client.mailbox.cursor), 'c')
  assert.deepEqual(server.heard.map(({ type }) => type).filter((type) => ['hello', 'bye'].includes(type)), ['hello', 'hello', 'bye'])
  await client.bye()
  server.close()
})

test('gaps up to the last message that exists are filled by history, in pages, and no mark passes a gap', options, async () => {
  const asked = []
  const server = await serve({
    sync: () => [{ ...told, last_seq: 5, last_message: message(2) }, synced('a')],
    history: ({ after, before }) => {
      asked.push([after, before])
      const messages = [message(after + 1)]
      return [{ type: 'messages', messages, more: after + 2 < before, first_seq: 1 }]
    },
  })
  const client = await device(server)
  while (!client.seen.includes(5)) await once(client, 'entry')
  assert.deepEqual(asked, [[2, 6], [3, 6], [4, 6]])
  assert.deepEqual(client.seen, [2, 3, 4, 5])
  await client.bye()
  const marks = server.heard.filter(({ type }) => type === 'mark_delivered').flatMap((frame) => frame.marks.map(([, seq]) => seq))
  assert.equal(marks.at(-1), 5)
  assert.deepEqual(marks, marks.toSorted((one, other) => one - other))
  server.close()
})

test('a server that sends bytes that are no frames loses the connection, and the client comes again', options, async () => {
  let syncs = 0
  const server = await serve({ sync: (_, socket) => (syncs++ ? [synced('a')] : (socket.send(new Uint8Array([0xff])), [])) })
  const client = await device(server)
  await once(client, 'offline')
  await once(client, 'current')
  await client.bye()
  server.close()
})

// A server with the feature `resume`, and a client with a stored cursor, `a`, that starts again. Returns both, and the times
// that the client was up to date.
async function resumed(answers) {
  const store = new MemoryStore()
  const server = await serve({ sync: () => [{ ...told, last_seq: 1, last_message: message(1) }, synced('a')], ...answers }, ['resume'])
  const first = await device(server, { store })
  await once(first, 'current')
  await first.bye()
  const client = await device(server, { store })
  return { server, client }
}

const asked = ({ heard }) => heard.filter(({ type }) => ['hello', 'sync'].includes(type))
  .map(({ type, cursor, pages }) => [type, cursor && textOf(cursor), pages])
const cursor = (text, more) => ({ type: 'cursor', cursor: utf8(text), more })
const welcomed = (frame) => ({ type: 'welcome', user: ME, device: ME, version: 1, created: 1, expires: 7_776_000_000_000, keep_alive_ms: 30_000, features: ['pages', 'resume'], request: frame.request })

test('a client that comes back gives its cursor in hello, and takes the pages that follow without a sync', options, async () => {
  const { server, client } = await resumed({
    // All of it leaves the server at once, as a gateway sends it.
    hello: (frame, socket) => {
      if (!frame.cursor) return [welcomed(frame)]
      socket.send(encode(welcomed(frame), message(2), cursor('b', true), message(3), cursor('c', false)))
      return []
    },
  })
  await once(client, 'current')
  assert.deepEqual(asked(server), [['hello', undefined, undefined], ['sync', undefined, 16], ['hello', 'a', 16]])
  assert.deepEqual(client.seen, [2, 3])
  assert.equal(textOf(client.mailbox.cursor), 'c')
  await client.bye()
  server.close()
})

test('a client whose cursor in hello is answered by lag syncs, as one does whose connection is lost between two pages', options, async () => {
  let times = 0
  const { server, client } = await resumed({
    hello: (frame, socket) => {
      if (!frame.cursor) return [welcomed(frame)]
      if (++times === 1) {
        socket.send(encode(welcomed(frame), message(2), cursor('b', true)))
        setTimeout(() => socket.terminate(), 50)
      } else socket.send(encode(welcomed(frame), { type: 'lag' }))
      return []
    },
    sync: (frame) => (frame.cursor ? [message(3), synced('c')] : [{ ...told, last_seq: 1, last_message: message(1) }, synced('a')]),
  })
  await once(client, 'current')
  assert.deepEqual(asked(server).slice(2), [['hello', 'a', 16], ['hello', 'b', 16], ['sync', 'b', 16]])
  assert.deepEqual(client.seen, [2, 3])
  await client.bye()
  server.close()
})
