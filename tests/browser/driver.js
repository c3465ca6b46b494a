// Drives one tab of headless Chromium for a test (`tab.py`). Each line of standard input is a command, as JSON: its name and its
// arguments. Each line of standard output is the outcome of the next command. The browser ends with the input.

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
const [tab] = await browser.pages()
tab.setDefaultTimeout(15_000)

const seen = { requests: [], complaints: [] }
tab.on('request', (request) => seen.requests.push(request.url()))
tab.on('console', (message) => {
  if (!['error', 'warn'].includes(message.type())) return
  seen.complaints.push([message.text(), message.location().url].filter(Boolean).join(' at '))
})
tab.on('pageerror', (error) => seen.complaints.push(String(error)))

const COMMANDS = {
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
  picture: async (path) => {
    await tab.screenshot({ path })
  },
  seen: () => seen,
}

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line)
  let outcome
  try {
    outcome = { value: (await COMMANDS[name](...given)) ?? null }
  } catch (error) {
    outcome = { error: String(error) }
  }
  process.stdout.write(`${JSON.stringify(outcome)}\n`)
}
await browser.close()
