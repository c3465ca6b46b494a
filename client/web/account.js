// The user's own account: name, what others see, contacts, and the devices that are logged in.

import { html, useEffect, useState } from 'htm/preact/standalone'
import { Field } from './details.js'

const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })

export function Account({ chat, select, close }) {
  const [profile, setProfile] = useState({})
  const [devices, setDevices] = useState([])
  const load = async () => {
    setProfile(await chat.http.ask('GET', '/v1/profile'))
    setDevices((await chat.http.ask('GET', '/v1/devices')).devices)
  }
  useEffect(() => { chat.attempt('The account did not come', load) }, [])
  const change = (values) => chat.attempt('The account was not changed', async () => setProfile(await chat.http.ask('PATCH', '/v1/profile', values)))
  const [asks, ask] = useState() // the device to revoke, for which the server wants the password again
  const revoke = (device) => chat.attempt('Revoking failed', async () => {
    try {
      await chat.http.ask('DELETE', `/v1/devices/${device.device}`)
      ask(undefined)
      await load()
    } catch (error) {
      if (error.code !== 'confirmation_required') throw error
      ask(device)
    }
  })
  const confirm = (password) => chat.attempt('The password was not taken', async () => {
    await chat.http.ask('POST', '/v1/confirmations', { password })
    await revoke(asks)
  })
  const write = (username) => chat.attempt('The conversation was not begun', async () => select(await chat.openDirect(username)))
  const box = (name, label) => html`
    <label class="box"><input type="checkbox" checked=${profile[name]} onChange=${({ target }) => change({ [name]: target.checked })} /> ${label}</label>`
  return html`
    <main class="details" aria-label="Account">
      <header><h1>${chat.name}</h1><button aria-label="Close the account" onClick=${close}>×</button></header>
      <${Field} key=${profile.display_name} label="Display name" isOptional value=${profile.display_name ?? ''} save=${(text) => change({ display_name: text })} />
      ${box('gives_receipts', 'Others see what I have read')}
      ${box('shows_presence', 'Others see whether I am online')}
      <h2>Contacts</h2>
      <ul aria-label="Contacts">${chat.contacts.map(({ user, username, display_name, is_blocked }) => html`
        <li key=${username} aria-label=${username}>
          <strong>${display_name || username}</strong> ${is_blocked && html`<small>blocked</small>`}
          <p class="buttons">
            ${!is_blocked && html`<button onClick=${() => write(username)}>Write to ${username}</button>`}
            ${is_blocked ? html`<button onClick=${() => chat.attempt('Unblocking failed', () => chat.setContact(user, false))}>Unblock ${username}</button>`
              : html`<button onClick=${() => chat.attempt('The contact was not removed', () => chat.removeContact(user))}>Remove ${username}</button>`}
          </p>
        </li>`)}
      </ul>
      <h2>Devices</h2>
      <ul aria-label="Devices">${devices.map((each) => html`
        <li key=${each.device} aria-label=${each.name}>
          <strong>${each.name}</strong> ${each.is_this && html`<small>this one</small>`}
          <p><small>${each.client ?? 'unknown program'}, last used ${TIME.format(each.last_used / 1000)}</small></p>
          ${!each.is_this && html`<button onClick=${() => revoke(each)}>Revoke ${each.name}</button>`}
        </li>`)}
      </ul>
      ${asks && html`<${Field} label=${`Password, to revoke ${asks.name}`} value="" type="password" save=${confirm} />`}
    </main>`
}
