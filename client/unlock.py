"""The keys of a login on this machine: a file beside it, which a passphrase opens, and how a command reads by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import client.e2ee
from client.e2ee.keyring import Keyring
from client.e2ee.own_keys import KeyUpload
from client.e2ee.reading import UnreadableMessage
from client.e2ee.vault import Vault, open_vault
from client.http import Credentials, HttpClient
from client.lines import Reading
from client.login import LoginFile
from protocol.frames import Message

NOT_ENCRYPTED: Final = (
    "This client does not encrypt, because its library is missing (pip install vodozemac): the server could read what"
    " you write."
)

UPLOADS: Final = 4
"""To publish the keys of a new device; two, unless another program publishes them at the same time."""

_SUFFIX: Final = ".keys"
_SENDING: Final = ".sending"


def is_possible() -> bool:
    """Whether this client can encrypt."""
    return client.e2ee.is_available()


def vault_path(login: LoginFile, device: bytes) -> Path:
    """The file with the keys of a device. A new login is a new device, with keys of its own."""
    return login.path.with_suffix(f".{device.hex()}{_SUFFIX}")


def sending_folder(login: LoginFile) -> Path:
    """The folder for encrypted files on their way to the object store."""
    return login.path.with_suffix(_SENDING)


def open_keyring(login: LoginFile, credentials: Credentials, passphrase: str) -> Keyring:
    """The keys of this login, which are made at first.

    :raises VaultFailure: if the passphrase is another one, or the file cannot be used.
    """
    # Only here: the library may be missing.
    from client.e2ee.vodozemac_ratchets import VodozemacRatchets

    vault: Vault = open_vault(vault_path(login, credentials.device), passphrase)
    return Keyring(vault, VodozemacRatchets(vault.pickle_key), credentials.user, credentials.device)


async def publish(http: HttpClient, keyring: Keyring) -> None:
    """Publish identity and keys of a new device over HTTP: from now on others encrypt for it.

    Raises what `HttpClient` raises; a chat publishes them again.
    """
    held = await http.key_status()
    for _ in range(UPLOADS):
        upload: KeyUpload | None = keyring.next_upload(held)
        if upload is None:
            return
        held = await http.put_keys(
            upload.identity,
            upload.one_time_keys,
            upload.last_resort_keys,
            is_anew=upload.is_anew,
            key_history=upload.key_history,
        )


def forget_keys(login: LoginFile) -> None:
    """Remove the keys of all devices of this name, with the plaintexts, and encrypted files that were not sent."""
    stem = login.path.with_suffix("").name
    for path in login.path.parent.glob(f"*{_SUFFIX}*"):
        if path.name.startswith(f"{stem}."):
            path.unlink(missing_ok=True)
    for path in sending_folder(login).glob("*"):
        path.unlink(missing_ok=True)


class HistoryReader:
    """Reads messages that came over HTTP. The keys are opened when the first one needs them.

    :param open_keys: opens them; None: this client cannot decrypt.
    """

    def __init__(self, http: HttpClient, open_keys: Callable[[], Keyring] | None) -> None:
        self._http = http
        self._open_keys = open_keys
        self._keyring: Keyring | None = None
        self._caught_up: set[bytes] = set()

    async def read(self, message: Message) -> Reading:
        """The plaintext of a message; None if it is not encrypted. Fetches the keys that this device has missed.

        Raises what `HttpClient` raises.
        """
        if message.content_type != client.e2ee.SEALED:
            return None
        if self._open_keys is None:
            return UnreadableMessage("no_key")
        if self._keyring is None:
            self._keyring = self._open_keys()
        found = self._keyring.read(message)
        if found == UnreadableMessage("no_key") and message.conversation not in self._caught_up:
            await self._catch_up(self._keyring, message.conversation)
            found = self._keyring.read(message)
        return found

    async def _catch_up(self, keyring: Keyring, conversation: bytes) -> None:
        """Take all messages that this device has not seen, the earliest first."""
        self._caught_up.add(conversation)
        seen, pages, cursor = keyring.progress(conversation) or 0, [], None
        while True:
            page = await self._http.history(conversation, limit=100, cursor=cursor)
            pages.append(page.messages)
            cursor = page.cursor
            if cursor is None or page.messages[-1].seq <= seen or page.messages[-1].created < keyring.earliest:
                break
        for messages in reversed(pages):
            keyring.keep(reversed(messages))
        if pages[0]:
            keyring.note_progress(conversation, pages[0][0].seq)
