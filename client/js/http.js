// Accounts and conversations over HTTP (`docs/http.md`), as far as a client needs them before and beside its connection.
//
//   const login = await logIn('https://chat.example', 'ann', password, 'laptop')
//   const http = new Http('https://chat.example', () => client.token)
//   const { conversation } = await http.ask('POST', '/v1/conversations', { kind: 'direct', participants: [uuid(user)] })

import { unhex } from './bytes.js'

/** @typedef {(url: string, init?: RequestInit) => Promise<Response>} Fetch */

/** @typedef {{ user: Uint8Array, device: Uint8Array, token: string, came: number }} Login `came`: when the token came, by
 * Date.now(); 0: not known */

export class HttpRefused extends Error {
  /** @param {{ code?: string, detail?: string }} problem @param {number} status */
  constructor({ code = 'internal', detail = '' }, status) {
    super(`${code}: ${detail}`)
    this.code = code
    this.status = status
  }
}

export class Http {
  /** @param {string} url @param {() => string | undefined} token the present one @param {Fetch} fetch */
  constructor(url, token = () => undefined, fetch = (url, init) => globalThis.fetch(url, init)) {
    this.url = url.replace(/\/$/, '')
    this.token = token
    this.fetch = fetch
  }

  /** The answer, as JSON; undefined if it has no body, or is 304. Rejects with HttpRefused. @param {string} method
   * @param {string} path @param {any} [body] @param {Record<string, string>} [more] headers @returns {Promise<any>} */
  async ask(method, path, body, more = {}) {
    const token = this.token()
    const headers = {
      ...more,
      ...(body !== undefined && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    }
    const { fetch } = this
    const answer = await fetch(this.url + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })
    const text = await answer.text()
    if (answer.status === 304) return undefined
    if (!answer.ok) throw new HttpRefused(problemOf(text), answer.status)
    return text ? JSON.parse(text) : undefined
  }
}

/** @param {string} url @param {string} username @param {string} password */
export async function register(url, username, password) {
  await new Http(url).ask('POST', '/v1/users', { username, password })
}

/** Logs a new device in. @param {string} url @param {string} username @param {string} password @param {string} name of the device
 * @returns {Promise<Login>} */
export async function logIn(url, username, password, name) {
  const { user, device, token } = await new Http(url).ask('POST', '/v1/devices', { username, password, name })
  return { user: unhex(user), device: unhex(device), token, came: Date.now() }
}

/** @param {string} text */
function problemOf(text) {
  try {
    return JSON.parse(text)
  } catch {
    return { detail: text } // from a proxy
  }
}
