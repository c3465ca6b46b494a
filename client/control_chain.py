"""Sends control messages, which change the state of a group's cryptography: each follows the one before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from client import backoff
from client.errors import RequestRefused
from client.session import Session
from protocol.codes import ErrorCode
from protocol.frames import Envelope, Sent

LONGEST_WAIT_S = 1.0
"""After a second conflict: devices that try again at once would meet again."""


class ControlChain:
    """The chain of one conversation."""

    def __init__(self, session: Session, conversation: bytes) -> None:
        self._session = session
        self._conversation = conversation

    async def send(
        self,
        make: Callable[[int], bytes],
        *,
        content_type: str = "application/octet-stream",
        envelopes: Callable[[], Sequence[Envelope]] = tuple,
    ) -> Sent:
        """Send a quiet control message; returns when it is committed, and in the mailbox.

        If another one was accepted first, the session reads it, and a new one is made that follows it. Raises what
        `Session.send` raises. If this is cancelled, the server may or may not store the message.

        :param make: makes the content from the state after all control messages up to this seq, which the mailbox
            holds; 0: there was none. Called once for each attempt.
        :param envelopes: of that content, such as Welcomes.
        """
        conflicts = 0
        while True:
            follows = await self._last_held()
            content = make(follows)
            try:
                return await self._session.send(
                    self._conversation,
                    content,
                    content_type=content_type,
                    is_quiet=True,
                    envelopes=list(envelopes()) or None,
                    follows=follows,
                )
            except RequestRefused as refused:
                if refused.code != ErrorCode.CONTROL_CONFLICT.value:
                    raise
            conflicts += 1
            if conflicts > 1:
                await trio.sleep(backoff.uniform(0, LONGEST_WAIT_S))

    async def _last_held(self) -> int:
        """The last control message that the server has told of, once the mailbox holds all messages up to it."""
        mailbox = self._session.mailbox
        while True:
            head = mailbox.head(self._conversation)
            last = 0 if head is None else head.control_seq or 0
            if last <= mailbox.up_to(self._conversation):
                return last
            await self._session.wait_changed()
