// A conversation's people and settings, and the safety numbers by which users see that nobody reads along.

import { html, useEffect, useState } from 'htm/preact/standalone'
import { hex, uuid } from '../js/bytes.js'

export const LIFETIMES = new Map([[0, 'never'], [60, 'a minute'], [3600, 'an hour'], [86400, 'a day'], [604800, 'a week']])

export function Details({ chat, head, leave }) {
  const path = `/v1/conversations/${uuid(head.conversation)}`
  const isGroup = head.kind === 'group'
  const maySet = !isGroup || chat.isAdmin(head)
  const change = (values) => chat.attempt('The setting was not changed', () => chat.http.ask('PATCH', path, values))
  const quit = () => chat.attempt('Leaving failed', async () => {
    await chat.http.ask('DELETE', `${path}/participants/${uuid(chat.user)}`)
    leave()
  })
  return html`
    <section class="details" aria-label="Details">
      ${isGroup && maySet && html`<${Field} label="Name of the group" value=${head.name} save=${(name) => change({ name })} />`}
      <label>Messages disappear after
        <select disabled=${!maySet} value=${head.lifetime_s ?? 0} onChange=${({ target }) => change({ lifetime_s: Number(target.value) })}>
          ${[...new Map([...LIFETIMES, [head.lifetime_s ?? 0, LIFETIMES.get(head.lifetime_s ?? 0) ?? `${head.lifetime_s} seconds`]])].map(([seconds, name]) => html`
            <option key=${seconds} value=${seconds}>${name}</option>`)}
        </select>
      </label>
      <h2>People</h2>
      <ul>${chat.others(head).map((each) => html`<${Person} key=${hex(each.user)} ...${{ chat, head, person: each, path }} />`)}</ul>
      ${isGroup && chat.isAdmin(head) && html`
        <${Field} label="Add a user" value="" save=${(name) => chat.attempt(`${name} was not added`, async () => {
          const { user } = await chat.http.ask('GET', `/v1/users/${encodeURIComponent(name)}`)
          await chat.http.ask('POST', `${path}/participants`, { user })
        })} />`}
      ${isGroup && html`<button onClick=${quit}>Leave the group</button>`}
    </section>`
}

function Person({ chat, head, person: { user, is_admin }, path }) {
  const name = chat.nameOf(user)
  const contact = chat.contactOf(user)
  const [isShown, show] = useState(false)
  const act = (what, does) => () => chat.attempt(`${what} failed`, does)
  return html`
    <li aria-label=${name}>
      <strong>${name}</strong> ${is_admin && html`<small>administrator</small>`}
      <p class="buttons">
        ${contact && !contact.is_blocked ? html`<button onClick=${act('Removing', () => chat.removeContact(user))}>Remove contact ${name}</button>`
          : !contact && html`<button onClick=${act('Adding', () => chat.setContact(user, false))}>Add contact ${name}</button>`}
        ${contact?.is_blocked ? html`<button onClick=${act('Unblocking', () => chat.setContact(user, false))}>Unblock ${name}</button>`
          : html`<button onClick=${act('Blocking', () => chat.setContact(user, true))}>Block ${name}</button>`}
        ${chat.isAdmin(head) && html`
          <button onClick=${act('The change', () => chat.http.ask('PATCH', `${path}/participants/${uuid(user)}`, { role: is_admin ? 'member' : 'admin' }))}>
            ${is_admin ? `Make ${name} no administrator` : `Make ${name} an administrator`}</button>
          <button onClick=${act('Removing', () => chat.http.ask('DELETE', `${path}/participants/${uuid(user)}`))}>Remove ${name} from the group</button>`}
      </p>
      <details onToggle=${({ target }) => show(target.open)}>
        <summary>Safety number with ${name}</summary>
        ${isShown && html`<${Safety} ...${{ chat, user, name }} />`}
      </details>
    </li>`
}

function Safety({ chat, user, name }) {
  const [number, set] = useState()
  useEffect(() => { chat.safetyNumber(user).then(set, () => {}) }, [chat.keysRevision])
  if (!number) return html`<p>The safety number is being computed.</p>`
  const verified = chat.verified(user)
  return html`
    <p role="group" aria-label="Digits" class="safety">${number.match(/.{5}/g).join(' ')}</p>
    <p>${verified === number ? 'You have compared it: nobody reads along.'
      : `${verified ? 'It is another one than you have compared. ' : ''}Compare it with what ${name} sees, but not in this chat.`}</p>
    ${verified !== number && html`<button onClick=${() => chat.verify(user, number)}>The safety number with ${name} is the same</button>`}`
}

export function Field({ label, value, save, type = 'text', isOptional = false }) {
  const [text, setText] = useState(value) // of its own: the page is drawn anew while the user types
  useEffect(() => setText(value), [value])
  const submit = (event) => {
    event.preventDefault()
    save(text.trim())
    if (!value) setText('')
  }
  return html`
    <form class="field" onSubmit=${submit}>
      <label>${label} <input name="text" type=${type} value=${text} onInput=${({ target }) => setText(target.value)} required=${!isOptional} autocomplete="off" maxlength="100" /></label>
      <button aria-label=${`Save: ${label}`}>Save</button>
    </form>`
}
