// A mailbox and a conversation whose messages disappear (SPEC 5.3, 5.10), without a server.

import assert from 'node:assert/strict'
import test from 'node:test'
import { Journal } from '../journal.js'
import { Mailbox } from '../mailbox.js'
import { MemoryStore } from '../stores/memory.js'

const TALK = new Uint8Array(16).fill(1)
const BOB = new Uint8Array(16).fill(2)

const id = (seq) => new Uint8Array(16).fill(seq)

function known(user = new Uint8Array(16).fill(9)) {
  const mailbox = new Mailbox()
  mailbox.user = user
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
const told = (mailbox) => mailbox.head(TALK)

test('messages below an announced floor are dropped, and missing ones there make no gap', () => {
  const mailbox = known()
  take(mailbox, 1, 2, 5)
  assert.equal(mailbox.gaps().length, 1)
  mailbox.apply(settings(5, 1))
  assert.deepEqual(held(mailbox), [5])
  assert.deepEqual(mailbox.gaps(), [])
  take(mailbox, 3, 6)
  assert.deepEqual(held(mailbox), [5, 6])
  assert.deepEqual(mailbox.marks(), { delivered: [[TALK, 6]], read: [] })
  mailbox.apply(settings(2, 1))
  take(mailbox, 4)
  assert.deepEqual(held(mailbox), [5, 6], 'a floor that comes late takes nothing back')
})

test('of two settings those of the greater version count', () => {
  const mailbox = known()
  mailbox.apply(settings(1, 3, { lifetime_s: 60 }))
  mailbox.apply(settings(1, 2))
  assert.equal(told(mailbox).lifetime_s, 60)
  mailbox.apply(settings(1, 4))
  assert.equal(told(mailbox).lifetime_s, undefined)
})

test('settings of a conversation that the user has left bring nothing back', () => {
  const mailbox = known(BOB)
  mailbox.apply({ type: 'departed', conversation: TALK, users: [BOB], participants_version: 2 })
  mailbox.apply(settings(3, 2))
  assert.equal(mailbox.hasUnknown, false)
})

test('quiet messages do not count as unread, held or told of, nor is their sender taken to have read', () => {
  const ME = new Uint8Array(16).fill(9)
  const mailbox = known(ME)
  const quiet = { kind: 'group', name: 'G', first_seq: 1, participants_version: 1, last_seq: 9, quiet_counts: [[0, 0], [9, 4]] }
  mailbox.apply({ type: 'conversation', conversation: TALK, ...quiet, participants: [{ user: ME, read_seq: 0, joined_seq: 0 }] })
  assert.equal(mailbox.unreadCount(TALK), 5)
  mailbox.apply({ type: 'receipts', conversation: TALK, receipts: [[ME, 9, 5]], quiet_counts: [[5, 2]] })
  assert.equal(mailbox.unreadCount(TALK), 2)
  mailbox.apply(settings(8, 1, { quiet_counts: [[7, 3]] }))
  assert.equal(mailbox.unreadCount(TALK), 1)
  mailbox.apply({ type: 'tombstone', conversation: TALK, message: id(8), seq: 8, sender: BOB, is_quiet: true, quiet_count: 4 })
  assert.equal(mailbox.unreadCount(TALK), 1, 'a quiet one is not subtracted twice')
  mailbox.apply({ type: 'message', conversation: TALK, message: id(10), seq: 10, sender: ME, content: BOB, is_quiet: true, quiet_count: 5 })
  assert.equal(mailbox.unreadCount(TALK), 1)
  mailbox.apply({ type: 'message', conversation: TALK, message: id(11), seq: 11, sender: ME, content: BOB, quiet_count: 5 })
  assert.equal(mailbox.unreadCount(TALK), 0)
})

test('tombstones never count as unread, nor do messages from before the user joined', () => {
  const mailbox = known(new Uint8Array(16).fill(3))
  const participants = [{ user: mailbox.user, joined_seq: 0, since_seq: 2, read_seq: 1 }]
  const told = { kind: 'group', name: 'G', first_seq: 1, last_seq: 6, participants_version: 2, participants }
  mailbox.apply({ type: 'conversation', conversation: TALK, ...told, uncounted_seqs: [3, 4] })
  assert.equal(mailbox.unreadCount(TALK), 2)
  mailbox.apply({ type: 'tombstone', conversation: TALK, message: id(4), seq: 4, sender: BOB })
  mailbox.apply({ type: 'tombstone', conversation: TALK, message: id(6), seq: 6, sender: BOB })
  assert.equal(mailbox.unreadCount(TALK), 1)
  mailbox.apply({ type: 'receipts', conversation: TALK, receipts: [[mailbox.user, 5, 5]] })
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
  const mailbox = known(BOB)
  const participants = [{ user: BOB, joined_seq: 0, delivered_seq: 1, read_seq: 1 }]
  mailbox.apply({ type: 'participants', conversation: TALK, participants, participants_version: 2 })
  take(mailbox, 1, 2, 3)
  mailbox.marked('delivered', [[TALK, 3]], [1])
  mailbox.marked('delivered', [[TALK, 2]], [1])
  mailbox.markRead(TALK, 2)
  assert.deepEqual(mailbox.marks(), { delivered: [], read: [[TALK, 2]] })
  mailbox.marked('read', [[TALK, 2]], [0])
  assert.deepEqual(mailbox.marks().read, [[TALK, 2]], 'the participants have changed since it was sent')
  mailbox.marked('read', [[TALK, 2]], [1])
  const [own] = told(mailbox).participants
  assert.deepEqual([own.delivered_seq, own.read_seq], [3, 3], 'BOB has written the messages, so he has read them')
  assert.deepEqual(mailbox.marks(), { delivered: [], read: [] })
})

test('a page of history that ends right below the beginning lowers it, and another one does not', () => {
  const mailbox = new Mailbox()
  const last = { type: 'message', conversation: TALK, message: id(9), seq: 9, sender: BOB, content: BOB }
  const whole = { kind: 'group', first_seq: 3, last_seq: 9, participants_version: 1, participants: [] }
  mailbox.apply({ type: 'conversation', conversation: TALK, ...whole, last_message: last })
  assert.deepEqual([held(mailbox), mailbox.olderBefore(TALK)], [[9], 9])
  mailbox.apply({ ...last, seq: 5, message: id(5), revision: 1 })
  assert.equal(mailbox.entry(TALK, 5), undefined, 'an edit of a message that was never loaded is not for this device')
  const page = (...seqs) => ({ first_seq: 3, messages: seqs.map((seq) => ({ ...last, seq, message: id(seq) })) })
  mailbox.takePage(TALK, page(6, 5))
  assert.deepEqual(held(mailbox), [9])
  mailbox.takePage(TALK, page(8, 7))
  assert.deepEqual(held(mailbox), [7, 8, 9])
  mailbox.takePage(TALK, page(6, 5, 4, 3))
  assert.deepEqual([held(mailbox), mailbox.olderBefore(TALK)], [[3, 4, 5, 6, 7, 8, 9], undefined])
})

test('frames about a conversation that is not known yet are applied after it, in their order', () => {
  const mailbox = new Mailbox()
  mailbox.user = id(9)
  take(mailbox, 4)
  mailbox.apply(settings(2, 6, { lifetime_s: 60 }))
  const participants = [{ user: BOB, joined_seq: 0, delivered_seq: 0, read_seq: 0 }]
  const changed = mailbox.apply({
    type: 'conversation', conversation: TALK, kind: 'group', first_seq: 1, last_seq: 3, participants_version: 5, participants,
    last_message: { type: 'message', conversation: TALK, message: id(3), seq: 3, sender: BOB, content: BOB },
  })
  assert.deepEqual(changed.map(({ seq }) => seq), [4, 3])
  assert.deepEqual(held(mailbox), [3, 4])
  const { lifetime_s, first_seq, last_seq, participants: [bob] } = told(mailbox)
  assert.deepEqual([lifetime_s, first_seq, last_seq, bob.read_seq], [60, 2, 4, 4])
})

test('all that a mailbox holds comes back from its store', async () => {
  const store = new MemoryStore()
  const mailbox = new Mailbox(new Journal(store))
  mailbox.user = BOB
  mailbox.apply({ type: 'conversation', conversation: TALK, kind: 'group', first_seq: 1, last_seq: 0, participants_version: 1, participants: [{ user: BOB, joined_seq: 0 }] })
  take(mailbox, 1, 2, 4)
  mailbox.plaintexts.keep(mailbox.entry(TALK, 2), 'says')
  mailbox.markRead(TALK, 1)
  mailbox.cursor = BOB
  await mailbox.journal.flush()
  mailbox.apply(settings(2, 2))
  take(mailbox, 5)
  await mailbox.journal.flush()
  const another = new Mailbox()
  another.user = BOB
  another.restore(await store.load())
  assert.deepEqual([held(another), another.gaps(), another.marks(), another.cursor], [held(mailbox), mailbox.gaps(), mailbox.marks(), BOB])
  assert.deepEqual(told(another), told(mailbox))
  assert.equal(another.plaintexts.of(another.entry(TALK, 2)), 'says')
  assert.equal((await store.load()).some(([key]) => key.endsWith('/0000000000000000001')), false, 'what lies below the floor is gone')
  another.drop()
})
