// What a conversation shows of its messages.

import { hex } from '../js/bytes.js'

const UNREADABLE = { before: 'Sent before this device took part', lost: 'The keys of this message are lost', forged: 'Not what its sender has sent' }

// The messages of a conversation: what each says, or why that cannot be read, and its reactions.
export function shownMessages(mailbox, conversation) {
  const reactions = mailbox.reactions(conversation)
  return mailbox.entries(conversation).filter((entry) => isShown(mailbox, entry))
    .map((entry) => ({ ...read(mailbox, entry), reactions: reactions.get(hex(entry.message)) ?? new Map() }))
}

export function lastShown(mailbox, conversation) {
  const last = mailbox.entries(conversation).findLast((entry) => isShown(mailbox, entry))
  return last && read(mailbox, last)
}

// Keys and reactions come in quiet messages.
function isShown(mailbox, entry) {
  const content = entry.is_quiet && mailbox.says(entry)
  return !entry.is_quiet || Boolean(content && !content.reaction)
}

function read(mailbox, entry) {
  const content = mailbox.says(entry)
  return { entry, content, fault: entry.type === 'message' && !content ? fault(mailbox, entry) : undefined }
}

function fault(mailbox, { conversation, seq, content_type }) {
  if (content_type !== 'application/mls') return 'Encrypted by a program that uses another protocol: this client reads MLS alone'
  const reason = mailbox.reason(conversation, seq)
  return reason ? UNREADABLE[reason] ?? `Cannot be decrypted (${reason})` : 'Being decrypted'
}
