// Avatars of users and groups (protocol/SPEC.md, 18.10): a file of its own kind, which is set over HTTP once it is uploaded.
// Others get it with the profile or the conversation, and download it like every file.
//
//   const avatars = new Avatars(new Files(client), 'https://chat.example', () => client.token)
//   await avatars.set(blob)                    // the user's own
//   await avatars.set(blob, { conversation })  // of a group whose administrator the user is
//   await avatars.clear({ conversation })

import { uuid } from './bytes.js'

const NONE = new Uint8Array(16) // removes an avatar

export class AvatarRefused extends Error {
  /** @param {{ code: string, detail: string }} problem */
  constructor({ code, detail }) {
    super(`${code}: ${detail}`)
    this.code = code
  }
}

export class Avatars {
  #files
  #httpUrl
  #token
  #fetch

  /** @param {import('./files.js').Files} files @param {string} httpUrl @param {() => string} token the present one
   * @param {import('./http.js').Fetch} fetch */
  constructor(files, httpUrl, token, fetch = (url, init) => globalThis.fetch(url, init)) {
    this.#files = files
    this.#httpUrl = httpUrl
    this.#token = token
    this.#fetch = fetch
  }

  /** `blob`: ciphertext; or, if the server lists the feature public_avatars, a picture with its `mediaType`. Returns the id of
   * its attachment. Rejects with AvatarRefused, for users who are no administrators for example. @param {Blob} blob
   * @param {{ conversation?: Uint8Array, mediaType?: string }} options */
  async set(blob, { conversation, mediaType } = {}) {
    const [upload] = await this.#files.declare([{ blob, mediaType }], { isAvatar: true })
    await this.#files.finish(upload, { blob })
    await this.#patch(conversation, upload.attachment)
    return upload.attachment
  }

  /** @param {{ conversation?: Uint8Array }} options */
  async clear({ conversation } = {}) {
    await this.#patch(conversation, NONE)
  }

  /** @param {Uint8Array | undefined} conversation @param {Uint8Array} attachment */
  async #patch(conversation, attachment) {
    const path = conversation ? `/v1/conversations/${uuid(conversation)}` : '/v1/profile'
    const fetch = this.#fetch
    const answer = await fetch(this.#httpUrl + path, {
      method: 'PATCH',
      headers: { authorization: `Bearer ${this.#token()}`, 'content-type': 'application/json' },
      body: JSON.stringify({ avatar: uuid(attachment) }),
    })
    if (!answer.ok) throw new AvatarRefused(await answer.json())
    await answer.body?.cancel()
  }
}
