// Drives the tabs of headless Chromium for a test (`tab.py`). Each line of standard input is a command, as JSON: the number of a
// tab, the command's name and its arguments. Each line of standard output is the outcome of the next command. The browser ends
// with the input.

import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import puppeteer from 'puppeteer-core'

const { program, profile, environment } = JSON.parse(process.argv[2])
const axe = await readFile(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8')

const browser = await puppeteer.launch({
  executablePath: program,
  userDataDir: profile,
  env: { ...process.env, ...environment },
  headless: 'shell',
  pipe: true,
  defaultViewport: { width: 1280, height: 900 },
  // The sandbox needs rights that a container lacks. No name resolves: only an address of this machine can be reached.
  args: ['--no-sandbox', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1'],
})
const tabs = []

function add(tab) {
  const seen = { requests: [], complaints: [] }
  tab.setDefaultTimeout(25_000)
  tab.on('request', (request) => seen.requests.push(request.url()))
  tab.on('console', (message) => {
    if (!['error', 'warn'].includes(message.type())) return
    seen.complaints.push([message.text(), message.location().url].filter(Boolean).join(' at '))
  })
  tab.on('pageerror', (error) => seen.complaints.push(String(error)))
  tabs.push({ seen, commands: commandsOf(tab, seen) })
}

const commandsOf = (tab, seen) => ({
  open: async (url) => {
    await tab.goto(url)
  },
  press: async (key, ...held) => {
    for (const each of held) await tab.keyboard.down(each)
    await tab.keyboard.press(key)
    for (const each of held) await tab.keyboard.up(each)
  },
  type: (text) => tab.keyboard.type(text),
  value: (expression) => tab.evaluate(expression),
  scheme: (value) => tab.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]),
  size: (width, height) => tab.setViewport({ width, height }),
  accessible: () => tab.accessibility.snapshot(),
  violations: async () => {
    await tab.evaluate(axe)
    const { violations } = await tab.evaluate('axe.run(document)')
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((each) => each.html).join(' ')}`)
  },
  close: async () => {
    await tab.close()
  },
  picture: async (path) => {
    await tab.screenshot({ path })
  },
  seen: () => seen,
  another: async () => {
    add(await browser.newPage())
    return tabs.length - 1
  },
  // By the names that a screen reader tells. A tab in the background draws nothing, so the tab comes to the front first.
  click: async (name) => {
    await tab.bringToFront()
    await tab.locator(`aria/${name}`).click()
  },
  fill: async (name, text) => {
    await tab.bringToFront()
    await tab.locator(`aria/${name}`).fill(text)
  },
  choose: async (name, path) => {
    await tab.bringToFront()
    const [chooser] = await Promise.all([tab.waitForFileChooser(), tab.locator(`aria/${name}`).click()])
    await chooser.accept([path])
  },
  named: async (name) => {
    await tab.bringToFront()
    await tab.waitForSelector(`aria/${name}`)
  },
})

add((await browser.pages())[0])

for await (const line of createInterface({ input: process.stdin })) {
  const [number, name, ...given] = JSON.parse(line)
  let outcome
  try {
    outcome = { value: (await tabs[number].commands[name](...given)) ?? null }
  } catch (error) {
    outcome = { error: String(error) }
  }
  process.stdout.write(`${JSON.stringify(outcome)}\n`)
}
await browser.close()
