// The accounts that are logged in on this browser. Each has a database of its own, and each tab shows one of them: its name is in
// the tab's address (`/app?account=ann`), so two tabs may be two people.

import { Http, logIn, register } from '../js/http.js'
import { IndexedDbStore } from '../js/stores/indexeddb.js'

const KEY = 'alo-shield accounts'
export const SERVER = location.origin

const verifiedKey = (name) => `alo-shield verified ${name}` // safety numbers that were compared
export const databaseOf = (name) => `alo-shield/${name}`

export function accounts() {
  return JSON.parse(localStorage.getItem(KEY) ?? '[]')
}

// The safety numbers that the user of this name has compared, by the other user in hex.
export function verifiedBy(name) {
  return JSON.parse(localStorage.getItem(verifiedKey(name)) ?? '{}')
}

export function keepVerified(name, user, number) {
  localStorage.setItem(verifiedKey(name), JSON.stringify({ ...verifiedBy(name), [user]: number }))
}

// The account that the tab shows; undefined if it shows none.
export function chosen() {
  const name = new URL(location).searchParams.get('account') ?? undefined
  return accounts().includes(name) ? name : undefined
}

// Shows another account in this tab, or none.
export function choose(name) {
  location.href = name ? `/app?account=${encodeURIComponent(name)}` : '/app'
}

// Logs a new device in, after it has registered the user if `isNew`. Rejects with HttpRefused.
export async function signIn(name, password, isNew) {
  if (accounts().includes(name)) throw new Error(`${name} is logged in on this browser already: choose the name below`)
  if (isNew) await register(SERVER, name, password)
  const login = await logIn(SERVER, name, password, 'Web client')
  await IndexedDbStore.delete(databaseOf(name)) // of a device that was revoked before
  const store = await IndexedDbStore.open(databaseOf(name))
  await store.commit(new Map([['login', login]]))
  store.close()
  localStorage.setItem(KEY, JSON.stringify([...accounts(), name]))
  choose(name)
}

// This browser does not list the account any longer.
export function forget(name) {
  localStorage.setItem(KEY, JSON.stringify(accounts().filter((each) => each !== name)))
}

// The device is revoked, unless it is already (without `token`), and all that this browser holds of it is deleted.
export async function logOut(name, token, close) {
  if (token) await new Http(SERVER, () => token).ask('DELETE', '/v1/devices/this')
  await close()
  forget(name)
  localStorage.removeItem(verifiedKey(name))
  await IndexedDbStore.delete(databaseOf(name))
  choose()
}
