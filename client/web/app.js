// The page: logging in, or the chat of the account that this tab shows.

import { html, render, useEffect, useReducer, useState } from 'htm/preact/standalone'
import { hex, unhex } from '../js/bytes.js'
import { Account } from './account.js'
import { chosen } from './accounts.js'
import { Chat } from './chat.js'
import { FramePane } from './frame_pane.js'
import { Sidebar } from './sidebar.js'
import { SignIn } from './sign_in.js'
import { Talk } from './talk.js'

const GATEWAYS = document.querySelector('meta[name=gateways]').content.split(' ')

const STATES = {
  connecting: 'Connecting',
  offline: 'Offline: what you write is kept here, and sent once the server answers again',
  ended: 'This device is logged out: choose Log out in the menu, and log in again',
  failed: 'This tab has stopped: load the page again',
}

// The conversation in the address (`#` and its id in hex), so that the browser's back button works.
function useSelected() {
  const read = () => (/^#[0-9a-f]{32}$/.test(location.hash) ? unhex(location.hash.slice(1)) : undefined)
  const [selected, set] = useState(read)
  useEffect(() => {
    const listen = () => set(read())
    addEventListener('hashchange', listen)
    return () => removeEventListener('hashchange', listen)
  }, [])
  return [selected, (id) => { location.hash = id ? hex(id) : '' }]
}

function Workspace({ chat }) {
  const [, draw] = useReducer((count) => count + 1, 0)
  const [selected, select] = useSelected()
  const [isPane, showPane] = useState(false)
  const [isAccount, showAccount] = useState(false)
  const choose = (id) => {
    showAccount(false)
    select(id)
  }
  useEffect(() => {
    chat.on('changed', draw)
    for (const event of ['visibilitychange', 'focus']) addEventListener(event, draw)
    return () => chat.off('changed', draw)
  }, [])
  const head = selected && chat.mailbox.head(selected)
  const unread = chat.conversations.reduce((sum, each) => sum + each.unread_count, 0)
  useEffect(() => { document.title = `${unread ? `(${unread}) ` : ''}${chat.name} – ALO Shield` })
  return html`
    <div class=${`workspace ${selected || isAccount ? 'talking' : ''}`}>
      <${Sidebar} chat=${chat} selected=${selected} select=${choose} showAccount=${() => showAccount(true)} ...${{ isPane, showPane }} />
      <div class="middle">
        <${Banner} chat=${chat} />
        ${isAccount ? html`<${Account} chat=${chat} select=${choose} close=${() => showAccount(false)} />`
          : head ? html`<${Talk} key=${hex(selected)} chat=${chat} head=${head} leave=${() => select()} />`
          : html`<main class="empty"><p>${selected ? 'Opening the conversation' : 'Choose a conversation, or begin one.'}</p></main>`}
        ${isPane && html`<${FramePane} log=${chat.frames} isLeading=${chat.tabs.isLeading} close=${() => showPane(false)} />`}
      </div>
    </div>`
}

function Banner({ chat }) {
  const said = STATES[chat.state]
  return html`
    <div class="banner" role="status" aria-label="Connection">${said && html`<p class=${chat.state}>${said}${chat.reason && ` (${chat.reason})`}</p>`}</div>
    <div class="banner" role="alert">
      ${chat.notices.map((text) => html`<p class="notice" key=${text}>${text} <button onClick=${() => chat.dismiss(text)}>Dismiss</button></p>`)}
    </div>`
}

async function begin() {
  const root = document.querySelector('#app')
  const name = chosen()
  if (!name) return render(html`<${SignIn} />`, root)
  try {
    render(html`<${Workspace} chat=${await Chat.open(name, GATEWAYS)} />`, root)
  } catch (error) {
    render(html`<${SignIn} fault=${error.message} />`, root)
  }
}

begin()
