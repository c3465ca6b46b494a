// Registering and logging in, and the accounts that are on this browser already.

import { html, useState } from 'htm/preact/standalone'
import { accounts, choose, signIn } from './accounts.js'

export function SignIn({ fault = '' }) {
  const [told, tell] = useState(fault)
  const [isBusy, setBusy] = useState(false)
  const submit = async (event) => {
    event.preventDefault()
    const { name, password } = Object.fromEntries(new FormData(event.target))
    setBusy(true)
    tell('')
    await signIn(name.trim(), password, event.submitter?.value === 'register').catch((error) => tell(error.message))
    setBusy(false)
  }
  return html`
    <main class="sign-in">
      <h1>ALO Shield</h1>
      <p>Messages are encrypted in this browser. The server carries them, and cannot read them.</p>
      <form aria-label="Account" onSubmit=${submit}>
        <label>User name <input name="name" required autocomplete="username" autocapitalize="none" maxlength="32" /></label>
        <label>Password <input name="password" type="password" required minlength="8" autocomplete="current-password" /></label>
        <p class="buttons">
          <button class="main" value="login" disabled=${isBusy}>Log in</button>
          <button value="register" disabled=${isBusy}>Register</button>
        </p>
        <p role="alert">${told}</p>
      </form>
      ${accounts().length > 0 && html`
        <section aria-label="Accounts on this browser">
          <h2>On this browser</h2>
          ${accounts().map((name) => html`<button key=${name} onClick=${() => choose(name)}>Continue as ${name}</button>`)}
        </section>`}
    </main>`
}
