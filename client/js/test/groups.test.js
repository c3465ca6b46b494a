// A device asks for the state of a group that another device should have put, and puts it where there is none (SPEC 19.16).

import assert from 'node:assert/strict'
import test from 'node:test'
import { toBase64, uuid } from '../bytes.js'
import { Groups } from '../e2ee/groups.js'
import { Http } from '../http.js'
import { TALK } from './local_server.js'

const STATE = new Uint8Array([1, 2, 3])
const PATH = `/v1/conversations/${uuid(TALK)}/state`

// What a device asks for after a control message of another device (or its own), by a clock that the test moves. `found` is the
// status and body of the server's answer to GET.
function device(mock, found) {
  mock.timers.enable({ apis: ['setTimeout'] })
  const asked = []
  const fetch = async (url, { method, headers, body }) => {
    asked.push([method, new URL(url).pathname, method === 'GET' ? headers['if-none-match'] : JSON.parse(body)])
    const [status, json] = method === 'GET' ? found : [204]
    return { status, ok: status < 300, text: async () => (json ? JSON.stringify(json) : '') }
  }
  const protocol = { stateOf: async () => ({ controlSeq: 7, state: STATE, isOwn: false }), havePut: () => {} }
  const groups = new Groups({ isOnline: true, changed: () => {} }, protocol, new Http('http://server', () => 'token', fetch))
  const settled = async () => { for (let turn = 0; turn < 20; turn++) await undefined }
  const pass = async (ms) => { mock.timers.tick(ms); await settled() }
  return { groups, asked, pass, settled }
}

const GET = ['GET', PATH, '*']
const PUT = ['PUT', PATH, { control_seq: 7, state: toBase64(STATE) }]

test('30 to 90 s after a control message of another device it asks once whether there is a state, and puts a missing one', async ({ mock }) => {
  const { groups, asked, pass } = device(mock, [200, { control_seq: 7, state: null }])
  groups.controlHandled(TALK, false)
  groups.controlHandled(TALK, false)
  await pass(29_999)
  assert.deepEqual(asked, [])
  await pass(60_001)
  assert.deepEqual(asked, [GET, PUT])
  await pass(600_000)
  assert.deepEqual(asked, [GET, PUT])
})

test('it puts no state where there is one, or after another control message, or where it cannot ask', async ({ mock }) => {
  for (const found of [[304], [200, { control_seq: 8, state: null }], [503, { code: 'unavailable' }]]) {
    mock.timers.reset()
    const { groups, asked, pass } = device(mock, found)
    groups.controlHandled(TALK, false)
    await pass(90_000)
    assert.deepEqual(asked, [GET], `the answer ${found[0]}`)
  }
})

test('after its own control message it puts the state at once, and a device that has stopped asks no longer', async ({ mock }) => {
  const { groups, asked, pass, settled } = device(mock, [200, { control_seq: 7, state: null }])
  groups.controlHandled(TALK, true)
  await settled()
  assert.deepEqual(asked, [PUT])
  groups.controlHandled(TALK, false)
  groups.stop()
  await pass(90_000)
  assert.deepEqual(asked, [PUT])
})
