// The KeyPackages of this device: one-time keys (SPEC 19.5), each with its private part until a Welcome has used it.

import { encodeMlsMessage, generateKeyPackageWithKey } from 'ts-mls'
import { makeKeyPackageRef } from 'ts-mls/keyPackage.js'
import { concat, hex } from '../bytes.js'
import { packageRefOf } from './mls_parts.js'

/** @typedef {{ ref: string, public: Uint8Array, private: any, isLastResort: boolean }} Kept */

export const SUITE = 'MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519'
const LIFETIME = { notBefore: 0n, notAfter: 2n ** 63n - 1n } // the server keeps the keys, and this device replaces them
const CAPABILITIES = /** @type {const} */ ({ versions: ['mls10'], ciphersuites: [SUITE], extensions: [], proposals: [], credentials: ['basic'] })

export class Packages {
  #suite
  #signing
  #own
  #journal
  /** @type {Map<string, Kept>} by reference in hex */
  #kept

  /** @param {any} suite @param {any} signing the key pair of the identity @param {() => { user: Uint8Array, device: Uint8Array }} own
   * @param {import('../journal.js').Journal} journal @param {[string, any][]} items of the store */
  constructor(suite, signing, own, journal, items) {
    this.#suite = suite
    this.#signing = signing
    this.#own = own
    this.#journal = journal
    this.#kept = new Map(items.filter(([path]) => path.startsWith('crypto/package/')).map(([, kept]) => [kept.ref, kept]))
  }

  /** @param {number[]} numbers @param {boolean} isLastResort */
  async make(numbers, isLastResort) {
    const made = await Promise.all(numbers.map(() => this.#make(isLastResort)))
    return {
      keys: made.map((kept, at) => /** @type {[number, Uint8Array]} */ ([numbers[at], kept.public])),
      commit: () => made.forEach((kept) => {
        this.#kept.set(kept.ref, kept)
        this.#journal.put(`crypto/package/${kept.ref}`, kept)
      }),
    }
  }

  /** The one for which a Welcome is. @param {import('ts-mls').Welcome} welcome */
  for(welcome) {
    return welcome.secrets.map((each) => this.#kept.get(packageRefOf(each))).find((kept) => kept)
  }

  /** @param {Kept} kept */
  used({ ref, isLastResort }) {
    if (isLastResort) return
    this.#kept.delete(ref)
    this.#journal.remove(`crypto/package/${ref}`)
  }

  // One that this device itself begins or joins with.
  async generate() {
    const { user, device } = this.#own()
    const credential = { credentialType: /** @type {const} */ ('basic'), identity: concat(user, device) }
    const made = await generateKeyPackageWithKey(credential, /** @type {any} */ (CAPABILITIES), LIFETIME, [], this.#signing, this.#suite)
    return { keyPackage: made.publicPackage, privatePackage: made.privatePackage }
  }

  /** @param {boolean} isLastResort @returns {Promise<Kept>} */
  async #make(isLastResort) {
    const { keyPackage, privatePackage } = await this.generate()
    const encoded = encodeMlsMessage({ version: 'mls10', wireformat: 'mls_key_package', keyPackage })
    return { ref: hex(await makeKeyPackageRef(keyPackage, this.#suite.hash)), public: encoded, private: privatePackage, isLastResort }
  }
}
