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

// What this client takes all the same: CBOR does not tell it floats from integers nor `undefined` from an absent field, it does without
// some fields, and it knows no frame that only servers read.
const TAKEN = /1\.0|128\.0|is undefined|9 levels|^hello from/

const invalid = JSON.parse(readFileSync(new URL('../../../protocol/vectors/invalid.json', import.meta.url), 'utf8'))
  .filter(({ direction, name }) => direction === 'from_server' && !TAKEN.test(name))

test('bytes that are no frames, and values that a field may not have, are refused', () => {
  assert.ok(invalid.length > 800)
  const taken = invalid.filter((vector) => !refuses(vector.hex)).map(({ name }) => name)
  assert.deepEqual(taken.filter((name) => !name.includes(' without ')), [])
  const needed = invalid.map(({ name }) => name).filter((name) => name.includes(' without ') && !taken.includes(name))
  for (const name of ['message without seq', 'a tombstone without seq in messages', 'welcome without user', 'departed without users', 'sent without seq']) {
    assert.ok(needed.some((each) => each.startsWith(name)), name)
  }
})

function refuses(bytes) {
  try {
    decode(bytesOf(bytes))
  } catch (error) {
    if (error instanceof NotCbor) return true
    throw error
  }
  return false
}
