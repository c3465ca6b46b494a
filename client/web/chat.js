// What one account shows: conversations, people, and what the user does with them. It reads from the mailbox of its device, and says
// `changed` whenever something of that is to be drawn again. All tabs of an account share the device (client/js/tabs.js).

import { equal, hex, unhex, uuid } from '../js/bytes.js'
import { Client } from '../js/client.js'
import { allDevices } from '../js/devices.js'
import { Encryption } from '../js/e2ee/encryption.js'
import { Mls } from '../js/e2ee/mls.js'
import { safetyNumber, usesMls } from '../js/e2ee/safety.js'
import { Events } from '../js/events.js'
import { Http } from '../js/http.js'
import { IndexedDbStore } from '../js/stores/indexeddb.js'
import { Tabs } from '../js/tabs.js'
import { SERVER, databaseOf, forget, keepVerified, verifiedBy } from './accounts.js'
import { FrameLog } from './frames.js'
import { lastShown, shownMessages } from './readings.js'

const NAME = 'alo-web/0.1.0'
const DRAWN_MS = 20
const TYPING_MS = 6000 // SPEC 9.1
const TYPING_AGAIN_MS = 3000
const EVENTS = { new: 'a new device', gone: 'a device less', changed: 'a device with other keys' }

export class Chat extends Events {
  state = 'connecting' // or online, offline, ended, failed; following: another tab has the connection
  reason = ''
  notices = [] // what has failed, or changed with keys, the latest last
  contacts = []
  keysRevision = 0 // grows whenever devices of users have changed
  frames = new FrameLog()
  #names = new Map() // user in hex -> how it was shown last
  #typing = new Map() // conversation and user in hex -> until when
  #presence = new Map() // user in hex -> the frame
  #isDrawn = true
  #toldTypingAt = 0
  #watched = ''
  #sending = new Set() // drafts of this tab, while another one has the connection

  // The account of this name, which has logged in on this browser. `gateways`: their URLs.
  static async open(name, gateways) {
    const store = await IndexedDbStore.open(databaseOf(name))
    const login = (await store.load()).find(([key]) => key === 'login')?.[1]
    if (!login) {
      forget(name)
      throw new Error(`This browser holds nothing of ${name} any more: log in again`)
    }
    const chat = new Chat(name, login)
    const options = { name: NAME, WebSocket: chat.frames.WebSocket, encryption: (client) => new Encryption(client, new Mls(), { http: chat.http }) }
    chat.#begin(new Tabs(name, store, (held) => Client.open(gateways, { store: held, ...options })))
    await chat.tabs.ready
    if (!chat.tabs.isLeading && chat.state === 'connecting') chat.state = 'following'
    chat.changed()
    return chat
  }

  constructor(name, { user, device, token }) {
    super()
    Object.assign(this, { name, user, device, token })
    this.http = new Http(SERVER, () => this.token)
  }

  #begin(tabs) {
    this.tabs = tabs
    const states = { online: 'online', current: 'online', offline: 'offline', end: 'ended', failed: 'failed' }
    for (const [event, state] of Object.entries(states)) {
      tabs.on(event, (...values) => {
        Object.assign(this, { state, reason: state === 'online' ? '' : String(values.at(-1)?.message ?? values.at(-1) ?? '') })
        this.changed()
      })
    }
    for (const event of ['plaintext', 'leading', 'following']) tabs.on(event, () => this.changed())
    tabs.on('entry', (entry) => {
      if (!entry.is_quiet) this.#typing.delete(hex(entry.conversation) + hex(entry.sender))
      this.changed()
    })
    tabs.on('leading', () => { if (this.state === 'following') this.state = 'connecting' })
    tabs.on('leading', (client) => client.on('devices', (changes) => this.#tellDevices(changes)))
    tabs.on('token', (token) => { this.token = token })
    tabs.on('push', (frame) => this.#take(frame))
    tabs.on('refused', ({ type, plaintext }, error) => {
      const text = plaintext?.text ? `. It said: ${plaintext.text}` : ''
      this.notice(`${type === 'send' ? 'A message' : `The ${type}`} was refused: ${error.message}${text}`)
    })
    tabs.on('current', () => { this.#watched = ''; this.loadContacts() })
    this.frames.on('changed', () => this.changed())
  }

  // For what makes requests, from any tab.
  get requester() {
    const { tabs } = this
    return {
      isOver: false,
      limits: tabs.client?.limits ?? new Map(),
      request: (frame) => tabs.ask('request', frame),
      on: (name, act) => tabs.on(name, act),
      off: (name, act) => tabs.off(name, act),
    }
  }

  // Something is to be drawn again, soon.
  changed() {
    if (!this.#isDrawn) return
    this.#isDrawn = false
    setTimeout(() => {
      this.#isDrawn = true
      this.#watch()
      this.emit('changed')
    }, DRAWN_MS)
  }

  get mailbox() {
    return this.tabs.mailbox
  }

  // Tells the user, until it is dismissed.
  notice(text) {
    this.notices = [...this.notices.filter((each) => each !== text), text]
    this.changed()
  }

  dismiss(text) {
    this.notices = this.notices.filter((each) => each !== text)
    this.changed()
  }

  // Does something that may fail; tells the user if it does. Returns whether it was done.
  async attempt(what, act) {
    try {
      await act()
      return true
    } catch (error) {
      this.notice(`${what}: ${error.message}`)
      return false
    } finally {
      this.changed()
    }
  }

  // Conversations as `mailbox.head` tells them, the latest first; requests are apart.
  get conversations() {
    const heads = this.mailbox.conversations.map((id) => this.mailbox.head(id)).filter(({ kind }) => kind !== 'self')
    for (const each of heads.flatMap(({ participants }) => participants)) this.#names.set(hex(each.user), each)
    return heads.sort((one, other) => other.active_at - one.active_at)
  }

  others({ participants }) {
    return participants.filter(({ user }) => !equal(user, this.user))
  }

  isMe(user) {
    return equal(user, this.user)
  }

  nameOf(user) {
    if (this.isMe(user)) return 'You'
    const told = this.#names.get(hex(user)) ?? this.contacts.find((each) => equal(each.user, user))
    return told?.display_name || told?.username || 'a user who has left'
  }

  nameOfHex(user) {
    return this.nameOf(unhex(user))
  }

  contactOf(user) {
    return this.contacts.find((each) => equal(each.user, user))
  }

  isAdmin({ kind, participants }) {
    return kind === 'group' && Boolean(participants.find(({ user }) => this.isMe(user))?.is_admin)
  }

  titleOf(head) {
    return head.name ?? (this.others(head).map(({ user }) => this.nameOf(user)).join(', ') || 'Nobody else')
  }

  // The names of those who type there.
  typing(conversation) {
    const now = Date.now()
    const here = [...this.#typing].filter(([key, until]) => key.startsWith(hex(conversation)) && until > now)
    return here.map(([key]) => this.nameOf(unhex(key.slice(32))))
  }

  presence(user) {
    return this.#presence.get(hex(user))
  }

  messages(conversation) {
    return shownMessages(this.mailbox, conversation)
  }

  lastMessage(conversation) {
    return lastShown(this.mailbox, conversation)
  }

  // A content in one line.
  summaryOf({ text, files = [] }) {
    return text || files.map(({ name }) => name).join(', ')
  }

  // What was not sent yet in a conversation, in order.
  waiting(conversation) {
    const drafts = this.tabs.client?.drafts ?? [...this.#sending]
    return drafts.filter((draft) => draft.type === 'send' && equal(draft.conversation, conversation) && !draft.plaintext?.reaction)
      .map(({ plaintext }) => plaintext)
  }

  send(conversation, content, options = {}) {
    this.#toldTypingAt = 0
    const draft = { type: 'send', conversation, plaintext: content }
    if (!this.tabs.isLeading) this.#sending.add(draft)
    const done = () => { this.#sending.delete(draft); this.changed() }
    this.tabs.send(conversation, content, options).then(done, done) // `refused` tells a failure
    this.changed()
  }

  edit({ entry, content }, text) {
    this.#ask('edit', entry.conversation, entry.seq, { ...content, text }, { attachments: entry.attachments })
  }

  delete({ conversation, seq }, forEveryone) {
    this.#ask('delete', conversation, seq, { forEveryone })
  }

  // An empty `emoji` takes the reaction back.
  react({ conversation, seq }, emoji) {
    this.#ask('react', conversation, seq, emoji)
  }

  #ask(method, ...values) {
    this.tabs.ask(method, ...values).then(() => this.changed(), () => {}) // `refused` tells it
    this.changed()
  }

  // The safety number with another user: 60 digits.
  safetyNumber(user) {
    return safetyNumber(this.requester, this.user, user)
  }

  // Who cannot read here, or not on all devices: a sentence for each.
  async unreadableBy(head) {
    const others = this.others(head).map(({ user }) => user)
    const devices = await allDevices(this.requester, others)
    return others.map((user) => {
      const own = devices.filter((device) => equal(device.user, user))
      if (!own.some(usesMls)) return `${this.nameOf(user)} has no device that can read what you write here.`
      return own.every(usesMls) ? '' : `${this.nameOf(user)} has a device that cannot read what you write here: it uses another encryption.`
    }).filter(Boolean)
  }

  // The safety number with a user that was compared last.
  verified(user) {
    return verifiedBy(this.name)[hex(user)]
  }

  verify(user, number) {
    keepVerified(this.name, hex(user), number)
    this.changed()
  }

  #tellDevices(changes) {
    this.keysRevision += 1
    for (const [event, { user }] of changes) {
      const whose = this.isMe(user) ? 'You have' : `${this.nameOf(user)} has`
      this.notice(`${whose} ${EVENTS[event]}: the safety number has changed, see Details`)
    }
  }

  // The user has seen a conversation up to its end.
  markRead({ conversation, unread_count }) {
    const last = this.mailbox.entries(conversation).at(-1)
    if (unread_count && last) this.tabs.ask('markRead', conversation, last.seq).then(() => this.changed(), () => {})
  }

  // The user types there.
  tellTyping({ conversation, is_request }) {
    const now = Date.now()
    if (is_request || now - this.#toldTypingAt < TYPING_AGAIN_MS) return
    this.#toldTypingAt = now
    this.tabs.ask('request', { type: 'set_typing', conversation, is_typing: true }).catch(() => {})
  }

  // The conversation with the user of this name, which is made if there is none; its id.
  async openDirect(username) {
    const { user } = await this.http.ask('GET', `/v1/users/${encodeURIComponent(username)}`)
    return this.#create({ kind: 'direct', participants: [user] })
  }

  async openGroup(name, usernames) {
    const found = await Promise.all(usernames.map((each) => this.http.ask('GET', `/v1/users/${encodeURIComponent(each)}`)))
    return this.#create({ kind: 'group', name, participants: found.map(({ user }) => user) })
  }

  async #create(wanted) {
    const { conversation } = await this.http.ask('POST', '/v1/conversations', wanted)
    return unhex(conversation)
  }

  async loadContacts() {
    const found = []
    for (let cursor = ''; cursor !== null;) {
      const page = await this.http.ask('GET', `/v1/contacts${cursor && `?cursor=${encodeURIComponent(cursor)}`}`).catch(() => undefined)
      if (!page) return
      found.push(...page.contacts.map((each) => ({ ...each, user: unhex(each.user) })))
      cursor = page.cursor
    }
    this.contacts = found
    this.changed()
  }

  // Makes a contact of a user, also of one who was blocked, or blocks the user. `removeContact` leaves a block as it is.
  async setContact(user, isBlocked) {
    await this.http.ask('PUT', `/v1/contacts/${uuid(user)}`, { is_blocked: isBlocked })
    await this.loadContacts()
  }

  async removeContact(user) {
    await this.http.ask('DELETE', `/v1/contacts/${uuid(user)}`)
    await this.loadContacts()
  }

  // `answer`: accept or decline.
  answerRequest({ conversation }, answer) {
    return this.http.ask('POST', `/v1/conversations/${uuid(conversation)}/${answer}`)
  }

  #take(frame) {
    if (frame.type === 'typing') {
      this.#typing.set(hex(frame.conversation) + hex(frame.user), frame.is_typing ? Date.now() + TYPING_MS : 0)
      setTimeout(() => this.changed(), TYPING_MS + 1)
    } else if (frame.type === 'presence') this.#presence.set(hex(frame.user), frame)
    else if (frame.type === 'contact') this.loadContacts()
    this.changed()
  }

  // Asks for the presence of everybody with whom the user talks.
  #watch() {
    const { client } = this.tabs
    if (client && !client.isOnline) return
    const heads = this.conversations.filter((head) => !head.is_request)
    // A user who accepts a request is shown from then on: marks of the user tell that first.
    const versionOf = (head) => [head.participants_version, ...this.others(head).map(({ delivered_seq }) => delivered_seq > 0)]
    const key = heads.map((head) => [hex(head.conversation), ...versionOf(head)].join(' ')).sort().join()
    if (key === this.#watched) return
    this.#watched = key
    const users = new Map(heads.flatMap((head) => this.others(head)).map(({ user }) => [hex(user), user]))
    const watched = [...users.values()].slice(0, this.requester.limits.get('users_per_watch') ?? 256)
    this.tabs.ask('request', { type: 'watch', users: watched }).catch(() => { this.#watched = '' })
  }
}
