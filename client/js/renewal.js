// Renews the device's token in time (SPEC 13.1). The new one is stored before a server sees it.

import { Timers } from './timers.js'

const RENEW_MS = 86_400_000
const PAUSE_MS = 60_000

export class Renewal {
  #timers = new Timers()

  /** @param {import('./client.js').Client} client */
  constructor(client) {
    this.client = client
  }

  /** Once the token is a day old, or half of its life is over. @param {number} leftMs of its life @param {number} ageMs */
  begin(leftMs, ageMs = 0) {
    this.stop()
    this.#timers.after('token', Math.max(0, Math.min(RENEW_MS - ageMs, (leftMs - ageMs) / 2)), () => this.#renew())
  }

  stop() {
    this.#timers.clear()
  }

  async #renew() {
    const { client } = this
    const fresh = await client.request({ type: 'refresh', token: client.token }).catch(() => null)
    if (fresh && await this.#replace(fresh.token, fresh.expires)) this.begin(fresh.expires / 1000 - client.now)
    else if (client.isOnline) this.#timers.after('token', PAUSE_MS, () => this.#renew())
  }

  /** The device has another token from now on; returns whether it is stored. @param {string} token @param {number} expires */
  async #replace(token, expires) {
    const { client } = this
    const came = Date.now()
    client.journal.put('login', { user: client.user, device: client.device, token, came })
    const isStored = await client.journal.flush().then(() => true, (error) => client.fail(error))
    if (!isStored) return false
    Object.assign(client, { token, came })
    client.emit('token', token, expires, came)
    return true
  }
}
