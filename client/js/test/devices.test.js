// The devices of other users, without a server (SPEC 19.3, 19.4).

import assert from 'node:assert/strict'
import test from 'node:test'
import { hex, utf8 } from '../bytes.js'
import { KnownDevices, allDevices } from '../devices.js'

const BOB = new Uint8Array(16).fill(2)

function device(number, identity = `device ${number}`, identity_revision = 1, user = BOB) {
  return { user, device: new Uint8Array(16).fill(number), identity: utf8(identity), identity_revision }
}

test('a device notices new devices, gone devices and changed identities, once each', () => {
  const known = new KnownDevices()
  const changed = device(1, 'another', 2)
  assert.deepEqual(known.take([BOB], [device(1), device(2)]), [])
  assert.deepEqual(known.take([BOB], [device(1), device(2)]), [])
  assert.deepEqual(known.take([BOB], [device(1), device(3)]), [['gone', device(2)], ['new', device(3)]])
  assert.deepEqual(known.take([BOB], [changed, device(3)]), [['changed', changed]])
  assert.deepEqual(known.take([BOB], [device(1), device(3)]), [], 'an older list')
  assert.deepEqual(known.of(BOB), [changed, device(3)])
})

test('all devices come page by page, for as many users at a time as may be asked about', async () => {
  const users = Array.from({ length: 5 }, (_, n) => new Uint8Array(16).fill(n + 1))
  const devices = users.map((user, n) => device(n + 1, 'x', 1, user))
  const asked = []
  const client = {
    limits: new Map([['users_per_devices', 3]]),
    request: async ({ type, users: some, device: after }) => {
      assert.equal(type, 'devices')
      asked.push(some.length)
      const found = devices.filter((each) => {
        return some.includes(each.user) && (!after || hex(each.device) > hex(after))
      })
      return { devices: found.slice(0, 1), more: found.length > 1 }
    },
  }
  assert.deepEqual(await allDevices(client, users), devices)
  assert.deepEqual(asked, [3, 3, 3, 2, 2])
})
