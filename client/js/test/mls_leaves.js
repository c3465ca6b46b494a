// Leaves of MLS groups by ts-mls, driven by JSON lines: {"id", "op", "leaf", ...} -> {"id", ...} or {"id", "error"}. Bytes are in base64.
// The tests of groups where ts-mls and mls-rs take part together run it (tests/system/mls_ts.py).

import { createInterface } from 'node:readline'
import {
  createCommit, createGroup, decodeMlsMessage, emptyPskIndex, encodeMlsMessage, generateKeyPackageWithKey, getCiphersuiteFromName,
  getCiphersuiteImpl, joinGroup, mlsExporter, processPrivateMessage, processPublicMessage,
} from 'ts-mls'
import { makeKeyPackageRef } from 'ts-mls/keyPackage.js'

const NAME = 'MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519'
const CAPABILITIES = { versions: ['mls10'], ciphersuites: [NAME], extensions: [], proposals: [], credentials: ['basic'] }
const LIFETIME = { notBefore: 0n, notAfter: 2n ** 63n - 1n }
const suite = await getCiphersuiteImpl(getCiphersuiteFromName(NAME))

const leaves = new Map() // name -> { identity, signing, packages, groups }
const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'))
const text = (data) => Buffer.from(data).toString('base64')
const decode = (data, wireformat) => {
  const decoded = decodeMlsMessage(data, 0)?.[0]
  if (decoded?.wireformat !== wireformat) throw new Error(`this is no ${wireformat}`)
  return decoded
}

async function generate(leaf) {
  const credential = { credentialType: 'basic', identity: leaf.identity }
  return generateKeyPackageWithKey(credential, CAPABILITIES, LIFETIME, [], leaf.signing, suite)
}

function leafOf(state, identity) {
  const at = state.ratchetTree.findIndex((node) => node?.nodeType === 'leaf' && Buffer.from(node.leaf.credential.identity).equals(identity))
  if (at < 0) throw new Error('the group has no such leaf')
  return at / 2
}

const OPS = {
  async open(_, { leaf, identity }) {
    leaves.set(leaf, { identity: bytes(identity), signing: await suite.signature.keygen(), packages: new Map(), groups: new Map() })
  },

  async key_package(leaf) {
    const made = await generate(leaf)
    leaf.packages.set(text(await makeKeyPackageRef(made.publicPackage, suite.hash)), made)
    return { key_package: text(encodeMlsMessage({ version: 'mls10', wireformat: 'mls_key_package', keyPackage: made.publicPackage })) }
  },

  async create(leaf, { group }) {
    const { publicPackage, privatePackage } = await generate(leaf)
    leaf.groups.set(group, { state: await createGroup(bytes(group), publicPackage, privatePackage, [], suite) })
  },

  async commit(leaf, { group, add, remove }) {
    const held = leaf.groups.get(group)
    const extraProposals = add.map((each) => ({ proposalType: 'add', add: { keyPackage: decode(bytes(each), 'mls_key_package').keyPackage } }))
    if (remove) extraProposals.push({ proposalType: 'remove', remove: { removed: leafOf(held.state, Buffer.from(remove, 'base64')) } })
    const { commit, welcome, newState } = await createCommit(
      { state: held.state, cipherSuite: suite }, { wireAsPublicMessage: true, extraProposals, ratchetTreeExtension: true })
    held.pending = newState
    return { commit: text(encodeMlsMessage(commit)), welcome: welcome && text(encodeMlsMessage({ version: 'mls10', wireformat: 'mls_welcome', welcome })) }
  },

  async accept(leaf, { group }) {
    leaf.groups.set(group, { state: leaf.groups.get(group).pending })
  },

  async discard(leaf, { group }) {
    leaf.groups.get(group).pending = undefined
  },

  async process(leaf, { group, commit }) {
    const { state } = leaf.groups.get(group)
    const decoded = decodeMlsMessage(bytes(commit), 0)?.[0]
    const process = { mls_public_message: processPublicMessage, mls_private_message: processPrivateMessage }[decoded?.wireformat]
    if (!process) throw new Error('this is no commit')
    const { newState } = await process(state, decoded.publicMessage ?? decoded.privateMessage, emptyPskIndex, suite)
    if (newState.groupContext.epoch !== state.groupContext.epoch + 1n) throw new Error('this is no commit')
    leaf.groups.set(group, { state: newState })
  },

  async join(leaf, { group, welcome }) {
    const decoded = decode(bytes(welcome), 'mls_welcome').welcome
    const made = decoded.secrets.map(({ newMember }) => leaf.packages.get(text(newMember))).find(Boolean)
    if (!made) throw new Error('the Welcome is for no key package of this leaf')
    const state = await joinGroup(decoded, made.publicPackage, made.privatePackage, emptyPskIndex, suite)
    if (text(state.groupContext.groupId) !== group) throw new Error('a Welcome to another group')
    leaf.groups.set(group, { state })
  },

  async secret(leaf, { group }) {
    const { state } = leaf.groups.get(group)
    return { secret: text(await mlsExporter(state.keySchedule.exporterSecret, 'test', new Uint8Array(), 32, suite)) }
  },
}

if (process.argv.includes('--serve')) {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line)
    // One after the other: the cryptography of all leaves takes one processor anyway.
    const answer = await OPS[command.op](leaves.get(command.leaf), command).catch((error) => ({ error: String(error.message ?? error) }))
    process.stdout.write(`${JSON.stringify({ ...answer, id: command.id })}\n`)
  }
}
