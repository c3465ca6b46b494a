// One conversation: its messages, and the field to write in.

import { html, useEffect, useLayoutEffect, useRef, useState } from 'htm/preact/standalone'
import { equal, hex } from '../js/bytes.js'

const NEAR_END_PX = 80
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' })
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' })
const MARKS = { sent: '✓', delivered: '✓✓', read: '✓✓' }

export function Talk({ chat, head, leave }) {
  const { conversation } = head
  const messages = chat.messages(conversation)
  const waiting = chat.waiting(conversation)
  const typing = chat.typing(conversation)
  useEffect(() => { if (document.visibilityState === 'visible' && document.hasFocus()) chat.markRead(head) })
  return html`
    <main class="talk" aria-label=${`Conversation with ${chat.titleOf(head)}`}>
      <header>
        <button class="back" aria-label="Back to the conversations" onClick=${leave}>‹</button>
        <div><h2>${chat.titleOf(head)}</h2><p>${aboutOf(chat, head)}</p></div>
      </header>
      <${Log} chat=${chat} head=${head} messages=${messages} waiting=${waiting} />
      <p class="typing" role="status" aria-label="Typing">${typing.length > 0 && `${typing.join(', ')} ${typing.length > 1 ? 'type' : 'types'} …`}</p>
      <${Composer} chat=${chat} head=${head} />
    </main>`
}

function aboutOf(chat, head) {
  if (head.kind === 'group') return chat.others(head).map(({ user }) => chat.nameOf(user)).join(', ')
  const [other] = chat.others(head)
  const presence = other && chat.presence(other.user)
  if (presence?.is_online) return 'online'
  return presence?.last_seen ? `last seen ${DAY.format(presence.last_seen / 1000)}, ${TIME.format(presence.last_seen / 1000)}` : ''
}

function Log({ chat, head, messages, waiting }) {
  const list = useRef()
  const wasAtEnd = useRef(true)
  const { conversation } = head
  const hasOlder = chat.mailbox.olderBefore(conversation) !== undefined
  useLayoutEffect(() => { if (wasAtEnd.current) list.current.scrollTop = list.current.scrollHeight })
  const scrolled = ({ target }) => { wasAtEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < NEAR_END_PX }
  const load = () => chat.attempt('Earlier messages did not come', () => chat.tabs.ask('loadOlder', conversation, 50))
  return html`
    <div class="log" role="log" aria-label="Messages" tabindex="0" ref=${list} onScroll=${scrolled}>
      ${hasOlder && html`<button class="older" onClick=${load}>Earlier messages</button>`}
      ${messages.map((each, at) => html`
        ${isNewDay(each, messages[at - 1]) && html`<p class="day">${DAY.format(each.entry.created / 1000)}</p>`}
        <${Message} key=${hex(each.entry.message)} chat=${chat} head=${head} message=${each} />`)}
      ${waiting.map((content) => html`<article class="message own waiting" aria-label="Waiting to be sent"><p class="text">${content.text}</p></article>`)}
    </div>`
}

function isNewDay({ entry }, before) {
  return !before || DAY.format(entry.created / 1000) !== DAY.format(before.entry.created / 1000)
}

function Message({ chat, head, message }) {
  const { entry, content, fault } = message
  const isOwn = equal(entry.sender, chat.user)
  const name = chat.nameOf(entry.sender)
  const status = isOwn && entry.type === 'message' ? chat.mailbox.status(entry) : undefined
  const text = entry.type === 'tombstone' ? 'Deleted' : fault ?? content.text
  return html`
    <article class=${`message ${isOwn ? 'own' : ''} ${fault || entry.type === 'tombstone' ? 'faint' : ''}`} aria-label=${`${name}: ${text}`}>
      ${head.kind === 'group' && !isOwn && html`<strong>${name}</strong>`}
      <p class="text">${text}</p>
      <footer>
        <time datetime=${new Date(entry.created / 1000).toISOString()}>${TIME.format(entry.created / 1000)}</time>
        ${status && html`<span class=${`status ${status}`} role="img" aria-label=${status}>${MARKS[status]}</span>`}
      </footer>
    </article>`
}

function Composer({ chat, head }) {
  const [text, setText] = useState('')
  const field = useRef()
  useEffect(() => field.current.focus(), [])
  const send = (event) => {
    event.preventDefault()
    if (!text.trim()) return
    chat.send(head.conversation, { text })
    setText('')
    field.current.focus()
  }
  const pressed = (event) => { if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) send(event) }
  const typed = ({ target }) => {
    setText(target.value)
    chat.tellTyping(head)
  }
  return html`
    <form class="composer" onSubmit=${send}>
      <textarea aria-label="Message" rows="1" ref=${field} value=${text} placeholder="Message" onInput=${typed} onKeyDown=${pressed}></textarea>
      <button class="main">Send</button>
    </form>`
}
