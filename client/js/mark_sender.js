// Sends the marks that are due: of messages that are stored, and of those that the user has read (SPEC 5.5, 5.6).

import { Timers } from './timers.js'

const INTERVAL_MS = 1000 // 5.5

export class MarkSender {
  #timers = new Timers()

  /** @param {import('./client.js').Client} client */
  constructor(client) {
    this.client = client
  }

  // Marks may be due.
  look() {
    const { delivered, read } = this.client.mailbox.marks()
    if (delivered.length || read.length) this.#timers.after('marks', INTERVAL_MS, () => this.send().catch(() => {}))
  }

  stop() {
    this.#timers.clear()
  }

  // Only what is stored may be marked.
  async send() {
    const { client } = this
    const marks = client.mailbox.marks()
    await client.journal.flush()
    this.ask(marks)
  }

  /** @param {ReturnType<import('./mailbox.js').Mailbox['marks']>} marks of what is stored */
  async ask(marks) {
    await Promise.all(/** @type {const} */ (['delivered', 'read']).map(async (kind) => {
      if (!marks[kind].length) return
      const versions = this.client.mailbox.versions(marks[kind])
      await this.client.request({ type: `mark_${kind}`, marks: marks[kind] })
      this.client.mailbox.marked(kind, marks[kind], versions)
    })).then(() => this.client.changed(), () => {}) // after a lost connection they are due again
  }
}
