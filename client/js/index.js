// The client for browsers and Node. What has needs of its own is apart: `stores/indexeddb.js` and `tabs.js` for browsers,
// `stores/file.js` for Node, `files.js` and `avatars.js` for attachments, `e2ee/` for end-to-end encryption.

export { Client } from './client.js'
export { ConnectionLost, RequestRefused } from './errors.js'
export { Http, HttpRefused, logIn, register } from './http.js'
export { Journal, StoreFailed } from './journal.js'
export { Mailbox } from './mailbox.js'
export { MemoryStore } from './stores/memory.js'
