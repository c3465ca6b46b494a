"""Envelopes in Postgres: committed with their message, shown to one device, and gone with the message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import pytest
import trio
from msgspec.structs import replace

from client.http import Credentials
from embedded.postgres import PostgresServer
from protocol.frames import Conversation, Envelope, Message, Tombstone
from protocol.limits import ENVELOPE_DAYS, MAX_ENVELOPE_BYTES, MAX_ENVELOPE_PARTS
from store import contacts, devices, envelopes, keys, messages, participants, retention, revisions
from store.envelopes import pack
from store.errors import (
    DatabaseError,
    Locked,
    NotAParticipant,
    Overloaded,
    RevisionConflict,
    StoreError,
    TempIdConflict,
    TooManyParts,
    Unavailable,
    UnlistedDevices,
)
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.sync import MAX_BYTES, sync
from tests.ageing import age
from tests.conftest import migrated_postgres
from tests.people import make_contacts, new_device, new_group, new_user
from tests.planted import PLANTED
from tests.rows import each_row
from tests.store.store_world import a_message
from tests.waiting import let_pass, wait_until

IDENTITY: Final = b"identity"


class EnvelopeScene(NamedTuple):
    """Alice and Bob, with two devices each, in a group; Carol, whom Alice knows, takes no part. All of these devices
    have an identity.

    :ivar silent: a device of Bob without an identity.
    """

    pool: Pool
    alice: Credentials
    tablet: Credentials
    bob: Credentials
    laptop: Credentials
    silent: Credentials
    carol: Credentials
    group: bytes

    @property
    def named(self) -> list[Credentials]:
        """The devices that envelopes go to."""
        return [self.tablet, self.bob, self.laptop]

    async def send(self, *batch: NewMessage) -> list[Outcome]:
        return await send(self.pool, ParticipantsCache(), batch)

    async def send_to(self, *named: Credentials, turn: int = 0) -> int:
        """Send a message with an envelope for each of these devices; return its seq."""
        [sent] = await self.send(self.message(*named, turn=turn))
        assert isinstance(sent, Committed)
        return sent.seq

    def message(self, *named: Credentials, turn: int = 0) -> NewMessage:
        given = pack([(each.device, secret(each, turn)) for each in named])
        return a_message(self.group, self.alice.user, b"", envelopes=given)

    async def edit(self, seq: int, revision: int, *named: Credentials, turn: int = 0) -> revisions.MessageChange:
        return await self.edit_to(seq, revision, [(each.device, secret(each, turn)) for each in named] or None)

    async def edit_to(self, seq: int, revision: int, given: list[Envelope] | None) -> revisions.MessageChange:
        user, device = self.alice.user, self.alice.device
        content = b"edit %d" % revision
        change, *_ = await revisions.edit(
            self.pool, user, self.group, seq, revision, "text", content, None, None, device=device, envelopes=given
        )
        return change

    async def read(self, reader: Credentials, **bounds: int) -> list[Message | Tombstone]:
        page = await messages.history(
            self.pool, reader.user, self.group, **{"limit": 99, **bounds}, device=reader.device
        )
        return page.messages

    async def shown(self, reader: Credentials) -> list[bytes | None]:
        """The device's envelopes of all messages, the newest first."""
        return [each.envelope if isinstance(each, Message) else None for each in await self.read(reader)]

    async def stored(self) -> tuple[int, int]:
        """The messages with envelopes, and the rows of envelopes."""
        [(with_envelopes,)] = await self.pool.fetch("select count(*) from messages where has_envelopes")
        [(rows,)] = await self.pool.fetch("select count(*) from envelopes")
        return int(with_envelopes), int(rows)


def secret(device: Credentials, turn: int = 0) -> bytes:
    return b"%b envelope %d of %b" % (PLANTED.encode(), turn, device.device)


@pytest.fixture
async def scene(pool: Pool, people: list[Credentials]) -> EnvelopeScene:
    alice, bob, carol = people
    tablet, laptop, silent = [await new_device(pool, user) for user in (alice.user, bob.user, bob.user)]
    for each in (alice, tablet, bob, laptop, carol):
        await keys.put(pool, each.device, IDENTITY)
    await make_contacts(pool, alice, carol)
    return EnvelopeScene(pool, alice, tablet, bob, laptop, silent, carol, await new_group(pool, alice, bob))


@pytest.mark.parametrize("count", [1, 3])
async def test_each_device_is_shown_its_own_envelope_alone(scene: EnvelopeScene, count: int) -> None:
    """Sent alone, and in a batch with messages that have none, which Postgres serves by other statements."""
    plain = [a_message(scene.group, scene.alice.user) for _ in range(count - 1)]
    outcomes = await scene.send(scene.message(*scene.named), *plain)
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    for reader in (*scene.named, scene.alice, scene.silent):
        *others, first = await scene.read(reader)
        assert isinstance(first, Message)
        assert first.has_envelopes
        assert first.envelope == (secret(reader) if reader in scene.named else None)
        assert [(other.has_envelopes, other.envelope) for other in others if isinstance(other, Message)] == [
            (None, None) for _ in plain
        ]
    assert await scene.stored() == (1, 1)


async def of_a_stranger(scene: EnvelopeScene) -> bytes:
    return scene.carol.device


async def without_identity(scene: EnvelopeScene) -> bytes:
    return scene.silent.device


async def that_is_none(scene: EnvelopeScene) -> bytes:
    return uuid4().bytes


async def that_was_revoked(scene: EnvelopeScene) -> bytes:
    await devices.revoke_device(scene.pool, scene.bob.user, scene.laptop.device)
    return scene.laptop.device


async def that_has_expired(scene: EnvelopeScene) -> bytes:
    await scene.pool.fetch("update devices set expires = now() where id = %s", (uuid(scene.laptop.device),))
    while await keys.end_expired_identities(scene.pool):
        pass
    return scene.laptop.device


async def of_a_user_who_has_left(scene: EnvelopeScene) -> bytes:
    await participants.add(scene.pool, scene.alice.user, scene.group, scene.carol.user)
    assert await scene.send_to(scene.carol)
    await participants.remove(scene.pool, scene.carol.user, scene.group, scene.carol.user)
    return scene.carol.device


UNLISTED: Final[dict[str, Callable[[EnvelopeScene], Awaitable[bytes]]]] = {
    "of a user who takes no part": of_a_stranger,
    "without an identity": without_identity,
    "that does not exist": that_is_none,
    "that was revoked": that_was_revoked,
    "that has expired": that_has_expired,
    "of a user who has left": of_a_user_who_has_left,
}


@pytest.mark.parametrize("count", [1, 3])
@each_row("name", UNLISTED)
async def test_an_envelope_for_a_device_outside_the_set_refuses_its_message_alone(
    scene: EnvelopeScene, name: str, count: int
) -> None:
    seq = await scene.send_to(scene.bob)
    device = await UNLISTED[name](scene)
    before = await scene.stored()
    bad = replace(scene.message(scene.bob), envelopes=pack([(scene.bob.device, b"e"), (device, b"e")]))
    refused, *others = await scene.send(bad, *[scene.message(scene.bob) for _ in range(count - 1)])
    assert isinstance(refused, UnlistedDevices)
    assert refused.devices == [device]
    assert all(isinstance(other, Committed) for other in others)
    assert await scene.stored() == (before[0] + count - 1, before[1] + count - 1)
    with pytest.raises(UnlistedDevices) as error:
        await scene.edit_to(seq, 0, [(device, b"e"), (scene.bob.device, b"e")])
    assert error.value.devices == [device]
    [message] = [each for each in await scene.read(scene.bob) if each.seq == seq]
    assert message == (await scene.read(scene.bob, before=seq + 1))[0]
    assert secret(scene.bob) in await scene.shown(scene.bob)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_stranger_learns_nothing_of_devices(scene: EnvelopeScene, count: int) -> None:
    batch = [
        a_message(scene.group, scene.carol.user, envelopes=pack([(scene.bob.device, b"e"), (uuid4().bytes, b"e")]))
        for _ in range(count)
    ]
    assert [type(outcome) for outcome in await scene.send(*batch)] == [NotAParticipant] * count
    assert await scene.stored() == (0, 0)


async def test_devices_of_a_user_whose_place_is_withheld_may_be_named(pool: Pool, people: list[Credentials]) -> None:
    """Bob blocks Alice, and takes part in her group in her eyes alone: a refusal would tell her."""
    alice, bob, carol = people
    await keys.put(pool, bob.device, IDENTITY)
    await make_contacts(pool, alice, bob, carol)
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    group = await new_group(pool, alice, carol)
    await participants.add(pool, alice.user, group, bob.user)
    assert await pool.fetch("select 1 from withheld")
    given = [(bob.device, b"e")]
    batch = [a_message(group, alice.user, envelopes=pack(given)) for _ in range(3)]
    for some in (batch[:1], batch[1:]):
        assert all(isinstance(each, Committed) for each in await send(pool, ParticipantsCache(), some))


Change = Callable[[EnvelopeScene, list[Envelope]], list[Envelope] | None]
OTHERS: Final[dict[str, Change]] = {
    "other bytes": lambda _, given: [(given[0][0], b"other"), *given[1:]],
    "one fewer": lambda _, given: given[1:],
    "none": lambda _, __: None,
    "another device": lambda s, given: [(s.alice.device, given[0][1]), *given[1:]],
    "another order": lambda _, given: given[::-1],
    "bytes moved from one to the next": lambda _, given: [
        (given[0][0], given[0][1][:-1]),
        (given[1][0], given[0][1][-1:] + given[1][1]),
        *given[2:],
    ],
}


@pytest.mark.parametrize("name", OTHERS)
async def test_a_retry_has_the_same_envelopes(scene: EnvelopeScene, name: str) -> None:
    """The same bytes get the first answer, also after a device was revoked; others do not, alone and in one batch with
    the first."""
    given = [(each.device, secret(each)) for each in scene.named]
    message = scene.message(*scene.named)
    other = replace(message, envelopes=pack(OTHERS[name](scene, given)))
    first, again, conflict = await scene.send(message, message, other)
    assert isinstance(first, Committed)
    assert isinstance(again, Committed)
    assert (again.seq, first.is_new, again.is_new) == (first.seq, True, False)
    assert isinstance(conflict, TempIdConflict)
    await devices.revoke_device(scene.pool, scene.bob.user, scene.laptop.device)
    again, conflict = [(await scene.send(each))[0] for each in (message, other)]
    assert isinstance(again, Committed)
    assert (again.seq, again.is_new) == (first.seq, False)
    assert isinstance(conflict, TempIdConflict)
    assert await scene.stored() == (1, 1)
    assert await scene.shown(scene.bob) == [secret(scene.bob)]


@pytest.mark.parametrize("name", OTHERS)
async def test_an_edit_is_repeated_with_the_same_envelopes(scene: EnvelopeScene, name: str) -> None:
    seq = await scene.send_to(*scene.named)
    given = [(each.device, secret(each, 1)) for each in scene.named]
    other = OTHERS[name](scene, given)
    assert (await scene.edit_to(seq, 0, given)).is_new
    for turn in range(2):
        assert not (await scene.edit_to(seq, 0, given)).is_new, turn
        with pytest.raises(RevisionConflict):
            await scene.edit_to(seq, 0, other)
        if turn == 0:
            await scene.edit(seq, 1, scene.bob, turn=2)
    assert await scene.shown(scene.bob) == [secret(scene.bob, 2)]


async def test_a_device_sees_the_envelope_of_the_latest_edit_that_names_it(scene: EnvelopeScene) -> None:
    seq = await scene.send_to(scene.tablet, scene.bob)
    change = await scene.edit(seq, 0, scene.bob, scene.laptop, turn=1)
    told = {scene.tablet.device: secret(scene.tablet), scene.bob.device: secret(scene.bob, 1)}
    assert change.envelopes == {**told, scene.laptop.device: secret(scene.laptop, 1)}
    assert isinstance(change.message, Message)
    assert change.message.has_envelopes
    change = await scene.edit(seq, 1)
    assert change.envelopes == {**told, scene.laptop.device: secret(scene.laptop, 1)}
    for reader, turn in ((scene.tablet, 0), (scene.bob, 1), (scene.laptop, 1)):
        assert await scene.shown(reader) == [secret(reader, turn)]
    assert await scene.shown(scene.silent) == [None]


async def test_an_edit_gives_envelopes_to_a_message_that_had_none(scene: EnvelopeScene) -> None:
    [sent] = await scene.send(a_message(scene.group, scene.alice.user))
    assert isinstance(sent, Committed)
    change = await scene.edit(sent.seq, 0)
    assert change.envelopes is None
    await scene.edit(sent.seq, 1, scene.bob)
    [message] = await scene.read(scene.laptop)
    assert isinstance(message, Message)
    assert (message.has_envelopes, message.envelope) == (True, None)
    assert await scene.shown(scene.bob) == [secret(scene.bob)]


async def test_a_message_comes_with_the_envelope_of_its_own_revision(scene: EnvelopeScene) -> None:
    """A reader may have read the message before an edit, and asks for the envelope after it."""
    seq = await scene.send_to(scene.tablet, scene.bob)
    [before] = await scene.read(scene.bob)
    assert isinstance(before, Message)
    await scene.edit(seq, 0, scene.bob, turn=1)
    [told] = await envelopes.with_own(scene.pool, scene.bob.device, [replace(before, envelope=None)])
    assert told == before
    [table] = await envelopes.tables_of(scene.pool, [before])
    assert table == {each.device: secret(each) for each in (scene.tablet, scene.bob)}


async def test_an_edit_drops_parts_that_name_no_other_device_and_the_rest_is_bounded(scene: EnvelopeScene) -> None:
    seq = await scene.send_to(*scene.named)
    for revision in range(3):
        await scene.edit(seq, revision, scene.tablet, scene.bob, turn=revision)
    assert await scene.stored() == (1, 2)
    await scene.pool.fetch(
        "insert into envelopes (conversation_id, seq, part, revision, devices, ends, body, created)"
        " select %s, %s, 10 + n, 0, array[%s, gen_random_uuid()], '{1,2}', 'xx', now() from generate_series(1, %s) n",
        (uuid(scene.group), seq, uuid(scene.bob.device), MAX_ENVELOPE_PARTS - 3),
    )
    await scene.edit(seq, 3, scene.laptop, turn=3)
    with pytest.raises(TooManyParts):
        await scene.edit(seq, 4, scene.alice, turn=4)
    assert await scene.shown(scene.laptop) == [secret(scene.laptop, 3)]
    await scene.edit(seq, 4)
    [message] = await scene.read(scene.laptop)
    assert isinstance(message, Message)
    assert (message.revision, message.envelope) == (5, secret(scene.laptop, 3))


async def delete_for_everyone(scene: EnvelopeScene, seq: int) -> None:
    await revisions.delete_for_everyone(scene.pool, scene.alice.user, scene.group, seq)


async def let_its_lifetime_end(scene: EnvelopeScene, seq: int) -> None:
    await age(scene.pool, scene.group)
    await retention.move_floors(scene.pool, days=50, archives=False, limit=9)
    await retention.note_announced(scene.pool, [scene.group])
    assert await retention.clear(scene.pool, scene.group, limit=9) == seq


GOING: Final[dict[str, Callable[[EnvelopeScene, int], Awaitable[None]]]] = {
    "a deletion for everyone": delete_for_everyone,
    "the end of its lifetime": let_its_lifetime_end,
}


@pytest.mark.parametrize("name", GOING)
async def test_envelopes_go_with_their_message(scene: EnvelopeScene, name: str) -> None:
    seq = await scene.send_to(*scene.named)
    await scene.edit(seq, 0, scene.bob, turn=1)
    await GOING[name](scene, seq)
    assert await scene.pool.fetch("select 1 from envelopes") == []
    for reader in scene.named:
        assert not any(await scene.shown(reader))


async def test_a_user_who_deletes_a_message_alone_is_shown_no_envelope(scene: EnvelopeScene) -> None:
    seq = await scene.send_to(*scene.named)
    await revisions.delete_for_me(scene.pool, scene.bob.user, scene.group, seq)
    assert isinstance((await scene.read(scene.bob))[0], Tombstone)
    assert await scene.shown(scene.tablet) == [secret(scene.tablet)]


async def test_a_silent_message_shows_the_blocker_no_envelope(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    await keys.put(pool, bob.device, IDENTITY)
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    message = a_message(direct, alice.user, envelopes=pack([(bob.device, b"e")]))
    [sent] = await send(pool, ParticipantsCache(), [message])
    assert isinstance(sent, Committed)
    assert sent.participants == (alice.user,)
    page = await messages.history(pool, bob.user, direct, limit=9, device=bob.device)
    assert [type(each) for each in page.messages] == [Tombstone]


async def test_envelopes_are_forgotten_after_some_days_and_their_messages_stay(scene: EnvelopeScene) -> None:
    for turn in range(3):
        await scene.send_to(*scene.named, turn=turn)
    for days, seq in ((ENVELOPE_DAYS + 1, 1), (ENVELOPE_DAYS - 1, 2)):
        await scene.pool.fetch(
            "update envelopes set created = now() - make_interval(days => %s) where seq = %s", (days, seq)
        )
    assert await envelopes.forget_envelopes(scene.pool, limit=9) == 1
    assert await envelopes.forget_envelopes(scene.pool, limit=9) == 0
    assert await scene.shown(scene.bob) == [secret(scene.bob, 2), secret(scene.bob, 1), None]
    *_, oldest = await scene.read(scene.bob)
    assert isinstance(oldest, Message)
    assert oldest.has_envelopes


async def test_a_revoked_device_is_shown_none_whatever_asks_for_it(scene: EnvelopeScene) -> None:
    """Its connection may live for a moment."""
    cursor = (await sync(scene.pool, scene.bob.user, None)).cursor
    await scene.send_to(*scene.named)
    await devices.revoke_device(scene.pool, scene.bob.user, scene.laptop.device)
    assert await scene.shown(scene.laptop) == [None]
    for reader, expected in ((scene.laptop, None), (scene.bob, secret(scene.bob))):
        told = (await sync(scene.pool, scene.bob.user, cursor, device=reader.device)).pushes
        assert [each.envelope for each in told if isinstance(each, Message)] == [expected]


async def test_sync_has_envelopes_in_messages_and_in_the_last_message_of_new_conversations(
    scene: EnvelopeScene,
) -> None:
    cursor = (await sync(scene.pool, scene.bob.user, None)).cursor
    await scene.send_to(*scene.named)
    for reader in (scene.bob, scene.laptop):
        told = (await sync(scene.pool, reader.user, cursor, device=reader.device)).pushes
        assert [each.envelope for each in told if isinstance(each, Message)] == [secret(reader)]
        fresh = (await sync(scene.pool, reader.user, None, device=reader.device)).pushes
        [shown] = [each.last_message for each in fresh if isinstance(each, Conversation)]
        assert isinstance(shown, Message)
        assert shown.envelope == secret(reader)


async def test_pages_count_the_bytes_of_envelopes(scene: EnvelopeScene) -> None:
    """Of large ones a page has few, and reading on brings each once."""
    cursor = (await sync(scene.pool, scene.bob.user, None)).cursor
    great = bytes(MAX_ENVELOPE_BYTES - 1)
    for n in range(6):
        [sent] = await scene.send(
            a_message(scene.group, scene.alice.user, b"", envelopes=pack([(scene.bob.device, great + bytes((n,)))]))
        )
        assert isinstance(sent, Committed)
    for after in (True, False):
        seqs: list[int] = []
        while len(seqs) < 6:
            page = await messages.history(
                scene.pool,
                scene.bob.user,
                scene.group,
                limit=9,
                max_bytes=2 * len(great) + 100,
                device=scene.bob.device,
                **({"after": seqs[-1] if seqs else 0} if after else {"before": seqs[-1] if seqs else None}),
            )
            assert len(page.messages) == 2
            seqs += [each.seq for each in page.messages]
            assert page.more == (len(seqs) < 6)
        assert seqs == ([1, 2, 3, 4, 5, 6] if after else [6, 5, 4, 3, 2, 1])
    near = await messages.history_around(
        scene.pool,
        scene.bob.user,
        scene.group,
        around=3,
        limit=9,
        max_bytes=3 * len(great) + 100,
        device=scene.bob.device,
    )
    assert ([each.seq for each in near.messages], near.has_older, near.has_newer) == ([2, 3, 4], True, True)
    told: list[int] = []
    while True:
        synced = await sync(scene.pool, scene.bob.user, cursor, device=scene.bob.device)
        found = [each for each in synced.pushes if isinstance(each, Message)]
        assert len(found) == 1 or sum(envelopes.size_of(each) for each in found) <= MAX_BYTES
        told += [each.seq for each in found]
        cursor = synced.cursor
        if not synced.more:
            break
    assert told == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("table", ["envelopes", "messages", "outbox"])
async def test_if_one_cannot_be_written_neither_is(scene: EnvelopeScene, table: str, count: int) -> None:
    """Also if it is something that is written beside both."""
    await scene.pool.fetch(
        "create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$"
    )
    await scene.pool.fetch(f"create trigger refuse before insert on {table} execute function refuse()")
    outcomes = await scene.send(*[scene.message(*scene.named) for _ in range(count)])
    assert all(isinstance(outcome, StoreError) for outcome in outcomes)
    for each in ("messages", "envelopes", "sends", "outbox"):
        assert await scene.pool.fetch(f"select 1 from {each}") == []


async def test_if_an_edits_envelopes_cannot_be_written_the_message_stays_as_it_was(scene: EnvelopeScene) -> None:
    seq = await scene.send_to(*scene.named)
    before = await scene.read(scene.bob)
    await scene.pool.fetch(
        "create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$"
    )
    await scene.pool.fetch("create trigger refuse before insert on revisions execute function refuse()")
    with pytest.raises(DatabaseError):
        await scene.edit(seq, 0, *scene.named, turn=1)
    assert await scene.read(scene.bob) == before
    assert await scene.stored() == (1, 1)


DEATHS: Final = 4
SENDERS: Final = 8


async def test_a_message_and_its_envelopes_survive_the_death_of_postgres_together_or_not_at_all(
    migrated_data: Path, tmp_path: Path
) -> None:
    """Senders repeat each message with the same bytes until it is acknowledged, over kill -9 of Postgres. Each message
    is there once, with the envelopes that were given, and none is without."""
    # It starts an event loop of its own.
    context = migrated_postgres(migrated_data, tmp_path / "postgres", {"fsync": "off"})
    postgres = await trio.to_thread.run_sync(context.__enter__)
    try:
        with closing(Pool(postgres.url, 4)) as pool:
            await _send_through_deaths(pool, postgres)
    finally:
        await trio.to_thread.run_sync(context.__exit__, None, None, None)


async def _send_through_deaths(pool: Pool, postgres: PostgresServer) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    group = await new_group(pool, alice, bob)
    await keys.put(pool, bob.device, IDENTITY)
    given: dict[int, bytes] = {}
    has_ended, lost = trio.Event(), 0

    async def talk(sender: int) -> None:
        nonlocal lost
        number = 0
        while not has_ended.is_set():
            number += 1
            envelope = b"%d of %d" % (number, sender)
            message = a_message(group, alice.user, b"", envelopes=pack([(bob.device, envelope)]))
            while True:
                [outcome] = await send(pool, ParticipantsCache(), [message])
                if isinstance(outcome, Committed):
                    assert outcome.seq not in given
                    given[outcome.seq] = envelope
                    break
                assert isinstance(outcome, Unavailable | Overloaded | Locked), outcome
                lost += 1
                await let_pass(0.05, why="a client tries again after a moment")

    async with trio.open_nursery() as nursery:
        for sender in range(SENDERS):
            nursery.start_soon(talk, sender)
        for _ in range(DEATHS):
            sent = len(given)
            await wait_until(lambda sent=sent: len(given) > sent + 20, "messages are sent")  # type: ignore[misc]
            await trio.to_thread.run_sync(postgres.kill)
            await trio.to_thread.run_sync(postgres.start)
        has_ended.set()
    assert lost >= DEATHS, "no death met a send"
    rows = await pool.fetch(
        "select m.seq, e.body from messages m full join envelopes e"
        " on e.conversation_id = m.conversation_id and e.seq = m.seq and m.has_envelopes"
    )
    assert dict(rows) == given
    assert len(rows) == len(given)
