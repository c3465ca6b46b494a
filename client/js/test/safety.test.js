// Safety numbers, beside the one that the terminal client computes of the same bytes (client/e2ee/known.py).

import assert from 'node:assert/strict'
import test from 'node:test'
import { numberOf, safetyNumber } from '../e2ee/safety.js'

const bytes = (number, length = 16) => new Uint8Array(length).fill(number)
const ANN = bytes(1)
const BOB = bytes(2)
const DEVICES = [
  { user: ANN, device: bytes(9), identity: bytes(3, 32) },
  { user: ANN, device: bytes(8), identity: bytes(4, 32) },
  { user: BOB, device: bytes(7), identity: bytes(5, 32) },
]
const NUMBER = '386304731592940396348178828062523727327130908586465088956385'

test('both users see one number, in whatever order devices come, and another one for another key', async () => {
  assert.equal(await numberOf([ANN, BOB], DEVICES), NUMBER)
  assert.equal(await numberOf([BOB, ANN], [...DEVICES].reverse()), NUMBER)
  const changed = DEVICES.map((each) => ({ ...each, identity: each.user === BOB ? bytes(6, 32) : each.identity }))
  assert.notEqual(await numberOf([ANN, BOB], changed), NUMBER)
})

test('a device of another encryption changes no number', async () => {
  const other = { user: BOB, device: bytes(6), identity: bytes(1, 129) }
  const client = { limits: new Map(), request: async () => ({ devices: [...DEVICES, other], more: false }) }
  assert.equal(await safetyNumber(client, ANN, BOB), NUMBER)
})
