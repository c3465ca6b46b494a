// The golden vectors of the protocol, run by a client that knows nothing of the server's code.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { hex, unhex as bytesOf } from '../bytes.js'
import { NotCbor } from '../cbor.js'
import { decode, encode } from '../codec.js'

const BYTES = new Set([
  'conversation', 'message', 'sender', 'content', 'nonce', 'ephemeral_public_key', 'temp_id', 'user', 'device', 'cursor',
  'actor', 'asked_by', 'thumbnail', 'attachment', 'thumbnail_of', 'digest', 'identity', 'key_history', 'envelope',
])
const ARRAYS_OF_BYTES = new Set(['marks', 'heads', 'users', 'receipts', 'attachments', 'wanted', 'avatar', 'changed_users', 'envelopes',
  'unknown_devices'])
const ARRAYS_OF_MAPS = new Set(['messages', 'conversations', 'participants', 'former', 'tickets', 'downloads', 'devices'])
const KEYS = new Set(['one_time_keys', 'last_resort_keys'])

function vectors(name) {
  const text = readFileSync(new URL(`../../../protocol/vectors/${name}.json`, import.meta.url), 'utf8')
  // JSON.parse would round numbers above 2^53.
  const kept = text.replace(/(": |, |\[)(\d{16,})(?=[,\]}])/g, '$1"n$2"')
  return JSON.parse(kept, (_, value) => (/^n\d{16,}$/.test(value) ? number(BigInt(value.slice(1))) : value))
}

function number(value) {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
}

function unhex(value) {
  if (Array.isArray(value)) return value.map(unhex)
  return typeof value === 'string' ? bytesOf(value) : value
}

// A frame as the vectors show it, with its byte strings as bytes.
function frameOf(shown) {
  const fields = Object.entries(shown).map(([name, value]) => {
    if (BYTES.has(name) || ARRAYS_OF_BYTES.has(name)) return [name, unhex(value)]
    if (name === 'last_message') return [name, frameOf(value)]
    if (ARRAYS_OF_MAPS.has(name)) return [name, value.map(frameOf)]
    if (KEYS.has(name)) return [name, value.map(([kind, number, key]) => [kind, number, unhex(key)])]
    if (name === 'pools') return [name, value.map((pool) => pool.map((each, n) => (n === 4 ? unhex(each) : each)))]
    if (name === 'files') return [name, value.map(([size, type, ...bytes]) => [size, type, ...unhex(bytes)])]
    return [name, value]
  })
  return Object.fromEntries(fields)
}

for (const name of ['valid', 'ignored']) {
  for (const vector of vectors(name)) {
    test(`${name}: ${vector.name}`, () => {
      const frames = vector.frames.map(frameOf)
      assert.deepEqual(decode(bytesOf(vector.hex)), frames)
      if (name === 'valid') assert.equal(hex(encode(...frames)), vector.hex)
    })
  }
}

// What is no sequence of frames at all; this client does not check the values of fields.
const BROKEN = [
  'no bytes from a server', 'a number from a server', 'a number after a frame from a server', 'a frame of indefinite length from a server',
  'bytes of indefinite length in a field from a server', 'a tag before a frame from a server', 'a tag in a field from a server',
  'the type twice from a server', 'a text as key from a server', 'false in place of key 0 from a server',
  'a text that is no UTF-8 from a server', 'a frame that is cut from a server', 'a second frame that is cut from a server',
  'no type from a server', 'a type that is true from a server', 'a type that is a text from a server',
]

const invalid = JSON.parse(readFileSync(new URL('../../../protocol/vectors/invalid.json', import.meta.url), 'utf8'))

for (const vector of invalid.filter((each) => BROKEN.includes(each.name))) {
  test(`invalid: ${vector.name}`, () => {
    assert.throws(() => decode(bytesOf(vector.hex)), NotCbor)
  })
}

test('there is a vector for each way in which bytes are no frames', () => {
  const there = new Set(invalid.map(({ name }) => name))
  assert.deepEqual(BROKEN.filter((name) => !there.has(name)), [])
})
