"""Disappearing messages, as seen by devices that are connected, that come back, or that ask over HTTP."""

from __future__ import annotations

from uuid import UUID

import cbor2
import trio

from client.http import Credentials
from client.session import Session
from jobs.engine.job import Job
from jobs.tasks.retention import Retention
from protocol.frames import Conversation, Error, History, Messages, Send, Sent, Settings, Sync
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.retention import move_floors
from tests.ageing import age
from tests.people import new_direct, new_group
from tests.server.http_world import CBOR, Api, open_api, say
from tests.server.node_world import open_node
from tests.waiting import wait_until


async def run_retention(pool: Pool, redis_url: str, *, days: float = 0) -> None:
    async def report(_: str) -> None: ...

    redis = Redis(redis_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        await Retention(pool, redis, None, days=days).retention(Job("1", "retention", 1, report))
        nursery.cancel_scope.cancel()


async def patch(api: Api, conversation: bytes, **body: object) -> int:
    path = f"/v1/conversations/{UUID(bytes=conversation)}"
    answer = await api.request("PATCH", path, data=cbor2.dumps(body), headers={"Content-Type": CBOR})
    return answer.status


async def test_connected_devices_are_told_of_a_floor_and_find_nothing_below_it(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    talk = await new_group(pool, alice, bob)
    await say(pool, talk, bob.user, b"1", b"2", b"3")
    await age(pool, talk, upto=2)
    async with open_node(pool.url, redis_url) as node, node.open_synced(*people) as [first, second, third]:
        await run_retention(pool, redis_url, days=50)
        for client in (first, second):
            assert await client.find(Settings) == Settings(talk, "Group", 3, 1)
        await third.nothing_came()
        [page] = await first.ask(History(2, talk, 10, None, None))
        assert isinstance(page, Messages)
        assert ([each.seq for each in page.messages], page.first_seq) == ([3], 3)
        [refused] = await first.ask(Send(3, talk, "text", b"?", None, None, b"t" * 16, 2))
        assert isinstance(refused, Error)
        assert refused.code == "unknown_message"
        [told] = [each for each in await first.ask(Sync(4, None)) if isinstance(each, Conversation)]
        assert (told.first_seq, told.last_seq, told.unread_count) == (3, 3, 1)
        [sent] = await first.ask(Send(5, talk, "text", b"4", None, None, b"u" * 16, 3))
        assert isinstance(sent, Sent)
        assert sent.seq == 4


async def test_a_floor_that_was_not_pushed_comes_when_the_node_catches_up(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    """Redis may forget a worker's entry for the node before the node reads it."""
    alice, bob, _ = people
    talk, other = await new_group(pool, alice, bob), await new_group(pool, alice, bob)
    for each in (talk, other):
        await say(pool, each, bob.user, b"1", b"2")
    async with open_node(pool.url, redis_url) as node, node.open_synced(*people) as [first, second, third]:
        await age(pool, talk)
        await move_floors(pool, days=50, archives=False, limit=9)
        node.gateway.node.catch_up.request(1)
        for client in (first, second):
            assert await client.find(Settings) == Settings(talk, "Group", 3, 1)
            await client.nothing_came()
        await third.nothing_came()


async def test_the_client_drops_what_has_disappeared_while_it_is_connected(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes
) -> None:
    """The client does not treat a missed message below the floor as a gap."""
    alice, bob, _ = people
    async with (
        open_node(pool.url, redis_url) as node,
        open_api(pool, redis_url, "cbor") as api,
        trio.open_nursery() as nursery,
    ):
        session = Session([node.url], alice)
        nursery.start_soon(session.run)
        await session.wait_caught_up()
        await say(pool, direct, bob.user, b"1", b"2", b"3")
        node.gateway.node.catch_up.request(1)
        mailbox = session.mailbox
        await wait_until(lambda: [each.seq for each in mailbox.messages(direct)] == [1, 2, 3], "it has all")
        assert await patch(api.of(bob.token), direct, lifetime_s=3600) == 204
        await wait_until(lambda: getattr(mailbox.head(direct), "lifetime_s", None) == 3600, "it knows the lifetime")
        await age(pool, direct, upto=2)
        await run_retention(pool, redis_url)
        await wait_until(lambda: [each.seq for each in mailbox.messages(direct)] == [3], "two have disappeared")
        assert session.is_caught_up
        head = mailbox.head(direct)
        assert head is not None
        assert (head.first_seq, head.last_seq, head.unread_count) == (3, 3, 1)
        nursery.cancel_scope.cancel()


async def test_a_lifetime_is_set_over_http_and_told(pool: Pool, redis_url: str, people: list[Credentials]) -> None:
    alice, bob, _ = people
    talk, group = await new_direct(pool, alice, bob), await new_group(pool, alice, bob)
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_synced(*people) as [first, second, third],
        open_api(pool, redis_url, "cbor") as api,
    ):
        assert await patch(api.of(bob.token), talk, lifetime_s=60) == 204
        for client in (first, second):
            assert await client.find(Settings) == Settings(talk, None, 1, 2, None, 60, bob.user)
        shown = await api.of(alice.token).get(f"/v1/conversations/{UUID(bytes=talk)}")
        assert (shown.body["lifetime_s"], shown.body["participants_version"]) == (60, 2)
        assert await patch(api.of(bob.token), talk, lifetime_s=0) == 204
        assert await first.find(Settings) == Settings(talk, None, 1, 3, None, None, bob.user)
        for refused in (-1, 1, 59, 3650 * 86_400 + 1, "60"):
            assert await patch(api.of(bob.token), talk, lifetime_s=refused) == 400
        assert await patch(api.of(bob.token), talk, name="Two") == 409
        assert await patch(api.of(bob.token), group, lifetime_s=60) == 403
        assert await patch(api.of(alice.token), group, lifetime_s=86_400, name="Brief") == 204
        assert await first.find(Settings) == Settings(group, "Brief", 1, 2, None, 86_400, alice.user)
        await third.nothing_came()
