// The values that fields of frames may have (protocol/SPEC.md, 2.1), and those without which a frame has no meaning: a frame that breaks
// these rules is none, so it changes nothing. It cannot be told from CBOR's integers whether 1.0 came as a float.

import { NotCbor } from './cbor.js'
import { utf8 } from './bytes.js'

/** @typedef {(value: any) => boolean} Check */

export class WrongField extends NotCbor {}

const SEQ = 2n ** 63n - 1n
/** @param {number | bigint} most @param {number} least @returns {Check} */
const uint = (most, least = 0) => (value) => (typeof value === 'bigint' || Number.isInteger(value)) && value >= least && value <= most
/** @param {number} least @param {number} most @returns {Check} */
const bytes = (least, most) => (value) => value instanceof Uint8Array && value.length >= least && value.length <= most
/** @param {number} most bytes @returns {Check} */
const text = (most) => (value) => typeof value === 'string' && value !== '' && value.length <= most && !value.includes('\0') && (3 * value.length <= most || utf8(value).length <= most)
/** @param {number} most @returns {Check} */
const visible = (most) => (value) => typeof value === 'string' && value.length <= most && /^[!-~]+$/.test(value)
/** @param {number} least @param {number} most @param {Check} check of each @returns {Check} */
const array = (least, most, check) => (value) => Array.isArray(value) && value.length >= least && value.length <= most && value.every(check)
/** @param {Check[]} checks of each place @returns {Check} */
const tuple = (...checks) => (value) => Array.isArray(value) && value.length === checks.length && checks.every((check, at) => check(value[at]))
/** @param {string[]} needed @returns {Check} */
const map = (...needed) => (value) => value?.constructor === Object && value.type === undefined && needed.every((name) => value[name] !== undefined)
/** @param {string[]} types @returns {Check} */
const frame = (...types) => (value) => value?.constructor === Object && types.includes(value.type)
/** @type {Check} */
const bool = (value) => typeof value === 'boolean'
const [id, seq, digest, ms, u31] = [bytes(16, 16), uint(SEQ), bytes(32, 32), uint(2 ** 32 - 1), uint(2 ** 31 - 1)]
const key = tuple(visible(32), uint(SEQ, 1), bytes(1, 16_384))

/** @type {Record<string, Check>} */
const CHECKS = {
  request: ms, conversation: id, seq, message: id, created: seq, sender: id, content_type: text(64), content: bytes(0, 65_536), nonce: bytes(0, 64),
  ephemeral_public_key: bytes(0, 2048), temp_id: id, code: text(64), detail: text(1024), retry_after_ms: ms, token: text(256), user: id, device: id,
  version: uint(65_535), revision: u31, edited: seq, cursor: bytes(1, 1024), more: bool, messages: array(0, 100, frame('message', 'tombstone')),
  conversations: array(0, 100, frame('conversation')), kind: text(16), name: text(512), first_seq: seq, last_seq: seq, unread_count: seq, active_at: seq,
  participants: array(0, 1000, map('user', 'username', 'joined_seq')), username: text(128), joined_seq: seq, delivered_seq: seq, read_seq: seq,
  last_message: frame('message', 'tombstone'), users: array(0, 256, id), is_online: bool, is_typing: bool, heads: array(0, 256, tuple(id, seq)),
  expires: seq, keep_alive_ms: ms, limit: text(64), limit_value: seq, reply_to: seq, participants_version: seq, is_admin: bool,
  display_name: text(512), joiners_see_all: bool, receipts: array(0, 1000, tuple(id, seq, seq)), counts: array(0, 100, tuple(seq, seq, seq, seq)),
  last_seen: seq, lifetime_s: ms, attachments: array(1, 10, id), thumbnail: bytes(1, 16_384), attachment: id, thumbnail_of: id,
  tickets: array(0, 20, map('expires', 'attachment', 'part_requests')),
  part_requests: array(0, 32, tuple(uint(2048, 1), visible(1024), array(0, 8, tuple(visible(64), visible(256))))), stored_parts: uint(2048),
  downloads: array(0, 200, map('expires', 'attachment', 'size_bytes', 'media_type', 'url')), size_bytes: uint(SEQ, 1), media_type: visible(127), digest,
  url: visible(1024), is_quiet: bool, devices_version: seq, envelopes: array(1, 256, tuple(id, bytes(1, 65_536))), has_envelopes: bool, follows: seq,
  control_seq: seq, identity: bytes(1, 4096), identity_revision: u31, one_time_keys: array(1, 200, key), last_resort_keys: array(1, 8, key),
  kinds: array(1, 8, visible(32)), devices: array(0, 256, map('user', 'device', 'identity', 'identity_revision')), key_history: bytes(1, 64),
  pools: array(0, 8, tuple(visible(32), uint(200), seq, seq, digest, seq, bool)), gives_receipts: bool, shows_presence: bool,
  quiet_hours: tuple(uint(1439), uint(1439), text(64)), contacts_revision: u31, is_contact: bool, is_blocked: bool, muted_until: seq, own_revision: u31,
  participant_count: ms, is_request: bool, asked_by: id, messages_from: text(16), groups_from: text(16), features: array(0, 256, text(32)),
  limits: array(0, 256, tuple(text(64), seq)), since_seq: seq, uncounted_seqs: array(0, 256, seq), actor: id,
  former: array(0, 100, map('user', 'since_seq', 'left_seq')), left_seq: seq, avatar: tuple(id, uint(SEQ, 1), digest), quiet_count: seq,
  quiet_counts: array(1, 2, tuple(seq, seq)), changed_users: array(0, 1000, id), unknown_devices: array(0, 256, id), changed_since: seq,
  reason: visible(32), envelope: bytes(1, 65_536),
}

/** @type {Record<string, string[]>} the fields that the client cannot do without */
const NEEDED = {
  error: ['code', 'detail'], welcome: ['created', 'user', 'device', 'version', 'expires', 'keep_alive_ms'], sent: ['seq', 'message', 'created'],
  revised: ['revision', 'edited'], synced: ['cursor', 'more'], messages: ['messages', 'more'], device_list: ['devices', 'more'],
  message: ['conversation', 'seq', 'message', 'created', 'sender', 'content_type', 'content'], tombstone: ['conversation', 'seq', 'message', 'created', 'sender'],
  conversation: ['conversation', 'kind', 'first_seq', 'participants_version'], participants: ['conversation', 'participants', 'participants_version'],
  departed: ['conversation', 'users', 'participants_version'], settings: ['conversation', 'first_seq', 'participants_version'],
  receipts: ['conversation', 'receipts'], receipt_counts: ['conversation', 'counts'], profile: ['user'], cursor: ['cursor', 'more'],
  typing: ['conversation', 'user', 'is_typing'], presence: ['user', 'is_online'], devices_changed: ['conversation', 'devices_version', 'changed_users'],
  undecryptable: ['conversation', 'seq', 'user', 'device', 'reason'], move: ['retry_after_ms'], keys_low: ['kinds'],
}

/** Throws WrongField. @param {string} name @param {any} value */
export function checkField(name, value) {
  if (CHECKS[name] && !CHECKS[name](value)) throw new WrongField(`the field ${name} has a value that it may not have`)
}

/** Throws WrongField. @param {import('./codec.js').Frame} frame whose fields were checked */
export function checkFrame(frame) {
  const missing = NEEDED[frame.type]?.find((name) => frame[name] === undefined)
  if (missing) throw new WrongField(`a frame ${frame.type} has no ${missing}`)
}
