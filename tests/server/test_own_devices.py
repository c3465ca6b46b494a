"""Which device wrote a message, wherever a message is shown, and which of a user's own devices has read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from client.http import Credentials
from protocol.frames import (
    Conversations,
    Done,
    Edit,
    Error,
    History,
    List,
    MarkRead,
    Message,
    Messages,
    Push,
    Receipts,
    Reply,
    Send,
    Sent,
    Sync,
)
from store import devices, revisions
from store.postgres.pool import Pool
from tests.people import new_device
from tests.server.http_world import Api, open_api, say
from tests.server.node_world import RawClient, TestNode, open_node

TEMP_ID = b"a" * 16


class PhoneAndTablet(NamedTuple):
    """Alice with a phone and a tablet, and Bob; on two nodes.

    :ivar phone, tablet, bobs: the connections.
    """

    pool: Pool
    direct: bytes
    alice: Credentials
    tablet_login: Credentials
    bob: Credentials
    phone: RawClient
    tablet: RawClient
    bobs: RawClient
    nodes: tuple[TestNode, TestNode]
    api: Api


@asynccontextmanager
async def open_scene(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> AsyncGenerator[PhoneAndTablet, None]:
    tablet_login = await new_device(pool, alice.user, "tablet")
    async with (
        open_node(pool.url, redis_url) as here,
        open_node(pool.url, redis_url) as there,
        open_api(pool, redis_url, "cbor") as api,
        here.open_websocket(alice.token) as phone,
        there.open_websocket(tablet_login.token) as tablet,
        there.open_websocket(bob.token) as bobs,
    ):
        for node in (here, there):
            await node.gateway.node.catch_up.settled.wait()
        for client in (phone, tablet, bobs):
            await client.ask(Sync(1, None))
        yield PhoneAndTablet(pool, direct, alice, tablet_login, bob, phone, tablet, bobs, (here, there), api)


async def reply(client: RawClient, frame: Send | Edit | MarkRead) -> Reply | Push:
    return (await client.ask(frame))[-1]


async def shown(s: PhoneAndTablet, who: Credentials, client: RawClient) -> list[bytes | None]:
    """The device of the only message, wherever this user reads it."""
    found: list[bytes | None] = []
    [*_, page] = await client.ask(History(5, s.direct, None, None, None))
    assert isinstance(page, Messages)
    [*_, listed] = await client.ask(List(6, None, None))
    assert isinstance(listed, Conversations)
    for message in (*page.messages, *(each.last_message for each in listed.conversations)):
        assert isinstance(message, Message)
        found.append(message.device)
    api, path = s.api.of(who.token), f"/v1/conversations/{UUID(bytes=s.direct)}"
    for query in ("", "?after_seq=0", "?around_seq=1"):
        found += [each["device"] for each in (await api.get(f"{path}/messages{query}")).body["messages"]]
    found.append((await api.get(path)).body["last_message"]["device"])
    found += [each["last_message"]["device"] for each in (await api.get("/v1/conversations")).body["conversations"]]
    return found


async def test_a_message_names_the_device_that_sent_it_or_edited_it_last_wherever_it_is_shown(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with open_scene(pool, redis_url, alice, bob, direct) as s:
        [*_, synced] = await s.bobs.ask(Sync(1, None))
        assert isinstance(await reply(s.phone, Send(2, direct, "text", b"1", None, None, TEMP_ID)), Sent)
        for client in (s.tablet, s.bobs):
            assert (await client.find(Message)).device == alice.device
        for who, client in ((alice, s.phone), (s.tablet_login, s.tablet), (bob, s.bobs)):
            assert set(await shown(s, who, client)) == {alice.device}
        assert not isinstance(await reply(s.tablet, Edit(3, direct, 1, "text", b"2", None, None, 0)), Error)
        for client in (s.phone, s.bobs):
            assert (await client.find(Message)).device == s.tablet_login.device, "its content is for that session"
        await devices.revoke_device(pool, alice.user, s.tablet_login.device)
        for who, client in ((alice, s.phone), (bob, s.bobs)):
            assert set(await shown(s, who, client)) == {s.tablet_login.device}, "a revoked device has still written it"
        news = await s.bobs.ask(Sync(4, synced.cursor))  # type: ignore[union-attr]
        [synced_message] = [each for each in news if isinstance(each, Message)]
        assert synced_message.device == s.tablet_login.device


async def test_a_device_that_is_not_known_is_not_named(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """As of imported messages."""
    await say(pool, direct, alice.user, b"1")
    async with open_scene(pool, redis_url, alice, bob, direct) as s:
        assert set(await shown(s, bob, s.bobs)) == {None}


async def test_a_catch_up_brings_the_device_of_a_message_and_of_an_edit(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """Another process has committed both, and told no node."""
    async with open_scene(pool, redis_url, alice, bob, direct) as s:
        await say(pool, direct, alice.user, b"1", device=alice.device)
        s.nodes[1].gateway.node.catch_up.request(1)
        assert (await s.bobs.find(Message)).device == alice.device
        tablet = s.tablet_login.device
        await revisions.edit(pool, alice.user, direct, 1, 0, "text", b"2", None, None, device=tablet)
        s.nodes[1].gateway.node.catch_up.request(1)
        edited = await s.bobs.find(Message)
        while not edited.revision:
            edited = await s.bobs.find(Message)
        assert edited.device == tablet


async def test_a_device_learns_on_which_of_the_users_devices_the_user_has_read(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """The others are not told."""
    async with open_scene(pool, redis_url, alice, bob, direct) as s:
        await reply(s.bobs, Send(2, direct, "text", b"1", None, None, TEMP_ID))
        assert await reply(s.tablet, MarkRead(3, [(direct, 1)])) == Done(3)
        assert (await s.phone.find(Receipts)).device == s.tablet_login.device
        assert (await s.bobs.find(Receipts)).device is None


async def test_a_deleted_message_names_no_device_in_the_database_either(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    await say(pool, direct, alice.user, b"1", device=alice.device)
    await revisions.delete_for_everyone(pool, alice.user, direct, 1)
    assert await pool.fetch("select device_id from messages") == [(None,)]


async def test_a_send_that_another_device_of_the_user_repeats_is_the_same_message(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with open_scene(pool, redis_url, alice, bob, direct) as s:
        frame = Send(2, direct, "text", b"1", None, None, TEMP_ID)
        first = await reply(s.phone, frame)
        assert await reply(s.phone, frame) == first
        repeated = await reply(s.tablet, frame)
        assert repeated == replace(first, device=alice.device), "it says which device wrote it"  # type: ignore[arg-type]
        assert (await s.bobs.find(Message)).device == alice.device
