// A client's name in hello, and its use of the welcome, against a server of a few lines.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import { BOB, ME, TALK, device, message, serve, synced, told } from './local_server.js'

const options = { timeout: 10_000 }
const welcome = { type: 'welcome', user: ME, device: ME, version: 1, created: 1, expires: 7_776_000_000_000, keep_alive_ms: 30_000 }
const sync = () => [synced('a')]

test('the client gives its name, and knows the features and limits of the server', options, async () => {
  const server = await serve({ sync, hello: () => [{ ...welcome, features: ['edit'], limits: [['content_bytes', 9]] }] })
  const client = await device(server)
  await once(client, 'current')
  const [{ type, version, client: name }] = server.heard
  assert.deepEqual([type, version, name], ['hello', 1, 'alo-js/0.1.0'])
  assert.deepEqual([...client.features], ['edit'])
  assert.equal(client.limits.get('content_bytes'), 9)
  await client.bye()
  server.close()
})

test('a client that cannot speak the version of the welcome says bye and does not come again', options, async () => {
  const server = await serve({ sync, hello: () => [{ ...welcome, version: 0 }] })
  const client = await device(server)
  const [code] = await once(client, 'end')
  assert.equal(code, 4503)
  await once(server.sockets[0], 'close')
  assert.deepEqual(server.heard.map(({ type }) => type), ['hello', 'bye'])
  server.close()
})

test('a token of another device than that of the store ends the client before it mixes their messages', options, async () => {
  const server = await serve({ sync, hello: () => [{ ...welcome, device: BOB }] })
  const { MemoryStore } = await import('../stores/memory.js')
  const client = await device(server, { store: new MemoryStore() })
  assert.equal((await once(client, 'end'))[0], 4501)
  server.close()
})

test('a silent server is pinged, and given up after two periods without a byte (10.4)', options, async () => {
  let hellos = 0
  const server = await serve({ sync, hello: () => (hellos++, [{ ...welcome, keep_alive_ms: 100 }]) })
  const client = await device(server)
  const [code] = await once(client, 'offline')
  assert.equal(code, 0)
  assert.ok(server.heard.some(({ type }) => type === 'ping'))
  await once(client, 'current')
  assert.equal(hellos, 2)
  await client.bye()
  server.close()
})

test('a value that a field may not have ends the connection by name, and harms nothing that is held', options, async () => {
  const server = await serve({ sync: ({ cursor }) => [...(cursor ? [message(2)] : [{ ...told, participants: [], last_seq: 1, last_message: message(1) }]), synced('a')] })
  const client = await device(server)
  await once(client, 'current')
  const isLost = once(client, 'offline')
  server.push(message(2), { ...message(3), seq: 'three' })
  const [, reason] = await isLost
  assert.match(reason, /field seq/)
  assert.deepEqual(client.mailbox.entries(TALK).map(({ seq }) => seq), [1])
  await once(client, 'current')
  assert.deepEqual(client.mailbox.entries(TALK).map(({ seq }) => seq), [1, 2])
  await client.bye()
  server.close()
})
