"""The keys of an external issuer over time: how often they are fetched, for how long they count, and who waits."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from server.http.issuer_keys import FRESH_S, REFETCH_S, STALE_S, IssuerKeys
from server.http.key_set import IssuerKey, IssuerUnavailable, KeySet

OLD: Final = IssuerKey("RS256", "old")
NEW: Final = IssuerKey("RS256", "new")


@dataclass
class KeyServer:
    """An issuer's server: it counts fetches, may be away, and may answer late.

    :ivar gate: a fetch waits for it.
    """

    keys: KeySet = field(default_factory=lambda: {"old": OLD})
    is_away: bool = False
    fetches: int = 0
    gate: trio.Event = field(default_factory=trio.Event)

    async def fetch(self) -> KeySet:
        self.fetches += 1
        await self.gate.wait()
        if self.is_away:
            raise IssuerUnavailable("away")
        return self.keys


@asynccontextmanager
async def opened(server: KeyServer, *, is_slow: bool = False) -> AsyncGenerator[IssuerKeys, None]:
    if not is_slow:
        server.gate.set()
    keys = IssuerKeys(server.fetch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.run)
        yield keys
        nursery.cancel_scope.cancel()


async def test_keys_are_fetched_once_while_they_are_fresh(mock_clock: MockClock) -> None:
    server = KeyServer()
    async with opened(server) as keys:
        for _ in range(3):
            assert await keys.key("old") == OLD
            mock_clock.jump(FRESH_S / 3 - 1)
    assert server.fetches == 1


async def test_a_rotated_key_is_fetched_when_its_first_token_comes(mock_clock: MockClock) -> None:
    server = KeyServer()
    async with opened(server) as keys:
        assert await keys.key("old") == OLD
        mock_clock.jump(REFETCH_S)
        server.keys = {"new": NEW}
        assert await keys.key("new") == NEW
        assert await keys.key("old") is None, "the issuer has withdrawn it"
    assert server.fetches == 2


async def test_unknown_keys_cause_one_fetch_in_an_interval_however_many_come(mock_clock: MockClock) -> None:
    server = KeyServer()
    async with opened(server) as keys:
        assert await keys.key("old") == OLD
        for number in range(50):
            assert await keys.key(f"made up {number}") is None
            mock_clock.jump(REFETCH_S / 10)
        assert server.fetches == 1 + 4
        assert await keys.key("old") == OLD


async def test_requests_at_once_share_a_fetch_and_one_that_hangs_up_ends_it_for_none(mock_clock: MockClock) -> None:
    server = KeyServer()
    found: list[IssuerKey | None] = []
    async with opened(server, is_slow=True) as keys, trio.open_nursery() as nursery:

        async def ask() -> None:
            found.append(await keys.key("old"))

        with trio.CancelScope() as client:
            nursery.start_soon(ask)
            async with trio.open_nursery() as others:
                for _ in range(5):
                    others.start_soon(ask)
                await wait_all_tasks_blocked()
                client.cancel()
        assert client.cancelled_caught
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        server.gate.set()
    assert found == [OLD, OLD]
    assert server.fetches == 1


async def test_old_keys_are_served_at_once_while_others_are_fetched(mock_clock: MockClock) -> None:
    server = KeyServer()
    async with opened(server) as keys:
        assert await keys.key("old") == OLD
        mock_clock.jump(FRESH_S + 1)
        server.gate = trio.Event()
        assert await keys.key("old") == OLD
        await wait_all_tasks_blocked()
        assert server.fetches == 2
        server.keys = {"new": NEW}
        server.gate.set()
        await wait_all_tasks_blocked()
        assert await keys.key("new") == NEW
        assert server.fetches == 2


async def test_keys_go_on_while_the_issuer_is_away_for_a_day(mock_clock: MockClock) -> None:
    server = KeyServer()
    async with opened(server) as keys:
        assert await keys.key("old") == OLD
        server.is_away = True
        mock_clock.jump(STALE_S - 1)
        assert await keys.key("old") == OLD
        assert await keys.key("new") is None
        mock_clock.jump(2)
        with pytest.raises(IssuerUnavailable):
            await keys.key("old")
        server.is_away = False
        mock_clock.jump(REFETCH_S)
        assert await keys.key("old") == OLD


async def test_an_issuer_that_was_never_there_is_asked_seldom(mock_clock: MockClock) -> None:
    server = KeyServer(is_away=True)
    async with opened(server) as keys:
        for _ in range(30):
            with pytest.raises(IssuerUnavailable):
                await keys.key("old")
            mock_clock.jump(REFETCH_S / 10)
    assert server.fetches == 3
