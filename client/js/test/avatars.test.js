// Avatars through a real server: set, told to another client, downloaded, and removed.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import WebSocket from 'ws'
import { AvatarRefused, Avatars } from '../avatars.js'
import { equal, textOf, unhex } from '../bytes.js'
import { Client, RequestRefused } from '../client.js'
import { Files } from '../files.js'

const { ALO_HTTP_URL, ALO_SOCKET_URLS } = process.env
const NODE = ALO_SOCKET_URLS.split(',')[1] // another file of tests kills the first one
const PASSWORD = 'correct horse battery staple'
const options = { timeout: 60_000 }

async function ask(method, path, body, token) {
  const headers = { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) }
  const response = await fetch(ALO_HTTP_URL + path, { method, headers, body: body && JSON.stringify(body) })
  const answer = await response.text()
  assert.ok(response.ok, answer)
  return answer && JSON.parse(answer)
}

async function logIn(username) {
  await ask('POST', '/v1/users', { username, password: PASSWORD })
  const login = await ask('POST', '/v1/devices', { username, password: PASSWORD, name: 'test' })
  const client = new Client([NODE], login.token, { WebSocket, came: Date.now() })
  client.connect()
  await once(client, 'current')
  return { ...login, client }
}

function sink() {
  const chunks = new Map()
  return { chunks, digests: [], write: (bytes, offset) => { chunks.set(offset, bytes) } }
}

// The next push of this type.
async function pushed(client, type) {
  for (;;) {
    const [frame] = await once(client, 'push')
    if (frame.type === type) return frame
  }
}

test('an avatar of a user and of a group is told, downloaded, replaced and removed', options, async () => {
  const [heidi, ivan] = [await logIn('heidi'), await logIn('ivan')]
  const group = { kind: 'group', name: 'pictures', participants: [ivan.user] }
  const { conversation } = await ask('POST', '/v1/conversations', group, heidi.token)
  await ask('POST', `/v1/conversations/${conversation}/accept`, undefined, ivan.token)
  const id = unhex(conversation)
  const of = ({ client, token }) => new Avatars(new Files(client), ALO_HTTP_URL, () => token)

  const told = pushed(ivan.client, 'profile')
  const attachment = await of(heidi).set(new Blob(['ciphertext']))
  const { avatar } = await told
  assert.ok(equal(avatar[0], attachment))
  assert.equal(avatar[1], 10)
  const file = sink()
  await new Files(ivan.client).download(attachment, file)
  assert.equal(textOf(file.chunks.get(0)), 'ciphertext')

  const settings = pushed(ivan.client, 'settings')
  const ofGroup = await of(heidi).set(new Blob(['another']), { conversation: id })
  assert.ok(equal((await settings).avatar[0], ofGroup))
  assert.ok(equal(ivan.client.mailbox.head(id).avatar[0], ofGroup))
  await assert.rejects(of(ivan).set(new Blob(['mine']), { conversation: id }), AvatarRefused)
  await assert.rejects(of(heidi).set(new Blob(['x']), { mediaType: 'text/html' }), RequestRefused)

  const removed = pushed(ivan.client, 'settings')
  await of(heidi).clear({ conversation: id })
  assert.equal((await removed).avatar, undefined)
  const cleared = pushed(ivan.client, 'profile')
  await of(heidi).clear()
  assert.equal((await cleared).avatar, undefined)
  await Promise.all([heidi, ivan].map(({ client }) => client.bye()))
})
