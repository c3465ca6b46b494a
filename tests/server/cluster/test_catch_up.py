"""A node that missed messages pushes them from Postgres, though others came live meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from msgspec.structs import replace

import server.cluster.catch_up
from client.http import Credentials
from protocol.codec import encode
from protocol.frames import Message, ReceiptCounts, Sync, Tombstone
from store import contacts, revisions
from store.marks import Mark, mark
from store.messages import ActiveConversation, Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush
from tests.people import new_group, new_user
from tests.server.node_world import open_node
from tests.waiting import wait_until


async def committed(pool: Pool, conversation: bytes, sender: bytes, count: int) -> list[Message]:
    """Messages that a different node has committed."""
    batch = [NewMessage(conversation, sender, bytes([n]) * 16, "text", b"%d" % n, None, None) for n in range(count)]
    messages = []
    for each, outcome in zip(batch, await send(pool, ParticipantsCache(), batch), strict=True):
        assert isinstance(outcome, Committed)
        messages.append(
            Message(
                conversation, outcome.seq, outcome.message, outcome.created, sender, "text", each.content, None, None
            )
        )
    return messages


@pytest.mark.parametrize("live", [[], [4], [4, 5, 6], [6], [1, 2], [3]])
async def test_everything_that_a_node_missed_is_pushed_once_though_some_came_live(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, live: list[int]
) -> None:
    """The fault: a message that came live during the catch-up hid the missed ones before it."""
    async with open_node(pool.url, redis_url) as node, node.open_websocket(bob.token) as client:
        await node.wait_event("caught_up")
        await client.send(Sync(1, None))
        await client.read(2)
        messages = await committed(pool, direct, alice.user, 6)
        for seq in live:
            hub = node.gateway.hub
            hub.push(AddressedPush(direct, seq, encode(messages[seq - 1]), (alice.user, bob.user)))
            hub.flush()
        node.gateway.node.catch_up.request(1.0)
        seen = [push.seq for push in await client.read(6) if isinstance(push, Message)]
        assert sorted(seen) == [1, 2, 3, 4, 5, 6]
        node.gateway.node.catch_up.request(1.0)
        await wait_until(
            lambda: sum(line["event"] == "caught_up" for line in node.logs) == 3, "it has caught up once more"
        )
        [last] = await committed(pool, direct, bob.user, 1)
        node.gateway.node.catch_up.request(1.0)
        assert [push.seq for push in await client.read(1)] == [7]  # type: ignore[union-attr]
        assert last.seq == 7


@pytest.mark.parametrize("live", [[], [1, 2]])
async def test_a_message_that_comes_live_is_pushed_though_a_catch_up_leaves_earlier_ones_to_history(
    pool: Pool,
    redis_url: str,
    alice: Credentials,
    bob: Credentials,
    direct: bytes,
    monkeypatch: pytest.MonkeyPatch,
    live: list[int],
) -> None:
    monkeypatch.setattr(server.cluster.catch_up, "MAX_CATCH_UP", 3)
    real = server.cluster.catch_up.active_conversations
    async with open_node(pool.url, redis_url) as node, node.open_websocket(bob.token) as client:
        await node.wait_event("caught_up")
        await client.ask(Sync(1, None))
        messages = await committed(pool, direct, alice.user, 9)

        def push_live(seq: int) -> None:
            node.gateway.hub.push(AddressedPush(direct, seq, encode(messages[seq - 1]), (alice.user, bob.user)))

        async def before_the_last(pool: Pool, users: Sequence[bytes], *, ago_s: float) -> list[ActiveConversation]:
            [active] = await real(pool, users, ago_s=ago_s)
            push_live(9)
            return [replace(active, last_seq=8)]

        monkeypatch.setattr(server.cluster.catch_up, "active_conversations", before_the_last)
        for seq in live:
            push_live(seq)
        node.gateway.node.catch_up.request(1.0)
        pushes = await client.read(len(live) + 4)
        assert [push.seq for push in pushes if isinstance(push, Message)] == [*live, 6, 7, 8, 9]
        assert node.gateway.hub.span(direct) == (1, 9)


@pytest.mark.parametrize("reason", ["blocked", "deleted"])
async def test_a_node_that_catches_up_sends_no_content_that_is_gone_for_the_recipient(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, reason: str
) -> None:
    """An edit by a user that they block, or a message that they have deleted for themselves."""
    await committed(pool, direct, alice.user, 3)
    if reason == "blocked":
        await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
        await revisions.edit(pool, alice.user, direct, 2, 0, "text", b"heard by nobody", None, None)
    else:
        await revisions.delete_for_me(pool, bob.user, direct, 2)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(bob.token) as client:
        node.gateway.node.catch_up.request(60.0)
        pushes = await client.read(4)
        assert {type(push) for push in pushes if getattr(push, "seq", 0) == 2} == {Tombstone}
        assert [push.seq for push in pushes if isinstance(push, Message)] == [1, 3]


async def test_time_that_passes_before_a_gap_is_looked_into_belongs_to_it(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the node waits for Postgres, or catches up with something else, the gap moves into the past."""
    monkeypatch.setattr(server.cluster.catch_up, "MARGIN_S", 0.0)
    real = server.cluster.catch_up.active_conversations
    asked, is_held, let_go = list[float](), trio.Event(), trio.Event()

    async def recent(pool: Pool, users: Sequence[bytes], *, ago_s: float) -> list[ActiveConversation]:
        asked.append(ago_s)
        if not is_held.is_set():
            is_held.set()
            await let_go.wait()
        return await real(pool, users, ago_s=ago_s)

    alice = await new_user(pool, "alice")
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token):
        await node.wait_event("caught_up")
        monkeypatch.setattr(server.cluster.catch_up, "active_conversations", recent)
        node.gateway.node.catch_up.request(0)
        await is_held.wait()
        node.gateway.node.catch_up.request(5.0)
        noted_at = trio.current_time()
        await trio.lowlevel.checkpoint()
        let_go_at = trio.current_time()
        let_go.set()
        await wait_until(lambda: len(asked) == 2, "the second gap is looked into")
    assert asked[1] > 5.0 + let_go_at - noted_at > 5.0


async def test_how_far_messages_to_many_have_come_is_counted_anew_when_a_node_catches_up(
    pool: Pool, redis_url: str
) -> None:
    """In a conversation with too many participants for receipts: marks that a different node has committed."""
    alice, *others = [await new_user(pool, f"user{number}") for number in range(34)]
    group = await new_group(pool, alice, *others)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        await client.ask(Sync(1, None))
        await committed(pool, group, alice.user, 2)
        await mark(pool, [[Mark(other.user, group, 2, 1)] for other in others[:5]])
        node.gateway.node.catch_up.request(1.0)
        assert await client.find(ReceiptCounts) == ReceiptCounts(group, [(1, 5, 5, 33), (2, 5, 0, 33)])


@pytest.mark.parametrize("edited", [False, True])
async def test_only_the_senders_devices_get_the_temp_id_of_a_message_that_a_node_missed(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, edited: bool
) -> None:
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as own,
        node.open_websocket(bob.token) as other,
    ):
        await node.wait_event("caught_up")
        await committed(pool, direct, alice.user, 1)
        if edited:
            await revisions.edit(pool, alice.user, direct, 1, 0, "text", b"other", None, None)
        node.gateway.node.catch_up.request(1.0)
        for client, temp_id in ((own, bytes(16)), (other, None)):
            pushes = await client.read(1 + edited)
            assert [push.temp_id for push in pushes if isinstance(push, Message)] == [temp_id] * (1 + edited)
