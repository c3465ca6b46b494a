// Byte strings: Uint8Arrays, in browsers and in Node.

export function hex(bytes) {
  let text = ''
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0')
  return text
}

export function equal(one, other) {
  if (one === other) return true
  if (!one || !other || one.length !== other.length) return false
  return one.every((byte, at) => byte === other[at])
}
