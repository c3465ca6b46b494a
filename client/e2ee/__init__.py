"""End-to-end encryption of the reference client: Olm between devices, Megolm for the content of conversations.

| module | about |
|---|---|
| `ratchets`, `vodozemac_ratchets` | the interface to the cryptography; its implementation by one library |
| `contents` | what a message says |
| `wire` | the bytes that devices exchange |
| `vault`, `records` | the encrypted file with all keys, and what lies in it |
| `own_keys` | this device's identity and one-time keys |
| `known` | devices of others: identities, changes, safety numbers |
| `reading` | from envelopes and contents to plaintexts |
| `writing` | from plaintexts to contents, and the devices that lack a key |
| `given_keys` | the keys that other devices got, and may have again |
| `undecrypted` | messages that this device cannot read, and which of them it reports |
| `keyring` | all of these of one device, in transactions; without I/O but for its file |
| `healer` | reports of such messages, and answers to those of other devices |
| `correspondent` | the keyring over a connection: it sends, and repeats after refusals |
| `publisher`, `device_sets`, `catching_up` | over a connection: own keys, devices of conversations, missed messages |
| `files` | the encryption of files |

`docs/decisions/0057-megolm-for-every-conversation.md` gives the reasons.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

SEALED: Final = "application/vnd.alo.sealed"
"""The content type of encrypted messages."""

KEYS: Final = "application/vnd.alo.keys"
"""The content type of key messages, which are not shown."""


def is_available() -> bool:
    """Whether the library is installed (the extra `e2ee`)."""
    return find_spec("vodozemac") is not None
