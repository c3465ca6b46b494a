// Frames as bytes and back (protocol/SPEC.md, section 2). A frame is a plain object: its type by name, its fields by
// name; ids and byte strings are Buffers, numbers above 2^53 are BigInts.

import { Decoder, Encoder } from 'cbor-x'

export const TYPES = {
  hello: 1, send: 2, mark_delivered: 3, mark_read: 4, edit: 5, delete: 6, set_typing: 7, watch: 8, sync: 9, history: 10,
  list: 11, refresh: 12, ping: 13, bye: 14, status: 15,
  error: 64, welcome: 65, sent: 66, done: 67, revised: 68, synced: 69, messages: 70, conversations: 71, pong: 72,
  refreshed: 73, statuses: 74,
  message: 128, tombstone: 129, conversation: 130, typing: 131, presence: 132, lag: 133, receipts: 134,
  cursor: 135, move: 136, receipt_counts: 137, participants: 138, departed: 139, settings: 140, profile: 141,
  own_settings: 148, contact: 149,
}
// The key of each field is its place in this list.
const FIELDS = [
  'type', 'request', 'conversation', 'seq', 'message', 'created', 'sender', 'content_type', 'content', 'nonce',
  'ephemeral_public_key', 'temp_id', 'code', 'detail', 'retry_after_ms', 'token', 'user', 'device', 'version', 'marks',
  'revision', 'edited', 'cursor', 'more', 'count', 'before', 'after', 'messages', 'conversations', 'kind', 'name',
  'first_seq', 'last_seq', 'unread_count', 'active_at', 'participants', 'username', 'joined_seq', 'delivered_seq',
  'read_seq', 'last_message', 'users', 'is_online', 'is_typing', 'for_everyone', 'heads', 'expires', 'keep_alive_ms',
  'limit', 'limit_value', 'reply_to', 'participants_version', 'is_admin', 'display_name', 'joiners_see_all', 'receipts',
  'counts', 'last_seen', 'lifetime_s',
]
// Those whose keys do not follow on.
const LATER_FIELDS = {
  pages: 80, gives_receipts: 90, shows_presence: 91, quiet_hours: 92, contacts_revision: 93, is_contact: 94, is_blocked: 95,
  muted_until: 96, own_revision: 97, participant_count: 98, is_request: 99, asked_by: 100, messages_from: 101,
  groups_from: 102, client: 105, features: 106, limits: 107, since_seq: 110, uncounted_seqs: 111,
  actor: 112, former: 113, left_seq: 114,
}
const KEYS = { ...Object.fromEntries(FIELDS.map((name, key) => [name, key])), ...LATER_FIELDS }
const FIELD_NAMES = new Map(Object.entries(KEYS).map(([name, key]) => [key, name]))
const NAMES = Object.fromEntries(Object.entries(TYPES).map(([name, type]) => [type, name]))

const encoder = new Encoder({ useRecords: false, mapsAsObjects: false, tagUint8Array: false })
const decoder = new Decoder({ useRecords: false, mapsAsObjects: false })

// One WebSocket message of these frames, in core deterministic encoding.
export function encode(...frames) {
  return Buffer.concat(frames.map((frame) => Buffer.from(encoder.encode(toMap(frame)))))
}

function toMap(frame) {
  const known = Object.entries(frame).filter(([, value]) => value !== undefined && value !== null)
  const keyed = known.map(([name, value]) => [KEYS[name], name === 'type' ? TYPES[value] : toItem(value)])
  return new Map(keyed.sort(([one], [other]) => one - other))
}

function toItem(value) {
  if (typeof value === 'number' && value > 0xffffffff) return BigInt(value) // else cbor-x makes it a float
  if (Array.isArray(value)) return value.map(toItem)
  return value?.constructor === Object ? toMap(value) : value
}

// The frames of one WebSocket message; what a later version has added is left out.
export function decode(data) {
  return (decoder.decodeMultiple(data) ?? []).map(fromMap).filter((frame) => frame !== undefined)
}

// A frame, or a map within one, which has no type; undefined for a type that this version does not know.
function fromMap(map) {
  const frame = {}
  for (const [key, value] of map) {
    const name = FIELD_NAMES.get(key)
    const item = name === 'type' ? NAMES[value] : fromItem(value)
    if (name !== undefined && item !== undefined && item !== null) frame[name] = item
  }
  return map.has(0) && frame.type === undefined ? undefined : frame
}

function fromItem(value) {
  if (typeof value === 'bigint' && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value)
  if (value instanceof Map) return fromMap(value)
  if (Array.isArray(value)) return value.map(fromItem).filter((each) => each !== undefined)
  return value
}
