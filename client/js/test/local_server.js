// A server of a few lines, for tests of what a client does with given answers.

import { once } from 'node:events'
import WebSocket, { WebSocketServer } from 'ws'
import { Client } from '../client.js'
import { decode, encode } from '../codec.js'
import { utf8 } from '../bytes.js'

export const ME = new Uint8Array(16).fill(1)
export const TALK = new Uint8Array(16).fill(2)
export const BOB = new Uint8Array(16).fill(3)

const PUSHES = new Set(['message', 'tombstone', 'conversation', 'cursor', 'settings', 'receipts', 'lag', 'move'])
const WELCOME = {
  type: 'welcome', user: ME, device: ME, version: 1, created: 1, expires: 7_776_000_000_000, keep_alive_ms: 30_000,
  features: ['pages', 'temp_id'],
}

// A server with an answer for each type of request, and none for other types: (frame, socket) => frames. `heard` has every
// frame that came, `sockets` every connection.
export async function serve(answers, features = []) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'alo.v1' })
  await once(server, 'listening')
  const heard = []
  const sockets = []
  const always = { hello: () => [{ ...WELCOME, features: [...WELCOME.features, ...features] }], bye: () => [{ type: 'done' }], mark_delivered: () => [{ type: 'done' }], mark_read: () => [{ type: 'done' }] }
  server.on('connection', (socket) => {
    sockets.push(socket)
    socket.on('message', (data) => {
      for (const frame of decode(data)) {
        heard.push(frame)
        for (const answer of (answers[frame.type] ?? always[frame.type] ?? (() => []))(frame, socket)) {
          socket.send(encode(PUSHES.has(answer.type) ? answer : { ...answer, request: frame.request }))
        }
        if (frame.type === 'bye') setTimeout(() => socket.close(1000), answers.bye ? 200 : 0)
      }
    })
  })
  const url = `ws://127.0.0.1:${server.address().port}`
  return { url, heard, sockets, close: () => server.close(), push: (...frames) => sockets.at(-1).send(encode(...frames)) }
}

// A client that connects to it; `seen` has the seq of each entry.
export async function device({ url }, { store, ...options } = {}) {
  const login = { user: ME, device: ME, token: 'token', came: 0 }
  const given = { WebSocket, ...options }
  const client = store ? await Client.open([url], { store, login, ...given }) : new Client([url], 'token', given)
  client.seen = []
  client.on('entry', (entry) => client.seen.push(entry.seq))
  return client.connect()
}

export const told = { type: 'conversation', conversation: TALK, kind: 'group', name: 'G', first_seq: 1, participants_version: 1 }

export function message(seq, more) {
  const content = utf8(`says ${seq}`)
  return { type: 'message', conversation: TALK, seq, message: new Uint8Array(16).fill(seq), created: seq, sender: BOB, content_type: 'text', content, ...more }
}

export const synced = (cursor, more = false) => ({ type: 'synced', cursor: utf8(cursor), more })
