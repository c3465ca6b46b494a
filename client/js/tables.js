// The tables of protocol/SPEC.md, as far as this client needs them; the numbers in comments are its sections.
// tests/protocol/test_js.py compares each of them with protocol/*.py.

export const VERSION = 1 // the greatest and the oldest version that this client speaks (3.1)
export const SOCKET_PATH = '/v1/socket' // 1.1
export const SUBPROTOCOL = 'alo.v1' // 1.1

// 2.3
/** @type {Record<string, number>} */
export const TYPES = {
  hello: 1, send: 2, mark_delivered: 3, mark_read: 4, edit: 5, delete: 6, set_typing: 7, watch: 8, sync: 9,
  history: 10, list: 11, refresh: 12, ping: 13, bye: 14, status: 15, upload: 20, parts: 21, complete: 22,
  download: 23, abort: 24, put_keys: 25, devices: 26, key_status: 27, add_envelopes: 28,
  report_undecryptable: 29,
  error: 64, welcome: 65, sent: 66, done: 67, revised: 68, synced: 69, messages: 70, conversations: 71, pong: 72,
  refreshed: 73, statuses: 74, tickets: 75, part_requests: 76, downloads: 77,
  keys: 78, device_list: 79,
  message: 128, tombstone: 129, conversation: 130, typing: 131, presence: 132, lag: 133, receipts: 134, cursor: 135,
  move: 136, receipt_counts: 137, participants: 138, departed: 139, settings: 140, profile: 141, keys_low: 142,
  devices_changed: 143, undecryptable: 144, own_settings: 148, contact: 149,
}

// 2.1
/** @type {Record<string, number>} */
export const KEYS = {
  type: 0, request: 1, conversation: 2, seq: 3, message: 4, created: 5, sender: 6, content_type: 7, content: 8,
  nonce: 9, ephemeral_public_key: 10, temp_id: 11, code: 12, detail: 13, retry_after_ms: 14, token: 15, user: 16,
  device: 17, version: 18, marks: 19, revision: 20, edited: 21, cursor: 22, more: 23, count: 24, before: 25,
  after: 26, messages: 27, conversations: 28, kind: 29, name: 30, first_seq: 31, last_seq: 32, unread_count: 33,
  active_at: 34, participants: 35, username: 36, joined_seq: 37, delivered_seq: 38, read_seq: 39, last_message: 40,
  users: 41, is_online: 42, is_typing: 43, for_everyone: 44, heads: 45, expires: 46, keep_alive_ms: 47, limit: 48,
  limit_value: 49, reply_to: 50, participants_version: 51, is_admin: 52, display_name: 53, joiners_see_all: 54,
  receipts: 55, counts: 56, last_seen: 57, lifetime_s: 58, attachments: 59, thumbnail: 60, attachment: 61,
  thumbnail_of: 62, files: 63, tickets: 64, part_requests: 65, stored_parts: 66, wanted: 67, downloads: 68,
  wants_downloads: 69, size_bytes: 70, media_type: 71, digest: 72, url: 73, is_quiet: 74,
  devices_version: 75, envelopes: 76, has_envelopes: 77, follows: 78, control_seq: 79, pages: 80, identity: 81, identity_revision: 82, one_time_keys: 83, last_resort_keys: 84, is_anew: 85, kinds: 86, devices: 87,
  key_history: 88, pools: 89, gives_receipts: 90, shows_presence: 91,
  quiet_hours: 92, contacts_revision: 93, is_contact: 94, is_blocked: 95, muted_until: 96, own_revision: 97,
  participant_count: 98, is_request: 99, asked_by: 100, messages_from: 101, groups_from: 102, client: 105,
  features: 106, limits: 107, since_seq: 110, uncounted_seqs: 111, actor: 112, former: 113, left_seq: 114, avatar: 115, is_avatar: 116, quiet_count: 117,
  quiet_counts: 118, changed_users: 136, wants_devices: 137, unknown_devices: 138, changed_since: 139,
  reason: 140,
  envelope: 239,
}

// 11
export const LIMITS = { requests_in_flight: 1024, marks_per_request: 256, page_entries: 100 }

// The errors of a sync after which the client drops what it holds and syncs without a cursor (6.4).
export const CURSOR_ERRORS = new Set(['cursor_foreign', 'cursor_expired'])

// The close codes below 4500 after which the client does not connect again (13.3).
export const FINAL_CLOSES = new Set([1002, 1003, 1007, 1009])

// The close codes after which it waits up to another time than the 5 s of all others (13.3).
/** @type {Record<number, number>} */
export const CLOSE_DELAYS_MS = { 1012: 2000, 4003: 60_000 }
