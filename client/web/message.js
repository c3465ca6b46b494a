// A message: what it answers, its text and files, its reactions, and what the user may do with it.

import { html, useEffect, useMemo, useState } from 'htm/preact/standalone'
import { equal } from '../js/bytes.js'
import { fetchFile } from './attachments.js'

export const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' })
export const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' })
const MARKS = { sent: '✓', delivered: '✓✓', read: '✓✓' }
const EMOJI = ['👍', '❤️', '😂', '😮', '😢', '🙏']

export function Message({ chat, head, message, take }) {
  const { entry, content, fault } = message
  const isDeleted = entry.type === 'tombstone'
  const isOwn = chat.isMe(entry.sender)
  const name = chat.nameOf(entry.sender)
  const text = isDeleted ? 'Deleted' : fault ?? chat.summaryOf(content)
  return html`
    <article class=${`message ${isOwn ? 'own' : ''} ${fault || isDeleted ? 'faint' : ''}`} aria-label=${`${name}: ${text}`}>
      ${head.kind === 'group' && !isOwn && html`<strong>${name}</strong>`}
      ${content?.quote && html`<blockquote><b>${chat.nameOf(content.quote.user)}</b> ${content.quote.text}</blockquote>`}
      ${content?.files?.map((file) => html`<${File} key=${file.name} ...${{ chat, file }} />`)}
      ${(!content?.files || content.text) && html`<p class="text">${isDeleted || fault ? text : content.text}</p>`}
      <${Reactions} ...${{ chat, message }} />
      <footer>
        ${entry.revision > 0 && !isDeleted && html`<span>edited</span>`}
        <time datetime=${new Date(entry.created / 1000).toISOString()}>${TIME.format(entry.created / 1000)}</time>
        ${isOwn && !isDeleted && html`<${Status} status=${chat.mailbox.status(entry)} />`}
        ${!isDeleted && html`<${Actions} ...${{ chat, head, message, take, text }} />`}
      </footer>
    </article>`
}

function Status({ status }) {
  return html`<span class=${`status ${status}`} role="img" aria-label=${status}>${MARKS[status]}</span>`
}

function Reactions({ chat, message: { entry, reactions } }) {
  const texts = [...new Set(reactions.values())]
  if (!texts.length) return undefined
  return html`
    <p class="reactions" aria-label="Reactions">
      ${texts.map((text) => {
        const users = [...reactions].filter(([, each]) => each === text).map(([user]) => chat.nameOfHex(user))
        const isOwn = users.includes('You')
        return html`<button key=${text} aria-pressed=${isOwn} title=${users.join(', ')} aria-label=${`${text} ${users.length} by ${users.join(', ')}`}
          onClick=${() => chat.react(entry, isOwn ? '' : text)}>${text} ${users.length}</button>`
      })}
    </p>`
}

function Actions({ chat, head, message, take, text }) {
  const { entry, content } = message
  const isOwn = chat.isMe(entry.sender)
  const mayDelete = isOwn || chat.isAdmin(head)
  const act = (does) => ({ target }) => {
    target.closest('details').open = false
    does()
  }
  return html`
    <details class="menu actions" onToggle=${({ target }) => target.open && target.lastElementChild.scrollIntoView({ block: 'nearest' })}>
      <summary aria-label=${`Actions for ${text}`}>⋯</summary>
      <div>
        ${content && html`
          <div class="emoji">${EMOJI.map((each) => html`<button key=${each} aria-label=${`React with ${each}`} onClick=${act(() => chat.react(entry, each))}>${each}</button>`)}</div>
          <button onClick=${act(() => take({ replyTo: message }))}>Reply</button>`}
        ${isOwn && content && html`<button onClick=${act(() => take({ edits: message }))}>Edit</button>`}
        <button onClick=${act(() => chat.delete(entry, mayDelete))}>${mayDelete ? 'Delete for everyone' : 'Delete for me'}</button>
      </div>
    </details>`
}

// The preview came with the message; the file is fetched and decrypted when the user asks for it.
function File({ chat, file }) {
  const [progress, setProgress] = useState()
  const [shown, show] = useState()
  const preview = useMemo(() => file.preview && URL.createObjectURL(new Blob([file.preview], { type: 'image/jpeg' })), [file.preview])
  useEffect(() => () => preview && URL.revokeObjectURL(preview), [preview])
  useEffect(() => () => shown && URL.revokeObjectURL(shown), [shown])
  const open = () => chat.attempt(`${file.name} did not come`, async () => {
    const blob = await fetchFile(chat.requester, file, (done, total) => setProgress(`${Math.floor((100 * done) / total)} %`))
      .finally(() => setProgress(undefined))
    show(URL.createObjectURL(blob))
  })
  return html`
    <div class=${`file ${shown ? 'opened' : ''}`}>
      ${preview && html`<img src=${shown ?? preview} alt=${file.name} width=${file.width} height=${file.height} />`}
      ${shown ? html`<a href=${shown} download=${file.name}>Save ${file.name}</a>`
        : html`<button onClick=${open}>${progress ?? `Open ${file.name}`}</button>`} <small>${Math.ceil(file.sizeBytes / 1024)} KB</small>
    </div>`
}
