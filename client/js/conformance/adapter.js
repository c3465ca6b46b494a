// The adapter of this client for the conformance kit (protocol/conformance/README.md), for Node:
//   python -m protocol.conformance -- node client/js/conformance/adapter.js
// One JSON object a line in both directions; ids and contents are in hexadecimal.

import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import WebSocket from 'ws'
import { hex, unhex } from '../bytes.js'
import { Client, RequestRefused } from '../client.js'
import { allDevices, KnownDevices } from '../devices.js'
import { Encryption } from '../e2ee/encryption.js'
import { Mls } from '../e2ee/mls.js'
import { MemoryStore } from '../stores/memory.js'

const VERSION = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version
const CAN = ['edit', 'delete', 'mark_read', 'devices', 'unread_count', 'name', 'participants', 'devices_version', 'retry_after',
  'envelopes', 'is_request', 'lifetime_s', 'typing', 'watch', 'control', 'encrypts']

/** @type {Client | undefined} */
let client
/** @type {number | null} the close code after which the client does not connect again */
let ended = null
let store = new MemoryStore()
let known = new KnownDevices()

/** @returns {Client} */
function running() {
  if (!client) throw new Error('the client is not running: send `start` first')
  return client
}

/** Waits until the client is connected. @returns {Promise<Client>} */
async function online() {
  const running_ = running()
  if (!running_.isOnline) await running_.next('online')
  return running_
}

/** @type {Record<string, (command: any) => Promise<object | void>>} */
const COMMANDS = {
  about: async () => ({ name: `alo-js/${VERSION}`, can: CAN }),

  async start({ urls, token, user, device, keep, encrypts }) {
    if (!keep) {
      store = new MemoryStore()
      known = new KnownDevices()
    }
    ended = null
    const login = { user: unhex(user), device: unhex(device), token, came: 0 }
    const encryption = encrypts ? (/** @type {Client} */ each) => new Encryption(each, new Mls()) : undefined
    client = await Client.open(urls, { store, login, WebSocket: /** @type {any} */ (WebSocket), encryption })
    client.on('end', (code) => { ended = code })
    client.connect()
  },

  async stop() {
    await client?.bye()
    client = undefined
  },

  async send({ conversation, content, is_quiet: isQuiet, reply_to: replyTo }) {
    const { seq } = await running().send(unhex(conversation), running().isEncrypted ? { text: content } : unhex(content), { isQuiet, replyTo })
    return { seq }
  },

  async edit({ conversation, seq, content }) {
    const { revision } = await running().edit(unhex(conversation), seq, unhex(content))
    return { revision }
  },

  async delete({ conversation, seq, for_everyone: forEveryone }) {
    await running().delete(unhex(conversation), seq, { forEveryone })
  },

  async control({ conversation, content }) {
    const [talk, { mailbox }] = [unhex(conversation), running()]
    for (;;) {
      try {
        const { seq } = await running().send(talk, unhex(content), { isQuiet: true, follows: mailbox.head(talk)?.control_seq ?? 0 })
        return { seq }
      } catch (error) {
        const { code, control_seq: won } = /** @type {any} */ (error)
        if (code !== 'control_conflict') throw error
        mailbox.change(talk, (held) => held.expectControl(won))
        running().changed()
        while (!mailbox.entry(talk, won)) await running().next('entry')
      }
    }
  },

  async mark_read({ conversation, seq }) {
    running().markRead(unhex(conversation), seq)
  },

  async devices({ users }) {
    const asked = users.map(unhex)
    const listed = await allDevices(await online(), asked)
    const changes = known.take(asked, listed).map(([event, { device }]) => [event, hex(device)])
    return { devices: listed.map(({ device, identity }) => [hex(device), hex(identity)]), changes }
  },

  async watch({ users }) {
    running().signs.watch(users.map(unhex))
  },

  async ping() {
    for (;;) {
      const running_ = await online()
      const pong = await running_.request({ type: 'ping' }).catch(() => undefined) // it may be lost with its connection
      if (pong) return
    }
  },

  async state() {
    const conversations = client ? client.mailbox.conversations.map((id) => [hex(id), shown(id)]) : []
    const online = client?.signs.online.map(hex).sort() ?? []
    return { state: { conversations: Object.fromEntries(conversations), online, ended } }
  },
}

/** @param {Uint8Array} id of a conversation */
function shown(id) {
  const { mailbox } = running()
  const head = /** @type {any} */ (mailbox.head(id))
  return {
    kind: head.kind,
    name: head.name ?? null,
    first_seq: head.first_seq,
    last_seq: head.last_seq,
    unread_count: mailbox.unreadCount(id),
    devices_version: head.devices_version ?? 0,
    control_seq: head.control_seq ?? 0,
    lifetime_s: head.lifetime_s ?? null,
    is_request: head.is_request ?? false,
    typing: running().signs.typing(id).map(hex).sort(),
    participants: head.participants.map((/** @type {any} */ { user }) => hex(user)).sort(),
    messages: mailbox.entries(id).map(({ seq, content, has_envelopes: has, envelope }) => {
      return { seq, content: content ? hex(content) : null, envelope: has ? (envelope ? hex(envelope) : null) : undefined }
    }),
  }
}

/** @param {{ id: number, do: string, [field: string]: any }} command */
async function answer({ id, do: name, ...command }) {
  try {
    if (!COMMANDS[name]) throw new Error(`no command is called '${name}'`)
    return { id, ...await COMMANDS[name](command) }
  } catch (error) {
    if (error instanceof RequestRefused) return { id, refused: /** @type {any} */ (error).code }
    return { id, error: String(error) }
  }
}

const lines = createInterface({ input: process.stdin })
lines.on('line', async (line) => process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`))
lines.on('close', () => process.exit())
