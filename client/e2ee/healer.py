"""Messages that heal (SPEC 19.17, 19.18, 20.13): reports what this device cannot decrypt, and answers other devices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

import trio

from client import backoff
from client.e2ee import SEALED
from client.e2ee.keyring import Keyring
from client.e2ee.records import Undecrypted
from client.e2ee.wire import Malformed
from client.errors import NoReply, RequestRefused, Unreachable
from client.nursery import open_service_nursery
from client.session import Session
from protocol.frames import Message, Undecryptable
from protocol.limits import OPEN_REPORTS_PER_DEVICE

MOST_ASKED: Final = 256
"""Reports that wait for an answer here; the server tells those beyond it again with the next welcome."""

GiveAgain: TypeAlias = Callable[[Message, bytes], Awaitable[bytes | None]]


class Healer:
    """Reports, and answers reports, over a session.

    :param give_again: makes the envelope of a message for a device, or None if that device may not have it.
    :ivar answered: how many envelopes it has added.
    :ivar ignored: how many reports it has not answered: the device may not have the key, or has had it too often.
    """

    def __init__(self, session: Session, keyring: Keyring, give_again: GiveAgain) -> None:
        self._session = session
        self._keyring = keyring
        self._give_again = give_again
        self._asked: dict[tuple[bytes, int, bytes], Undecryptable] = {}
        self._was_asked = trio.Event()
        self.answered = 0
        self.ignored = 0

    def note_undecryptable(self, push: Undecryptable) -> None:
        """A device cannot decrypt a message that this one has written: `run` answers."""
        if len(self._asked) < MOST_ASKED:
            self._asked[push.conversation, push.seq, push.device] = push
            self._was_asked.set()

    async def run(self) -> None:
        """Report and answer; ends only by being cancelled."""
        async with open_service_nursery() as nursery:
            nursery.start_soon(self._report_all)
            await self._answer_all()

    async def _report_all(self) -> None:
        failures = 0
        while True:
            is_current = self._session.is_online and self._session.is_caught_up
            reports = self._keyring.due_reports() if is_current else []
            if not reports:
                await self._session.wait_changed()
                continue
            try:
                for each in reports:
                    await self._report(each)
                failures = 0
            except (NoReply, Unreachable, RequestRefused):
                await trio.sleep(backoff.delay_s(failures))
                failures += 1

    async def _report(self, report: Undecrypted) -> None:
        """
        :raises RequestRefused: if the server has too many reports of this device about other messages.
        """
        try:
            await self._session.insist(
                lambda connection: connection.report_undecryptable(
                    report.conversation, report.seq, report.reason, revision=report.revision
                )
            )
        except RequestRefused as error:
            # All other refusals would come again: this message was reported too often, or is gone.
            if error.limit == OPEN_REPORTS_PER_DEVICE.name:
                raise
        self._keyring.have_reported(report)

    async def _answer_all(self) -> None:
        while True:
            while self._asked:
                push = self._asked.pop(next(iter(self._asked)))
                # The server tells it again with the next welcome, unless there is nothing to answer.
                with suppress(NoReply, Unreachable, RequestRefused):
                    await self._answer(push)
            self._was_asked = trio.Event()
            await self._was_asked.wait()

    async def _answer(self, push: Undecryptable) -> None:
        message = await self._find(push)
        if (
            message is None
            or not self._may_have(message, push.device)
            or not self._keyring.count_answer(message, push.device)
            or (envelope := await self._give_again(message, push.device)) is None
        ):
            self.ignored += 1
        else:
            await self._session.insist(
                lambda connection: connection.add_envelopes(
                    message.conversation, message.seq, [(push.device, envelope)], revision=message.revision or 0
                )
            )
            self.answered += 1

    async def _find(self, push: Undecryptable) -> Message | None:
        """The message of this device that a report is about; None if it is none."""
        held = [each for each in self._session.mailbox.messages(push.conversation) if each.seq == push.seq]
        if not held:
            page = await self._session.insist(
                lambda connection: connection.history(push.conversation, count=1, before=push.seq + 1)
            )
            held = list(page.messages)
        match held:
            case [Message(content_type=content_type, device=device, revision=revision, seq=seq) as message]:
                is_ours = (device, content_type, seq) == (self._keyring.device, SEALED, push.seq)
                return message if is_ours and (revision or 0) == (push.revision or 0) else None
            case _:
                return None

    def _may_have(self, message: Message, device: bytes) -> bool:
        """Whether this device has given the key of a message to that one, by its own records."""
        try:
            return self._keyring.was_given(message, device) is not None
        except Malformed:
            return False
