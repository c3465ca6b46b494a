// The groups of MLS follow the devices of a conversation, at a real server: devices come and go, users are added and leave, and a
// device that no other has added, or that has missed commits, joins by itself from the state that another has put (SPEC 19.16).

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test, { afterEach } from 'node:test'
import WebSocket from 'ws'
import { hex, unhex, uuid } from '../bytes.js'
import { Client } from '../client.js'
import { Encryption } from '../e2ee/encryption.js'
import { Mls } from '../e2ee/mls.js'
import { Http, logIn, register } from '../http.js'
import { MemoryStore } from '../stores/memory.js'
import { until } from './scenario.js'

const { ALO_HTTP_URL, ALO_SOCKET_URLS } = process.env
const URLS = [ALO_SOCKET_URLS.split(',')[1]] // another file of tests kills the first one
const PASSWORD = 'correct horse battery staple'
const options = { timeout: 90_000 }

const running = new Set()
afterEach(() => Promise.all([...running].map((client) => client.bye())))

class Device {
  constructor(login, store = new MemoryStore()) {
    Object.assign(this, { login, store, user: uuid(login.user) })
    this.http = new Http(ALO_HTTP_URL, () => this.client?.token ?? login.token)
  }

  static async of(name, label) {
    const device = new Device(await logIn(ALO_HTTP_URL, name, PASSWORD, label))
    await device.start()
    return device
  }

  async start() {
    const encryption = (client) => (this.encryption = new Encryption(client, this.mls = new Mls(), { http: this.http }))
    this.client = await Client.open(URLS, { login: this.login, store: this.store, WebSocket, encryption })
    running.add(this.client)
    this.client.on('failed', (error) => { throw error })
    const current = once(this.client, 'current')
    this.client.connect()
    await current
    while (!(await this.client.request({ type: 'key_status' })).pools?.length) await new Promise((resolve) => setTimeout(resolve, 20))
  }

  async knows(talk) {
    await until(this.client, () => this.client.mailbox.head(talk))
  }

  async isIn(talk) {
    while (!this.mls.isInGroup(talk)) await once(this.client, 'handled')
  }

  async reads(talk, text) {
    const has = () => this.client.mailbox.entries(talk).some((entry) => this.client.mailbox.says(entry)?.text === text)
    while (!has()) await once(this.client, 'handled')
  }

  // Until the group has these devices and no others.
  async groupIs(talk, ...devices) {
    const wanted = devices.map(({ login }) => hex(login.device)).sort().join()
    while (this.mls.devicesOf(talk).map(hex).sort().join() !== wanted) await once(this.client, 'handled')
  }
}

async function people(...names) {
  for (const name of names) await register(ALO_HTTP_URL, name, PASSWORD)
}

async function group(device, ...others) {
  const { conversation } = await device.http.ask('POST', '/v1/conversations', { kind: 'group', name: 'G', participants: others.map(({ user }) => user) })
  const talk = unhex(conversation)
  for (const each of [device, ...others]) await each.knows(talk)
  return talk
}

async function leave(...devices) {
  await Promise.all(devices.map(({ client }) => client.bye()))
}

test('the group follows the devices and users of the conversation, without a message', options, async () => {
  await people('ida', 'jan', 'kim')
  const [a, b, c] = await Promise.all([['ida', 'a'], ['jan', 'b'], ['kim', 'c']].map((each) => Device.of(...each)))
  const talk = await group(a, b)
  await a.client.send(talk, { text: 'one' })
  await b.reads(talk, 'one')

  const own = await Device.of('ida', 'own')
  const peer = await Device.of('jan', 'peer')
  await a.groupIs(talk, a, b, own, peer)
  await Promise.all([own.isIn(talk), peer.isIn(talk)])

  await a.http.ask('POST', `/v1/conversations/${uuid(talk)}/participants`, { user: c.user })
  await c.knows(talk)
  await c.isIn(talk)
  await c.client.send(talk, { text: 'two' })
  for (const each of [a, b, own, peer]) await each.reads(talk, 'two')

  await b.http.ask('DELETE', `/v1/devices/${uuid(peer.login.device)}`)
  await a.groupIs(talk, a, b, own, c)
  await c.http.ask('DELETE', `/v1/conversations/${uuid(talk)}/participants/${c.user}`)
  await a.groupIs(talk, a, b, own)
  while (c.mls.isInGroup(talk)) await new Promise((resolve) => setTimeout(resolve, 20)) // until c is told
  await c.client.journal.flush()
  assert.equal((await c.store.load()).some(([key]) => key.startsWith('crypto/group/')), false, 'the keys of the group are gone')

  const count = a.client.mailbox.head(talk).last_seq
  await a.client.tidy(talk)
  assert.equal(a.client.mailbox.head(talk).last_seq, count, 'nothing more is to be done')
})

test('a device that no other adds joins by itself, and so does one that has missed a commit', options, async () => {
  await people('lea', 'max')
  const [a, b] = await Promise.all([['lea', 'a'], ['max', 'b']].map((each) => Device.of(...each)))
  const talk = await group(a, b)
  await a.client.send(talk, { text: 'one' })
  await b.reads(talk, 'one')
  await b.client.send(talk, { text: 'yes' }) // a user who is asked gets no state
  await a.reads(talk, 'yes')
  await isPut(a, talk)
  await leave(a, b)

  const alone = await Device.of('max', 'alone')
  await alone.knows(talk)
  const { seq } = await alone.client.send(talk, { text: 'two' })
  assert.ok(seq > 2)
  await b.start()
  await b.reads(talk, 'two')
  await isPut(alone, talk)

  // The commits while a is away are deleted.
  const { messages } = await alone.http.ask('GET', `/v1/conversations/${uuid(talk)}/messages`)
  const control = messages.find(({ follows, content }) => follows && content)
  await alone.client.delete(talk, control.seq)
  await a.start()
  await a.client.send(talk, { text: 'three' })
  for (const each of [b, alone]) await each.reads(talk, 'three')
  await a.reads(talk, 'two') // which alone has encrypted once more
  await b.client.send(talk, { text: 'four' })
  for (const each of [a, alone]) await each.reads(talk, 'four')
})

// Until the server has the state of the group.
async function isPut({ http }, talk) {
  while (!(await http.ask('GET', `/v1/conversations/${uuid(talk)}/state`)).state) await new Promise((resolve) => setTimeout(resolve, 20))
}
