// Brings the mailbox up to date whenever frames are known to be missing: news with `sync` (SPEC 6), gaps that last with
// `history` (5.3).

import { CURSOR_ERRORS, LIMITS } from './tables.js'
import { Timers } from './timers.js'

/** @typedef {import('./connection.js').Connection} Connection */

const PAGES_AHEAD = 16 // 6.2.1
const PATIENCE_MS = 300 // 5.3, 5.4
const FIRST_PAUSE_MS = 500
const RESUME_MS = 10_000 // for a page of the news that a cursor in hello brings

export class Synchronizer {
  #isSyncing = false
  #isStale = false // frames are missing that only a sync brings
  #isFilling = false
  #timers = new Timers()
  /** @type {Connection | undefined} */
  #cursorsOf
  /** @type {Uint8Array | undefined} how far the sync has come */
  #at
  #hasGiven = false // the last hello had a cursor
  /** @type {Connection | undefined} to which the news since the cursor in its hello come by themselves (6.1.1) */
  #resuming
  #pagesDue = 0

  /**
   * @param {import('./mailbox.js').Mailbox} mailbox
   * @param {object} by
   * @param {() => Connection | undefined} by.connection
   * @param {(feature: string) => boolean} by.has whether the server has the feature
   * @param {(conversation: Uint8Array, page: any) => void} by.page takes a page of history
   * @param {() => void} by.changed stores what has changed
   * @param {() => void} by.current
   * @param {() => void} by.dropped the server has another history
   */
  constructor(mailbox, by) {
    this.mailbox = mailbox
    this.by = by
  }

  get isSyncing() {
    return this.#isSyncing
  }

  // Asks for what is new, now or once the sync that is under way has ended.
  sync() {
    this.#isStale = true
    const connection = this.by.connection()
    if (this.#isSyncing || !connection) return
    this.#isSyncing = true
    this.#at = this.mailbox.cursor
    this.#ask(connection)
  }

  // The connection was lost.
  stop() {
    this.#timers.clear()
    this.#endResume()
  }

  /** The fields of a hello that resumes. While another connection is open, its cursors count, and a sync follows the welcome.
   * @returns {{ cursor?: Uint8Array, pages?: number }} */
  get resumption() {
    this.#hasGiven = this.mailbox.cursor !== undefined && !this.by.connection() && !this.#isSyncing
    return this.#hasGiven ? { cursor: this.mailbox.cursor, pages: PAGES_AHEAD } : {}
  }

  /** A connection was welcomed; while another one is open, the cursors of that one count (17.5).
   * @param {Connection} connection @param {Connection} [former] */
  begin(connection, former) {
    this.#cursorsOf = former && !former.isClosed ? former : connection
    if (!this.#hasGiven || !this.by.has('resume')) return this.sync() // a server without the feature ignores the cursor
    this.#isStale = false
    this.#isSyncing = true
    this.#resuming = connection
    this.#pagesDue = this.by.has('pages') ? PAGES_AHEAD : 1
    this.#timers.after('resume', RESUME_MS, () => this.lag())
  }

  // The server has dropped pushes, or brings no news by itself: it waits for a sync.
  lag() {
    this.#endResume()
    this.sync()
  }

  #endResume() {
    if (!this.#resuming) return
    this.#resuming = undefined
    this.#isSyncing = false
  }

  /** A cursor was pushed: the mailbox holds all frames before it on this connection. During a sync the cursors of its pages
   * count, which have `more`. @param {Connection} connection @param {{ cursor: Uint8Array, more: boolean }} frame */
  moved(connection, { cursor, more }) {
    if (connection === this.#resuming) return this.#resumed(connection, { cursor, more })
    const current = this.by.connection()
    if (connection === current && this.#isSyncing && more) this.#at = cursor
    if (connection !== this.#counting) return
    if (connection !== current ? more : this.#isSyncing ? !more : this.#isStale) return
    this.mailbox.cursor = cursor
    if (connection === current && !more) this.mailbox.forgetUnknown()
    if (connection === current && more && !this.#isSyncing) this.sync()
  }

  /** A page of a resume has ended. The last one that was asked for ends as that of a sync does.
   * @param {Connection} connection @param {{ cursor: Uint8Array, more: boolean }} page */
  #resumed(connection, page) {
    this.#pagesDue--
    if (page.more && this.#pagesDue > 0) this.mailbox.cursor = page.cursor
    else {
      this.#resuming = undefined
      this.#synced(connection, page)
    }
  }

  // The connection whose cursors count.
  get #counting() {
    if (this.#cursorsOf?.isClosed) this.#cursorsOf = this.by.connection()
    return this.#cursorsOf
  }

  // Looks whether anything is missing, after a moment in which it may come by itself.
  look() {
    if (this.#isSyncing) return
    if (this.mailbox.hasUnknown) this.#timers.after('unknown', PATIENCE_MS, () => this.mailbox.hasUnknown && this.sync())
    if (this.mailbox.gaps().length) this.#timers.after('gaps', PATIENCE_MS, () => this.#fill())
  }

  /** @param {Connection} connection */
  #ask(connection) {
    this.#isStale = false
    const pages = this.by.has('pages') ? PAGES_AHEAD : undefined
    connection.ask({ type: 'sync', cursor: this.#at, pages }, (error, synced) => {
      if (error) this.#failed(connection, error)
      else this.#synced(connection, /** @type {any} */ (synced))
    })
  }

  /** @param {Connection} connection @param {{ cursor: Uint8Array, more: boolean }} synced */
  #synced(connection, { cursor, more }) {
    this.#at = cursor
    if (!more) this.#cursorsOf = connection
    if (this.#counting === connection) this.mailbox.cursor = cursor
    if (more) return this.#ask(connection)
    this.mailbox.forgetUnknown()
    this.mailbox.isFresh = false
    this.#isSyncing = false
    this.by.changed()
    if (this.#isStale) this.sync()
    else {
      this.look()
      this.by.current()
    }
  }

  /** @param {Connection} connection @param {any} error */
  #failed(connection, error) {
    this.#isSyncing = false
    this.#isStale = true
    if (CURSOR_ERRORS.has(error.code)) {
      this.mailbox.drop() // 6.4
      this.by.dropped()
      this.by.changed()
    }
    if (connection !== this.by.connection()) this.sync() // another connection has taken its place meanwhile
    else if (!connection.isClosed) this.#timers.after('sync', error.retry_after_ms ?? FIRST_PAUSE_MS, () => this.sync())
  }

  async #fill() {
    const connection = this.by.connection()
    if (this.#isFilling || !connection) return
    this.#isFilling = true
    let hasMore = false
    for (const { conversation, after, before } of this.mailbox.gaps()) {
      const asked = { type: 'history', conversation, after, before, count: LIMITS.page_entries }
      const page = await connection.request(asked).catch((error) => {
        if (error.code === 'not_a_participant') this.mailbox.change(conversation, (held) => held.forgetMissing())
      })
      if (!page) continue
      this.by.page(conversation, page)
      hasMore ||= page.messages.length > 0
    }
    this.#isFilling = false
    this.by.changed()
    if (hasMore) this.look()
  }
}
