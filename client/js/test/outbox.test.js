// Messages that this device sends: stored before they are sent, sent again with the same bytes, and never twice (SPEC 4.2, 4.3,
// 17.5, 20.6).

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import { textOf, utf8 } from '../bytes.js'
import { RequestRefused } from '../client.js'
import { encode } from '../codec.js'
import { MemoryStore } from '../stores/memory.js'
import { ME, TALK, device, message, serve, synced, told } from './local_server.js'

const options = { timeout: 10_000 }
const sync = () => [{ ...told, last_seq: 1, last_message: message(1) }, synced('a')]
const refusal = (code, more) => ({ type: 'error', code, detail: 'because', ...more })
const bodies = (server) => server.heard.filter(({ type }) => type === 'send').map(({ request, ...frame }) => frame)

test('a message is in the store before it is on the wire, and a new start of the program sends the same bytes', options, async () => {
  const store = new MemoryStore()
  const stored = []
  const isSlow = (changes) => [...changes.keys()].some((key) => key.startsWith('outgoing/'))
  const watched = {
    load: () => store.load(),
    commit: async (changes) => {
      if (isSlow(changes)) await once(deaf.sockets[0], 'message') // a mark, or whatever comes meanwhile
      await store.commit(changes)
      stored.push(...changes.keys())
    },
  }
  const deaf = await serve({ sync, send: () => (assert.ok(stored.some((key) => key.startsWith('outgoing/'))), []) })
  const client = await device(deaf, { store: watched })
  await once(client, 'current')
  for (const text of ['one', 'two']) client.send(TALK, utf8(text), { replyTo: 1 }).catch(() => {})
  client.request({ type: 'ping' }).catch(() => {})
  while (bodies(deaf).length < 2) await new Promise((resolve) => setImmediate(resolve))
  await client.bye()
  deaf.close()

  let seq = 1
  const server = await serve({ sync, send: () => [{ type: 'sent', seq: ++seq, message: new Uint8Array(16).fill(seq), created: seq }] })
  const again = await device(server, { store })
  assert.deepEqual(again.drafts.map(({ plaintext }) => textOf(plaintext)), ['one', 'two'])
  while (again.drafts.length) await once(again, 'entry')
  assert.deepEqual(bodies(server), bodies(deaf))
  assert.deepEqual(again.mailbox.entries(TALK).map(({ content }) => textOf(content)), ['says 1', 'one', 'two'])
  await again.bye()
  server.close()

  const silent = await serve({ sync: () => [synced('b')] })
  const last = await device(silent, { store })
  await once(last, 'current')
  assert.deepEqual([last.drafts, last.mailbox.entries(TALK).length], [[], 3])
  await last.bye()
  silent.close()
})

test('a refusal that may be retried is, with the same bytes and not before its time; another one is told', options, async () => {
  const answers = [[refusal('overloaded', { retry_after_ms: 120 })], [{ type: 'sent', seq: 2, message: ME, created: 2 }], [refusal('temp_id_conflict')]]
  const at = []
  const server = await serve({ sync, send: () => (at.push(performance.now()), answers.shift()) })
  const client = await device(server)
  await once(client, 'current')
  assert.equal((await client.send(TALK, utf8('x'))).seq, 2)
  assert.ok(at[1] - at[0] >= 115)
  const [first, second] = bodies(server)
  assert.deepEqual(first, second)
  const refused = once(client, 'refused')
  await assert.rejects(client.send(TALK, utf8('y')), (error) => error instanceof RequestRefused && error.code === 'temp_id_conflict')
  const [draft, error] = await refused
  assert.deepEqual([textOf(draft.plaintext), error.code, client.drafts], ['y', 'temp_id_conflict', []])
  await client.bye()
  server.close()
})

test('after a lost connection nothing is sent before the client has caught up, and then in the order of writing', options, async () => {
  let syncs = 0
  const order = []
  const server = await serve({
    sync: ({ request }, socket) => {
      syncs += 1
      if (syncs === 1) return sync()
      setTimeout(() => {
        order.push('synced')
        socket.send(encode({ ...synced('b'), request }))
      }, 100)
      return []
    },
    send: ({ content }, socket) => {
      order.push(textOf(content))
      if (syncs === 1) socket.terminate()
      return syncs === 1 ? [] : [{ type: 'sent', seq: order.length, message: new Uint8Array(16).fill(order.length), created: 2 }]
    },
  })
  const client = await device(server)
  await once(client, 'current')
  const sends = [client.send(TALK, utf8('one'))]
  await once(client, 'online')
  sends.push(client.send(TALK, utf8('two')))
  await Promise.all(sends)
  assert.deepEqual(order, ['one', 'synced', 'one', 'two'])
  await client.bye()
  server.close()
})

test('a store that fails ends the client, and what it could not keep is not sent', options, async () => {
  const server = await serve({ sync })
  const store = new MemoryStore()
  let isFull = false
  const client = await device(server, { store: { load: () => store.load(), commit: (changes) => (isFull ? Promise.reject(new Error('full')) : store.commit(changes)) } })
  await once(client, 'current')
  isFull = true
  const failed = once(client, 'failed')
  client.send(TALK, utf8('x')).catch(() => {})
  await failed
  assert.equal(client.isOver, true)
  assert.deepEqual(bodies(server), [])
  server.close()
})

test('temp ids are UUIDs of version 7 by the server\'s clock, each its own', options, async () => {
  const server = await serve({ sync })
  const client = await device(server)
  await once(client, 'current')
  const ids = Array.from({ length: 100 }, () => client.newTempId())
  for (const id of ids) {
    assert.deepEqual([id[6] >> 4, id[8] >> 6], [7, 2])
    assert.ok(new DataView(id.buffer).getUint32(0) * 65536 < 60_000, 'the server of this test lives in 1970')
  }
  assert.equal(new Set(ids.map(String)).size, ids.length)
  await client.bye()
  server.close()
})

test('a message is not sent before it is stored, whatever is acknowledged meanwhile', options, async () => {
  let seq = 1
  const server = await serve({ sync, send: () => [{ type: 'sent', seq: ++seq, message: new Uint8Array(16).fill(seq), created: seq }] })
  const store = new MemoryStore()
  let isBlocked = false
  let unblock
  const blocked = new Promise((resolve) => { unblock = resolve })
  const slow = { load: () => store.load(), commit: async (changes) => { if (isBlocked) await blocked; await store.commit(changes) } }
  const client = await device(server, { store: slow })
  await once(client, 'current')
  const first = client.send(TALK, utf8('first'))
  await new Promise((resolve) => setImmediate(resolve))
  isBlocked = true
  const second = client.send(TALK, utf8('second'))
  await once(client, 'entry') // the first is acknowledged
  await client.request({ type: 'mark_read', marks: [[TALK, 1]] }) // the server has had all that was sent before
  assert.deepEqual(bodies(server).map(({ content }) => textOf(content)), ['first'])
  isBlocked = false
  unblock()
  await Promise.all([first, second])
  assert.deepEqual(bodies(server).map(({ content }) => textOf(content)), ['first', 'second'])
  await client.bye()
  server.close()
})
