// What the tests of test_client.py call in the page: each call begins something, and `window.outcome` tells its end.

import { hex, unhex } from '/client/js/bytes.js'
import { Client } from '/client/js/client.js'
import { decode, encode } from '/client/js/codec.js'
import { IndexedDbStore } from '/client/js/stores/indexeddb.js'
import { run } from '/client/js/test/scenario.js'

const loginOf = ({ user, device, token }) => ({ user: unhex(user), device: unhex(device), token, came: 0 })

function begin(act) {
  window.outcome = undefined
  act().then((value) => (window.outcome = { value: value ?? null }), (error) => (window.outcome = { error: `${error.stack ?? error}` }))
}

// The bytes of each vector that this client decodes and encodes again, in hex. (Numbers above 2^53 are kept as they are.)
window.vectors = () => begin(async () => {
  const found = await (await fetch('/protocol/vectors/valid.json')).json()
  return found.map((vector) => hex(encode(...decode(unhex(vector.hex)))))
})

window.scenario = ({ urls, people, talk }) => begin(async () => {
  const steps = []
  let stores = 0
  await run({
    urls,
    people: Object.fromEntries(Object.entries(people).map(([name, login]) => [name, loginOf(login)])),
    talk: unhex(talk),
    memory: () => IndexedDbStore.open(`scenario ${stores++}`),
    open: (addresses, login, store) => Client.open(addresses, { login, store }),
    killFirst: () => new Promise((resolve) => { window.isKilled = resolve }),
  }, (step) => steps.push(step))
  return steps
})

const VALUE = { bytes: Uint8Array.of(1, 2), map: new Map([['a', 2n ** 60n]]), set: new Set([3]), text: 'ü' }

window.fill = () => begin(async () => {
  const durabilities = []
  const original = IDBDatabase.prototype.transaction
  IDBDatabase.prototype.transaction = function (tables, mode, options) {
    const transaction = original.call(this, tables, mode, options)
    if (mode === 'readwrite') durabilities.push(transaction.durability)
    return transaction
  }
  const store = await IndexedDbStore.open('kept')
  await store.commit(new Map([['a', VALUE], ['b', 1]]))
  await store.commit(new Map([['b', undefined], ['c', 2]]))
  const refused = await store.commit(new Map([['c', 3], ['d', () => {}]])).then(() => 'stored', (error) => error.name)
  return { durabilities, refused }
})

window.kept = () => begin(async () => {
  const store = await IndexedDbStore.open('kept')
  const { a, ...rest } = Object.fromEntries(await store.load())
  const isSame = a.bytes[1] === 2 && a.map.get('a') === 2n ** 60n && a.set.has(3) && a.text === 'ü'
  store.close()
  await IndexedDbStore.delete('kept')
  const after = await (await IndexedDbStore.open('kept')).load()
  return { isSame, rest, after }
})

const frames = {}

window.openTab = (name, given) => begin(async () => {
  const frame = document.createElement('iframe')
  frame.src = 'tab.html'
  const isLoaded = new Promise((resolve) => { frame.onload = resolve })
  document.body.append(frame)
  await isLoaded
  frames[name] = frame
  await frame.contentWindow.open(given)
})

window.tabOf = (name) => frames[name].contentWindow
window.closeTab = (name) => { frames[name].remove(); delete frames[name] }
window.isReady = true
