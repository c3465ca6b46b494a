// "What the server sees": the frames of this tab's connection, as fields and as bytes.

import { html } from 'htm/preact/standalone'
import { diagnostic, dump } from './frames.js'

export function FramePane({ log, isLeading, close }) {
  return html`
    <section class="frames" aria-label="What the server sees">
      <header>
        <h2>What the server sees</h2>
        <p>${isLeading ? 'The frames of this tab, the latest first. Content is ciphertext; tokens are masked.'
          : 'Another tab of this account holds the connection: look there.'}</p>
        <button aria-label="Close what the server sees" onClick=${close}>×</button>
      </header>
      <ol>
        ${log.list.map(({ number, isOut, bytes, frames }) => html`
          <li key=${number} class=${isOut ? 'out' : 'in'}>
            <details>
              <summary><b>${isOut ? '→' : '←'}</b> ${frames.map(({ type }) => type).join(', ') || 'unknown'} <small>${bytes.length} bytes</small></summary>
              ${frames.map((frame) => html`<p>${diagnostic(frame)}</p>`)}
              <pre>${dump(bytes)}</pre>
            </details>
          </li>`)}
      </ol>
    </section>`
}
