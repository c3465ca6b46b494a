"""Messages whose lifetime is over are archived if configured, deleted and announced, in spite of interruptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from client.http import Credentials
from jobs.tasks import retention as retention_module
from jobs.tasks.registry import open_work
from jobs.tasks.retention import NotAnnounced, Retention
from protocol.codec import encode
from protocol.frames import Message, Settings, Tombstone
from runtime.config import Config
from runtime.metrics.samples import Value
from store import messages, participants, revisions
from store.messages import Committed, NewMessage, send
from store.objects.archive import list_archives, read_conversation
from store.objects.folder import Folder
from store.objects.interface import Objects
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.redis.bus import Inbox
from store.redis.client import Redis
from store.redis.directory import beat, enter
from store.redis.entries import AddressedPush, decode_entry
from tests.ageing import age
from tests.jobs.jobs_world import a_job
from tests.people import new_group

NODE = b"nodenode"


@pytest.fixture
async def objects(tmp_path: Path) -> Objects:
    folder = Folder(tmp_path / "objects")
    await folder.start()
    return folder


@pytest.fixture
async def talk(pool: Pool, alice: Credentials, bob: Credentials) -> bytes:
    """Seven messages, the first five 100 days old; one of them edited, one deleted."""
    talk = await new_group(pool, alice, bob)
    for n in range(7):
        content = b"%d" % n
        message = NewMessage(talk, (alice, bob)[n % 2].user, bytes([n]) * 16, "text", content, None, None)
        assert isinstance((await send(pool, ParticipantsCache(), [message]))[0], Committed)
    await revisions.edit(pool, bob.user, talk, 2, 0, "text", b"edited", None, None)
    await revisions.delete_for_everyone(pool, alice.user, talk, 3)
    await age(pool, talk, upto=5)
    return talk


async def run(retention: Retention) -> None:
    with trio.fail_after(20):
        await retention.retention(a_job("retention"))


async def held(pool: Pool, user: bytes, talk: bytes) -> tuple[int, list[Message | Tombstone]]:
    page = await messages.history(pool, user, talk, limit=100, after=0)
    return page.first_seq, page.messages


async def stored(pool: Pool) -> list[int]:
    return [seq for (seq,) in await pool.fetch("select seq from messages order by seq")]


async def test_old_messages_are_archived_unchanged_and_deleted(
    pool: Pool, redis: Redis, objects: Objects, alice: Credentials, talk: bytes
) -> None:
    _, before = await held(pool, alice.user, talk)
    await run(Retention(pool, redis, objects, days=50))
    assert await held(pool, alice.user, talk) == (6, before[5:])
    assert await stored(pool) == [6, 7]
    found = [each async for each in read_conversation(objects, talk)]
    assert [created_then(each, before) for each in found] == [as_archived(each) for each in before[:5]]
    assert [type(each) for each in found] == [Message, Message, Tombstone, Message, Message]


def as_archived(entry: Message | Tombstone) -> Message | Tombstone:
    """Without the `temp_id`, which is for devices that still have to recognise what they sent."""
    return replace(entry, temp_id=None) if isinstance(entry, Message) else entry


def created_then(found: Message | Tombstone, before: list[Message | Tombstone]) -> Message | Tombstone:
    """The tests let time pass by changing `created`, before `before` was read."""
    assert found.created == before[found.seq - 1].created
    return found


async def test_deleted_messages_are_counted_among_the_worker_s_metrics(pool: Pool, redis_url: str, talk: bytes) -> None:
    async with open_work(Config(database_url=pool.url, redis_url=redis_url, retention_days=50), pool) as work:

        def removed() -> list[Value]:
            return [each.value for each in work.samples() if each.name == "alo_retention_messages_removed_total"]

        assert removed() == [0]
        with trio.fail_after(20):
            await work.tasks["retention"].call(a_job("retention"), b"{}")
        assert removed() == [5]
    assert await stored(pool) == [6, 7]


async def test_without_an_object_store_it_is_deleted(pool: Pool, redis: Redis, talk: bytes) -> None:
    await run(Retention(pool, redis, None, days=50))
    assert await stored(pool) == [6, 7]


async def test_disappearing_messages_are_not_archived(
    pool: Pool, redis: Redis, objects: Objects, alice: Credentials, talk: bytes
) -> None:
    await participants.change_settings(pool, alice.user, talk, lifetime_s=3600)
    await run(Retention(pool, redis, objects, days=0))
    assert await stored(pool) == [6, 7]
    assert await list_archives(objects, talk) == []


async def test_messages_of_a_deployment_without_retention_stay(
    pool: Pool, redis: Redis, objects: Objects, talk: bytes
) -> None:
    await run(Retention(pool, redis, objects, days=0))
    assert await stored(pool) == [1, 2, 3, 4, 5, 6, 7]


class Killed(BaseException):
    """The most sudden end that is possible here."""


def dies_after(monkeypatch: pytest.MonkeyPatch, step: str, *, calls: int = 1) -> None:
    """The run ends after this many calls of the step, before their results are used."""
    do: Callable[..., Any] = getattr(retention_module, step)
    left = calls

    async def do_and_die(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        done = await do(*arguments, **named)
        left -= 1
        if left == 0:
            raise Killed
        return done

    monkeypatch.setattr(retention_module, step, do_and_die)


STEPS = ["move_floors", "unannounced", "publish", "note_announced", "uncleared", "below", "write_archive", "clear"]


@pytest.mark.parametrize(("step", "calls"), [*((step, 1) for step in STEPS), ("write_archive", 2), ("clear", 2)])
async def test_whenever_a_run_is_killed_the_next_one_comes_to_the_same_end(
    pool: Pool,
    redis: Redis,
    objects: Objects,
    alice: Credentials,
    talk: bytes,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    calls: int,
) -> None:
    """Each message is in exactly one archive, and the rest is unchanged."""
    inbox = await a_node(redis, alice.user)
    _, before = await held(pool, alice.user, talk)
    monkeypatch.setattr(retention_module, "MAX_MESSAGES", 2)
    with monkeypatch.context() as patch:
        dies_after(patch, step, calls=calls)
        with pytest.raises(Killed):
            await run(Retention(pool, redis, objects, days=50))
    await age(pool, talk, upto=6)  # time goes on, and what was begun stays as it was
    await run(Retention(pool, redis, objects, days=50))
    assert await stored(pool) == [7]
    assert await held(pool, alice.user, talk) == (7, before[6:])
    archived = [each async for each in read_conversation(objects, talk)]
    assert [each.seq for each in archived] == [1, 2, 3, 4, 5, 6]
    ranges = [(each.first, each.last) for each in await list_archives(objects, talk)]
    assert ranges == [(1, 2), (3, 4), (5, 5), (6, 6)]
    told = await pushes(inbox)
    assert {each.conversation for each in told} == {talk}
    assert told[-1].frame == encode(Settings(talk, "Group", 7, 1))


async def a_node(redis: Redis, user: bytes) -> Inbox:
    """A node that holds a device of this user."""
    inbox = Inbox(redis, NODE)
    await inbox.open()
    await beat(redis, NODE, inbox.position)
    await enter(redis, NODE, [user])
    return inbox


async def pushes(inbox: Inbox) -> list[AddressedPush]:
    """The pushes that the node has received."""
    got: list[AddressedPush] = []

    with trio.move_on_after(10) as scope:

        async def take(entries: list[bytes]) -> None:
            got.extend(item for entry in entries for item in decode_entry(entry) if isinstance(item, AddressedPush))
            scope.cancel()

        await inbox.follow(take)
    return got


async def test_nodes_of_the_participants_are_told_of_a_floor(
    pool: Pool, redis: Redis, alice: Credentials, bob: Credentials, talk: bytes
) -> None:
    inbox = await a_node(redis, alice.user)
    other = await new_group(pool, bob)
    await age(pool, other)
    await run(Retention(pool, redis, None, days=50))
    [push] = await pushes(inbox)
    assert (push.conversation, push.seq, push.users) == (talk, 0, [alice.user])
    assert push.frame == encode(Settings(talk, "Group", 6, 1))


async def test_the_next_attempt_publishes_the_floors_that_redis_refused(
    pool: Pool, redis: Redis, alice: Credentials, talk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = await a_node(redis, alice.user)

    async def refuse(_: Redis, entries: list[tuple[bytes, bytes]]) -> list[bytes]:
        return [node for node, _ in entries]

    with monkeypatch.context() as patch:
        patch.setattr(retention_module, "publish", refuse)
        with pytest.raises(NotAnnounced):
            await run(Retention(pool, redis, None, days=50))
    assert (await held(pool, alice.user, talk))[0] == 6, "a user that asks gets no expired message"
    assert await stored(pool) == [1, 2, 3, 4, 5, 6, 7]
    await run(Retention(pool, redis, None, days=50))
    assert len(await pushes(inbox)) == 1
    assert await stored(pool) == [6, 7]
