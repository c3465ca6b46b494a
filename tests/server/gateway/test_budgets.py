"""One user's cost on a node: its parts, the consequences of too much, and the turns of others in between."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from uuid import uuid4

import cbor2
import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from client.http import Credentials
from protocol import limits
from protocol.codec import encode
from protocol.codes import CloseCode
from protocol.frames import (
    Delete,
    Edit,
    Error,
    Frame,
    Hello,
    History,
    List,
    MarkRead,
    Ping,
    Pong,
    Send,
    Sent,
    SetTyping,
    Status,
    Sync,
    Watch,
)
from protocol.numbers import Type
from protocol.websocket import PING
from server.gateway import budgets
from server.gateway.budgets import LOOK_UPS_AT_ONCE, PAUSE_AFTER_S, TURN_COST, Budget, Budgets, cost_of_pushes
from store import participants
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.people import make_contacts, new_direct, new_group, new_user
from tests.server.gateway.test_connection import Served, accepted, served, welcomed
from tests.server.node_world import open_node
from tests.waiting import wait_until

__all__ = ["accepted", "served"]

FULL_S = limits.MAX_COST_AT_ONCE / limits.MAX_COST_PER_S
A_TURN = TURN_COST // limits.COST_OF_REQUEST + 1


def unknown(request: int) -> bytes:
    return cbor2.dumps({0: 100_000, 1: request})


def test_a_user_may_go_into_debt_and_goes_on_when_it_is_repaid() -> None:
    budget = Budget()
    assert budget.take(100.0, limits.MAX_COST_AT_ONCE + limits.MAX_COST_PER_S) == 0
    assert budget.take(100.0, 1) == pytest.approx(1.0)
    assert budget.debt_s(100.5) == pytest.approx(0.5)
    assert budget.take(101.0, 1) == 0
    assert not budget.is_full(101.0 + FULL_S / 2)
    assert budget.is_full(102.0 + FULL_S)


def test_a_budget_outlives_the_connections_of_its_user_until_it_is_full() -> None:
    budgets = Budgets()
    first = budgets.enter(b"user")
    assert budgets.enter(b"user") is first
    first.charge(0.0, limits.MAX_COST_AT_ONCE)
    for _ in range(2):
        budgets.leave(b"user", 1.0)
    assert budgets.enter(b"user") is first, "a user who comes back has not gained anything"
    budgets.leave(b"user", FULL_S + 1)
    assert len(budgets) == 0


async def note_turns(node_turns: list[int]) -> None:
    """Count how often all other tasks have had a turn."""
    while True:
        await trio.lowlevel.checkpoint()
        node_turns[0] += 1


@pytest.mark.parametrize(
    ("frame", "most"),
    [
        (lambda n: encode(Ping(n)), A_TURN),
        (unknown, limits.MAX_BAD_FRAMES),
        (lambda n: encode(Hello(n, "token", 1)), limits.MAX_BAD_FRAMES),
        (lambda n: encode(Status(n, b"c" * 16, 1)), A_TURN),
    ],
    ids=["pings", "unknown", "unexpected", "look-ups"],
)
async def test_other_tasks_run_while_a_message_of_a_thousand_frames_is_served(
    served: Served, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, frame: Callable[[int], bytes], most: int
) -> None:
    turns, served_in = [0], Counter[int]()
    charge = Budget.charge

    def noted(budget: Budget, now: float, cost: int) -> None:
        served_in[turns[0]] += 1
        charge(budget, now, cost)

    client = await welcomed(served)
    nursery.start_soon(note_turns, turns)
    monkeypatch.setattr(Budget, "charge", noted)
    await client.send(*map(frame, range(1000)))
    await wait_until(lambda: served_in.total() >= min(1000, most) or served.ended.is_set(), "they are served")
    assert max(served_in.values()) <= A_TURN
    assert len(served_in) >= min(1000, most) // A_TURN
    await client.stream.aclose()


async def test_the_connections_of_a_user_share_one_turn(nursery: trio.Nursery) -> None:
    """Four connections of one user get no more than one while all other tasks run once."""
    budget, turns, waited = Budget(), [0], Counter[int]()

    async def serve() -> None:
        for _ in range(50):
            budget.charge(trio.current_time(), TURN_COST)
            if budget.turn_is_over:
                await budget.wait_turn()
            waited[turns[0]] += 1

    async with trio.open_nursery() as users:
        nursery.start_soon(note_turns, turns)
        for _ in range(4):
            users.start_soon(serve)
    assert waited.total() == 200
    assert max(waited.values()) <= 2
    assert len(waited) >= 100


@pytest.mark.parametrize("bad", [unknown, lambda n: cbor2.dumps({0: int(Type.SEND), 1: n})], ids=["unknown", "invalid"])
async def test_bad_frames_are_answered_up_to_a_bound_then_the_connection_is_closed(
    pool: Pool, redis_url: str, alice: Credentials, bad: Callable[[int], bytes]
) -> None:
    """The bound is the user's: another connection does not begin anew. Other users are served."""
    async with open_node(pool.url, redis_url) as node:
        async with node.open_websocket(alice.token) as client:
            await client.send(*map(bad, range(1000)))
            assert await closed_after(client, limits.MAX_BAD_FRAMES) <= limits.MAX_BAD_FRAMES + 2
            assert client.close_code == CloseCode.TOO_MANY_BAD_FRAMES.value
            assert client.close_reason is not None
            assert "bad_frames" in client.close_reason
        async with node.open_websocket(alice.token) as client:
            await client.send(*map(bad, range(1000)))
            assert await closed_after(client, 0) < limits.MAX_BAD_FRAMES
            assert client.close_code == CloseCode.TOO_MANY_BAD_FRAMES.value


async def closed_after(client: object, least: int) -> int:
    """Read until the server closes the connection; the number of errors before that."""
    errors = 0
    try:
        while True:
            for each in await client.read(1):  # type: ignore[attr-defined]
                assert isinstance(each, Error)
                errors += 1
    except AssertionError:
        await client.wait_end()  # type: ignore[attr-defined]
    assert errors >= least
    return errors


async def test_frames_before_the_welcome_are_bounded_as_well(served: Served) -> None:
    served.gateway.may_register = trio.Event()
    await served.client.send(Hello(0, "token", 1), *map(unknown, range(1000)))
    assert await served.client.wait_end() == CloseCode.TOO_MANY_BAD_FRAMES.value
    await served.client.stream.aclose()


async def test_a_user_in_debt_is_refused_and_a_user_deep_in_debt_is_not_read_from(served: Served) -> None:
    """The network holds what the client goes on to write; the node spends nothing on it."""
    client = await welcomed(served)
    budget = served.gateway.budget
    budget.charge(trio.current_time(), limits.MAX_COST_AT_ONCE + round(5 * PAUSE_AFTER_S * limits.MAX_COST_PER_S))
    [error] = await client.ask(Ping(1))
    assert isinstance(error, Error)
    assert (error.code, error.limit) == ("rate_limited", "cost_per_user")
    assert error.retry_after_ms is not None
    assert error.retry_after_ms > 1000 * PAUSE_AFTER_S
    await wait_all_tasks_blocked()
    await client.send(Ping(2))
    await wait_all_tasks_blocked(0.05)
    assert served.sock.recv(10_000, socket.MSG_PEEK), "it has not been read"
    assert client.unread == []
    await client.stream.aclose()


async def test_contents_of_64_kib_at_full_rate_take_a_bounded_memory(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node takes a budget's worth of them, 6 MB, and not as many as may be in flight, which would be 64 MB."""
    monkeypatch.setattr(limits, "MAX_COST_PER_S", 1)
    client = await welcomed(served)

    async def flood() -> None:
        for n in range(200):
            await client.send(msgspec.structs.replace(a_send(b"c" * 16, LARGE), request=n))

    # The flood has ended before the test closes its socket.
    async with trio.open_nursery() as flooding:
        flooding.start_soon(flood)
        [error, *_] = await client.read(1)
        assert isinstance(error, Error)
        assert error.limit == "cost_per_user"
        assert len(served.gateway.sends) * len(LARGE) <= limits.MAX_COST_AT_ONCE * limits.BYTES_PER_COST
        flooding.cancel_scope.cancel()
    await client.stream.aclose()


async def test_pings_of_websocket_cost_and_only_the_last_is_answered(served: Served) -> None:
    client = await welcomed(served)
    budget = served.gateway.budget
    before = budget.debt_s(0.0)
    await client.write(b"".join(bytes([0x80 | PING, 0x81]) + bytes(4) + b"%d" % (n % 10) for n in range(100)))
    while not client.pongs:
        assert await client.receive()
    assert client.pongs == [b"9"]
    assert budget.debt_s(0.0) - before == pytest.approx(100 * limits.COST_OF_REFUSAL / limits.MAX_COST_PER_S, abs=0.02)
    await client.stream.aclose()


async def test_few_look_ups_of_a_user_run_at_the_same_time() -> None:
    budget, running = Budget(), 0

    async def look_up() -> None:
        nonlocal running
        await budget.look_ups.begin()
        running += 1
        assert running <= LOOK_UPS_AT_ONCE
        await trio.lowlevel.checkpoint()
        running -= 1
        budget.look_ups.end()

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(look_up)


async def test_a_user_who_reconnects_all_the_time_is_refused_with_the_limit(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_COST_PER_S", 1)
    monkeypatch.setattr(limits, "MAX_COST_AT_ONCE", 3 * limits.COST_OF_CONNECTION - 1)
    async with open_node(pool.url, redis_url) as node:
        for _ in range(3):
            async with node.open_websocket(alice.token):
                pass
        async with node.open_websocket() as client:
            await client.send(Hello(0, alice.token, 1))
            assert await client.wait_end() == CloseCode.TOO_MANY_CONNECTIONS.value
            assert client.close_reason is not None
            assert "cost_per_user" in client.close_reason
        async with node.open_websocket(bob.token):
            pass


OTHERS = 40
LARGE = bytes(limits.MAX_CONTENT_BYTES)


def a_send(conversation: bytes, content: bytes = b"x") -> Send:
    return Send(2, conversation, "text", content, None, None, uuid4().bytes)


COSTS: dict[str, tuple[Callable[[bytes, bytes], Frame], int]] = {
    "ping": (lambda _, __: Ping(2), 0),
    "send to one": (lambda direct, _: a_send(direct), cost_of_pushes(2, 1)),
    "send to a group": (lambda _, group: a_send(group), cost_of_pushes(OTHERS + 1, 1)),
    "large content": (
        lambda direct, _: a_send(direct, LARGE),
        len(LARGE) // limits.BYTES_PER_COST + cost_of_pushes(2, len(LARGE)),
    ),
    "edit": (
        lambda _, group: Edit(2, group, 1, "text", b"other", None, None, 0),
        limits.COST_OF_LOOK_UP + cost_of_pushes(OTHERS + 1, 100),
    ),
    "delete": (lambda _, group: Delete(2, group, 1, True), limits.COST_OF_LOOK_UP + cost_of_pushes(OTHERS + 1, 60)),
    "typing": (lambda _, group: SetTyping(2, group, True), limits.COST_OF_LOOK_UP + cost_of_pushes(OTHERS, 40)),
    "marks": (lambda direct, group: MarkRead(2, [(direct, 1), (group, 1)]), 2 * limits.COST_OF_MARK),
    "history": (
        lambda direct, _: History(2, direct, None, None, None),
        limits.COST_OF_LOOK_UP + len(LARGE) // limits.READ_BYTES_PER_COST,
    ),
    "list": (lambda _, __: List(2, None, None), limits.COST_OF_LOOK_UP),
    "status": (lambda _, group: Status(2, group, 1), limits.COST_OF_LOOK_UP),
    "sync": (lambda _, __: Sync(2, None, pages=8), limits.COST_OF_LOOK_UP),
    "watch": (lambda _, __: Watch(2, []), limits.COST_OF_LOOK_UP),
}
"""Kind of request -> a request to a direct conversation or a group, and what it costs at least, beside
`COST_OF_REQUEST`."""


@pytest.mark.parametrize("kind", COSTS)
async def test_a_request_costs_its_frame_its_bytes_and_the_pushes_that_it_causes(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, kind: str
) -> None:
    others = [await new_user(pool, f"other{n}") for n in range(OTHERS)]
    direct, group = await new_direct(pool, alice, bob), await new_group(pool, alice, *others)
    make, least = COSTS[kind]
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        await client.ask(a_send(group))
        await client.ask(a_send(direct, LARGE))
        [connection] = node.gateway.hub.of(alice.user)
        budget: Budget = connection.budget  # type: ignore[attr-defined]
        # From here on the budget is not full before the end of the test, so time plays no part.
        budget.charge(trio.current_time(), limits.MAX_COST_AT_ONCE // 2)
        before = budget.debt_s(0.0)
        *_, reply = await client.ask(make(direct, group))
        assert not isinstance(reply, Error)
        cost = (budget.debt_s(0.0) - before) * limits.MAX_COST_PER_S
        assert round(cost) >= limits.COST_OF_REQUEST + least
        assert round(cost) <= limits.COST_OF_REQUEST + least + len(LARGE) // limits.READ_BYTES_PER_COST + 100


async def test_a_user_who_has_used_up_the_budget_by_pushes_is_refused_and_others_are_served(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the allowed rate of requests: the deliveries of a few messages to a group are the cost."""
    group = await new_group(pool, alice, *[await new_user(pool, f"other{n}") for n in range(OTHERS)])
    monkeypatch.setattr(limits, "COST_OF_CONNECTION", 0)
    monkeypatch.setattr(limits, "MAX_COST_PER_S", 1)
    monkeypatch.setattr(limits, "MAX_COST_AT_ONCE", 1000)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as client,
        node.open_websocket(alice.token) as same,
        node.open_websocket(bob.token) as other,
    ):
        sent = 0
        while not isinstance((await client.ask(a_send(group)))[-1], Error):
            sent += 1
        assert sent == 1000 // (limits.COST_OF_REQUEST + cost_of_pushes(OTHERS + 1, 1)) + 1
        assert isinstance((await same.ask(Ping(1)))[-1], Error)
        assert isinstance((await other.ask(Ping(1)))[-1], Pong)


def narrow_budget(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A budget of this size, which does not fill again during the test."""
    monkeypatch.setattr(limits, "COST_OF_CONNECTION", 0)
    monkeypatch.setattr(limits, "MAX_COST_PER_S", 1)
    monkeypatch.setattr(limits, "MAX_COST_AT_ONCE", most)


BURST = 60
PUSHED = cost_of_pushes(OTHERS + 1, 1)


@pytest.mark.parametrize("case", ["no list is cached", "the cached list is out of date"])
async def test_a_burst_of_sends_passes_no_limit_before_its_pushes_are_charged(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """The frames alone cost less than the budget, and all of them are there before the first commit: they come in one
    turn, so that they are more than those that are charged by a list that may be out of date."""
    others = [await new_user(pool, f"other{n}") for n in range(OTHERS)]
    is_cached = case != "no list is cached"
    group = await new_group(pool, alice, *others[: 1 if is_cached else OTHERS])
    narrow_budget(monkeypatch, BURST * limits.COST_OF_REQUEST + 1000)
    monkeypatch.setattr(budgets, "TURN_COST", 1_000_000)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        if is_cached:
            await client.ask(a_send(group))
            await make_contacts(pool, alice, *others)
            for each in others[1:]:
                await participants.add(pool, alice.user, group, each.user)
        before = await last_seq(pool, group)
        await client.send(*[a_send(group) for _ in range(BURST)])
        answers = [each for each in await client.read(BURST) if isinstance(each, Sent | Error)]
        sent = [each for each in answers if isinstance(each, Sent)]
        refused = [each for each in answers if isinstance(each, Error)]
        assert len(sent) + len(refused) == BURST
        assert {each.limit for each in refused} == {"cost_per_user"}
        assert 0 < len(sent) <= 1000 // PUSHED + 2
        assert await last_seq(pool, group) == before + len(sent), "a send that was refused is not stored"
        assert all(each.retry_after_ms for each in refused)


async def last_seq(pool: Pool, conversation: bytes) -> int:
    [(seq,)] = await pool.fetch("select last_seq from conversations where id = %s", (uuid(conversation),))
    return int(seq)


@pytest.mark.parametrize("case", ["cached", "uncached"])
async def test_the_cost_of_a_send_tells_a_stranger_nothing_of_a_group(
    pool: Pool, redis_url: str, alice: Credentials, carol: Credentials, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Else a user who was removed would learn from the moment of a refusal how many take part by now."""
    group = await new_group(pool, alice, *[await new_user(pool, f"other{n}") for n in range(OTHERS)])
    narrow_budget(monkeypatch, BURST * limits.COST_OF_REQUEST + 1000)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(carol.token) as stranger:
        if case == "cached":
            async with node.open_websocket(alice.token) as client:
                await client.ask(a_send(group))
        await stranger.send(*[a_send(group) for _ in range(BURST)])
        answers = await stranger.read(BURST)
        assert {each.code for each in answers if isinstance(each, Error)} == {"not_a_participant"}
        assert len(answers) == BURST
