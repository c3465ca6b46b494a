// Tabs that share a device, in one process: Node has their channel, and the locks are a queue here.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import WebSocket from 'ws'
import { utf8 } from '../bytes.js'
import { Client } from '../client.js'
import { MemoryStore } from '../stores/memory.js'
import { Tabs } from '../tabs.js'
import { ME, TALK, serve, synced, told } from './local_server.js'

let last = Promise.resolve()
const locks = { request: (_, act) => (last = last.then(act)) }
Object.defineProperty(globalThis, 'navigator', { value: { locks }, configurable: true })

test('each tab gives its messages ids by the server\'s clock', { timeout: 10_000 }, async () => {
  let seq = 0
  const server = await serve({
    sync: () => [told, synced('a')],
    send: () => [{ type: 'sent', seq: ++seq, message: new Uint8Array(16).fill(seq), created: seq }],
  })
  const store = new MemoryStore()
  const login = { user: ME, device: ME, token: 'token', came: 0 }
  const open = (held) => Client.open([server.url], { store: held, login, WebSocket })
  const first = new Tabs('ids', store, open)
  const second = new Tabs('ids', store, open)
  await once(first, 'current')
  for (const tab of [first, second]) await tab.send(TALK, utf8('hello'))
  assert.deepEqual([first.isLeading, second.isLeading], [true, false])
  const ids = server.heard.filter(({ type }) => type === 'send').map((frame) => frame.temp_id)
  assert.deepEqual(ids.map((id) => [id[6] >> 4, id[8] >> 6]), [[7, 2], [7, 2]])
  for (const id of ids) assert.equal(new DataView(id.buffer, id.byteOffset).getUint16(0), 0, 'the server of this test lives in 1970')
  await second.close()
  await first.close()
  server.close()
})
