// A client that resumes: its own message whose `sent` was lost, and several pages of one sync (SPEC 4.6, 6.2.1).

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import { WebSocketServer } from 'ws'
import { Client } from '../client.js'
import { decode, encode } from '../codec.js'
import { Mailbox } from '../mailbox.js'

const options = { timeout: 10_000 }
const ME = Buffer.alloc(16, 1)
const TALK = Buffer.alloc(16, 2)

// A server with an answer for each type of request, and none for other types.
async function serve(answers) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'alo.v1' })
  await once(server, 'listening')
  const welcome = { type: 'welcome', user: ME, device: ME, version: 1, created: 1, expires: 7_776_000_000_000, keep_alive_ms: 30_000 }
  const always = { hello: () => [{ ...welcome, features: ['pages', 'temp_id'] }], bye: () => [{ type: 'done' }] }
  server.on('connection', (socket) => {
    socket.on('message', (data) => {
      for (const frame of decode(data)) {
        for (const answer of (answers[frame.type] ?? always[frame.type] ?? (() => []))(frame, socket)) {
          const isPush = ['message', 'conversation', 'cursor'].includes(answer.type)
          socket.send(encode(isPush ? answer : { ...answer, request: frame.request }))
        }
        if (frame.type === 'bye') socket.close(1000)
      }
    })
  })
  return server
}

function device(server, mailbox) {
  const client = new Client([`ws://127.0.0.1:${server.address().port}`], 'token', mailbox)
  client.seen = []
  client.on('entry', (entry) => client.seen.push(entry.seq))
  client.connect()
  return client
}

const told = { type: 'conversation', conversation: TALK, kind: 'group', name: 'G', first_seq: 1, participants_version: 1 }
const said = { type: 'message', conversation: TALK, message: ME, sender: ME, content_type: 'text', content: ME }
const message = (seq, more) => ({ ...said, seq, created: seq, ...more })
const synced = (cursor, more = false) => ({ type: 'synced', cursor: Buffer.from(cursor), more })

test('a message whose sent was lost comes by its temp_id, once, and ends the send', options, async () => {
  let sent
  const server = await serve({
    sync: () => {
      if (!sent) return [synced('a')]
      return [{ ...told, last_seq: 1, last_message: message(1, { temp_id: sent.temp_id }) }, synced('b')]
    },
    send: (frame, socket) => {
      const isFirst = !sent
      sent = frame
      if (isFirst) socket.terminate()
      return []
    },
  })
  const client = device(server)
  await once(client, 'current')
  const { seq, created } = await client.send(TALK, Buffer.from('x'))
  assert.deepEqual([seq, created], [1, 1])
  assert.deepEqual(client.seen, [1])
  await client.bye()
  server.close()
})

test('a message that this device has sent is held with its device, like those of the others', options, async () => {
  const other = Buffer.alloc(16, 3)
  const server = await serve({
    sync: () => [{ ...told, last_seq: 1, last_message: message(1, { device: other }) }, synced('a')],
    send: () => [{ type: 'sent', seq: 2, message: ME, created: 2 }],
  })
  const client = device(server)
  await once(client, 'current')
  await client.send(TALK, Buffer.from('x'))
  assert.deepEqual(client.mailbox.entries(TALK).map((each) => each.device), [other, client.device])
  assert.deepEqual(client.device, ME)
  await client.bye()
  server.close()
})

test('a sync asks for several pages, and keeps the cursor of each', options, async () => {
  const asked = []
  const page = { type: 'cursor', cursor: Buffer.from('page'), more: true }
  const server = await serve({
    sync: ({ cursor, pages }, socket) => {
      asked.push([cursor?.toString(), pages])
      if (asked.length > 1) return [message(2), synced('end')]
      // After the first page the connection is lost.
      setTimeout(() => socket.terminate(), 50)
      return [{ ...told, last_seq: 1, last_message: message(1) }, page]
    },
  })
  const client = device(server)
  await once(client, 'current')
  assert.deepEqual(asked, [[undefined, 16], ['page', 16]])
  assert.deepEqual(client.seen, [1, 2])
  assert.equal(client.mailbox.cursor.toString(), 'end')
  await client.bye()
  server.close()
})

test('a client whose cursor is of another history drops the order of its messages, and keeps what it has decrypted', options, async () => {
  const moved = message(2)
  const foreign = { type: 'error', code: 'cursor_foreign', detail: 'because' }
  const server = await serve({
    sync: ({ cursor }) => (cursor ? [foreign] : [{ ...told, last_seq: 2, last_message: moved }, synced('new')]),
  })
  const mailbox = new Mailbox()
  mailbox.apply({ ...told, last_seq: 1, last_message: message(1) })
  mailbox.plaintexts.keep(message(1), 'says')
  mailbox.cursor = Buffer.from('old')
  const client = device(server, mailbox)
  await once(client, 'current')
  assert.deepEqual(mailbox.entries(TALK).map((each) => each.seq), [2])
  assert.equal(mailbox.plaintexts.of(moved), 'says')
  assert.equal(mailbox.cursor.toString(), 'new')
  await client.bye()
  server.close()
})
