// A tab of several that share a device. The page around it calls `open`, and closes the tab by removing its frame.

import { textOf, unhex } from '/client/js/bytes.js'
import { Client } from '/client/js/client.js'
import { IndexedDbStore } from '/client/js/stores/indexeddb.js'
import { Tabs } from '/client/js/tabs.js'

window.open = async ({ urls, login, talk }) => {
  const id = unhex(talk)
  const { user, device, token } = login
  const known = { user: unhex(user), device: unhex(device), token, came: 0 }
  const tabs = new Tabs('shared', await IndexedDbStore.open('shared'), (store) => Client.open(urls, { store, login: known }))
  await tabs.ready
  window.tabs = tabs
  window.texts = () => tabs.mailbox.entries(id).map(({ content }) => textOf(content))
  window.say = (text) => tabs.send(id, new TextEncoder().encode(text)).then(({ seq }) => seq)
}
window.isLoaded = true
