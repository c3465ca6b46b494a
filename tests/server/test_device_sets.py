"""Device sets over the socket and over HTTP: pushes here and on other nodes, refusals with the difference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final, NamedTuple
from uuid import UUID

import cbor2
import pytest
from msgspec.structs import replace

from client.http import Credentials
from protocol import limits
from protocol.frames import (
    Conversation,
    Conversations,
    DevicesChanged,
    Edit,
    Error,
    HeldKeys,
    List,
    ListedDevice,
    PutKeys,
    Revised,
    Send,
    Sent,
    Sync,
    Synced,
)
from store import devices, keys
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from tests.people import make_contacts, new_device, new_group
from tests.server.http_world import CBOR, Api, open_api
from tests.server.node_world import RawClient, open_node, wait_caught_up
from tests.store.key_world import IDENTITY, KIND, a_last_resort, some_keys, upload
from tests.store.store_world import is_waiting_for
from tests.waiting import wait_until


class DeviceScene(NamedTuple):
    """Alice and Bob in a group, on different nodes, and Carol, whom they know.

    :ivar second: another device of Alice, with an identity.
    """

    pool: Pool
    api: Api
    alice: Credentials
    second: Credentials
    carol: Credentials
    group: bytes
    phone: RawClient


async def publish_over_the_socket(s: DeviceScene) -> bytes:
    assert isinstance((await s.phone.ask(PutKeys(9, b"another")))[-1], HeldKeys)
    return s.alice.user


async def publish_over_http(s: DeviceScene) -> bytes:
    body = cbor2.dumps({"identity": b"another"})
    answer = await s.api.of(s.second.token).request("PUT", "/v1/keys", data=body, headers={"Content-Type": CBOR})
    assert answer.status == 200
    return s.alice.user


async def log_out(s: DeviceScene) -> bytes:
    assert (await s.api.of(s.second.token).request("DELETE", "/v1/devices/this")).status == 204
    return s.alice.user


async def lose_a_device_to_an_operator(s: DeviceScene) -> bytes:
    """As each revocation that no request of the user has made."""
    await devices.revoke_device(s.pool, s.alice.user, s.second.device)
    return s.alice.user


async def add_a_participant(s: DeviceScene) -> bytes:
    path = f"/v1/conversations/{UUID(bytes=s.group)}/participants"
    assert (await s.api.of(s.alice.token).post(path, {"user": s.carol.user})).status < 300
    return s.carol.user


CHANGES: Final[dict[str, Callable[[DeviceScene], Awaitable[bytes]]]] = {
    "another identity over the socket": publish_over_the_socket,
    "another identity over HTTP": publish_over_http,
    "logging out": log_out,
    "a revocation": lose_a_device_to_an_operator,
    "a new participant": add_a_participant,
}
"""Each returns the user whose devices have changed."""


@pytest.mark.parametrize("name", CHANGES)
async def test_devices_of_a_small_conversation_are_told_of_each_change_on_every_node(
    pool: Pool, redis_url: str, people: list[Credentials], name: str
) -> None:
    """Also those of the user whose devices have changed. And the version that they are told is the one that the list,
    HTTP and the next send know."""
    alice, bob, carol = people
    second, silent = await new_device(pool, alice.user), await new_device(pool, alice.user)
    for each in (alice, second, carol):
        await keys.put(pool, each.device, IDENTITY)
    await make_contacts(pool, alice, carol)
    group = await new_group(pool, alice, bob)
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(open_node(pool.url, redis_url)) for _ in range(2)]
        api = await stack.enter_async_context(open_api(pool, redis_url, "cbor"))
        await wait_caught_up(here, there)
        phone = await stack.enter_async_context(here.open_websocket(alice.token))
        bobs = [await stack.enter_async_context(node.open_websocket(bob.token)) for node in (here, there)]
        own = await stack.enter_async_context(there.open_websocket(silent.token))
        for client in (phone, *bobs, own):
            await client.ask(Sync(1, None))
        changed = await CHANGES[name](DeviceScene(pool, api, alice, second, carol, group, phone))
        for client in (*bobs, own):
            told = await client.find(DevicesChanged)
            assert (told.conversation, told.changed_users) == (group, [changed])
            assert told.changed_since is not None
            assert told.changed_since < told.devices_version
            [listed] = [each for each in await client.ask(List(2, None, None)) if isinstance(each, Conversations)]
            assert [each.devices_version for each in listed.conversations] == [told.devices_version]
        shown = (await api.of(bob.token).get(f"/v1/conversations/{UUID(bytes=group)}")).body
        assert shown["devices_version"] == told.devices_version
        frame = Send(3, group, "text", b"1", None, None, b"t" * 16, devices_version=told.devices_version)
        assert isinstance((await bobs[0].ask(frame))[-1], Sent)


@pytest.mark.parametrize("wants_devices", [True, False])
async def test_a_refused_send_or_edit_has_the_difference_and_the_devices_if_they_are_wanted(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, *, wants_devices: bool
) -> None:
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as phone:
        first = Send(1, direct, "text", b"1", None, None, b"1" * 16, devices_version=0)
        assert isinstance((await phone.ask(first))[-1], Sent)
        await keys.put(pool, bob.device, IDENTITY)
        wants = True if wants_devices else None
        send = Send(2, direct, "text", b"2", None, None, b"2" * 16, devices_version=0, wants_devices=wants)
        edit = Edit(3, direct, 1, "text", b"3", None, None, 0, devices_version=0, wants_devices=wants)
        for frame in (send, edit):
            refused = (await phone.ask(frame))[-1]
            assert isinstance(refused, Error)
            assert (refused.code, refused.changed_users) == ("devices_changed", [bob.user])
            assert refused.devices == ([ListedDevice(bob.user, bob.device, IDENTITY, 1)] if wants_devices else None)
        assert isinstance((await phone.ask(first))[-1], Sent)
        present = refused.devices_version
        send = Send(4, direct, "text", b"2", None, None, b"2" * 16, devices_version=present)
        edit = Edit(5, direct, 1, "text", b"3", None, None, 0, devices_version=present)
        assert isinstance((await phone.ask(send))[-1], Sent)
        assert isinstance((await phone.ask(edit))[-1], Revised)


@pytest.mark.parametrize("wants_devices", [True, False])
async def test_a_refusal_claims_keys_of_the_kinds_that_the_sender_names_if_it_wants_the_devices(
    pool: Pool,
    redis_url: str,
    alice: Credentials,
    bob: Credentials,
    direct: bytes,
    monkeypatch: pytest.MonkeyPatch,
    *,
    wants_devices: bool,
) -> None:
    """As many as it names, and each once; so a stale sender needs one more round trip and no second one. They cost the
    sender as much as a request for them: here 0.6 s for two kinds of a device."""
    monkeypatch.setattr(limits, "COST_OF_KEY", 30_000)
    await upload(pool, bob.device, some_keys([1, 2]), [a_last_resort(1)])
    kinds, wants = [KIND, "unknown"], True if wants_devices else None
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as phone:
        [connection] = node.gateway.hub.of(alice.user)
        assert isinstance((await phone.ask(Send(1, direct, "text", b"1", None, None, b"1" * 16)))[-1], Sent)
        send = Send(2, direct, "text", b"2", None, None, b"2" * 16, devices_version=1, kinds=kinds, wants_devices=wants)
        edit = Edit(3, direct, 1, "text", b"3", None, None, 0, devices_version=1, kinds=kinds, wants_devices=wants)
        owner = ListedDevice(bob.user, bob.device, IDENTITY, 1)
        keyed = [replace(owner, one_time_keys=some_keys([number])) for number in (1, 2)]
        keyed.append(replace(owner, last_resort_keys=[a_last_resort(1)]))
        for frame, shown in zip((send, edit, send), keyed, strict=True):
            before = connection.budget.debt_s(0.0)
            refused = (await phone.ask(frame))[-1]
            assert isinstance(refused, Error)
            assert (refused.code, refused.devices) == ("devices_changed", [shown] if wants_devices else None)
            cost = connection.budget.debt_s(0.0) - before
            assert (cost > 0.4) == wants_devices
        assert len((await keys.status(pool, bob.device)).pools) == 1
        assert (await keys.status(pool, bob.device)).pools[0][1] == (0 if wants_devices else 2)


async def test_a_send_that_waits_for_the_devices_of_its_refusal_holds_up_no_other_send(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """Another transaction has locked the pool: the refusal waits for it, and everybody else's sends do not."""
    await upload(pool, bob.device, some_keys([1, 2]))
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as phone,
        node.open_websocket(bob.token) as other,
        connected(pool.url) as holder,
    ):
        await holder.query("begin")
        await holder.query("select from key_pools for update")
        stale = {"devices_version": 1, "kinds": [KIND], "wants_devices": True}
        await phone.send(Send(1, direct, "text", b"1", None, None, b"1" * 16, **stale))
        for number in range(3):
            frame = Send(2, direct, "text", b"2", None, None, bytes([number]) * 16)
            assert isinstance((await other.ask(frame))[-1], Sent)
        await wait_until(lambda: is_waiting_for(pool, "Lock", "claim_keys"), "the claim waits for the pool")
        await holder.query("commit")
        refused = await phone.find(Error)
        assert refused.devices == [ListedDevice(bob.user, bob.device, IDENTITY, 1, some_keys([1]))]


async def test_no_push_tells_of_a_device_that_expires_and_the_next_sync_does(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """A client that sends for the former set is refused with the difference."""
    await keys.put(pool, bob.device, IDENTITY)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as phone:
        cursor = (await phone.ask(Sync(1, None)))[-1]
        assert isinstance(cursor, Synced)
        await pool.fetch("update devices set expires = now() - interval '1 s' where id = %s", (uuid(bob.device),))
        assert await keys.end_expired_identities(pool) == 1
        await phone.nothing_came()
        frames = await phone.ask(Sync(2, cursor.cursor))
        [told] = [each for each in frames if isinstance(each, Conversation)]
        send = Send(3, direct, "text", b"1", None, None, b"1" * 16, devices_version=0)
        refused = (await phone.ask(send))[-1]
        assert isinstance(refused, Error)
        assert (refused.code, refused.devices_version) == ("devices_changed", told.devices_version)
        assert refused.changed_users == [bob.user]
