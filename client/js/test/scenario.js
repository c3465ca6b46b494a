// What a client has to do against a real server, in Node and in a browser: sending, receiving by key, edits and tombstones, gaps,
// marks, resuming on another node after the first was killed, and holding at the end what a fresh device is told (SPEC 5, 6, 17).
//
// `world`: { urls: [first, second], people: { alice, bob, tablet }, talk, open(urls, login, store), memory(), killFirst() };
// alice and bob are two users in the conversation `talk`, tablet is another device of bob. `steps` gets each sentence that holds.

import { hex, textOf, utf8 } from '../bytes.js'
import { RequestRefused } from '../errors.js'

function check(isSo, sentence) {
  if (!isSo) throw new Error(`it is not so that ${sentence}`)
}

// Resolves once it holds; looks again after each event.
export function until(client, holds) {
  if (holds()) return Promise.resolve()
  return new Promise((resolve) => {
    const names = ['entry', 'push', 'current']
    const look = () => {
      if (!holds()) return
      for (const name of names) client.off(name, look)
      resolve()
    }
    for (const name of names) client.on(name, look)
  })
}

export const texts = (client, talk) => client.mailbox.entries(talk).map(({ content, type }) => (content ? textOf(content) : type))

// What a user sees of a conversation, comparable between devices. Not in it: ids of an own device's sending, which others lack.
export function view({ mailbox }, talk) {
  const { participants, ...head } = mailbox.head(talk)
  const shown = (value) => (value instanceof Uint8Array ? hex(value) : value)
  const plain = (frame) => Object.fromEntries(Object.entries(frame).filter(([name, value]) => value !== undefined && name !== 'last_message')
    .map(([name, value]) => [name, shown(value)]).sort(([one], [other]) => (one < other ? -1 : 1)))
  const entries = mailbox.entries(talk)
  return JSON.stringify({ head: plain(head), people: participants.map(plain), entries: entries.map(plain), states: entries.map((each) => mailbox.status(each)) }, (_, value) => shown(value))
}

async function loadAll(client, talk) {
  while (client.mailbox.olderBefore(talk) !== undefined) await client.loadOlder(talk, 20)
}

export async function run(world, steps) {
  const { urls: [first, second], people, talk } = world
  const say = (text) => steps(text)
  const [aliceStore, bobStore] = await Promise.all([world.memory(), world.memory()])
  const start = async (urls, login, store) => {
    const client = await world.open(urls, login, store)
    const current = client.next('current')
    client.connect()
    await current
    return client
  }
  const alice = await start([second], people.alice, aliceStore)
  const bob = await start([first, second], people.bob, bobStore)

  const sent = await alice.send(talk, utf8('one'))
  await until(bob, () => texts(bob, talk).join() === 'one')
  const [received] = bob.mailbox.entries(talk)
  check(sent.seq === 1 && hex(received.message) === hex(sent.message) && received.created === sent.created, 'a message comes as it was acknowledged')
  say('a message comes as it was acknowledged')

  const same = { tempId: alice.newTempId() }
  const [once, twice] = await Promise.all([1, 2].map(() => alice.send(talk, utf8('two'), same)))
  check(once.seq === 2 && hex(once.message) === hex(twice.message), 'a temp_id makes one message')
  say('a temp_id makes one message')

  const edit = { type: 'edit', conversation: talk, seq: 1, content_type: 'text/plain', content: utf8('uno'), revision: 0 }
  check((await alice.request(edit)).revision === 1, 'an edit is a revision')
  await alice.request({ type: 'delete', conversation: talk, seq: 2, for_everyone: true })
  await until(bob, () => texts(bob, talk).join() === 'uno,tombstone')
  const refusal = await bob.request({ ...edit, revision: 1 }).catch((error) => error)
  check(refusal instanceof RequestRefused && refusal.code === 'not_the_sender', 'only its sender edits a message')
  say('edits and tombstones take the place of what was there')

  bob.markRead(talk, 2)
  await alice.send(talk, utf8('quiet'), { isQuiet: true })
  await until(bob, () => texts(bob, talk).length === 3 && bob.mailbox.unreadCount(talk) === 0)
  say('a quiet message is not unread')

  const isLost = bob.next('offline')
  await world.killFirst()
  await isLost
  const many = Array.from({ length: 40 }, (_, n) => `while away ${n}`)
  await Promise.all(many.map((text) => alice.send(talk, utf8(text))))
  await until(bob, () => texts(bob, talk).length === 43)
  check(texts(bob, talk).slice(3).join() === many.join(), 'a device that resumes on another node misses nothing, in order')
  check(texts(alice, talk).slice(3).join() === many.join(), 'a device holds what it has sent, in order')
  say('a device that resumes on another node misses nothing, in order')

  await bob.send(talk, utf8('back again'))
  await until(alice, () => texts(alice, talk).at(-1) === 'back again')
  await bob.bye()
  await alice.send(talk, utf8('missed'))
  const again = await start([second], people.bob, bobStore)
  check(texts(again, talk).slice(-2).join() === 'back again,missed', 'a device goes on from its store')
  say('a device goes on from its store')

  const tablet = await start([second], people.tablet, await world.memory())
  check(texts(tablet, talk).join() === 'missed', 'a fresh device begins at the last message')
  await Promise.all([alice, again, tablet].map((client) => loadAll(client, talk)))
  await until(tablet, () => tablet.mailbox.head(talk) !== undefined)
  const [held, told] = [view(again, talk), view(tablet, talk)]
  check(held === told, `a device that lived through all this holds what a fresh one is told:\n${held}\n${told}`)
  say('a device that lived through all this holds what a fresh one is told')
  await Promise.all([alice, again, tablet].map((client) => client.bye()))
}
