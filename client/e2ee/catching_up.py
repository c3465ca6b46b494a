"""What a device has missed of its conversations, from the server's history."""

from __future__ import annotations

from typing import Final

from client.e2ee.keyring import Keyring
from client.session import Session
from protocol import limits
from protocol.frames import Messages

PAGE: Final = limits.MAX_COUNT


class CatchingUp:
    """Reads history for a keyring, over a session."""

    def __init__(self, session: Session, keyring: Keyring) -> None:
        self._session = session
        self._keyring = keyring

    async def catch_up(self) -> None:
        """Take the messages of all conversations since the last time, the earliest first: keys come before what they
        open. Raises what `Session.insist` raises; the next call goes on."""
        mailbox = self._session.mailbox
        heads = [(conversation, mailbox.head(conversation)) for conversation in mailbox.conversations()]
        self._keyring.forget_gone({conversation: head.first_seq for conversation, head in heads if head is not None})
        for conversation, _ in heads:
            seq = self._keyring.progress(conversation)
            if seq is None:
                await self._begin(conversation)
            else:
                await self._go_on(conversation, seq)

    async def _begin(self, conversation: bytes) -> None:
        """The first time: all messages since this device was made."""
        pages: list[Messages] = []
        before: int | None = None
        while True:
            page = await self._history(conversation, before=before)
            if not page.messages:
                break
            pages.append(page)
            before = page.messages[-1].seq
            if not page.more or page.messages[-1].created < self._keyring.earliest:
                break
        for page in reversed(pages):
            self._keyring.keep(reversed(page.messages))
        if pages:
            self._keyring.note_progress(conversation, pages[0].messages[0].seq)

    async def _go_on(self, conversation: bytes, seq: int) -> None:
        head = self._session.mailbox.head(conversation)
        while head is not None and head.last_seq > seq:
            page = await self._history(conversation, after=seq)
            self._keyring.keep(page.messages)
            if page.messages:
                seq = page.messages[-1].seq
                self._keyring.note_progress(conversation, seq)
            if not page.more:
                return

    async def _history(self, conversation: bytes, *, before: int | None = None, after: int | None = None) -> Messages:
        return await self._session.insist(
            lambda connection: connection.history(conversation, count=PAGE, before=before, after=after)
        )
