// The operations page: asks for the operators' token once, then GET /v1/ops/live every 2 s, and shows the answers.
// All texts go through textContent: an answer never becomes markup.

import { MOST, chart } from '/ops/charts.js'

const EVERY_MS = 2000
const PATIENCE_MS = 10000
const KEY = 'alo.ops.token'

const byId = (id) => document.getElementById(id)
const [state, told, login, token, figures, pause, forget] =
  ['state', 'told', 'login', 'token', 'figures', 'pause', 'forget'].map(byId)

// Figures

const NONE = '–'
const number = (value) => (value === null ? NONE : value.toLocaleString('en', { maximumFractionDigits: 1 }))
const ms = (value) => (value === null ? NONE : `${number(value)} ms`)
const share = (value) => (value === null ? NONE : `${(value * 100).toFixed(1)} %`)
const bytes = (value) => (value === null ? NONE : `${number(value / 1048576)} MiB`)
const seconds = (value) => (value === null ? NONE : `${number(value)} s`)

const named = (live, name) => live.times.find((each) => each.name === name)
const hits = (live) => {
  const used = live.caches.filter((each) => each.hit_ratio !== null)
  const uses = used.reduce((sum, each) => sum + each.uses_per_s, 0)
  return uses ? used.reduce((sum, each) => sum + each.uses_per_s * each.hit_ratio, 0) / uses : null
}
const total = (rows, field) => rows.reduce((sum, each) => sum + each[field], 0)

const TILES = [
  ['connections', 'Connections', (live) => live.connections, number],
  ['users', 'Users', (live) => live.users, number],
  ['sends', 'Sends per second', (live) => live.sends_per_s, number],
  ['p50', 'Delivery p50', (live) => named(live, 'committed_offered').p50, ms],
  ['p95', 'Delivery p95', (live) => named(live, 'committed_offered').p95, ms],
  ['p99', 'Delivery p99', (live) => named(live, 'committed_offered').p99, ms],
  ['requests', 'HTTP per second', (live) => live.requests_per_s, number],
  ['http', 'HTTP p99', (live) => named(live, 'http').p99, ms],
  ['queue', 'Jobs waiting', (live) => total(live.tasks, 'waiting'), number],
  ['deaths', 'Dead jobs', (live) => total(live.tasks, 'dead'), number],
  ['hits', 'Cache hits', hits, share],
  ['lag', 'Longest stream', (live) => Math.max(0, ...live.nodes.map((each) => each.stream_entries ?? 0)), number],
].map(([id, title, read, text]) => {
  const tile = element('div', { className: 'tile', id: `tile-${id}` })
  const value = element('p', { textContent: NONE })
  const drawn = chart()
  tile.append(element('h3', { textContent: title }), value, drawn.svg)
  byId('tiles').append(tile)
  const values = []
  const times = []
  return (live) => {
    const now = read(live)
    values.push(now)
    times.push(live.at)
    if (values.length > MOST) [values, times].forEach((each) => each.shift())
    value.textContent = text(now)
    const known = values.filter((each) => each !== null)
    const range = known.length ? `${text(Math.min(...known))} to ${text(Math.max(...known))}` : 'no value'
    drawn.show(values, `${title}, chart of ${Math.round((live.at - times[0]) / 1e6)} s: ${range}`)
  }
})

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties)
}

// Tables. A row stays the same element from answer to answer, and no row moves when one before it goes: the focus stays on
// its button. If its own row goes, the focus goes to the next button of the table.

function fill(id, rows, empty) {
  const body = byId(id).tBodies[0]
  const columns = byId(id).tHead.rows[0].cells
  const keys = new Set(rows.map(({ key }) => key))
  for (const row of [...body.rows].filter((each) => !keys.has(each.dataset.key))) remove(row)
  const held = new Map([...body.rows].map((row) => [row.dataset.key, row]))
  rows.forEach(({ key, cells, action }, at) => {
    const row = held.get(key) ?? newRow(key, columns, action)
    cells.forEach((cell, column) => show(row.cells[column], cell))
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null)
  })
  if (!rows.length) {
    const row = body.insertRow()
    row.dataset.key = 'none'
    row.append(element('td', { colSpan: columns.length, className: 'none', textContent: empty }))
  }
}

function remove(row) {
  const hadFocus = row.contains(document.activeElement)
  const near = row.nextElementSibling ?? row.previousElementSibling
  const title = row.closest('section').querySelector('h2')
  row.remove()
  if (hadFocus) (near?.querySelector('button') ?? title).focus()
}

function newRow(key, columns, action) {
  const row = element('tr')
  row.dataset.key = key
  ;[...columns].forEach((column, at) => {
    const cell = at ? element('td') : element('th', { scope: 'row' })
    cell.className = column.className
    row.append(cell)
  })
  if (action) row.lastChild.append(action)
  return row
}

function show(cell, given) {
  const [text, kind] = Array.isArray(given) ? given : [given, '']
  const shown = String(text)
  if (cell.textContent !== shown) cell.textContent = shown
  if (kind) {
    cell.classList.remove('good', 'bad')
    cell.classList.add(kind)
  }
}

const status = (text, good) => [text, text === good ? 'good' : 'bad']
const clock = (micros) => new Date(micros / 1000).toISOString().slice(0, 19).replace('T', ' ')

const HOPS = {
  received_committed: 'received → committed',
  committed_offered: 'committed → offered, same node',
  committed_streamed: 'committed → stream of another node',
  committed_offered_elsewhere: 'committed → offered, another node',
  offered_written: 'offered → written to the socket',
  http: 'HTTP: head → answer',
}

function showTables(live) {
  fill('nodes', live.nodes.map((each) => ({
    key: each.node,
    cells: [each.node, status(each.status, 'serves'), each.host === null ? NONE : `${each.host} (${each.pid})`,
      number(each.connections), number(each.users), number(each.stream_entries), number(each.fanout_waiting),
      bytes(each.outbox_bytes)],
    action: twoStep('Drain', `node ${each.node}`, `/v1/ops/nodes/${each.node}/drain`,
      `Node ${each.node} drains: its clients move, and its process ends.`),
  })), 'No node has a lease.')
  fill('tasks', live.tasks.map((each) => ({
    key: each.task,
    cells: [each.task, number(each.waiting), number(each.delayed), number(each.running),
      [number(each.dead), each.dead ? 'bad' : 'good'], seconds(each.oldest_s), each.is_paused ? 'paused' : NONE],
  })), 'No job waits, runs or is dead.')
  fill('dead', live.dead_jobs.map((each) => ({
    key: String(each.job),
    cells: [each.job, each.task, clock(each.died), number(each.attempts), each.reason],
    action: twoStep('Replay', `job ${each.job} of ${each.task}`, `/v1/ops/jobs/${each.job}/replay`,
      `Job ${each.job} of ${each.task} runs again.`),
  })), 'No job is dead.')
  fill('times', live.times.map((each) => ({
    key: each.name,
    cells: [HOPS[each.name] ?? each.name, number(each.per_s), ms(each.p50), ms(each.p95), ms(each.p99)],
  })), '')
  fill('statements', live.statements.map((each) => ({
    key: each.statement,
    cells: [each.statement, number(each.per_s), share(each.busy), ms(each.mean_ms), ms(each.p99_ms)],
  })), 'No statement ran.')
  fill('caches', live.caches.map((each) => ({
    key: each.cache, cells: [each.cache, number(each.uses_per_s), share(each.hit_ratio)],
  })), 'No process has shared figures yet.')
  fill('processes', live.processes.map((each) => ({
    key: each.id,
    cells: [each.process, each.id, each.host, each.pid, status(each.fault || 'ready', 'ready'), share(each.cpu),
      bytes(each.memory_bytes), ms(each.loop_lag_p99_ms)],
  })), 'No process has shared figures yet.')
}

// A table that is wider than the window scrolls in a frame, which then can have the focus: arrow keys scroll it.

const frames = new ResizeObserver((entries) => {
  for (const frame of new Set(entries.map(({ target }) => target.closest('.wide')))) {
    if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0
    else frame.removeAttribute('tabindex')
  }
})
for (const table of document.querySelectorAll('table')) {
  const frame = element('div', { className: 'wide', role: 'group', ariaLabel: table.caption.textContent })
  table.replaceWith(frame)
  frame.append(table)
  frames.observe(table)
  frames.observe(frame)
}

// Actions: the first press asks, a second one within 5 s acts. Both are presses of the same button, by mouse or by key.

function twoStep(word, what, path, done) {
  const button = element('button', { type: 'button', textContent: word })
  button.setAttribute('aria-label', `${word} ${what}`)
  let timer = 0
  const reset = () => {
    clearTimeout(timer)
    button.className = ''
    button.textContent = word
    button.setAttribute('aria-label', `${word} ${what}`)
  }
  button.addEventListener('click', async () => {
    if (button.ariaDisabled === 'true') return
    if (button.className !== 'sure') {
      button.className = 'sure'
      button.textContent = 'Sure?'
      button.setAttribute('aria-label', `Sure? ${word} ${what}`)
      told.textContent = `Press again to ${word.toLowerCase()} ${what}.`
      timer = setTimeout(reset, 5000)
      return
    }
    reset()
    // A button with the attribute `disabled` would lose the focus.
    button.ariaDisabled = 'true'
    try {
      await ask(path, 'POST')
      told.textContent = done
    } catch (error) {
      told.textContent = `${word} failed: ${error.message}`
      button.ariaDisabled = 'false'
    }
  })
  return button
}

// Requests

class Refused extends Error {}

async function ask(path, method = 'GET') {
  const answer = await fetch(path, {
    method,
    headers: { authorization: `Bearer ${sessionStorage.getItem(KEY)}`, accept: 'application/json' },
    cache: 'no-store',
    credentials: 'omit',
    signal: AbortSignal.timeout(PATIENCE_MS),
  })
  if (answer.status === 401) throw new Refused('the token is wrong')
  if (answer.status === 204) return null
  const body = await answer.json()
  if (!answer.ok) throw new Error(body.detail ?? body.title ?? `status ${answer.status}`)
  return body
}

let isPaused = false
let timer = 0
let latest = 0

async function look() {
  const mine = stop()
  try {
    const live = await ask('/v1/ops/live')
    if (mine !== latest) return
    TILES.forEach((tile) => tile(live))
    showTables(live)
    shown(true)
    say(`Live: figures of ${clock(live.at)} UTC`)
  } catch (error) {
    if (mine !== latest) return
    if (error instanceof Refused) return leave(`Not let in: ${error.message}.`)
    say(`No answer: ${error.message}. The page asks again.`, 'bad')
  }
  if (!isPaused) timer = setTimeout(look, EVERY_MS)
}

/** Ask no more; an answer that is still to come is not shown. */
function stop() {
  clearTimeout(timer)
  return ++latest
}

function say(text, kind = '') {
  state.className = kind
  // Screen readers would read a clock out each 2 s: only a change between live and not is told.
  state.setAttribute('aria-live', kind === 'bad' || state.dataset.kind !== kind ? 'polite' : 'off')
  state.dataset.kind = kind
  state.textContent = text
}

function shown(isIn) {
  const hadFocus = login.contains(document.activeElement)
  login.hidden = isIn
  figures.hidden = pause.hidden = forget.hidden = !isIn
  if (isIn && hadFocus) byId('main').focus({ preventScroll: true })
}

function pauses(is) {
  isPaused = is
  pause.setAttribute('aria-pressed', String(is))
}

function leave(text) {
  stop()
  pauses(false)
  sessionStorage.removeItem(KEY)
  shown(false)
  say(text, 'bad')
  token.focus()
}

login.addEventListener('submit', (event) => {
  event.preventDefault()
  sessionStorage.setItem(KEY, token.value.trim())
  token.value = ''
  look()
})
forget.addEventListener('click', () => leave('The token is forgotten.'))
pause.addEventListener('click', () => {
  pauses(!isPaused)
  if (isPaused) {
    stop()
    say('Paused.')
  } else look()
})

if (sessionStorage.getItem(KEY)) look()
else {
  shown(false)
  say('Not logged in.')
}
