// A mailbox and a conversation whose messages disappear (SPEC 5.3, 5.10), without a server.

import assert from 'node:assert/strict'
import test from 'node:test'
import { Mailbox } from '../mailbox.js'

const TALK = Buffer.alloc(16, 1)
const BOB = Buffer.alloc(16, 2)

const id = (seq) => Buffer.alloc(16, seq)

function known() {
  const mailbox = new Mailbox()
  mailbox.isFresh = false
  const told = { kind: 'group', name: 'G', first_seq: 1, last_seq: 0, participants_version: 1, participants: [] }
  mailbox.apply({ type: 'conversation', conversation: TALK, ...told })
  return mailbox
}

function take(mailbox, ...seqs) {
  for (const seq of seqs) mailbox.apply({ type: 'message', conversation: TALK, message: id(seq), seq, sender: BOB, content: BOB })
}

function settings(first_seq, participants_version, more) {
  return { type: 'settings', conversation: TALK, name: 'G', first_seq, participants_version, ...more }
}

const held = (mailbox) => mailbox.entries(TALK).map(({ seq }) => seq)
const told = (mailbox) => mailbox.conversations.get(TALK.toString('hex')).told

test('messages below an announced floor are dropped, and missing ones there make no gap', () => {
  const mailbox = known()
  take(mailbox, 1, 2, 5)
  assert.equal(mailbox.gaps().length, 1)
  mailbox.takeSettings(settings(5, 1))
  assert.deepEqual(held(mailbox), [5])
  assert.deepEqual(mailbox.gaps(), [])
  take(mailbox, 3, 6)
  assert.deepEqual(held(mailbox), [5, 6])
  assert.deepEqual(mailbox.marks(), [[TALK, 6]])
  mailbox.takeSettings(settings(2, 1))
  take(mailbox, 4)
  assert.deepEqual(held(mailbox), [5, 6], 'a floor that comes late takes nothing back')
})

test('of two settings those of the greater version count', () => {
  const mailbox = known()
  mailbox.takeSettings(settings(1, 3, { lifetime_s: 60 }))
  mailbox.takeSettings(settings(1, 2))
  assert.equal(told(mailbox).lifetime_s, 60)
  mailbox.takeSettings(settings(1, 4))
  assert.equal(told(mailbox).lifetime_s, undefined)
})

test('settings of a conversation that the user has left bring nothing back', () => {
  const mailbox = known()
  mailbox.user = BOB
  mailbox.apply({ type: 'departed', conversation: TALK, users: [BOB], participants_version: 2 })
  mailbox.takeSettings(settings(3, 2))
  assert.equal(mailbox.hasUnknown, false)
})

test('quiet messages do not count as unread, held or told of, nor is their sender taken to have read', () => {
  const ME = Buffer.alloc(16, 9)
  const mailbox = known()
  mailbox.user = ME
  const quiet = { kind: 'group', name: 'G', first_seq: 1, participants_version: 1, last_seq: 9, quiet_counts: [[0, 0], [9, 4]] }
  mailbox.apply({ type: 'conversation', conversation: TALK, ...quiet, participants: [{ user: ME, read_seq: 0, joined_seq: 0 }] })
  assert.equal(mailbox.unreadCount(TALK), 5)
  mailbox.takeParticipants({ conversation: TALK, receipts: [[ME, 9, 5]], quiet_counts: [[5, 2]] })
  assert.equal(mailbox.unreadCount(TALK), 2)
  mailbox.takeSettings(settings(8, 1, { quiet_counts: [[7, 3]] }))
  assert.equal(mailbox.unreadCount(TALK), 1)
  mailbox.apply({ type: 'tombstone', conversation: TALK, message: id(8), seq: 8, sender: BOB, is_quiet: true, quiet_count: 4 })
  assert.equal(mailbox.unreadCount(TALK), 1, 'a quiet one is not subtracted twice')
  mailbox.apply({ type: 'message', conversation: TALK, message: id(10), seq: 10, sender: ME, content: BOB, is_quiet: true, quiet_count: 5 })
  assert.equal(mailbox.unreadCount(TALK), 1)
  mailbox.apply({ type: 'message', conversation: TALK, message: id(11), seq: 11, sender: ME, content: BOB, quiet_count: 5 })
  assert.equal(mailbox.unreadCount(TALK), 0)
})

test('tombstones never count as unread, nor do messages from before the user joined', () => {
  const mailbox = known()
  mailbox.user = Buffer.alloc(16, 3)
  const participants = [{ user: mailbox.user, joined_seq: 0, since_seq: 2, read_seq: 1 }]
  const told = { kind: 'group', name: 'G', first_seq: 1, last_seq: 6, participants_version: 2, participants }
  mailbox.apply({ type: 'conversation', conversation: TALK, ...told, uncounted_seqs: [3, 4] })
  assert.equal(mailbox.unreadCount(TALK), 2)
  mailbox.apply({ type: 'tombstone', conversation: TALK, message: id(4), seq: 4, sender: BOB })
  mailbox.apply({ type: 'tombstone', conversation: TALK, message: id(6), seq: 6, sender: BOB })
  assert.equal(mailbox.unreadCount(TALK), 1)
  mailbox.takeParticipants({ conversation: TALK, receipts: [[mailbox.user, 5, 5]] })
  assert.equal(mailbox.unreadCount(TALK), 0)
  take(mailbox, 7)
  assert.equal(mailbox.unreadCount(TALK), 1)
})

test('messages of a conversation that no sync tells of are not for this user (SPEC 6.6.1)', () => {
  const mailbox = new Mailbox()
  take(mailbox, 7)
  assert.equal(mailbox.hasUnknown, true)
  mailbox.forgetUnknown()
  assert.equal(mailbox.hasUnknown, false)
  assert.deepEqual(held(mailbox), [])
})

test('a delivered mark that the server has noted is the mark of the user', () => {
  const mailbox = known()
  mailbox.user = BOB
  mailbox.takeParticipants({ conversation: TALK, receipts: [[BOB, 1, 1]] })
  mailbox.marked([[TALK, 3]])
  mailbox.marked([[TALK, 2]])
  assert.equal(mailbox.conversations.get(TALK.toString('hex')).participants.get(BOB.toString('hex')).delivered_seq, 3)
})
