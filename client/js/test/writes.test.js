// Edits, deletions and reactions of this device (SPEC 8): kept until they are done, once, in their order.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import test from 'node:test'
import { textOf, utf8 } from '../bytes.js'
import { Encryption } from '../e2ee/encryption.js'
import { MemoryStore } from '../stores/memory.js'
import { BOB, ME, TALK, device, message, serve, synced, told } from './local_server.js'

const options = { timeout: 10_000 }
const OWN = { sender: ME, device: ME }

// A server that holds messages 1 of BOB and 2 of this user; `revision` is that of the second.
async function world(more = {}) {
  const state = { revision: 0, seq: 2 }
  const answers = {
    sync: ({ cursor }) => (cursor ? [synced('b')] : [{ ...told, participants: [], last_seq: 2, last_message: message(1) }, message(2, OWN), synced('a')]),
    send: () => [{ type: 'sent', seq: ++state.seq, message: new Uint8Array(16).fill(state.seq), created: 9 }],
    edit: ({ revision }) => (revision === state.revision ? [{ type: 'revised', revision: ++state.revision, edited: 7 }] : [{ type: 'error', code: 'revision_conflict', detail: 'because' }]),
    delete: () => [{ type: 'done' }],
    ...more,
  }
  return [await serve(answers), state]
}

const heard = (server, ...types) => server.heard.filter(({ type }) => types.includes(type))

test('an edit is held as the revision that it made, and edits of one message follow each other', options, async () => {
  const [server] = await world()
  const client = await device(server)
  await once(client, 'current')
  const edits = await Promise.all(['uno', 'due'].map((text) => client.edit(TALK, 2, utf8(text), { contentType: 'text' })))
  assert.deepEqual(edits.map(({ type, revision }) => [type, revision]), [['revised', 1], ['revised', 2]])
  const { content, revision, edited, created, sender } = client.mailbox.entry(TALK, 2)
  assert.deepEqual([textOf(content), revision, edited, created, sender], ['due', 2, 7, 2, ME])
  assert.deepEqual(heard(server, 'edit').map((edit) => edit.revision), [0, 1])
  await client.bye()
  server.close()
})

test('another device was quicker: the edit is refused, and nothing is overwritten', options, async () => {
  const [server, state] = await world()
  const client = await device(server)
  await once(client, 'current')
  state.revision = 1
  await assert.rejects(client.edit(TALK, 2, utf8('mine')), { code: 'revision_conflict' })
  assert.equal(textOf(client.mailbox.entry(TALK, 2).content), 'says 2')
  assert.equal(heard(server, 'edit').length, 1)
  await client.bye()
  server.close()
})

test('a deletion is held as the tombstone that no push brings, with the administrator who is not the sender', options, async () => {
  const [server] = await world()
  const client = await device(server)
  await once(client, 'current')
  await client.delete(TALK, 2)
  await client.delete(TALK, 1)
  const entries = client.mailbox.entries(TALK)
  assert.deepEqual(entries.map(({ type, seq, sender, actor }) => [type, seq, sender, actor]), [['tombstone', 1, BOB, ME], ['tombstone', 2, ME, undefined]])
  await assert.rejects(client.edit(TALK, 2, utf8('x')), /deleted/)
  await assert.rejects(client.delete(TALK, 9), /does not hold message 9/)
  await client.bye()
  server.close()
})

test('what the server has not answered when the program ends is done after its next start, with the same bytes', options, async () => {
  const [server] = await world({ edit: () => [], delete: () => [] })
  const store = new MemoryStore()
  const client = await device(server, { store })
  await once(client, 'current')
  for (const act of [client.edit(TALK, 2, utf8('uno')), client.delete(TALK, 1)]) act.catch(() => {})
  while (heard(server, 'edit', 'delete').length < 2) await new Promise((resolve) => setImmediate(resolve))
  server.close()
  const [same] = await world()
  const again = await device(same, { store })
  while (again.drafts.length) await once(again, 'entry')
  const bytes = ({ type, seq, revision, content, for_everyone }) => [type, seq, revision, content, for_everyone]
  assert.deepEqual(heard(same, 'edit', 'delete').map(bytes), heard(server, 'edit', 'delete').map(bytes))
  assert.deepEqual(again.mailbox.entries(TALK).map(({ type, revision }) => [type, revision]), [['tombstone', undefined], ['message', 1]])
  await again.bye()
  same.close()
  await client.bye()
})

test('a reaction is a quiet message that names the other one, and the reader finds it', options, async () => {
  const [server] = await world()
  const client = await device(server)
  await once(client, 'current')
  await client.react(TALK, 1, '👍')
  assert.deepEqual(heard(server, 'send').map(({ is_quiet, content_type }) => [is_quiet, content_type]), [[true, 'application/alo']])
  assert.deepEqual([...client.mailbox.reactions(TALK).values()].map((users) => [...users.values()]), [['👍']])
  await client.bye()
  server.close()
})

test('with encryption an edit whose reply was lost, and which comes by a sync, has its plaintext; no device decrypts its own', options, async () => {
  const decrypted = []
  const protocol = {
    kind: 'none', features: [], async start() {}, own() {}, identity: () => utf8('i'), makeKeys: async () => ({ keys: [], commit() {} }), missing: () => [],
    prepare: async ({ type, conversation, plaintext, fields }) => ({ frame: { type, conversation, ...fields, content: utf8(`sealed ${plaintext.text}`) }, isControl: false, commit() {} }),
    refused: () => undefined,
    receive: async ({ seq, content }) => (decrypted.push(seq), { plaintext: { text: textOf(content) }, commit() {} }),
  }
  let sealed
  const [server] = await world({
    sync: ({ cursor }) => (!cursor ? [{ ...told, participants: [], last_seq: 2, last_message: message(1) }, message(2, OWN), synced('a')]
      : [...(sealed ? [message(2, { ...OWN, content: sealed, revision: 1, edited: 5 })] : []), synced('b')]),
    edit: ({ content }, socket) => {
      sealed ??= content
      socket.terminate()
      return []
    },
    devices: () => [{ type: 'device_list', devices: [], more: false }],
    key_status: () => [{ type: 'keys', key_history: utf8('h'), pools: [] }],
    put_keys: () => [{ type: 'keys', key_history: utf8('h'), pools: [] }],
  })
  const client = await device(server, { store: new MemoryStore(), encryption: (each) => new Encryption(each, protocol) })
  while (client.mailbox.held(TALK)?.state.handled !== 2) await once(client, 'handled')
  decrypted.length = 0
  const { revision } = await client.edit(TALK, 2, { text: 'uno' })
  assert.equal(revision, 1)
  assert.deepEqual(client.mailbox.says(client.mailbox.entry(TALK, 2)), { text: 'uno' })
  assert.equal(textOf(client.mailbox.entry(TALK, 2).content), 'sealed uno')
  assert.deepEqual(decrypted, [])
  await client.bye()
  server.close()
})
