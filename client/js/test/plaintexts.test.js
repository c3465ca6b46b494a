// Plaintexts outlive the order of the messages (SPEC 6.4, 20.5), without a server.

import assert from 'node:assert/strict'
import test from 'node:test'
import { Mailbox } from '../mailbox.js'

const ME = new Uint8Array(16).fill(1)
const BOB = new Uint8Array(16).fill(2)
const TALK = new Uint8Array(16).fill(3)
const GROUP = new Uint8Array(16).fill(4)

function message(number, more) {
  const id = new Uint8Array(16).fill(number)
  return { type: 'message', conversation: TALK, seq: number, message: id, sender: BOB, content: Uint8Array.of(number), ...more }
}

function told(last, more) {
  const { conversation, seq } = last
  const version = { participants_version: 1, participants: [] }
  return { type: 'conversation', conversation, kind: 'direct', first_seq: 1, last_seq: seq, last_message: last, ...version, ...more }
}

// A device that has decrypted these messages of a conversation, which begins with the first of them.
function known(...numbers) {
  const mailbox = new Mailbox()
  mailbox.user = ME
  const held = numbers.map((number) => message(number))
  mailbox.apply(told(held[0]))
  synced(mailbox)
  for (const each of held) {
    mailbox.apply(each)
    mailbox.plaintexts.keep(each, `says ${each.seq}`)
  }
  return [mailbox, held]
}

function synced(mailbox) {
  mailbox.forgetUnknown()
  mailbox.isFresh = false
}

const shown = (mailbox, held) => held.map((each) => mailbox.plaintexts.of(each))
const deleted = (held) => ({ ...held, type: 'tombstone', content: undefined })

test('a message that comes again under another seq finds its plaintext', () => {
  const [mailbox, held] = known(1, 2, 3)
  mailbox.cursor = BOB
  mailbox.drop()
  assert.deepEqual([mailbox.cursor, mailbox.entries(TALK)], [undefined, []])
  const moved = held.map((each) => ({ ...each, seq: each.seq + 4 }))
  mailbox.apply(told(moved[2]))
  synced(mailbox)
  for (const each of moved.slice(0, 2)) mailbox.apply(each)
  assert.deepEqual(shown(mailbox, moved), ['says 1', 'says 2', 'says 3'])
})

test('a plaintext belongs to the bytes that were decrypted', () => {
  const [mailbox, [held]] = known(1)
  mailbox.drop()
  const others = [{ content: BOB }, { nonce: BOB }, { ephemeral_public_key: BOB }, { revision: 1 }, { message: BOB }, { conversation: GROUP }]
  assert.deepEqual(shown(mailbox, others.map((each) => ({ ...held, ...each }))), others.map(() => undefined))
  assert.equal(mailbox.plaintexts.of({ ...held, seq: 9 }), 'says 1')
})

test('the plaintext of a later revision takes the place of the one before', () => {
  const [mailbox, [held]] = known(1)
  const edited = { ...held, revision: 1, content: BOB }
  mailbox.plaintexts.keep(edited, 'says uno')
  assert.deepEqual(shown(mailbox, [edited, held]), ['says uno', undefined])
})

test('the plaintext of a deleted message goes, before and after the order was dropped', () => {
  const [mailbox, held] = known(1, 2)
  mailbox.apply(deleted(held[0]))
  assert.deepEqual(shown(mailbox, held), [undefined, 'says 2'])
  mailbox.drop()
  mailbox.apply(told(held[1]))
  mailbox.apply(deleted(held[1]))
  assert.deepEqual(shown(mailbox, held), [undefined, undefined])
})

test('plaintexts go with messages below the floor, but not by the seq of another history', () => {
  const [mailbox, held] = known(1, 2, 3)
  mailbox.apply({ type: 'settings', conversation: TALK, first_seq: 2, participants_version: 1 })
  assert.deepEqual(shown(mailbox, held), [undefined, 'says 2', 'says 3'])
  mailbox.drop()
  const moved = held.map((each) => ({ ...each, seq: each.seq + 5 }))
  mailbox.apply(told(moved[2], { first_seq: 7 }))
  assert.deepEqual(shown(mailbox, moved), [undefined, 'says 2', 'says 3'])
  mailbox.apply(moved[1])
  mailbox.change(TALK, (held) => held.raiseFloor(8))
  assert.deepEqual(shown(mailbox, moved), [undefined, undefined, 'says 3'])
})

test('plaintexts of messages that the other history does not have go once all of it is held', () => {
  const [mailbox, held] = known(1, 2, 3)
  mailbox.drop()
  const last = { ...held[2], seq: 2 }
  mailbox.apply(told(last, { first_seq: 2 }))
  assert.deepEqual(shown(mailbox, held), [undefined, undefined, 'says 3'])
  const [another, more] = known(1, 2)
  another.drop()
  another.apply(told(more[1]))
  synced(another)
  assert.deepEqual(shown(another, more), ['says 1', 'says 2'], 'the first one may come by history')
})

test('plaintexts go with a conversation that the user has left, or that another history does not have', () => {
  const [mailbox, held] = known(1)
  mailbox.apply({ type: 'departed', conversation: TALK, users: [ME], participants_version: 2 })
  assert.deepEqual(shown(mailbox, held), [undefined])
  const [another, more] = known(1)
  another.drop()
  assert.deepEqual(shown(another, more), ['says 1'])
  synced(another)
  assert.deepEqual(shown(another, more), [undefined])
})
