// The stores of Node: what was committed is there after any end of the program (SPEC 17.1, 20.4).

import assert from 'node:assert/strict'
import { appendFile, mkdtemp, readFile, rm, stat, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { Journal, StoreFailed } from '../journal.js'
import { FileStore } from '../stores/file.js'
import { MemoryStore } from '../stores/memory.js'

async function inFolder(act) {
  const folder = await mkdtemp(join(tmpdir(), 'alo-js-'))
  try {
    await act(join(folder, 'state'))
  } finally {
    await rm(folder, { recursive: true })
  }
}

const VALUE = { bytes: Uint8Array.of(1, 2), map: new Map([['a', 1n]]), set: new Set([3]), gone: undefined, text: 'ü' }

async function contents(path) {
  const store = new FileStore(path)
  const items = Object.fromEntries(await store.load())
  await store.close()
  return items
}

for (const [name, open] of [['memory', async () => new MemoryStore()], ['a file', async (path) => new FileStore(path)]]) {
  test(`a store in ${name} keeps values as they were when they were committed`, () => inFolder(async (path) => {
    const store = await open(path)
    assert.deepEqual(await store.load(), [])
    const value = structuredClone(VALUE)
    const committed = store.commit(new Map([['a', value], ['b', 1], ['c', 2]]))
    value.set.add(4)
    await committed
    await store.commit(new Map([['b', undefined], ['c', 3]]))
    if (store.close) assert.deepEqual(await contents(path), { a: VALUE, c: 3 })
    else assert.deepEqual(Object.fromEntries(await store.load()), { a: VALUE, c: 3 })
    await store.close?.()
  }))
}

test('a record that was not written to its end is left out as a whole, wherever it was cut', () => inFolder(async (path) => {
  const store = new FileStore(path)
  await store.load()
  await store.commit(new Map([['a', 1]]))
  const { size } = await stat(path)
  await store.commit(new Map([['a', 2], ['b', 2]]))
  await store.close()
  const whole = await readFile(path)
  for (let cut = size; cut < whole.length; cut += 3) {
    await truncate(path, cut)
    assert.deepEqual(await contents(path), { a: 1 }, `cut after ${cut} bytes`)
    const next = new FileStore(path)
    await next.load()
    await next.commit(new Map([['c', 3]]))
    await next.close()
    assert.deepEqual(await contents(path), { a: 1, c: 3 })
    await truncate(path, size)
    await appendFile(path, whole.subarray(size))
  }
  const broken = Buffer.from(whole)
  broken[whole.length - 1] ^= 1
  await truncate(path, size)
  await appendFile(path, broken.subarray(size))
  assert.deepEqual(await contents(path), { a: 1 })
}))

test('a file in which most was replaced is written anew, with the same contents, for its owner alone', () => inFolder(async (path) => {
  const store = new FileStore(path)
  await store.load()
  await store.commit(new Map([['kept', VALUE]]))
  const most = []
  for (let n = 0; n < 12; n++) {
    await store.commit(new Map([['large', new Uint8Array(300_000).fill(n)]]))
    most.push((await stat(path)).size)
  }
  assert.ok(Math.max(...most) < 2_000_000, String(most))
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  await store.commit(new Map([['after', 1]]))
  await store.close()
  assert.deepEqual(await contents(path), { kept: VALUE, large: new Uint8Array(300_000).fill(11), after: 1 })
}))

// A store whose commits end when the test says so.
function slow() {
  const commits = []
  return { commits, load: async () => [], commit: (changes) => new Promise((resolve, reject) => commits.push({ changes, resolve, reject })) }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

test('changes that wait for a commit go into the next one, together', async () => {
  const store = slow()
  const journal = new Journal(store)
  journal.put('a', 1)
  const first = journal.flush()
  await turn()
  journal.put('b', 1)
  const second = journal.flush()
  journal.put('b', 2)
  journal.remove('a')
  assert.equal(journal.flush(), second)
  await turn()
  assert.equal(store.commits.length, 1)
  store.commits[0].resolve()
  await first
  await turn()
  assert.deepEqual(store.commits.map(({ changes }) => [...changes]), [[['a', 1]], [['b', 2], ['a', undefined]]])
  store.commits[1].resolve()
  await second
  await journal.flush()
  assert.equal(store.commits.length, 2, 'nothing has changed since')
})

test('after a commit that has failed no other one is tried', async () => {
  const store = slow()
  const journal = new Journal(store)
  journal.put('a', 1)
  const first = journal.flush()
  await turn()
  store.commits[0].reject(new Error('the disk is full'))
  await assert.rejects(first, StoreFailed)
  journal.put('a', 2)
  await assert.rejects(journal.flush(), StoreFailed)
  assert.equal(store.commits.length, 1)
})
