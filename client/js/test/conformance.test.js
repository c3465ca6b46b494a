// The scenarios of the conformance kit (protocol/conformance/README.md), with the Python of the repository.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const ADAPTER = fileURLToPath(new URL('../conformance/adapter.js', import.meta.url))

test('the client passes the scenarios of the conformance kit', { timeout: 150_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'alo-kit-'))
  const report = join(folder, 'report.json')
  const options = ['-m', 'protocol.conformance', '--json', report, '--patience-s', '30', '--', process.execPath, ADAPTER]
  const kit = spawn(join(ROOT, '.venv/bin/python'), options, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] })
  const [status] = await once(kit, 'exit')
  const { scenarios } = JSON.parse(await readFile(report, 'utf8'))
  await rm(folder, { recursive: true })
  const named = (verdict) => scenarios.filter((each) => each.verdict === verdict)
  assert.deepEqual(named('failed').map(({ name, step, reason }) => `${name}, step ${step}: ${reason}`), [])
  assert.deepEqual(named('left out').map(({ name }) => name), [])
  assert.ok(named('passed').length > 40)
  assert.equal(status, 0)
})
