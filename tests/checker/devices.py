"""Devices that record everything: the reference client with its mailbox, and bare connections that see raw pushes."""

from __future__ import annotations

import math
import random
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from client.connection import connect
from client.errors import ConnectionLost, NoReply, OutcomeUnknown, RequestRefused, Unreachable
from client.held import Entry
from client.http import Credentials
from client.mailbox import Mailbox, OtherPush
from client.session import Session, open_session
from protocol import ids
from protocol.frames import Conversation, Cursor, Message, Push, Synced, Tombstone
from tests.checker.history import (
    Acked,
    Came,
    Deleted,
    Dropped,
    Edited,
    EnvelopeCame,
    EnvelopeHeld,
    Event,
    Floor,
    Gone,
    Logged,
    Marked,
    Pushed,
    Tried,
    TriedDelete,
    TriedEdit,
)
from tests.checker.views import parts_of
from tests.waiting import let_pass

_T = TypeVar("_T")

FOLLOWED: Final = 10
"""A device records the status of this many latest own messages of a conversation after each push."""


class EventRecorder:
    """The events so far. Ids of users and conversations become names."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._names: dict[bytes, str] = {}
        self._began = trio.current_time()

    def add(self, event: Event) -> None:
        self.events.append(event)

    def add_envelope(self, device: bytes, entry: object) -> None:
        """Record the envelope of what has come to a device, if it has one."""
        if isinstance(entry, Message) and entry.envelope is not None:
            where, revision = self.name_of(entry.conversation), entry.revision or 0
            self.add(EnvelopeCame(self.now(), device.hex(), where, entry.seq, revision, entry.envelope))

    def now(self) -> float:
        return trio.current_time() - self._began

    def name(self, id_: bytes, name: str) -> None:
        self._names[id_] = name

    def name_of(self, id_: bytes) -> str:
        return self._names.get(id_) or id_.hex()


class RecordedMailbox(Mailbox):
    """A mailbox that records the entries of its log, and the marks that it knows."""

    def __init__(self, user: bytes, device: str, recorder: EventRecorder, id_: bytes = b"") -> None:
        self._device = device
        self._id = id_
        self._recorder = recorder
        self.cursors = 0
        """Cursors that the server pushed: most of them moved this device's cursor. The next push sets `moved`."""
        self.moved = trio.Event()
        self._noted = 0
        self._floors: dict[bytes, int] = {}
        self._marks: dict[bytes, dict[bytes, tuple[int, int, int]]] = {}
        self._came: dict[tuple[bytes, int], tuple[str, tuple[bytes, ...]]] = {}
        super().__init__(user)

    def apply(self, entries: Iterable[Entry]) -> list[Entry]:
        taken = list(entries)
        for entry in taken:
            self._recorder.add_envelope(self._id, entry)
        logged = super().apply(taken)
        self._note({entry.conversation for entry in taken})
        return logged

    def learn(self, told: Conversation) -> list[Entry]:
        logged = super().learn(told)
        self._note({told.conversation})
        return logged

    def take(self, push: OtherPush) -> None:
        before = set(self._conversations)
        super().take(push)
        for gone in before - set(self._conversations):
            self._drop(gone)
        conversation = getattr(push, "conversation", None)
        self._note({conversation} if conversation is not None else set())

    def raise_floor(self, conversation: bytes, first_seq: int) -> list[Entry]:
        logged = super().raise_floor(conversation, first_seq)
        self._note({conversation})
        return logged

    def synced(self, reply: Synced | Cursor) -> None:
        super().synced(reply)
        if isinstance(reply, Cursor) and not reply.more:
            self.cursors += 1
            self.moved.set()

    def forget_missing(self, conversation: bytes) -> None:
        super().forget_missing(conversation)
        if conversation not in self._conversations:
            self._drop(conversation)

    def drop(self) -> None:
        for each in list(self._floors):
            self._drop(each)
        super().drop()

    def _drop(self, conversation: bytes) -> None:
        self._floors.pop(conversation, None)
        self._marks.pop(conversation, None)
        self._came = {key: value for key, value in self._came.items() if key[0] != conversation}
        recorder = self._recorder
        recorder.add(Dropped(recorder.now(), self._device, recorder.name_of(conversation)))

    def _note(self, conversations: set[bytes]) -> None:
        for each in conversations:
            self._note_floor(each)
        self._note_log()
        for each in conversations:
            self._note_marks(each)
            self._note_own(each)

    def _note_floor(self, conversation: bytes) -> None:
        state = self._conversations.get(conversation)
        if state is not None and state.first_seq > self._floors.get(conversation, 0):
            self._floors[conversation] = state.first_seq
            recorder = self._recorder
            recorder.add(Floor(recorder.now(), self._device, recorder.name_of(conversation), state.first_seq))

    def _note_log(self) -> None:
        recorder, now = self._recorder, self._recorder.now()
        for entry in self.log[self._noted :]:
            content, revision, _ = parts_of(entry)
            where, whose = recorder.name_of(entry.conversation), recorder.name_of(self.user)
            sender, id_ = recorder.name_of(entry.sender), entry.message.hex()
            recorder.add(Logged(now, self._device, whose, where, entry.seq, id_, sender, content, revision))
        self._noted = len(self.log)

    def _note_marks(self, conversation: bytes) -> None:
        known = self._marks.setdefault(conversation, {})
        recorder, now, where = self._recorder, self._recorder.now(), self._recorder.name_of(conversation)
        people = {each.user: each for each in self.participants(conversation) if each.read_seq is not None}
        for user in known.keys() - people.keys():
            del known[user]
            recorder.add(Gone(now, self._device, where, recorder.name_of(user)))
        for user, each in people.items():
            marks = (each.joined_seq, each.delivered_seq or 0, each.read_seq or 0)
            if known.get(user) != marks:
                known[user] = marks
                recorder.add(Marked(now, self._device, where, recorder.name_of(user), *marks))

    def _note_own(self, conversation: bytes) -> None:
        recorder, now, where = self._recorder, self._recorder.now(), self._recorder.name_of(conversation)
        people = self.participants(conversation)
        own = [entry for entry in self.messages(conversation) if entry.sender == self.user]
        for entry in own[-FOLLOWED:]:
            others = tuple(each.user for each in people if each.user != self.user and each.since < entry.seq)
            came = (self.status(entry), others)
            if self._came.get((conversation, entry.seq)) != came:
                self._came[conversation, entry.seq] = came
                names = tuple(map(recorder.name_of, others))
                recorder.add(Came(now, self._device, where, entry.seq, came[0], names))


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that the server has not acknowledged yet."""

    began: float
    conversation: bytes
    content: bytes
    temp_id: bytes
    attachments: list[bytes] | None
    thumbnail: bytes | None
    is_quiet: bool


class CheckedDevice:
    """A device that connects and disconnects. When it is back, it sends its unacknowledged messages again.

    :ivar session: None while it is away.
    :ivar drafts: messages without an acknowledgement.
    :ivar acked: messages that the server acknowledged.
    """

    def __init__(self, name: str, credentials: Credentials, recorder: EventRecorder, nursery: trio.Nursery) -> None:
        self.name = name
        self.credentials = credentials
        self.mailbox = RecordedMailbox(credentials.user, name, recorder, credentials.device)
        self.session: Session | None = None
        self.drafts: dict[bytes, Draft] = {}
        self.acked: list[Draft] = []
        self.refused = 0
        self.resumed = 0
        self._recorder = recorder
        self._nursery = nursery
        self._leaving = trio.Event()
        self._life = trio.CancelScope()
        self._ended = trio.Event()
        self._answered = trio.lowlevel.ParkingLot()
        self._requests: set[trio.CancelScope] = set()

    @property
    def user(self) -> str:
        return self._recorder.name_of(self.credentials.user)

    @property
    def url(self) -> str:
        """The URL of the node that it was connected to last; empty while it is away."""
        return (self.session.url or "") if self.session is not None else ""

    @property
    def has_marks_due(self) -> bool:
        """Whether the device has marks to send, or is still fetching messages."""
        return not self.is_caught_up or bool(self.mailbox.delivered.due(1) or self.mailbox.read.due(1))

    @property
    def is_caught_up(self) -> bool:
        return self.session is not None and self.session.is_caught_up

    def state(self) -> str:
        """The entries that the device is missing, its marks that are due, and its session's counters, for the text of a
        finding."""
        name_of, mailbox = self._recorder.name_of, self.mailbox
        unknown = [name_of(each) for each in mailbox.unknown()]
        gaps = [(name_of(gap.conversation), *gap[1:]) for gap in mailbox.gaps()]
        due = {
            kind: [(name_of(conversation), seq) for conversation, seq in marks.due()]
            for kind, marks in (("delivered", mailbox.delivered), ("read", mailbox.read))
        }
        of_session = self.session.statistics() if self.session is not None else {}
        return f"unknown: {unknown}, gaps: {gaps}, due: {due}, {of_session} at {trio.current_time():.1f}"

    def note_envelopes(self) -> None:
        """Record the envelopes of all messages that it holds."""
        recorder, device = self._recorder, self.credentials.device.hex()
        for conversation in self.mailbox.conversations():
            where = recorder.name_of(conversation)
            for each in self.mailbox.messages(conversation):
                if isinstance(each, Message) and each.has_envelopes:
                    revision = each.revision or 0
                    recorder.add(EnvelopeHeld(recorder.now(), device, where, each.seq, revision, each.envelope))

    async def come(self, urls: Sequence[str]) -> None:
        """Connect to these nodes, tried in this order, with the device's cursor."""
        assert self.session is None
        self.resumed += self.mailbox.cursor is not None
        self._leaving, self._life, self._ended = trio.Event(), trio.CancelScope(), trio.Event()
        await self._nursery.start(self._live, urls)

    async def go(self, *, says_bye: bool) -> None:
        """Disconnect, with a bye or without."""
        if says_bye:
            self._leaving.set()
        else:
            self._life.cancel()
        await self._ended.wait()

    async def _live(self, urls: Sequence[str], task_status: trio.TaskStatus[None]) -> None:
        try:
            with self._life:
                async with open_session(urls, self.credentials, mailbox=self.mailbox) as session:
                    self.session = session
                    for draft in self.drafts.values():
                        self._nursery.start_soon(self._attempt, draft)
                    task_status.started()
                    await self._leaving.wait()
        finally:
            self.session = None
            for scope in self._requests:
                scope.cancel()
            self._ended.set()

    async def send(self, conversation: bytes, content: bytes, files: Sequence[bytes]) -> None:
        """Send a message; returns when it is acknowledged, refused, or the device has gone.

        The draft is noted before the first wait: a device that goes on with these drafts does not miss one.
        """
        recorder = self._recorder
        chance = random.Random(content)
        thumbnail, is_quiet = chance.choice([None, content[:8]]), chance.random() < 0.3
        began = recorder.now()
        temp_id = ids.uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(ids.NOISE_BYTES))
        self.drafts[temp_id] = draft = Draft(
            began, conversation, content, temp_id, [*files] or None, thumbnail, is_quiet
        )
        recorder.add(Tried(began, self.user, recorder.name_of(conversation), content))
        await self._attempt(draft)

    async def _attempt(self, draft: Draft) -> None:
        session = self.session
        if session is None:
            return
        with self._while_here():
            try:
                sent = await session.send(
                    draft.conversation,
                    draft.content,
                    temp_id=draft.temp_id,
                    attachments=draft.attachments,
                    thumbnail=draft.thumbnail,
                    is_quiet=draft.is_quiet,
                )
            except RequestRefused:
                self.refused += 1
            except (OutcomeUnknown, Unreachable):
                return
            else:
                self.note_ack(draft, sent.seq, sent.message, sent.created)
            self.drafts.pop(draft.temp_id, None)
            self._answered.unpark_all()

    def note_ack(self, draft: Draft, seq: int, message: bytes, created: int) -> None:
        recorder = self._recorder
        where = recorder.name_of(draft.conversation)
        recorder.add(Acked(recorder.now(), draft.began, self.user, where, draft.content, seq, message.hex(), created))
        self.acked.append(draft)

    async def wait_answered(self) -> None:
        """Wait until the server has answered every send; has no deadline of its own."""
        while self.drafts:
            await self._answered.park()

    @contextmanager
    def _while_here(self) -> Iterator[None]:
        """Cancel the block when the device disconnects."""
        with trio.CancelScope() as scope:
            self._requests.add(scope)
            try:
                yield
            finally:
                self._requests.discard(scope)

    async def again(self, url: str, pick: float) -> None:
        """Send an acknowledged message again, on another connection; the server must give the same acknowledgement."""
        if not self.acked:
            return
        draft = picked(self.acked, pick)
        with suppress(ConnectionLost, NoReply, Unreachable, RequestRefused):
            async with connect(url, self.credentials.token) as connection:
                sent = await connection.send(
                    draft.conversation,
                    draft.content,
                    temp_id=draft.temp_id,
                    attachments=draft.attachments,
                    thumbnail=draft.thumbnail,
                    is_quiet=draft.is_quiet,
                )
                self.note_ack(draft, sent.seq, sent.message, sent.created)
                self.acked.pop()

    async def edit(self, conversation: bytes, content: bytes, pick: float, new_files: Sequence[bytes]) -> None:
        session, recorder = self.session, self._recorder
        own = [
            entry
            for entry in self.mailbox.messages(conversation)
            if isinstance(entry, Message) and entry.sender == self.credentials.user
        ]
        if session is None or not own:
            return
        message, where = picked(own, pick), recorder.name_of(conversation)
        chance = random.Random(content)
        kept = (message.attachments or [])[: chance.randint(0, 2)]
        files = [*kept, *new_files]
        thumbnail = chance.choice([None, message.thumbnail, content[:8]])
        began = recorder.now()
        recorder.add(TriedEdit(began, self.user, where, message.seq, content))
        with self._while_here(), suppress(RequestRefused, NoReply, Unreachable):
            revised = await session.edit(message, content, attachments=files or None, thumbnail=thumbnail)
            recorder.add(Edited(recorder.now(), began, self.user, where, message.seq, content, revised.revision))

    async def delete(self, conversation: bytes, pick: float, *, for_everyone: bool) -> None:
        session, recorder = self.session, self._recorder
        entries = [
            entry
            for entry in self.mailbox.messages(conversation)
            if not for_everyone or entry.sender == self.credentials.user
        ]
        if session is None or not entries:
            return
        entry, began, where = picked(entries, pick), recorder.now(), recorder.name_of(conversation)
        recorder.add(TriedDelete(began, self.user, where, entry.seq, for_everyone))
        with self._while_here(), suppress(RequestRefused, NoReply, Unreachable):
            await session.delete(entry, for_everyone=for_everyone)
            recorder.add(Deleted(recorder.now(), began, self.user, where, entry.seq, for_everyone))

    def read(self, conversation: bytes, pick: float) -> None:
        entries = self.mailbox.messages(conversation)
        if self.session is not None and entries:
            self.session.mark_read(conversation, picked(entries, pick).seq)

    async def type(self, conversation: bytes, *, is_typing: bool) -> None:
        if self.session is None:
            return
        with self._while_here(), suppress(RequestRefused, NoReply, ConnectionLost):
            connection = await self.session.wait_online()
            await connection.set_typing(conversation, is_typing)


def picked(things: Sequence[_T], fraction: float) -> _T:
    return things[math.floor(fraction * len(things))]


async def listen(name: str, url: str, credentials: Credentials, recorder: EventRecorder) -> None:
    """Open bare connections to one node, one after the other, each with its own name; until cancelled."""
    number = 0
    while True:
        number += 1

        async def on_push(push: Push, connection: str = f"{name}#{number}") -> None:
            recorder.add_envelope(credentials.device, push)
            if isinstance(push, Message | Tombstone):
                content, revision, _ = parts_of(push)
                whose, where = recorder.name_of(credentials.user), recorder.name_of(push.conversation)
                recorder.add(Pushed(recorder.now(), connection, whose, where, push.seq, content, revision))

        with suppress(ConnectionLost, Unreachable):
            async with connect(url, credentials.token, on_push=on_push) as connection:
                await connection.wait_lost()
        await let_pass(0.2, why="the device reconnects after a moment")
