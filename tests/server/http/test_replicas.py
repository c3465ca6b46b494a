"""Replicas read pages of history and exports: never less than what was acknowledged, and never a cursor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
import trio

from client.http import Credentials
from embedded.postgres import PostgresServer
from server.http.conditional import EntityTags
from server.http.first_pages import FirstPages
from server.http.queries import HistoryQuery
from store import replicas as replicas_module
from store import sync
from store.errors import NotAParticipant, Unavailable
from store.exported import lines_of
from store.messages import HistoryPage, history
from store.postgres.pool import Pool
from store.postgres.reads import StatementReader
from store.replicas import NotReadable, Replicas, ReplicaSession
from tests.server.http.test_first_pages import CHANGES, CachedPages, history_of
from tests.server.http_world import open_api
from tests.standby import Standby


@pytest.fixture
def pool(primary: PostgresServer) -> Iterator[Pool]:
    with closing(Pool(primary.url, 4)) as pool:
        yield pool


READ: Final = 7
"""How many pages are read: two of each conversation for two people; the newest of the group once."""


class ReplicatedChats:
    """Some chats, the replica of their database, and all pages of their histories."""

    def __init__(self, chats: CachedPages, standby: Standby, replicas: Replicas) -> None:
        self.chats = chats
        self.standby = standby
        self.replicas = replicas

    async def pages(self, replicas: Replicas) -> list[object]:
        """The newest page of each conversation, and another one, as everybody sees them; no page was kept."""
        chats = self.chats
        first, found = FirstPages(chats.pool, EntityTags(chats.pool), replicas), list[object]()
        for person in (chats.alice, chats.bob, chats.carol):
            for conversation in (chats.direct, chats.group):
                try:
                    found.append(await history_of(first, person, conversation))
                    found.append(await self._after(first, replicas, person, conversation))
                except NotAParticipant:
                    found.append(None)
        return found

    async def _after(
        self, first: FirstPages, replicas: Replicas, person: Credentials, conversation: bytes
    ) -> HistoryPage:
        _, page = await first.older_of(person.token, conversation, HistoryQuery(after_seq=1), "json")

        def read(reader: StatementReader) -> Awaitable[HistoryPage]:
            return history(reader, person.user, conversation, limit=9, after=page.after, device=person.device)

        return await replicas.page(page.needed, read)

    async def check(self) -> None:
        """Pages read with the replica are those that the primary reads."""
        assert await self.pages(self.replicas) == await self.pages(Replicas(self.chats.pool))

    def tell(self, command: str) -> None:
        with psycopg.connect(self.standby.url, autocommit=True) as connection:
            connection.execute(command)


@pytest.fixture
def replicas(pool: Pool, standby: Standby) -> Iterator[Replicas]:
    with closing(Replicas(pool, [standby.url])) as replicas:
        yield replicas


@pytest.fixture
async def world(pool: Pool, standby: Standby, replicas: Replicas) -> ReplicatedChats:
    chats = CachedPages(pool)
    await chats.begin()
    standby.wait_replayed()
    return ReplicatedChats(chats, standby, replicas)


async def test_a_replica_that_has_everything_reads_each_page(world: ReplicatedChats) -> None:
    await world.check()
    assert dict(world.replicas.outcomes) == {"served": READ}


async def test_a_replica_that_is_behind_hides_no_change_that_was_acknowledged(world: ReplicatedChats) -> None:
    for name in reversed(CHANGES):
        world.tell("select pg_wal_replay_pause()")
        try:
            await CHANGES[name](world.chats)
        except NotAParticipant:
            continue  # a user who left before
        finally:
            await world.check()
            world.tell("select pg_wal_replay_resume()")
            world.standby.wait_replayed()
        before = world.replicas.outcomes["behind"]
        await world.check()
        assert world.replicas.outcomes["behind"] == before, name
    assert world.replicas.outcomes["behind"] > 10 < world.replicas.outcomes["served"]
    assert set(world.replicas.outcomes) == {"served", "behind"}


FAULTS: Final[dict[str, Callable[[Standby], object]]] = {"killed": Standby.kill, "hanging": Standby.pause}


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_its_replica_the_primary_reads_each_page_and_no_reader_sees_an_error(
    world: ReplicatedChats, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(replicas_module, "TIMEOUT_S", 0.2)
    await world.check()
    await trio.to_thread.run_sync(FAULTS[fault], world.standby)
    try:
        await world.check()
    finally:
        world.standby.resume()
    # One page waited for it; then it was left alone.
    assert dict(world.replicas.outcomes) == {"served": READ, "failed": 1}


async def test_a_replica_that_was_restarted_reads_again_after_its_rest(
    world: ReplicatedChats, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trio.to_thread.run_sync(world.standby.kill)
    await world.check()
    await trio.to_thread.run_sync(world.standby.start)
    monkeypatch.setattr(replicas_module, "REST_S", 0.0)
    world.replicas.wake()
    world.standby.wait_replayed()
    await world.check()
    assert dict(world.replicas.outcomes) == {"failed": 1, "served": READ}


async def test_a_replica_that_was_promoted_reads_nothing(world: ReplicatedChats) -> None:
    """It goes on by itself: equal versions may be those of other messages."""
    await world.check()
    world.standby.promote()
    await world.check()
    assert dict(world.replicas.outcomes) == {"served": READ, "other_history": 1}
    world.replicas.wake()
    world.replicas.close()
    # A new connection would have to be to a standby.
    await world.check()
    assert dict(world.replicas.outcomes) == {"served": READ, "other_history": 1, "failed": 1}


async def test_an_export_reads_a_replica_that_has_all_and_otherwise_the_primary(world: ReplicatedChats) -> None:
    user = world.chats.alice.user

    async def lines(source: Any) -> list[str]:
        return [line async for line in lines_of(source, user)]

    async with world.replicas.caught_up() as source:
        assert isinstance(source, ReplicaSession)
        found = await lines(source)
    assert found == await lines(world.chats.pool)
    world.tell("select pg_wal_replay_pause()")
    await CHANGES["one sends"](world.chats)
    async with world.replicas.caught_up() as source:
        assert source is world.chats.pool
        assert await lines(source) != found
    world.tell("select pg_wal_replay_resume()")
    assert dict(world.replicas.outcomes) == {"served": 1, "behind": 1}


async def test_the_routes_ask_replicas(world: ReplicatedChats, redis_url: str) -> None:
    path = f"/v1/conversations/{UUID(bytes=world.chats.group)}/messages"
    async with (
        open_api(world.chats.pool, redis_url, replicas=world.replicas) as with_replica,
        open_api(world.chats.pool, redis_url) as without,
    ):
        for n, query in enumerate(("", "?after_seq=1", "?around_seq=2", "?limit=2"), 1):
            apis = [api.of(world.chats.alice.token) for api in (with_replica, without)]
            answers = [await api.get(path + query) for api in apis]
            assert answers[0].body == answers[1].body
            assert world.replicas.outcomes["served"] == n, query


CURSORS: Final[dict[str, Callable[[Any, bytes], Awaitable[object]]]] = {
    "sync": lambda reader, user: sync.sync(reader, user, None),
    "the advance of cursors": lambda reader, _: sync.take_cursor_snapshot(reader),
    "the history of a cursor": lambda reader, _: sync.history_id(reader),
}


async def test_a_replica_is_never_asked_for_a_cursor(world: ReplicatedChats) -> None:
    """A snapshot of a standby leaves out transactions under way: a cursor of it would lose messages for ever."""
    async with world.replicas.caught_up() as session:
        assert isinstance(session, ReplicaSession)
        for ask in CURSORS.values():
            with pytest.raises(NotReadable):
                await ask(session, world.chats.alice.user)
    with (
        closing(Pool(world.standby.url, 1, takes_writes=False)) as standby,
        pytest.raises(Unavailable, match="recovery is in progress"),
    ):
        await sync.sync(standby, world.chats.alice.user, None)
