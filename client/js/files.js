// Files, straight to the object store and back (protocol/SPEC.md, section 18). It needs fetch, Blob and Web Crypto, which
// browsers and Node have. A file is a Blob: a browser's File, or `await fs.openAsBlob(path)` in Node.
//
//   const files = new Files(client)
//   const upload = await files.declare([{ blob }]).then(([first]) => first)
//   await files.finish(upload, { blob }, (done, total) => …)   // again after any interruption, also in another program
//   await client.send(conversation, content, { attachments: [upload.attachment] })
//   await files.download(attachment, { write(bytes, offset) { … }, digests: [] })

import { concat, equal, sha256 } from './bytes.js'
import { ConnectionLost } from './errors.js'

export const PART_BYTES = 8 * 1024 * 1024 // 18.2
const AT_ONCE = 4
const ATTEMPTS = 8
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 15_000
const AGAIN = new Set([408, 409, 425, 429, 500, 502, 503, 504]) // 18.4
const EXPIRED = new Set([400, 401, 403])
const GONE = new Set([404, 410])

/** @typedef {(done: number, total: number) => void} Progress bytes */
/** @typedef {{ write(bytes: Uint8Array, offset: number): void | Promise<void>, digests: Uint8Array[] }} Sink */
/** @typedef {{ blob: Blob, thumbnail?: Blob, mediaType?: string }} Outgoing */
/** @typedef {{ attachment: Uint8Array, thumbnail?: Uint8Array }} Upload */
/** @typedef {[number, string, [string, string][]]} PartRequest */

export class TransferFailed extends Error {}
export class AttachmentGone extends Error {}
export class WrongDigest extends Error {}
class TryAgain extends TransferFailed {} // the same request may succeed
class RequestExpired extends TransferFailed {} // the server signs another

export class Files {
  #client
  #fetch

  /** `fetch`: replaces the global one. A program that wants to stop a transfer passes its AbortSignal there; each method
   * then rejects with the AbortError, and another call goes on from the parts that are there.
   * @param {import('./client.js').Client} client @param {import('./http.js').Fetch} fetch */
  constructor(client, fetch = (url, init) => globalThis.fetch(url, init)) {
    this.#client = client
    this.#fetch = fetch
  }

  /** Declares files; returns their ids. No byte is sent yet. `isAvatar`: no message takes them (18.10). Rejects with
   * RequestRefused, by quota_exceeded for example. @param {Outgoing[]} files @param {{ isAvatar?: boolean }} options
   * @returns {Promise<Upload[]>} */
  async declare(files, { isAvatar } = {}) {
    const declared = []
    for (const { blob, mediaType = 'application/octet-stream', thumbnail } of files) {
      const small = thumbnail ? [thumbnail.size, concat(...await digestsOf(thumbnail))] : null
      declared.push([blob.size, mediaType, concat(...await digestsOf(blob)), small])
    }
    const { tickets } = await this.#ask({ type: 'upload', files: declared, is_avatar: isAvatar })
    return /** @type {any[]} */ (tickets)
      .filter((ticket) => !ticket.thumbnail_of)
      .map(({ attachment }) => ({
        attachment,
        thumbnail: tickets.find((/** @type {any} */ each) => equal(each.thumbnail_of, attachment))?.attachment,
      }))
  }

  /** Stores the parts that are missing, whatever was stored before; then messages may name the attachment.
   * @param {Upload} upload @param {Outgoing} outgoing @param {Progress} onProgress */
  async finish(upload, { blob, thumbnail }, onProgress = () => {}) {
    for (let failures = 0; ; failures++) {
      if (upload.thumbnail && thumbnail) await this.#storeAll(upload.thumbnail, thumbnail, () => {})
      await this.#storeAll(upload.attachment, blob, onProgress)
      try {
        return await this.#ask({ type: 'complete', attachments: [upload.attachment] })
      } catch (/** @type {any} */ error) {
        if (error.code !== 'attachment_incomplete') throw error
        if (failures >= ATTEMPTS) throw new TransferFailed('the object store has lost parts of the file again and again')
        await pause(failures)
      }
    }
  }

  /** @param {Uint8Array} attachment @param {Blob} blob @param {Progress} onProgress */
  async #storeAll(attachment, blob, onProgress) {
    const count = Math.ceil(blob.size / PART_BYTES)
    /** @type {Set<number>} */
    const stored = new Set()
    const tell = (/** @type {number} */ part) => {
      if (stored.has(part)) return
      stored.add(part)
      onProgress([...stored].reduce((sum, each) => sum + slice(blob, each).size, 0), blob.size)
    }
    for (let after = /** @type {number | undefined} */ (undefined), failures = 0; ; ) {
      /** @type {{ more: boolean, part_requests: PartRequest[] }} */
      const { more, part_requests: requests } = await this.#ask({ type: 'parts', attachment, after })
      const missing = new Set(requests.map(([part]) => part))
      const last = more ? requests[requests.length - 1][0] : count
      for (let part = (after ?? 0) + 1; part <= last; part++) if (!missing.has(part)) tell(part)
      const before = stored.size
      try {
        await this.#storeSome(blob, requests, tell)
      } catch (error) {
        failures = stored.size > before ? 1 : failures + 1
        if (!(error instanceof RequestExpired) || failures >= ATTEMPTS) throw error
        await pause(failures)
        continue
      }
      if (!more) return
      after = last
    }
  }

  /** @param {Blob} blob @param {PartRequest[]} requests @param {(part: number) => void} tell */
  async #storeSome(blob, requests, tell) {
    const left = [...requests]
    const store = async () => {
      for (let next = left.shift(); next; next = left.shift()) {
        await this.#put(next, slice(blob, next[0])).catch((error) => { left.length = 0; throw error })
        tell(next[0])
      }
    }
    const ends = await Promise.allSettled(Array.from({ length: AT_ONCE }, store))
    const failed = ends.find((end) => end.status === 'rejected')
    if (failed) throw /** @type {PromiseRejectedResult} */ (failed).reason
  }

  /** @param {PartRequest} request @param {Blob} body */
  async #put([, url, headers], body) {
    // fetch sets the length by itself, and lets no caller do it.
    const sent = headers.filter(([name]) => name !== 'content-length')
    await again(async () => {
      const fetch = this.#fetch
      const answer = await fetch(url, { method: 'PUT', headers: sent, body, redirect: 'error' }).catch(lost)
      await answer.body?.cancel()
      check(answer)
    })
  }

  /** Downloads a file part by part into `sink`, whose `digests` has the digests of the parts that it holds from the beginning
   * on, to which each new one is added. So a program that keeps both goes on after an interruption. Returns the file's ticket
   * once all its bytes are there and are the right ones. @param {Uint8Array} attachment @param {Sink} sink
   * @param {Progress} onProgress */
  async download(attachment, sink, onProgress = () => {}) {
    let ticket = await this.#ticket(attachment)
    const count = Math.ceil(ticket.size_bytes / PART_BYTES)
    for (let failures = 0; sink.digests.length < count; ) {
      const start = sink.digests.length * PART_BYTES
      const end = Math.min(start + PART_BYTES, ticket.size_bytes)
      try {
        const bytes = await this.#get(ticket.url, start, end, ticket.size_bytes)
        await sink.write(bytes, start)
        sink.digests.push(await sha256(bytes))
        failures = 0
        onProgress(end, ticket.size_bytes)
      } catch (error) {
        if (!(error instanceof RequestExpired) || ++failures >= ATTEMPTS) throw error
        await pause(failures)
        ticket = await this.#ticket(attachment)
      }
    }
    const digest = count === 1 ? sink.digests[0] : await sha256(concat(...sink.digests))
    // A file from another system has none (18.8).
    if (ticket.digest && !equal(ticket.digest, digest)) {
      sink.digests.length = 0 // the next call begins anew
      throw new WrongDigest('the bytes that came are not those of the file')
    }
    return ticket
  }

  /** @param {Uint8Array} attachment @returns {Promise<any>} */
  async #ticket(attachment) {
    const { downloads } = await this.#ask({ type: 'download', wanted: [attachment] })
    const ticket = downloads.find((/** @type {any} */ each) => equal(each.attachment, attachment))
    if (!ticket) throw new AttachmentGone('the file is gone, or it is not yours to read')
    return ticket
  }

  /** @param {string} url @param {number} start @param {number} end @param {number} size @returns {Promise<Uint8Array>} */
  #get(url, start, end, size) {
    const headers = { range: `bytes=${start}-${end - 1}` }
    return again(async () => {
      const fetch = this.#fetch
      const answer = await fetch(url, { headers, redirect: 'error' }).catch(lost)
      check(answer)
      if (answer.status !== 206 && (start > 0 || end < size)) {
        await answer.body?.cancel()
        throw new TransferFailed('the object store gives no ranges')
      }
      const told = answer.headers.get('content-range') // absent where the store does not show it to web pages
      if (told && answer.status === 206 && !told.startsWith(`bytes ${start}-`)) {
        await answer.body?.cancel()
        throw new TransferFailed('the object store gives another range than it was asked for')
      }
      const bytes = new Uint8Array(await answer.arrayBuffer().catch(lost))
      if (bytes.length !== end - start) throw new TryAgain('the answer of the object store ended early')
      return bytes
    })
  }

  /** A request to the server, over as many connections as it takes. @param {import('./codec.js').Frame} frame
   * @returns {Promise<any>} */
  async #ask(frame) {
    for (let failures = 0; ; failures++) {
      try {
        return await this.#client.request(frame)
      } catch (/** @type {any} */ error) {
        if (failures >= ATTEMPTS) throw error
        if (error instanceof ConnectionLost) await online(this.#client, error)
        else if (error.retry_after_ms !== undefined) await new Promise((wake) => setTimeout(wake, error.retry_after_ms))
        else throw error
      }
    }
  }
}

/** Waits for the next connection; rejects with `error` if there will be none. @param {import('./client.js').Client} client
 * @param {Error} error @returns {Promise<void>} */
function online(client, error) {
  return new Promise((resolve, reject) => {
    if (client.isOver) return reject(error)
    const settle = (/** @type {() => void} */ act) => () => { client.off('online', came).off('end', ended); act() }
    const came = settle(resolve)
    const ended = settle(() => reject(error))
    client.on('online', came).on('end', ended)
  })
}

/** The SHA-256 of each part (18.2). @param {Blob} blob */
export async function digestsOf(blob) {
  /** @type {Uint8Array[]} */
  const digests = []
  for (let part = 1; (part - 1) * PART_BYTES < blob.size; part++) {
    digests.push(await sha256(await slice(blob, part).arrayBuffer()))
  }
  return digests
}

/** @param {Blob} blob @param {number} part */
function slice(blob, part) {
  return blob.slice((part - 1) * PART_BYTES, part * PART_BYTES)
}

/** @param {any} error @returns {never} */
function lost(error) {
  if (error.name === 'AbortError') throw error // the program's own wish
  throw new TryAgain(`the object store: ${error.message}`)
}

/** @param {Response} answer */
function check({ ok, status }) {
  if (ok) return
  if (AGAIN.has(status)) throw new TryAgain(`the object store answers with status ${status}`)
  if (EXPIRED.has(status)) throw new RequestExpired(`the object store takes the request no longer (status ${status})`)
  if (GONE.has(status)) throw new AttachmentGone('the object store does not have the file')
  throw new TransferFailed(`the object store answers with status ${status}`)
}

/** @template T @param {() => Promise<T>} attempt @returns {Promise<T>} */
async function again(attempt) {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof TryAgain) || failures >= ATTEMPTS) throw error
    }
    await pause(failures)
  }
}

/** @param {number} failures @returns {Promise<void>} */
function pause(failures) {
  const most = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures)
  return new Promise((wake) => setTimeout(wake, Math.random() * most))
}
