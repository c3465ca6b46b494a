// What messages say, and their files, in the bytes that both reference clients make: tests/client/e2ee/test_contents.py reads the
// same vectors.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { hex, randomBytes, sha256, unhex, utf8 } from '../bytes.js'
import { CONTENT_TYPE, NotContent, decodeContent, encodeContent } from '../contents.js'
import { CHUNK_BYTES, NotTheFile, decryptFile, encryptFile } from '../e2ee/sealed_files.js'
import { Mailbox } from '../mailbox.js'

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../protocol/vectors/${name}.json`, import.meta.url), 'utf8'))
const NAMES = { sizeBytes: 'size_bytes', mediaType: 'media_type' }
const bytesOf = (blob) => blob.arrayBuffer().then((buffer) => new Uint8Array(buffer))

function shown(value) {
  if (value instanceof Uint8Array) return hex(value)
  if (Array.isArray(value)) return value.map(shown)
  if (typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [NAMES[name] ?? name, shown(field)]))
}

for (const vector of vectors('contents')) {
  test(`a content: ${vector.name}`, () => {
    if (!vector.content) return assert.throws(() => decodeContent(unhex(vector.hex)), NotContent)
    const { text, ...content } = decodeContent(unhex(vector.hex))
    assert.deepEqual(shown(text ? { text, ...content } : content), vector.content)
    if (vector.is_canonical !== false) assert.equal(hex(encodeContent({ text, ...content })), vector.hex)
  })
}

test('a content that others would refuse is not encoded', () => {
  assert.throws(() => encodeContent({ reaction: { message: Uint8Array.of(1), text: 'x' } }), NotContent)
  assert.throws(() => encodeContent({ files: [{ attachment: new Uint8Array(16), name: 'x', sizeBytes: 1, key: new Uint8Array(31) }] }), NotContent)
})

for (const vector of vectors('files')) {
  test(`encryption of ${vector.name}`, async () => {
    const plain = Uint8Array.from({ length: vector.size_bytes }, (_, at) => at % 251)
    const key = unhex(vector.key)
    const { blob } = await encryptFile(new Blob([plain]), key)
    assert.deepEqual([blob.size, hex(await sha256(await blob.arrayBuffer()))], [vector.sealed_bytes, vector.sealed_sha256])
    const opened = await decryptFile(blob, { key, sizeBytes: plain.length, mediaType: 'image/png' })
    assert.deepEqual([await bytesOf(opened), opened.type], [plain, 'image/png'])
  })
}

test('a file that is not the one that was sent is refused', async () => {
  const { blob, key } = await encryptFile(new Blob([randomBytes(60_000), randomBytes(60_000), randomBytes(60_000)]))
  const step = CHUNK_BYTES + 16
  const file = { key, sizeBytes: 180_000 }
  const faults = {
    'another key': [blob, { ...file, key: randomBytes(32) }],
    'cut off': [blob.slice(0, -1), file],
    'a chunk less': [blob.slice(0, 2 * step), { ...file, sizeBytes: 120_000 }],
    swapped: [new Blob([blob.slice(step, 2 * step), blob.slice(0, step), blob.slice(2 * step)]), file],
    longer: [blob, { ...file, sizeBytes: 500_000 }],
  }
  for (const [name, [sealed, told]] of Object.entries(faults)) await assert.rejects(decryptFile(sealed, told), NotTheFile, name)
})

test('a reaction of a user takes the place of that user\'s one before, and an empty one takes it back', () => {
  const [TALK, ANN, BOB] = [1, 2, 3].map((number) => new Uint8Array(16).fill(number))
  const id = (seq) => new Uint8Array(16).fill(seq)
  const mailbox = new Mailbox()
  mailbox.user = ANN
  mailbox.apply({ type: 'conversation', conversation: TALK, kind: 'direct', first_seq: 1, last_seq: 0, participants_version: 1, participants: [] })
  const put = (seq, sender, content, content_type = CONTENT_TYPE) => mailbox.apply({ type: 'message', conversation: TALK, message: id(seq), seq, sender, content, content_type })
  const react = (seq, sender, text) => put(seq, sender, encodeContent({ reaction: { message: id(1), text } }))
  put(1, ANN, utf8('hello'), 'text/plain')
  react(2, BOB, '👍')
  react(3, ANN, '😀')
  react(4, BOB, '😢')
  assert.deepEqual(mailbox.says(mailbox.entry(TALK, 1)), { text: 'hello' })
  assert.deepEqual(mailbox.reactions(TALK), new Map([[hex(id(1)), new Map([[hex(BOB), '😢'], [hex(ANN), '😀']])]]))
  react(5, ANN, '')
  put(6, ANN, utf8('garbage'))
  assert.deepEqual(mailbox.reactions(TALK), new Map([[hex(id(1)), new Map([[hex(BOB), '😢']])]]))
  mailbox.apply({ type: 'tombstone', conversation: TALK, message: id(4), seq: 4, sender: BOB })
  assert.equal(mailbox.reactions(TALK).get(hex(id(1))).get(hex(BOB)), '👍')
  assert.equal(mailbox.says(mailbox.entry(TALK, 6)), undefined)
})
