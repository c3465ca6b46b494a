// A client's name in hello, and its use of the welcome, against a server of a few lines.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import { WebSocketServer } from 'ws'
import { Client } from '../client.js'
import { decode, encode } from '../codec.js'

const options = { timeout: 10_000 }
const ID = Buffer.alloc(16)

// A server that welcomes with these fields; `heard` is every frame that came.
async function serve(fields, heard) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'alo.v1' })
  await once(server, 'listening')
  const now = { created: 1, user: ID, device: ID, expires: 90 * 86_400_000_000, keep_alive_ms: 30_000 }
  server.on('connection', (socket) => {
    socket.on('message', (data) => {
      for (const frame of decode(data)) {
        heard.push(frame)
        const { request } = frame
        if (frame.type === 'hello') socket.send(encode({ type: 'welcome', request, ...now, ...fields }))
        if (frame.type === 'sync') socket.send(encode({ type: 'synced', request, cursor: Buffer.from('c'), more: false }))
        if (frame.type === 'bye') {
          socket.send(encode({ type: 'done', request }))
          socket.close(1000)
        }
      }
    })
  })
  return server
}

test('the client gives its name, and knows the features and limits of the server', options, async () => {
  const heard = []
  const server = await serve({ version: 1, features: ['edit'], limits: [['content_bytes', 9]] }, heard)
  const client = new Client([`ws://127.0.0.1:${server.address().port}`], 'token')
  client.connect()
  await once(client, 'current')
  assert.deepEqual([heard[0].type, heard[0].version, heard[0].client], ['hello', 1, 'alo-js/0.1.0'])
  assert.deepEqual([...client.features], ['edit'])
  assert.equal(client.limits.get('content_bytes'), 9)
  await client.bye()
  server.close()
})

test('a client that cannot speak the version of the welcome says bye and does not come again', options, async () => {
  const heard = []
  const server = await serve({ version: 0 }, heard)
  const client = new Client([`ws://127.0.0.1:${server.address().port}`], 'token')
  client.connect()
  const [code] = await once(client, 'end')
  assert.equal(code, 4503)
  server.close()
  await once(server, 'close')
  assert.deepEqual(heard.map((frame) => frame.type), ['hello', 'bye'])
})
