"""Receipts go to the senders of the messages and to the reader's own devices only."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from client.http import Credentials
from protocol.frames import (
    Done,
    Error,
    MarkDelivered,
    MarkRead,
    OwnSettings,
    ReceiptCounts,
    Receipts,
    Status,
    Statuses,
)
from server.delivery import receipt_counts, receipts
from server.gateway import marks
from store import contacts, profiles
from store.marks import Mark, mark
from store.postgres.pool import Pool
from tests.people import new_device, new_group, new_user
from tests.server.http_world import open_api, say
from tests.server.node_world import RawClient, TestNode, open_node, wait_caught_up
from tests.waiting import wait_until


@asynccontextmanager
async def connected(pool: Pool, redis_url: str, *people: Credentials) -> AsyncGenerator[list[RawClient], None]:
    """A client for each person, by turns on two nodes that know each other."""
    async with open_node(pool.url, redis_url) as here, open_node(pool.url, redis_url) as there:
        nodes = (here, there)
        for node, other in (nodes, nodes[::-1]):
            await _know_each_other(node, other)
        await wait_caught_up(here, there)
        async with (
            here.open_websocket(people[0].token) as first,
            there.open_websocket(people[1].token) as second,
            here.open_websocket(people[2].token) as third,
        ):
            yield [first, second, third]


async def _know_each_other(node: TestNode, other: TestNode) -> None:
    id_ = other.gateway.node.id
    await wait_until(lambda: id_ in node.gateway.node.live_nodes(), "they know each other")


async def test_it_is_known_which_device_took_a_message(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    """So notices of unread messages go to the user's other devices."""
    alice, bob, _ = people
    tablet = await new_device(pool, bob.user, "tablet")
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(bob.token) as first,
        node.open_websocket(tablet.token) as second,
    ):
        for n, (client, device) in enumerate(((first, bob), (second, tablet), (first, bob))):
            [message] = await say(pool, direct, alice.user, b"%d" % n)
            assert Done(n) in await client.ask(MarkDelivered(n, [(direct, message.seq)]))
            noted = await pool.fetch("select delivered_by from participants where delivered_by is not null")
            assert noted == [(device.device,)]


async def test_marks_come_to_who_wrote_what_they_pass_and_to_the_readers_own_devices(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob, carol)
    tablet = await new_device(pool, bob.user, "tablet")
    await say(pool, group, alice.user, b"1", b"2")
    await say(pool, group, bob.user, b"3")
    async with (
        connected(pool, redis_url, alice, bob, carol) as (writer, reader, other),
        open_node(pool.url, redis_url) as third,
        third.open_websocket(tablet.token) as own,
    ):
        await third.gateway.node.catch_up.settled.wait()
        assert await reader.ask(MarkDelivered(1, [(group, 3)])) == [Done(1)], (
            "the reader's own message had moved the marks already"
        )
        await writer.nothing_came()
        assert await other.ask(MarkDelivered(2, [(group, 2)])) == [Done(2)]
        assert await writer.find(Receipts) == Receipts(group, None, [(carol.user, 2, 0)])
        assert await other.ask(MarkRead(3, [(group, 3)])) == [
            Receipts(group, carol.device, [(carol.user, 3, 3)]),
            Done(3),
        ]
        assert await writer.find(Receipts) == Receipts(group, None, [(carol.user, 3, 3)])
        assert await reader.find(Receipts) == Receipts(group, None, [(carol.user, 3, 3)]), (
            "the reader wrote the third message"
        )
        await say(pool, group, alice.user, b"4")
        frames = await reader.ask(MarkRead(4, [(group, 4)]))
        own_marks = Receipts(group, bob.device, [(bob.user, 4, 4)])
        assert [frame for frame in frames if isinstance(frame, Receipts)] == [own_marks]
        assert await own.find(Receipts) == Receipts(group, None, [(carol.user, 3, 3)])
        assert await own.find(Receipts) == own_marks, "it says which of the user's devices has read"
        assert await writer.find(Receipts) == Receipts(group, None, [(bob.user, 4, 4)])
        assert await reader.ask(MarkRead(5, [(group, 2)])) == [Done(5)], "marks never go back"
        for client in (writer, other):
            await client.nothing_came()


async def test_a_mark_that_comes_after_a_pause_is_answered_when_it_is_committed(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a mark that follows closely waits for others: this bounds the number of commits."""
    monkeypatch.setattr(marks, "INTERVAL_S", 60.0)
    await say(pool, direct, alice.user, b"x", b"y")
    async with open_node(pool.url, redis_url) as node, node.open_websocket(bob.token) as client:
        assert (await client.ask(MarkDelivered(1, [(direct, 1)])))[-1] == Done(1)
        await client.send(MarkRead(2, [(direct, 2)]))
        await client.nothing_came()
        assert node.gateway.statistics().marks.batches == 1


async def test_marks_of_many_at_once_are_one_push(pool: Pool, redis_url: str, alice: Credentials) -> None:
    readers = [await new_user(pool, f"reader{n}") for n in range(9)]
    group = await new_group(pool, alice, *readers)
    await say(pool, group, alice.user, b"1")
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as writer:
        async with node.open_websocket(readers[0].token) as reader:
            [connection] = node.gateway.hub.of(readers[0].user)
            for each in readers:
                connection.user = each.user  # As if each had its own connection; they mark in the same moment.
                connection.in_flight += 1  # type: ignore[attr-defined]
                node.gateway.mark_nowait(connection, MarkDelivered(1, [(group, 1)]))  # type: ignore[arg-type]
            connection.user = readers[0].user
            await reader.read(9)
        told = await writer.find(Receipts)
        assert sorted(told.receipts) == sorted((each.user, 1, 0) for each in readers)
        await writer.nothing_came()


async def test_marks_that_follow_closely_are_one_push_and_a_node_that_stops_tells_them_first(
    pool: Pool, redis_url: str, people: list[Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "INTERVAL_S", 60.0)
    alice, bob, carol = people
    group = await new_group(pool, alice, bob, carol)
    await say(pool, group, alice.user, b"1", b"2")
    async with open_node(pool.url, redis_url) as away, away.open_websocket(alice.token) as writer:
        async with (
            open_node(pool.url, redis_url) as node,
            node.open_websocket(bob.token) as reader,
            node.open_websocket(carol.token) as other,
        ):
            await _know_each_other(node, away)
            await wait_caught_up(node, away)
            await reader.ask(MarkDelivered(1, [(group, 1)]))
            assert await writer.find(Receipts) == Receipts(group, None, [(bob.user, 1, 0)]), "the first comes at once"
            await reader.ask(MarkDelivered(2, [(group, 2)]))
            await other.ask(MarkDelivered(3, [(group, 1)]))
            await reader.ask(MarkRead(4, [(group, 2)]))
            await writer.nothing_came()
            await node.gateway.drain()
            told = await writer.find(Receipts)
        assert sorted(told.receipts) == sorted([(bob.user, 2, 2), (carol.user, 1, 0)]), "the last of each reader"


async def test_a_user_that_gives_no_receipts_reads_in_private(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    alice, bob, carol = people
    await say(pool, direct, alice.user, b"1", b"2")
    async with connected(pool, redis_url, alice, bob, carol) as (writer, reader, _), open_api(pool, redis_url) as api:
        changed = await api.of(bob.token).request("PATCH", "/v1/profile", **_json(b'{"gives_receipts": false}'))
        assert (changed.status, changed.body["gives_receipts"]) == (200, False)
        await reader.find(OwnSettings)
        frames = await reader.ask(MarkRead(1, [(direct, 2)]))
        told = [each for each in frames if not isinstance(each, OwnSettings)]
        assert told == [Receipts(direct, bob.device, [(bob.user, 2, 2)]), Done(1)], "the own devices see all of it"
        assert await writer.find(Receipts) == Receipts(direct, None, [(bob.user, 2, 0)])
        replied = (await writer.ask(Status(2, direct, 1)))[-1]
        assert replied == Statuses(2, [(bob.user, 2, 0)])
        shown = (await api.of(alice.token).get(f"/v1/conversations/{UUID(bytes=direct)}")).body["participants"]
        assert {each["username"]: each["read_seq"] for each in shown} == {"alice": 2, "bob": 0}
        assert (await api.of(bob.token).get("/v1/conversations")).body["conversations"][0]["unread_count"] == 0
        await profiles.change(pool, bob.user, display_name=None, gives_receipts=True, shows_presence=None)
        await reader.ask(MarkRead(3, [(direct, 2)]))
        assert await writer.find(Receipts) == Receipts(direct, None, [(bob.user, 2, 2)])


def _json(body: bytes) -> dict[str, object]:
    return {"data": body, "headers": {"Content-Type": "application/json"}}


async def test_a_blockers_marks_stay_private(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    alice, bob, carol = people
    await say(pool, direct, alice.user, b"before")
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    async with connected(pool, redis_url, alice, bob, carol) as (writer, reader, _):
        await say(pool, direct, alice.user, b"while it lasts")
        await reader.ask(MarkRead(1, [(direct, 2)]))
        await writer.nothing_came()
        for seq in (1, 2):
            [replied] = await writer.ask(Status(2, direct, seq))
            assert isinstance(replied, Statuses)
            assert all(delivered < seq for _, delivered, _ in replied.receipts)


async def test_in_a_large_group_the_author_gets_counts_at_intervals_and_details_on_request(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt_counts, "INTERVAL_S", 0.5)
    others = [await new_user(pool, f"user{n}") for n in range(31)]
    group = await new_group(pool, alice, bob, *others)
    await say(pool, group, alice.user, b"1", b"2")
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_synced(alice, bob, others[0]) as (writer, reader, other),
    ):
        assert await reader.ask(MarkDelivered(1, [(group, 1)])) == [Done(1)]
        assert await writer.find(ReceiptCounts) == ReceiptCounts(group, [(1, 1, 0, 32)])
        await other.ask(MarkRead(2, [(group, 2)]))
        await reader.ask(MarkRead(3, [(group, 2)]))
        assert await writer.find(ReceiptCounts) == ReceiptCounts(group, [(1, 2, 2, 32), (2, 2, 2, 32)]), (
            "one push has the counts of both messages"
        )
        await reader.nothing_came()
        await mark(pool, [[Mark(each.user, group, 2, 0) for each in others]])
        replied = (await writer.ask(Status(4, group, 2)))[-1]
        assert isinstance(replied, Statuses)
        assert len(replied.receipts) == 32
        assert sum(read >= 2 for *_, read in replied.receipts) == 2


async def test_the_status_of_a_message_is_told_to_participants_alone(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    alice, bob, carol = people
    await say(pool, direct, alice.user, b"1")
    path = f"/v1/conversations/{UUID(bytes=direct)}/messages"
    async with (
        connected(pool, redis_url, alice, bob, carol) as (writer, reader, other),
        open_api(pool, redis_url) as api,
    ):
        for frame, word in (
            (None, "sent"),
            (MarkDelivered(1, [(direct, 1)]), "delivered"),
            (MarkRead(2, [(direct, 1)]), "read"),
        ):
            if frame is not None:
                await reader.ask(frame)
            shown = (await api.of(alice.token).get(f"{path}/1/status")).body
            assert (shown["status"], shown["recipient_count"]) == (word, 1)
        assert (shown["delivered_count"], shown["read_count"]) == (1, 1)
        for asker, seq, code in ((other, 1, "not_a_participant"), (writer, 2, "unknown_message")):
            refused = (await asker.ask(Status(5, direct, seq)))[-1]
            assert isinstance(refused, Error)
            assert refused.code == code
        assert (await api.of(carol.token).get(f"{path}/1/status")).code == "not_found"
        assert (await api.of(alice.token).get(f"{path}/2/status")).code == "unknown_message"


async def test_receipts_that_a_node_was_not_told_of_come_when_it_catches_up(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    """The marks were committed by a process that died before it told any node."""
    alice, bob, _ = people
    await say(pool, direct, alice.user, secrets.token_bytes(3))
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as writer:
        await mark(pool, [[Mark(bob.user, direct, 1, 1)]])
        node.gateway.node.catch_up.request(1)
        assert await writer.find(Receipts) == Receipts(direct, None, [(bob.user, 1, 1)])
