// The example of the README, as it stands there, against a real server; the store and the addresses are the test's.

import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { pathToFileURL } from 'node:url'
import WebSocket from 'ws'

const { ALO_HTTP_URL, ALO_SOCKET_URLS } = process.env

test('the example of the README sends a message and reads it', { timeout: 30_000 }, async () => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const example = readme.match(/(?:^ {4}.*\n|^\n)+/gm).find((block) => block.includes('import')).replace(/^ {4}/gm, '')
  assert.ok(example.trim().split('\n').length <= 32)
  const code = example
    .replaceAll("'./client/js/", `'${new URL('..', import.meta.url)}`)
    .replace("import { IndexedDbStore }", 'import { MemoryStore }').replace('stores/indexeddb.js', 'stores/memory.js')
    .replace("await IndexedDbStore.open('ann')", 'new MemoryStore()')
    .replace('http://127.0.0.1:8000', ALO_HTTP_URL).replace('ws://127.0.0.1:8001', ALO_SOCKET_URLS.split(',')[1])
    .replaceAll("'ann'", "'reader-of-readme'")
  const folder = await mkdtemp(join(tmpdir(), 'alo-js-'))
  const path = join(folder, 'example.mjs')
  await writeFile(path, `${code}\nexport { client, seq, talk }\n`)
  globalThis.WebSocket = WebSocket
  try {
    const { client, seq, talk } = await import(pathToFileURL(path))
    assert.equal(seq, 1)
    assert.deepEqual(client.mailbox.entries(talk).map(({ content }) => new TextDecoder().decode(content)), ['hello'])
    await client.bye()
  } finally {
    delete globalThis.WebSocket
    await rm(folder, { recursive: true })
  }
})
