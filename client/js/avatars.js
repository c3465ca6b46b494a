// Avatars of users and groups (protocol/SPEC.md, 18.10): a file of its own kind, which is set over HTTP once it is uploaded.
// Others get it with the profile or the conversation, and download it like every file.
//
//   const avatars = new Avatars(new Files(client), 'https://chat.example', () => client.token)
//   await avatars.set(blob)                    // the user's own
//   await avatars.set(blob, { conversation })  // of a group whose administrator the user is
//   await avatars.clear({ conversation })

const NONE = Buffer.alloc(16) // removes an avatar

export class AvatarRefused extends Error {
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

  // `token`: a function that returns the present one.
  constructor(files, httpUrl, token, fetch = globalThis.fetch) {
    this.#files = files
    this.#httpUrl = httpUrl
    this.#token = token
    this.#fetch = fetch
  }

  // `blob`: ciphertext; or, if the server lists the feature public_avatars, a picture with its `mediaType`. Returns the id of
  // its attachment. Rejects with AvatarRefused, for users who are no administrators for example.
  async set(blob, { conversation, mediaType } = {}) {
    const [upload] = await this.#files.declare([{ blob, mediaType }], { isAvatar: true })
    await this.#files.finish(upload, { blob })
    await this.#patch(conversation, upload.attachment)
    return upload.attachment
  }

  async clear({ conversation } = {}) {
    await this.#patch(conversation, NONE)
  }

  async #patch(conversation, attachment) {
    const path = conversation ? `/v1/conversations/${uuid(conversation)}` : '/v1/profile'
    const answer = await this.#fetch(this.#httpUrl + path, {
      method: 'PATCH',
      headers: { authorization: `Bearer ${this.#token()}`, 'content-type': 'application/json' },
      body: JSON.stringify({ avatar: uuid(attachment) }),
    })
    if (!answer.ok) throw new AvatarRefused(await answer.json())
    await answer.body?.cancel()
  }
}

function uuid(id) {
  return id.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
