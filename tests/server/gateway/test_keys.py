"""Keys over the socket: uploads, claims, refusals by name; devices are told when their keys run low (P13, P18)."""

from __future__ import annotations

from unittest.mock import ANY

import pytest

from client.connection import connect
from client.http import Credentials
from client.known_devices import all_devices
from protocol.frames import (
    DeviceList,
    Devices,
    Error,
    HeldKeys,
    Hello,
    KeysLow,
    KeyStatus,
    ListedDevice,
    Ping,
    PutKeys,
)
from protocol.limits import FEW_KEYS, MAX_IDENTITY_BYTES, MAX_KEY_KINDS, MAX_LISTED_USERS, PROTOCOL_VERSION
from server.gateway import low_keys
from store import keys
from store.key_claims import KeyClaims
from store.postgres.pool import Pool
from tests.people import new_device
from tests.server.node_world import open_node
from tests.store.key_world import IDENTITY, KIND, a_key, a_last_resort, some_keys, upload


async def test_a_device_publishes_its_identity_and_the_other_user_sees_it(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    history = (await keys.status(pool, alice.device)).history
    identity = IDENTITY
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as phone,
        node.open_websocket(bob.token) as other,
    ):
        assert (await phone.ask(PutKeys(1, None)))[-1] == HeldKeys(1, None, 0, history, [])
        assert (await other.ask(Devices(1, None, [alice.user])))[-1] == DeviceList(1, False, [])
        for request in (2, 3):
            assert (await phone.ask(PutKeys(request, identity)))[-1] == HeldKeys(request, identity, 1, history, [])
        shown = ListedDevice(alice.user, alice.device, identity, 1)
        assert (await other.ask(Devices(2, None, [alice.user])))[-1] == DeviceList(2, False, [shown])
        assert (await other.ask(Devices(3, alice.device, [alice.user])))[-1] == DeviceList(3, False, [])
        assert (await other.ask(Devices(4, None, [])))[-1] == DeviceList(4, False, [])
        [refused] = await other.ask(Devices(5, None, [alice.user] * (MAX_LISTED_USERS + 1)))
        assert isinstance(refused, Error)
        assert (refused.code, str(MAX_LISTED_USERS) in refused.detail) == ("invalid_frame", True)


async def test_a_list_that_does_not_fit_into_a_frame_comes_in_pages(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    """100 devices with the longest identities have 400 KiB."""
    made = [alice, *[await new_device(pool, alice.user) for _ in range(99)]]
    await pool.fetch(
        "update devices set identity = decode(repeat('ff', %s), 'hex'), identity_revision = 1", (MAX_IDENTITY_BYTES,)
    )
    async with open_node(pool.url, redis_url) as node, connect(node.url, alice.token) as connection:
        first = await connection.devices([alice.user])
        assert first.more
        found = await all_devices(connection, [alice.user])
        assert [each.device for each in found] == sorted(each.device for each in made)


async def test_keys_are_uploaded_claimed_once_and_shown_to_their_device(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with (
        open_node(pool.url, redis_url) as node,
        connect(node.url, alice.token) as phone,
        connect(node.url, bob.token) as other,
    ):
        history = (await phone.key_status()).key_history
        upload = {"one_time_keys": some_keys([1, 2]), "last_resort_keys": [a_last_resort(1)], "key_history": history}
        for _ in range(2):
            held = await phone.put_keys(IDENTITY, **upload)
            assert held.pools[0][:4] == (KIND, 2, 1, 2)
        claims = []
        for _ in range(3):
            [device] = (await other.devices([alice.user], kinds=[KIND])).devices
            claims.append((device.one_time_keys, device.last_resort_keys))
        assert claims == [([a_key(1)], None), ([a_key(2)], None), (None, [a_last_resort(1)])]
        assert (await phone.key_status()).pools[0][1:] == (0, 0, 2, ANY, 1, True)


async def test_uploads_of_another_history_and_of_too_many_kinds_are_refused_by_name(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as phone:
        history = (await keys.status(pool, alice.device)).history
        kinds = [f"kind-{number}" for number in range(MAX_KEY_KINDS + 1)]
        many = [a_key(1, kind) for kind in kinds]
        for request, frame, code, limit in (
            (1, PutKeys(1, None, some_keys([1])), "key_history_foreign", None),
            (2, PutKeys(2, None, some_keys([1]), key_history=b"other"), "key_history_foreign", None),
            (3, PutKeys(3, None, None, [a_last_resort(1)]), "key_history_foreign", None),
            (7, PutKeys(7, IDENTITY, [(KIND, 1, b"a"), (KIND, 1, b"b")], key_history=history), "invalid_frame", None),
            (5, PutKeys(5, IDENTITY, is_anew=True, key_history=history), "invalid_frame", None),
            (6, PutKeys(6, None, None, [a_last_resort(1)], True, history), "invalid_frame", None),
            (4, PutKeys(4, None, many, key_history=history), "quota_exceeded", "key_kinds_per_device"),
        ):
            [refused] = await phone.ask(frame)
            assert isinstance(refused, Error)
            assert (refused.request, refused.code, refused.limit) == (request, code, limit)
            assert refused.retry_after_ms is None
        held = await keys.status(pool, alice.device)
        assert (held.identity, held.pools) == (None, []), "what is refused stores nothing"


async def test_a_claim_costs_by_its_keys(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """A user who goes on claiming is in debt sooner than one who lists devices."""
    await upload(pool, bob.device, [], [a_last_resort(1)])
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        [connection] = node.gateway.hub.of(alice.user)
        await client.ask(KeyStatus(1))
        budget = connection.budget

        async def cost_of(frame: Devices) -> float:
            before = budget.debt_s(0.0)
            await client.ask(frame)
            return budget.debt_s(0.0) - before

        listing = await cost_of(Devices(2, None, [bob.user]))
        claiming = await cost_of(Devices(3, None, [bob.user], [KIND]))
        assert claiming > listing


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_keys, "POLL_S", 0.02)


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("claims_here", [True, False])
async def test_a_connected_device_is_told_that_its_keys_run_low_whatever_process_has_handed_them_out(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes, claims_here: bool
) -> None:
    """Also by a process that dies after the commit: the store alone claims here."""
    tablet = await new_device(pool, bob.user)
    await upload(pool, bob.device, some_keys(range(1, FEW_KEYS + 2)), [a_last_resort(1)])
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(bob.token) as phone,
        node.open_websocket(tablet.token) as other,
        connect(node.url, alice.token) as claimer,
    ):

        async def claim() -> None:
            if claims_here:
                await claimer.devices([bob.user], kinds=[KIND])
            else:
                await KeyClaims(pool).claim(alice.user, [bob.user], [KIND])

        await claim()
        await claim()
        assert await phone.find(KeysLow) == KeysLow([KIND])
        await pool.fetch("update key_pools set taken = stored")
        await claim()
        assert await phone.find(KeysLow) == KeysLow([KIND])
        await other.nothing_came()


async def test_a_device_that_connects_is_told_after_its_welcome_until_it_has_uploaded(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    tablet = await new_device(pool, bob.user)
    await upload(pool, bob.device, [], [a_last_resort(1)])
    await KeyClaims(pool).claim(alice.user, [bob.user], [KIND])
    async with open_node(pool.url, redis_url) as node:

        async def first_frames(device: Credentials) -> list[type]:
            async with node.open_websocket() as client:
                await client.send(Hello(0, device.token, PROTOCOL_VERSION))
                return [type(each) for each in [*await client.read(1), *await client.ask(Ping(1))]]

        for _ in range(2):
            assert KeysLow in await first_frames(bob)
            assert KeysLow not in await first_frames(tablet)
        await upload(pool, bob.device, some_keys(range(1, 100)), [a_last_resort(2)])
        assert KeysLow not in await first_frames(bob)
