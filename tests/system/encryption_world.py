"""Devices that encrypt, by the client's own modules, against real processes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from client.e2ee import SEALED
from client.e2ee.contents import Plaintext
from client.e2ee.correspondent import Correspondent
from client.e2ee.keyring import Keyring
from client.e2ee.records import KeyChange
from client.e2ee.vault import open_vault
from client.e2ee.vodozemac_ratchets import VodozemacRatchets
from client.errors import ConnectionLost
from client.held import Entry
from client.http import Credentials
from client.mailbox import Mailbox
from client.nursery import open_service_nursery
from client.session import Session, open_session
from protocol.codes import CloseCode
from protocol.frames import Message, Undecryptable
from tests.waiting import wait_until

PATIENCE_S = 60.0


class Phone:
    """A device: its session, its keys, and what it can read.

    :ivar changes: of devices that it was told of.
    :ivar revoked: its session has ended, since the device is revoked.
    """

    def __init__(self, session: Session, keyring: Keyring, credentials: Credentials, name: str) -> None:
        self.name = name
        self.credentials = credentials
        self.session = session
        self.keyring = keyring
        self.changes: list[KeyChange] = []
        self.revoked = trio.Event()
        self.correspondent = Correspondent(session, keyring, on_change=self.changes.append)

    def __repr__(self) -> str:
        return self.name

    async def say(self, conversation: bytes, text: str) -> int:
        """Send a text; returns its seq."""
        with trio.fail_after(PATIENCE_S):
            return (await self.correspondent.send(conversation, Plaintext(text))).seq

    def read(self, conversation: bytes) -> dict[int, str]:
        """What it can read of what it holds, by seq."""
        return read_by(self.keyring, self.session.mailbox.messages(conversation))

    async def load_all(self, conversation: bytes) -> None:
        """Hold all messages that the server shows."""
        while await self.session.load_older(conversation, 100):
            pass

    async def wait_read(self, conversation: bytes, seq: int) -> None:
        """Wait until it has read a message."""
        await wait_until(lambda: seq in self.read(conversation), f"{self} reads message {seq}", timeout_s=PATIENCE_S)


def read_by(keyring: Keyring, entries: Iterable[Entry]) -> dict[int, str]:
    """The texts that can be read with some keys, by seq."""
    found: dict[int, str] = {}
    for entry in entries:
        if isinstance(entry, Message) and entry.content_type == SEALED:
            body = keyring.read(entry)
            if isinstance(body, Plaintext):
                found[entry.seq] = body.text
    return found


def open_keys(credentials: Credentials, folder: Path) -> Keyring:
    """The keys of a device, which are made at first."""
    vault = open_vault(folder / f"{credentials.device.hex()}.keys", "a passphrase")
    return Keyring(vault, VodozemacRatchets(vault.pickle_key), credentials.user, credentials.device)


async def run_phone(
    urls: Sequence[str],
    credentials: Credentials,
    folder: Path,
    name: str,
    *,
    task_status: trio.TaskStatus[Phone],
) -> None:
    """`phone` as a task, which ends when the device is revoked."""
    try:
        async with phone(urls, credentials, folder, name) as made:
            task_status.started(made)
            await trio.sleep_forever()
    except ConnectionLost as lost:
        if lost.close_code != CloseCode.DEVICE_REVOKED.value:
            raise
        made.revoked.set()


@asynccontextmanager
async def phone(urls: Sequence[str], credentials: Credentials, folder: Path, name: str) -> AsyncGenerator[Phone]:
    """A device that is connected, has published its keys, and has caught up. It reports what it cannot decrypt, and
    answers such reports."""
    keyring = open_keys(credentials, folder)
    early: list[Undecryptable] = []
    note = early.append
    try:
        mailbox = Mailbox(credentials.user, keyring.keep)
        session_of = open_session(
            urls, credentials, mailbox=mailbox, longest_pause_s=0.2, on_undecryptable=lambda push: note(push)
        )
        async with session_of as session, open_service_nursery() as nursery:
            made = Phone(session, keyring, credentials, name)
            note = made.correspondent.healer.note_undecryptable
            for push in early:
                note(push)
            with trio.fail_after(PATIENCE_S):
                await session.wait_caught_up()
                await made.correspondent.publisher.publish()
                await made.correspondent.catch_up()
                await made.correspondent.resume()
            nursery.start_soon(made.correspondent.healer.run)
            yield made
    finally:
        keyring.close()
