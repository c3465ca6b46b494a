// Files: encrypted in the browser before they go to the object store, with a small picture of them in the message.

import { Files } from '../js/files.js'
import { decryptFile, encryptFile } from '../js/e2ee/sealed_files.js'

const PREVIEW_PX = 240
const PREVIEW_BYTES = 16 * 1024 // it travels in the message
const QUALITIES = [0.7, 0.4, 0.1]

// Stores a file; returns what a message says of it. `client` makes requests; `onProgress` gets bytes.
export async function storeFile(client, file, onProgress) {
  const picture = await pictureOf(file)
  const { blob, key } = await encryptFile(file)
  const files = new Files(client)
  const [upload] = await files.declare([{ blob }])
  await files.finish(upload, { blob }, onProgress)
  return { attachment: upload.attachment, name: file.name, sizeBytes: file.size, key, mediaType: file.type || undefined, ...picture }
}

// The file as it was sent. Only pictures keep their type: a browser shows nothing else of a stranger's.
export async function fetchFile(client, file, onProgress) {
  const parts = []
  const sink = { write: (bytes) => { parts.push(bytes) }, digests: [] }
  await new Files(client).download(file.attachment, sink, onProgress)
  return decryptFile(new Blob(parts), { ...file, mediaType: file.preview ? file.mediaType : 'application/octet-stream' })
}

// Nothing if the file is no picture that this browser reads.
async function pictureOf(file) {
  const image = file.type.startsWith('image/') && await createImageBitmap(file).catch(() => undefined)
  if (!image) return {}
  const { width, height } = image
  const scale = Math.min(1, PREVIEW_PX / Math.max(width, height))
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)))
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height)
  for (const quality of QUALITIES) {
    const blob = await canvas.convertToBlob({ type: 'image/jpeg', quality })
    if (blob.size <= PREVIEW_BYTES) return { preview: new Uint8Array(await blob.arrayBuffer()), width, height }
  }
  return {}
}
