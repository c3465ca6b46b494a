"""Devices that others encrypt for: they come, change their identities and are revoked, while messages are sent for
exactly the devices of one version of a conversation's device set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from client.addressing import ListedSet
from client.connection import ClientConnection, connect
from client.errors import ConnectionLost, NoReply, RequestRefused, Unreachable
from client.http import Credentials
from client.known_devices import all_devices
from protocol.frames import Push, Revised, Sent
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.checker.checks import envelope_for
from tests.checker.devices import EventRecorder, picked
from tests.checker.history import Acked, Addressed, Edited, SetAt, Tried, TriedEdit, TriedHealing
from tests.people import new_device
from tests.waiting import let_pass

_T = TypeVar("_T")

MOST: Final = 4
"""Devices of a user that come and go, at a time."""

ROUNDS: Final = 25
"""After so many attempts a device gives its message up, unless the server may have stored it."""

WITNESS: Final = (
    "create table checker_sets (conversation_id uuid, seq bigint, revision int, devices uuid[], revisions int[])",
    """create function note_checker_set() returns trigger language plpgsql as $$ begin
        insert into checker_sets
        select new.conversation_id, new.seq, new.revision, array_agg(d.id), array_agg(d.identity_revision)
        from shown_participants p join devices d on d.user_id = p.user_id and d.identity is not null
        where p.conversation_id = new.conversation_id;
        return null;
    end $$""",
    """create trigger checker_set after insert or update of revision on messages for each row
        execute function note_checker_set()""",
)
"""Notes the devices in the transaction of each message and of each edit. The conversation is locked there, and each
change of a device locks it, too: so these are the devices at the place of the message, whatever the versions say."""

ReadSet = Callable[[int, bytes], Awaitable[tuple[int, list[bytes]] | None]]
"""Reads a conversation over HTTP, for a user: the version of its device set, and its participants. None: no answer, or
it does not show all participants."""


class EncryptingDevice:
    """A device with an identity, which sends over connections of its own. It is never revoked.

    Like a client, it keeps what it knows of a conversation's devices for the next message, however old that is then.

    :ivar accepted, stale: messages and edits for a version that the server has accepted, and refused as stale.
    :ivar healed: messages whose envelopes it has added once more.
    """

    def __init__(self, user: int, credentials: Credentials, recorder: EventRecorder, read_set: ReadSet) -> None:
        self._user = user
        self._credentials = credentials
        self._recorder = recorder
        self._read_set = read_set
        self._known: dict[bytes, ListedSet] = {}
        self._meant: dict[bytes, ListedSet] = {}
        self.accepted = 0
        self.stale = 0
        self.healed = 0

    async def send(self, urls: Sequence[str], conversation: bytes, content: bytes) -> Sent | None:
        """Send a message for the present device set, until the server has accepted it, or refused it for good."""
        recorder, where = self._recorder, self._recorder.name_of(conversation)
        began, temp_id = recorder.now(), uuid4().bytes
        recorder.add(Tried(began, self._name, where, content))

        async def send(connection: ClientConnection, known: ListedSet) -> Sent:
            return await connection.send(
                conversation,
                content,
                temp_id=temp_id,
                is_quiet=True,
                devices_version=known.version,
                envelopes=self._envelopes(content, known),
                wants_devices=True,
            )

        sent = await self._insist(urls, conversation, content, send)
        if sent is not None:
            id_ = sent.message.hex()
            recorder.add(Acked(recorder.now(), began, self._name, where, content, sent.seq, id_, sent.created))
            if self.accepted % 2:
                await self._heal(urls, conversation, sent.seq, content)
        return sent

    async def _heal(self, urls: Sequence[str], conversation: bytes, seq: int, content: bytes) -> None:
        """Add the envelopes of its message once more, as if devices had lost them: no device sees a difference but that
        the message comes again. The server refuses it if a device has gone since, or the message is another one."""
        given = self._envelopes(content, self._meant[content])
        self._recorder.add(TriedHealing(self._recorder.now(), self._recorder.name_of(conversation), seq))
        for url in urls if given else ():
            with suppress(ConnectionLost, Unreachable, NoReply, RequestRefused):
                async with connect(url, self._credentials.token, on_push=self._take) as connection:
                    assert given is not None
                    # Another part than that of the send, or the server would find nothing to do.
                    await connection.add_envelopes(conversation, seq, given[::-1], revision=0)
                    self.healed += 1
                    return

    async def edit(self, urls: Sequence[str], conversation: bytes, seq: int, content: bytes) -> None:
        """Edit its message for the device set of then."""
        recorder, where = self._recorder, self._recorder.name_of(conversation)
        began = recorder.now()
        recorder.add(TriedEdit(began, self._name, where, seq, content))

        async def edit(connection: ClientConnection, known: ListedSet) -> Revised:
            return await connection.edit(
                conversation,
                seq,
                content,
                revision=0,
                devices_version=known.version,
                envelopes=self._envelopes(content, known),
                wants_devices=True,
            )

        revised = await self._insist(urls, conversation, content, edit)
        if revised is not None:
            recorder.add(Edited(recorder.now(), began, self._name, where, seq, content, revised.revision))

    def _envelopes(self, content: bytes, known: ListedSet) -> list[tuple[bytes, bytes]] | None:
        """One for each other device; None if there is no other."""
        others = [each.device for each in known.devices if each.device != self._credentials.device]
        return [(device, envelope_for(content, device.hex())) for device in others] or None

    async def _take(self, push: Push) -> None:
        self._recorder.add_envelope(self._credentials.device, push)

    @property
    def _name(self) -> str:
        return self._recorder.name_of(self._credentials.user)

    async def _insist(
        self,
        urls: Sequence[str],
        conversation: bytes,
        content: bytes,
        ask: Callable[[ClientConnection, ListedSet], Awaitable[_T]],
    ) -> _T | None:
        """Without a reply it asks for the same again; only a refusal makes it encrypt for other devices."""
        meant: ListedSet | None = None
        for turn in count():
            try:
                async with connect(urls[turn % len(urls)], self._credentials.token, on_push=self._take) as connection:
                    while meant := meant or await self._present_set(connection, conversation):
                        self._note(conversation, content, meant)
                        try:
                            answer = await ask(connection, meant)
                        except RequestRefused as refused:
                            if refused.retry_after_ms is not None:
                                break
                            self._learn(conversation, meant, refused)
                            if refused.code == "unknown_devices":
                                raise AssertionError("these are the devices of that version") from refused
                            if refused.code != "devices_changed":
                                return None
                            meant = None
                        else:
                            self.accepted += 1
                            return answer
            except (ConnectionLost, Unreachable, NoReply):
                pass
            if turn >= ROUNDS and meant is None:
                return None
            await let_pass(0.1, why="a device waits before it tries again")
        raise AssertionError("it never ends")

    async def _present_set(self, connection: ClientConnection, conversation: bytes) -> ListedSet | None:
        """The known set; else the version, and then the devices, which are those of that version or a later one (SPEC
        19.10)."""
        if conversation not in self._known:
            found = await self._read_set(self._user, conversation)
            if found is None:
                return None
            version, users = found
            try:
                devices = await all_devices(connection, users)
            except RequestRefused as refused:
                if refused.retry_after_ms is None:
                    raise
                raise NoReply from refused  # Postgres is away
            self._known[conversation] = ListedSet(version, users, devices)
        return self._known[conversation]

    def _learn(self, conversation: bytes, known: ListedSet, refused: RequestRefused) -> None:
        """Know the devices as the refusal says they are now, without a further round trip; or forget them, to ask."""
        error = refused.error
        self._known.pop(conversation, None)
        self.stale += refused.code == "devices_changed"
        if error.devices is not None and not error.more:
            assert error.devices_version is not None
            told = ListedSet(error.devices_version, error.changed_users or [], error.devices)
            self._known[conversation] = known.after(told)

    def _note(self, conversation: bytes, content: bytes, meant: ListedSet) -> None:
        self._meant[content] = meant
        recorder, sender = self._recorder, self._credentials.device.hex()
        set_ = frozenset((each.device.hex(), each.identity_revision) for each in meant.devices)
        where = recorder.name_of(conversation)
        recorder.add(Addressed(recorder.now(), self._name, where, content, meant.version, set_, sender))


class ComingDevices:
    """The devices of one user that come and go; they are never connected for long."""

    def __init__(self, user: bytes, pool: Pool) -> None:
        self._user = user
        self._pool = pool
        self._devices: list[Credentials] = []
        self._numbers = count(1)

    async def come(self, url: str) -> None:
        """A device with an identity comes, unless there are many."""
        if len(self._devices) < MOST:
            device = await new_device(self._pool, self._user)
            self._devices.append(device)
            await self.publish(url, device)

    async def change(self, url: str, pick: float) -> None:
        """A device gets another identity."""
        if self._devices:
            await self.publish(url, picked(self._devices, pick))

    async def publish(self, url: str, device: Credentials) -> None:
        """Publish the next identity. If there is no reply, it may have been published or not."""
        with suppress(ConnectionLost, Unreachable, NoReply, RequestRefused):
            async with connect(url, device.token) as connection:
                await connection.put_keys(b"identity %d" % next(self._numbers))

    def go(self, pick: float) -> bytes | None:
        """The device to be revoked; None if there is none. From now on it does nothing."""
        if not self._devices:
            return None
        device = picked(self._devices, pick)
        self._devices.remove(device)
        return device.device


async def begin_to_note_sets(pool: Pool) -> None:
    for statement in WITNESS:
        await pool.fetch(statement)


async def read_sets(pool: Pool, conversation: bytes, recorder: EventRecorder) -> None:
    """Add what was noted of a conversation to the history."""
    rows: list[tuple[Any, ...]] = await pool.fetch(
        "select seq, revision, devices, revisions from checker_sets where conversation_id = %s::uuid",
        (uuid(conversation),),
    )
    for seq, revision, devices, revisions in rows:
        found = zip(devices or (), revisions or (), strict=True)
        set_ = frozenset((device.hex(), number) for device, number in found)
        recorder.add(SetAt(recorder.now(), recorder.name_of(conversation), seq, revision, set_))


def read_answer(body: dict[str, Any]) -> tuple[int, list[bytes]] | None:
    """The set of a conversation as HTTP shows it; None if it does not show all participants."""
    users = [UUID(each["user"]).bytes for each in body["participants"]]
    return (body["devices_version"], users) if len(users) == body["participant_count"] else None
