// The tabs of one browser share a device: one of them holds the connection and writes the store, the others follow it. When
// it is closed, another one takes over. Web Locks choose the one, a BroadcastChannel carries what it commits to the others.
//
//   const tabs = new Tabs('alo', await IndexedDbStore.open('alo'), (store) => Client.open(urls, { store, login }))
//   await tabs.ready
//   tabs.on('entry', (entry) => …)           // and all other events of a client, in every tab
//   await tabs.send(conversation, content)    // from every tab
//
// `mailbox` has what the device holds: in a tab that follows it is a copy, to be read only.

import { Events } from './events.js'
import { Mailbox } from './mailbox.js'

/** @typedef {import('./client.js').Client} Client */
/** @typedef {import('./journal.js').Store} Store */

const METHODS = new Set(['send', 'edit', 'delete', 'react', 'request', 'loadOlder', 'markRead', 'newTempId'])
const TOLD = ['plaintext', 'push', 'online', 'current', 'offline', 'refused', 'token', 'failed', 'end']

export class Tabs extends Events {
  /** @type {Client | undefined} in the tab that holds the connection */
  client
  #channel
  #store
  /** @type {Map<string, { ask: any, resolve: (value: any) => void, reject: (error: any) => void }>} */
  #asked = new Map()
  /** @type {Map<string, any>[] | undefined} what was committed while this tab loads */
  #early = []
  #leave = () => {}
  #hasLeft = false

  /** @param {string} name of the device @param {Store} store @param {(store: Store) => Promise<Client>} open makes the client,
   * which is not connected yet */
  constructor(name, store, open) {
    super()
    this.mailbox = new Mailbox()
    this.#channel = new BroadcastChannel(`alo-shield/${name}`)
    this.#channel.onmessage = ({ data }) => this.#take(data)
    this.#store = store
    this.ready = this.#follow()
    navigator.locks.request(`alo-shield/${name}`, () => this.#lead(open)).catch((error) => this.emit('failed', error))
  }

  // Whether this tab holds the connection.
  get isLeading() {
    return this.client !== undefined
  }

  /** As `Client.send`, from every tab. @param {Uint8Array} conversation @param {any} content @param {any} options
   * @returns {Promise<any>} */
  async send(conversation, content, options = {}) {
    // The tab that holds the connection may be closed before it answers: the next one is asked again, for the same message. The
    // id has the server's time, which that tab knows.
    const tempId = options.tempId ?? this.client?.newTempId() ?? await this.ask('newTempId')
    return this.ask('send', conversation, content, { ...options, tempId })
  }

  /** Calls a method of the client in the tab that has it: one of METHODS. @param {string} method
   * @param {any[]} values @returns {Promise<any>} */
  ask(method, ...values) {
    if (!METHODS.has(method)) throw new TypeError(`a tab cannot ask for ${method}`)
    if (this.client) return Promise.resolve(/** @type {any} */ (this.client)[method](...values))
    const ask = { kind: 'ask', id: crypto.randomUUID(), method, values }
    return new Promise((resolve, reject) => {
      this.#asked.set(ask.id, { ask, resolve, reject })
      this.#channel.postMessage(ask)
    })
  }

  // This tab leaves: another one takes over.
  async close() {
    this.#hasLeft = true
    await this.client?.bye()
    this.#leave()
    this.#channel.close()
  }

  async #follow() {
    const items = await this.#store.load()
    const early = this.#early ?? []
    this.#early = undefined
    if (this.client) return
    this.mailbox = new Mailbox()
    for (const changes of [new Map(items), ...early]) this.#apply(changes)
  }

  /** @param {(store: Store) => Promise<Client>} open */
  async #lead(open) {
    if (this.#hasLeft) return
    await this.ready
    const client = await open({
      load: () => this.#store.load(),
      commit: async (changes) => {
        await this.#store.commit(changes)
        this.#channel.postMessage({ kind: 'changes', changes })
      },
    })
    client.on('entry', (entry) => this.emit('entry', entry))
    for (const name of TOLD) {
      client.on(name, (...values) => {
        this.emit(name, ...values)
        this.#channel.postMessage({ kind: 'event', name, values: values.map(plain) })
      })
    }
    this.client = client
    this.mailbox = client.mailbox
    const waiting = [...this.#asked.values()]
    this.#asked.clear()
    for (const { ask, resolve, reject } of waiting) this.#call(ask).then(resolve, reject)
    this.#channel.postMessage({ kind: 'leader' })
    this.emit('leading', client)
    client.connect()
    await new Promise((resolve) => { this.#leave = () => resolve(undefined) })
  }

  /** @param {any} data */
  #take(data) {
    if (data.kind === 'ask' && this.client) {
      const answer = (/** @type {any} */ outcome) => this.#channel.postMessage({ kind: 'answer', id: data.id, ...outcome })
      this.#call(data).then((value) => answer({ value }), (error) => answer({ error: plain(error) }))
    } else if (data.kind === 'answer') {
      const { resolve, reject } = this.#asked.get(data.id) ?? {}
      this.#asked.delete(data.id)
      if (data.error) reject?.(Object.assign(new Error(data.error.message), data.error))
      else resolve?.(data.value)
    } else if (this.client) return // what another tab said before it was closed
    else if (data.kind === 'leader') this.#followAnother()
    else if (data.kind === 'event') this.emit(data.name, ...data.values)
    else if (data.kind === 'changes') {
      if (this.#early) this.#early.push(data.changes)
      else for (const entry of this.#apply(data.changes)) this.emit('entry', entry)
    }
  }

  // The tab before it may have committed what it did not tell any more.
  #followAnother() {
    this.#early = []
    this.ready = this.#follow()
    for (const { ask } of this.#asked.values()) this.#channel.postMessage(ask)
    this.emit('following')
  }

  /** @param {Map<string, any>} changes */
  #apply(changes) {
    const login = changes.get('login')
    if (login) this.mailbox.user = login.user
    return this.mailbox.take(changes)
  }

  /** @param {any} ask @returns {Promise<any>} */
  async #call({ method, values }) {
    if (!METHODS.has(method)) throw new TypeError(`a tab cannot ask for ${method}`)
    return /** @type {any} */ (this.client)[method](...values)
  }
}

/** An error as data, since a channel keeps of errors only their messages. @param {any} value */
function plain(value) {
  return value instanceof Error ? { ...value, message: value.message } : value
}
