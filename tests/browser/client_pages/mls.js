// Two devices in one page: one adds the other by a commit with its Welcome, and they write to each other; each keeps its keys in
// IndexedDB, and reads them from there before each step.

import { equal, hex, randomBytes } from '/client/js/bytes.js'
import { Mls } from '/client/js/e2ee/mls.js'
import { Journal } from '/client/js/journal.js'
import { IndexedDbStore } from '/client/js/stores/indexeddb.js'

const TALK = new Uint8Array(16).fill(7)

async function device(number) {
  const store = await IndexedDbStore.open(`device ${number}`)
  const id = new Uint8Array(16).fill(number)
  const open = async () => {
    const mls = new Mls()
    const journal = new Journal(store)
    mls.own({ user: id, device: id })
    await mls.start(journal, await store.load())
    return { mls, keep: (step) => (step.commit(), journal.flush().then(() => step)) }
  }
  const { mls, keep } = await open()
  const { keys: [[, key]] } = await keep(await mls.makeKeys([1], false))
  return { id, key, open, identity: mls.identity() }
}

async function run() {
  const [a, b] = [await device(1), await device(2)]
  const set = { version: 1, devices: [a, b].map(({ id, identity }) => ({ user: id, device: id, identity, identity_revision: 1 })) }
  let seq = 0
  const read = []
  const send = async (from, to, text) => {
    const draft = { type: 'send', conversation: TALK, plaintext: { text }, fields: { content_type: 'text/plain', temp_id: randomBytes(16) } }
    for (let isControl = true; isControl;) {
      const { mls, keep } = await from.open()
      const prepared = await keep(await mls.prepare(draft, { set, keys: new Map([[hex(to.id), to.key]]), tempId: randomBytes(16) }))
      isControl = prepared.isControl
      const { envelopes, ...frame } = prepared.frame
      seq += 1
      for (const each of isControl ? [from, to] : [to]) {
        const own = envelopes?.find(([id]) => equal(id, each.id))
        const shown = { ...frame, seq, message: randomBytes(16), sender: from.id, device: from.id, envelope: own?.[1] }
        const { mls: reader, keep: store } = await each.open()
        const { plaintext, reason } = await store(await reader.receive(shown))
        if (plaintext || reason) read.push(reason ?? plaintext.text)
      }
    }
  }
  await send(a, b, 'from a')
  await send(b, a, 'from b')
  await send(a, b, 'again')
  return read
}

window.outcome = undefined
run().then((value) => (window.outcome = { value }), (error) => (window.outcome = { error: `${error.stack ?? error}` }))
