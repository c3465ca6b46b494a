// The field to write in: a new message, an answer, or another text for a message; with files.

import { html, useEffect, useRef, useState } from 'htm/preact/standalone'
import { storeFile } from './attachments.js'

const QUOTED = 120

export function Composer({ chat, head, subject: { replyTo, edits }, done }) {
  const [text, setText] = useState(edits?.content.text ?? '')
  const [files, setFiles] = useState([])
  const [progress, setProgress] = useState('')
  const field = useRef()
  const picker = useRef()
  useEffect(() => field.current.focus(), [])
  const send = async (event) => {
    event.preventDefault()
    if ((!text.trim() && !files.length && !edits?.content.files) || progress) return
    if (edits) chat.edit(edits, text)
    else {
      const quote = replyTo && { user: replyTo.entry.sender, text: chat.summaryOf(replyTo.content).slice(0, QUOTED) }
      const stored = await upload()
      if (!stored) return
      chat.send(head.conversation, { text, quote, files: stored.length ? stored : undefined }, { replyTo: replyTo?.entry.seq })
    }
    setText('')
    setFiles([])
    done()
    field.current?.focus()
  }
  const upload = async () => {
    const stored = []
    const isDone = await chat.attempt('The file was not sent', async () => {
      for (const file of files) {
        setProgress(`Encrypting ${file.name}`)
        stored.push(await storeFile(chat.requester, file, (part, whole) => setProgress(`${file.name}: ${Math.floor((100 * part) / whole)} %`)))
      }
    })
    setProgress('')
    return isDone && stored
  }
  const pressed = (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) send(event)
    if (event.key === 'Escape') done()
  }
  const typed = ({ target }) => {
    setText(target.value)
    chat.tellTyping(head)
  }
  return html`
    <form class="composer" onSubmit=${send}>
      ${(replyTo || edits) && html`
        <p class="subject">${replyTo ? `Answer to ${chat.nameOf(replyTo.entry.sender)}: ${chat.summaryOf(replyTo.content)}` : 'Edit the message'}
          <button type="button" onClick=${done}>Cancel</button></p>`}
      ${files.length > 0 && html`
        <p class="subject">${files.map((file) => file.name).join(', ')} <button type="button" onClick=${() => setFiles([])}>Remove the files</button></p>`}
      ${progress && html`<p class="subject" role="status" aria-label="Upload">${progress}</p>`}
      ${!edits && html`
        <button type="button" aria-label="Attach files" onClick=${() => picker.current.click()}>+</button>
        <input type="file" hidden multiple ref=${picker} onChange=${({ target }) => setFiles([...target.files])} />`}
      <textarea aria-label="Message" rows="1" ref=${field} value=${text} placeholder="Message" onInput=${typed} onKeyDown=${pressed}></textarea>
      <button class="main">${edits ? 'Save' : 'Send'}</button>
    </form>`
}
