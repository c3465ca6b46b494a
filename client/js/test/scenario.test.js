// The scenario in Node: `make js` starts a server with two gateways, and gives their addresses in the environment.

import assert from 'node:assert/strict'
import test from 'node:test'
import WebSocket from 'ws'
import { unhex, uuid } from '../bytes.js'
import { Client } from '../client.js'
import { Http, HttpRefused, logIn, register } from '../http.js'
import { MemoryStore } from '../stores/memory.js'
import { run } from './scenario.js'

const { ALO_HTTP_URL, ALO_SOCKET_URLS } = process.env
const PASSWORD = 'correct horse battery staple'

test('the scenario of conformance', { timeout: 60_000 }, async () => {
  const [, second] = ALO_SOCKET_URLS.split(',')
  const people = {}
  for (const name of ['erin', 'frank']) await register(ALO_HTTP_URL, name, PASSWORD)
  for (const [key, name] of [['alice', 'erin'], ['bob', 'frank'], ['tablet', 'frank']]) {
    people[key] = await logIn(ALO_HTTP_URL, name, PASSWORD, key)
  }
  const http = new Http(ALO_HTTP_URL, () => people.alice.token)
  const { conversation } = await http.ask('POST', '/v1/conversations', { kind: 'direct', participants: [uuid(people.bob.user)] })
  const clients = []
  const steps = []
  await run({
    urls: [second, second], // another file of tests kills the first one: this one cuts the connection instead
    people,
    talk: unhex(conversation),
    memory: () => new MemoryStore(),
    open: async (urls, login, store) => {
      const client = await Client.open(urls, { login, store, WebSocket: Cuttable })
      clients.push(client)
      return client
    },
    killFirst: async () => Cuttable.opened[1].terminate(),
  }, (step) => steps.push(step)).finally(() => Promise.all(clients.map((client) => client.bye())))
  assert.equal(steps.length, 7)
})

class Cuttable extends WebSocket {
  static opened = []

  constructor(...given) {
    super(...given)
    Cuttable.opened.push(this)
  }
}

test('a refusal over HTTP says which', async () => {
  await assert.rejects(logIn(ALO_HTTP_URL, 'nobody', PASSWORD, 'x'), (error) => error instanceof HttpRefused && error.status === 401)
})
