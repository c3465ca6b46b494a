"""The keep-alive finds half-open peers within two periods, and does not ping active ones."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock

from protocol.codes import CloseCode
from server.transport.keepalive import STEP_S, KeepAlive
from tests.waiting import let_pass

PERIOD_S = 30.0


class FakePeer:
    """A connection that answers pings, or not."""

    def __init__(self, *, answers: bool, talks_every_s: float | None = None) -> None:
        self.answers = answers
        self.talks_every_s = talks_every_s
        self.heard_at = trio.current_time()
        self.pinged_at = -math.inf
        self.slot = 0
        self.pings: list[float] = []
        self.closed_at: float | None = None
        self.code: CloseCode | None = None

    def ping(self) -> None:
        self.pings.append(trio.current_time())
        if self.answers:
            self.heard_at = trio.current_time()

    def close(self, code: CloseCode, detail: str) -> None:
        assert self.closed_at is None
        self.closed_at, self.code = trio.current_time(), code
        assert detail

    async def talk(self) -> None:
        assert self.talks_every_s is not None
        while True:
            await let_pass(self.talks_every_s, why="the peer sends at intervals")
            self.heard_at = trio.current_time()


@pytest.mark.parametrize("came_at", [0.0, 0.3, 7.9999])
async def test_a_silent_peer_is_pinged_after_one_period_and_closed_within_two(
    autojump_clock: MockClock, nursery: trio.Nursery, came_at: float
) -> None:
    keep_alive = KeepAlive(PERIOD_S)
    nursery.start_soon(keep_alive.run)
    await let_pass(came_at, why="the peer comes in the middle of a period")
    began = trio.current_time()
    peer = FakePeer(answers=False)
    keep_alive.add(peer)
    await let_pass(3 * PERIOD_S, why="silence")
    [pinged_at] = peer.pings
    assert PERIOD_S - STEP_S <= pinged_at - began <= PERIOD_S + STEP_S
    assert peer.code is CloseCode.SILENT
    assert peer.closed_at is not None
    assert 2 * PERIOD_S - 4 * STEP_S <= peer.closed_at - began <= 2 * PERIOD_S


async def test_a_peer_that_answers_stays_for_ever_at_one_ping_a_period(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    keep_alive = KeepAlive(PERIOD_S)
    nursery.start_soon(keep_alive.run)
    peer = FakePeer(answers=True)
    keep_alive.add(peer)
    await let_pass(100 * PERIOD_S, why="pings and pongs")
    assert peer.closed_at is None
    assert 90 <= len(peer.pings) <= 105


async def test_a_peer_that_talks_is_not_pinged(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Any byte is a sign of life. A client that pings the server each period gets no pings from it."""
    keep_alive = KeepAlive(PERIOD_S)
    nursery.start_soon(keep_alive.run)
    peer = FakePeer(answers=False, talks_every_s=PERIOD_S - 2)
    keep_alive.add(peer)
    nursery.start_soon(peer.talk)
    await let_pass(20 * PERIOD_S, why="the peer talks")
    assert peer.pings == []
    assert peer.closed_at is None
    nursery.cancel_scope.cancel()


async def test_a_peer_that_has_gone_is_forgotten_at_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Otherwise a thousand clients that come and go each second would leave thirty thousand connections in memory."""
    keep_alive = KeepAlive(PERIOD_S)
    nursery.start_soon(keep_alive.run)
    peers = [FakePeer(answers=False) for _ in range(10)]
    for peer in peers:
        keep_alive.add(peer)
        keep_alive.remove(peer)
    keep_alive.remove(FakePeer(answers=False))
    assert len(keep_alive) == 0
    await let_pass(3 * PERIOD_S, why="no peer is left")
    assert all(peer.closed_at is None and not peer.pings for peer in peers)


async def test_after_a_long_pause_of_this_process_everybody_is_asked_first(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """The process was stopped for minutes; the kernel holds the unread bytes that the clients sent meanwhile."""
    keep_alive = KeepAlive(PERIOD_S)
    peer = FakePeer(answers=False)
    peer.heard_at -= 10 * PERIOD_S
    keep_alive.add(peer)
    await let_pass(PERIOD_S, why="the keep-alive does not run yet")
    nursery.start_soon(keep_alive.run)
    await let_pass(STEP_S, why="one look")
    assert peer.closed_at is None
    assert len(peer.pings) == 1
