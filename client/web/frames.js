// What the server sees: the last frames of this tab's connection, in both directions. A token is masked, in text and bytes.

import { hex, utf8 } from '../js/bytes.js'
import { decodeItems } from '../js/cbor.js'
import { decode } from '../js/codec.js'
import { Events } from '../js/events.js'
import { KEYS } from '../js/tables.js'

const MOST = 200
const SHOWN_BYTES = 24

export class FrameLog extends Events {
  list = []
  #nextNumber = 1

  constructor() {
    super()
    const note = (isOut, bytes) => this.#note(isOut, bytes)
    this.WebSocket = class extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols)
        this.addEventListener('message', ({ data }) => note(false, new Uint8Array(data)))
      }

      send(bytes) {
        note(true, bytes)
        super.send(bytes)
      }
    }
  }

  #note(isOut, bytes) {
    const masked = mask(bytes)
    const frames = decode(masked)
    this.list = [{ number: this.#nextNumber++, isOut, at: Date.now(), bytes: masked, frames }, ...this.list].slice(0, MOST)
    this.emit('changed')
  }
}

// A copy of these bytes, in which tokens are asterisks.
function mask(bytes) {
  const copy = bytes.slice()
  for (const item of decodeItems(bytes)) {
    const token = item.get(KEYS.token)
    if (token) copy.fill(0x2a, ...placeOf(utf8(token), copy))
  }
  return copy
}

function placeOf(part, bytes) {
  const at = bytes.findIndex((_, start) => part.every((byte, step) => bytes[start + step] === byte))
  return [at, at + part.length]
}

// A frame in the manner of CBOR's diagnostic notation (RFC 8949, section 8), with the names of its fields; long bytes are cut.
export function diagnostic(value) {
  if (value instanceof Uint8Array) {
    const isCut = value.length > SHOWN_BYTES
    return `h'${hex(value.subarray(0, SHOWN_BYTES))}${isCut ? `…' (${value.length} bytes)` : "'"}`
  }
  if (Array.isArray(value)) return `[${value.map(diagnostic).join(', ')}]`
  if (value?.constructor === Object) return `{${Object.entries(value).map(([key, each]) => `${key}: ${diagnostic(each)}`).join(', ')}}`
  return typeof value === 'bigint' ? String(value) : JSON.stringify(value)
}

// 16 bytes a line, in hex and as ASCII.
export function dump(bytes) {
  const lines = []
  for (let at = 0; at < bytes.length; at += 16) {
    const some = bytes.subarray(at, at + 16)
    const text = [...some].map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : '.')).join('')
    lines.push(`${at.toString(16).padStart(5, '0')}  ${hex(some).replace(/../g, '$& ').padEnd(48)}  ${text}`)
  }
  return lines.join('\n')
}
