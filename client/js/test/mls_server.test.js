// Two users with three devices encrypt by MLS through a real server: Welcomes as envelopes, the control chain, a device that comes
// later, a start from the store. What the server has is searched for what they said.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import WebSocket from 'ws'
import { unhex, uuid } from '../bytes.js'
import { Client } from '../client.js'
import { Encryption } from '../e2ee/encryption.js'
import { Mls } from '../e2ee/mls.js'
import { Http, logIn, register } from '../http.js'
import { MemoryStore } from '../stores/memory.js'
import { until } from './scenario.js'

const { ALO_HTTP_URL, ALO_SOCKET_URLS } = process.env
const URLS = [ALO_SOCKET_URLS.split(',')[1]] // another file of tests kills the first one
const PASSWORD = 'correct horse battery staple'
const clients = []

async function start(login, store = new MemoryStore()) {
  const client = await Client.open(URLS, { login, store, WebSocket, encryption: (each) => new Encryption(each, new Mls()) })
  clients.push(client)
  client.on('failed', (error) => { throw error })
  const current = once(client.connect(), 'current')
  await current
  while (!(await client.request({ type: 'key_status' })).pools?.length) await new Promise((resolve) => setTimeout(resolve, 50))
  return client
}

const read = (client, talk) => client.mailbox.entries(talk).map((entry) => client.mailbox.says(entry)?.text).filter(Boolean)

test('devices of two users read what was sent while they were in the set, and the server reads nothing', { timeout: 90_000 }, async () => {
  for (const name of ['grace', 'heinz']) await register(ALO_HTTP_URL, name, PASSWORD)
  const logins = await Promise.all([['grace', 'a'], ['heinz', 'b']].map(([name, device]) => logIn(ALO_HTTP_URL, name, PASSWORD, device)))
  const store = new MemoryStore()
  try {
    const [a, b] = [await start(logins[0], store), await start(logins[1])]
    const http = new Http(ALO_HTTP_URL, () => a.token)
    const { conversation } = await http.ask('POST', '/v1/conversations', { kind: 'direct', participants: [uuid(logins[1].user)] })
    const talk = unhex(conversation)
    await until(a, () => a.mailbox.head(talk))
    await a.send(talk, { text: 'first secret' })
    await shows(b, talk, ['first secret'])
    await b.send(talk, { text: 'second secret' })
    await shows(a, talk, ['first secret', 'second secret'])

    const late = await start(await logIn(ALO_HTTP_URL, 'heinz', PASSWORD, 'late'))
    await Promise.all([a.send(talk, { text: 'third secret' }), b.send(talk, { text: 'fourth secret' })])
    for (const [client, count] of [[a, 4], [b, 4]]) {
      await shows(client, talk, ['first secret', 'second secret', 'third secret', 'fourth secret'], count)
    }
    await until(late, () => late.mailbox.head(talk))
    await a.bye()
    const again = await start(logins[0], store)
    await again.send(talk, { text: 'fifth secret' })
    await shows(late, talk, ['fifth secret'], 1)

    const { messages } = await http.ask('GET', `/v1/conversations/${conversation}/messages`)
    const stored = Buffer.from(JSON.stringify(messages)).toString('latin1') + messages.map(({ content }) => content && Buffer.from(content, 'base64').toString('latin1')).join()
    assert.ok(messages.length >= 7)
    assert.equal(stored.includes('secret'), false)
  } finally {
    await Promise.all(clients.map((client) => client.bye()))
  }
})

// Until the device has read these, in whatever order two that were sent at once came.
async function shows(client, talk, texts, atLeast = texts.length) {
  const has = () => texts.every((text) => read(client, talk).includes(text))
  while (!has()) await once(client, 'handled')
  assert.ok(read(client, talk).length >= atLeast)
}
