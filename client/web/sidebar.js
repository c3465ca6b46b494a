// The column at the left: conversations with their unread counts, requests, and what begins a new one.

import { html, useState } from 'htm/preact/standalone'
import { equal, hex } from '../js/bytes.js'
import { choose, logOut } from './accounts.js'

export function Sidebar({ chat, selected, select, isPane, showPane, showAccount }) {
  const all = chat.conversations
  const requests = all.filter((head) => head.is_request)
  return html`
    <aside class="sidebar">
      <header>
        <h1>${chat.name}</h1>
        <details class="menu">
          <summary aria-label="Menu">☰</summary>
          <div onClick=${({ target }) => { target.closest('details').open = false }}>
            <button aria-pressed=${isPane} onClick=${() => showPane(!isPane)}>What the server sees</button>
            <button onClick=${showAccount}>Account and devices</button>
            <button onClick=${() => choose()}>Switch account in this tab</button>
            <button onClick=${() => chat.attempt('Logging out failed', () => leave(chat))}>Log out</button>
          </div>
        </details>
      </header>
      <${NewConversation} chat=${chat} select=${select} />
      ${requests.length > 0 && html`
        <section aria-label="Requests">
          <h2>Requests</h2>
          ${requests.map((head) => html`<${RequestRow} key=${hex(head.conversation)} ...${{ chat, head, selected, select }} />`)}
        </section>`}
      <nav aria-label="Conversations">
        ${all.filter((head) => !head.is_request).map((head) => html`<${Row} key=${hex(head.conversation)} ...${{ chat, head, selected, select }} />`)}
      </nav>
    </aside>`
}

function leave(chat) {
  return logOut(chat.name, chat.state === 'ended' ? undefined : chat.token, () => chat.tabs.close())
}

function Row({ chat, head, selected, select }) {
  const title = chat.titleOf(head)
  const [other] = chat.others(head)
  const isOnline = head.kind === 'direct' && other && chat.presence(other.user)?.is_online
  const unread = head.unread_count
  const told = [title, unread && `${unread} unread`, isOnline && 'online'].filter(Boolean).join(', ')
  // The button covers the row: its name is what it is about, and the last message is a text beside it.
  return html`
    <div class="row">
      <span class=${`face ${isOnline ? 'online' : ''}`} aria-hidden="true">${head.kind === 'group' ? '#' : title[0]}</span>
      <div class="about">
        <button aria-label=${told} aria-current=${equal(selected, head.conversation) || undefined} onClick=${() => select(head.conversation)}>${title}</button>
        <p>${lastOf(chat, head)}</p>
      </div>
      ${unread > 0 && html`<span class="count" aria-hidden="true">${unread}</span>`}
    </div>`
}

function lastOf(chat, { conversation }) {
  const last = chat.lastMessage(conversation)
  if (!last) return 'No messages yet'
  const { entry, content, fault } = last
  if (entry.type === 'tombstone') return 'Deleted'
  return content ? chat.summaryOf(content) : fault
}

function RequestRow({ chat, head, selected, select }) {
  const name = chat.nameOf(head.asked_by)
  const act = (what, act) => () => chat.attempt(`${what} failed`, act)
  return html`
    <div class="request" role="group" aria-label=${`Request of ${name}`}>
      <${Row} ...${{ chat, head, selected, select }} />
      <p class="buttons">
        <button aria-label=${`Accept ${name}`} onClick=${act('Accepting', () => chat.answerRequest(head, 'accept'))}>Accept</button>
        <button aria-label=${`Decline ${name}`} onClick=${act('Declining', () => chat.answerRequest(head, 'decline'))}>Decline</button>
        <button aria-label=${`Block ${name}`} onClick=${act('Blocking', () => chat.setContact(head.asked_by, true))}>Block</button>
      </p>
    </div>`
}

function NewConversation({ chat, select }) {
  const [isOpen, open] = useState(false)
  const submit = async (event) => {
    event.preventDefault()
    const { users, name } = Object.fromEntries(new FormData(event.target))
    const names = users.split(/[\s,]+/).filter(Boolean)
    await chat.attempt('The conversation was not begun', async () => {
      select(name ? await chat.openGroup(name, names) : await chat.openDirect(names[0]))
      open(false)
    })
  }
  if (!isOpen) return html`<p class="buttons"><button class="main" onClick=${() => open(true)}>New conversation</button></p>`
  return html`
    <form class="new" aria-label="New conversation" onSubmit=${submit} onKeyDown=${(event) => event.key === 'Escape' && open(false)}>
      <label>User names <input name="users" required list="contacts" autocomplete="off" autocapitalize="none" placeholder="bob, or bob carol" ref=${focus} /></label>
      <datalist id="contacts">${chat.contacts.filter((each) => !each.is_blocked).map(({ username }) => html`<option key=${username} value=${username} />`)}</datalist>
      <label>Name of the group <input name="name" autocomplete="off" maxlength="100" placeholder="empty: a direct conversation" /></label>
      <p class="buttons"><button class="main">Begin</button><button type="button" onClick=${() => open(false)}>Cancel</button></p>
    </form>`
}

const focus = (element) => element?.focus()
