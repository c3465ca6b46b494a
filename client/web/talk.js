// One conversation: its messages in order. A message is in `message.js`, the field to write in in `composer.js`.

import { html, useEffect, useLayoutEffect, useRef, useState } from 'htm/preact/standalone'
import { hex } from '../js/bytes.js'
import { Composer } from './composer.js'
import { Details, LIFETIMES } from './details.js'
import { DAY, Message, TIME } from './message.js'

const NEAR_END_PX = 80

export function Talk({ chat, head, leave }) {
  const [subject, take] = useState({}) // { replyTo } or { edits }: a message that what is written is about
  const [isOpen, open] = useState(false)
  const typing = chat.typing(head.conversation)
  useEffect(() => { if (document.visibilityState === 'visible' && document.hasFocus()) chat.markRead(head) })
  return html`
    <main class="talk" aria-label=${`Conversation with ${chat.titleOf(head)}`}>
      <header>
        <button class="back" aria-label="Back to the conversations" onClick=${leave}>‹</button>
        <div><h1>${chat.titleOf(head)}</h1><p>${aboutOf(chat, head)}</p></div>
        <button aria-expanded=${isOpen} onClick=${() => open(!isOpen)}>Details</button>
      </header>
      <${Warnings} ...${{ chat, head }} />
      ${isOpen ? html`<${Details} chat=${chat} head=${head} leave=${leave} />` : html`
        <${Log} chat=${chat} head=${head} take=${take} />
        <p class="typing" role="status" aria-label="Typing">${typing.length > 0 && `${typing.join(', ')} ${typing.length > 1 ? 'type' : 'types'} …`}</p>
        <${Composer} key=${keyOf(subject)} ...${{ chat, head, subject }} done=${() => take({})} />`}
    </main>`
}

// Another subject is another draft.
function keyOf({ replyTo, edits }) {
  return `${replyTo ? 'reply' : ''}${hex((replyTo ?? edits)?.entry.message ?? [])}`
}

function Warnings({ chat, head }) {
  const [said, say] = useState([])
  useEffect(() => { chat.unreadableBy(head).then(say, () => {}) }, [head.devices_version, head.participants_version, chat.keysRevision])
  return said.map((text) => html`<p class="warning" role="note" key=${text}>${text}</p>`)
}

function aboutOf(chat, head) {
  const parts = [head.kind === 'group' ? chat.others(head).map(({ user }) => chat.nameOf(user)).join(', ') : presenceOf(chat, head)]
  if (head.lifetime_s) parts.push(`messages disappear after ${LIFETIMES.get(head.lifetime_s) ?? `${head.lifetime_s} seconds`}`)
  return parts.filter(Boolean).join(' · ')
}

function presenceOf(chat, head) {
  const [other] = chat.others(head)
  const presence = other && chat.presence(other.user)
  if (presence?.is_online) return 'online'
  return presence?.last_seen ? `last seen ${DAY.format(presence.last_seen / 1000)}, ${TIME.format(presence.last_seen / 1000)}` : ''
}

function Log({ chat, head, take }) {
  const list = useRef()
  const wasAtEnd = useRef(true)
  const { conversation } = head
  const messages = chat.messages(conversation)
  const hasOlder = chat.mailbox.olderBefore(conversation) !== undefined
  useLayoutEffect(() => { if (wasAtEnd.current) list.current.scrollTop = list.current.scrollHeight })
  const scrolled = ({ target }) => { wasAtEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < NEAR_END_PX }
  const load = () => chat.attempt('Earlier messages did not come', () => chat.tabs.ask('loadOlder', conversation, 50))
  return html`
    <div class="log" role="log" aria-label="Messages" tabindex="0" ref=${list} onScroll=${scrolled}>
      ${hasOlder && html`<button class="older" onClick=${load}>Earlier messages</button>`}
      ${messages.map((each, at) => html`
        ${isNewDay(each, messages[at - 1]) && html`<p class="day">${DAY.format(each.entry.created / 1000)}</p>`}
        <${Message} key=${hex(each.entry.message)} ...${{ chat, head, message: each, take }} />`)}
      ${chat.waiting(conversation).map((content) => html`
        <article class="message own waiting" aria-label=${`Waiting to be sent: ${chat.summaryOf(content)}`}><p class="text">${chat.summaryOf(content)}</p></article>`)}
    </div>`
}

function isNewDay({ entry }, before) {
  return !before || DAY.format(entry.created / 1000) !== DAY.format(before.entry.created / 1000)
}
