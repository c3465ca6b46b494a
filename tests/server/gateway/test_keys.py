"""Identities over the socket: published, listed in pages, refused by name."""

from __future__ import annotations

from client.connection import connect
from client.http import Credentials
from client.known_devices import all_devices
from protocol.frames import DeviceList, Devices, Error, HeldKeys, ListedDevice, PutKeys
from protocol.limits import MAX_IDENTITY_BYTES, MAX_LISTED_USERS
from store.postgres.pool import Pool
from tests.people import new_device
from tests.planted import PLANTED
from tests.server.node_world import open_node


async def test_a_device_publishes_its_identity_and_the_other_user_sees_it(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    identity = f"{PLANTED} identity".encode()
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as phone,
        node.open_websocket(bob.token) as other,
    ):
        assert (await phone.ask(PutKeys(1, None)))[-1] == HeldKeys(1, None, 0)
        assert (await other.ask(Devices(1, None, [alice.user])))[-1] == DeviceList(1, False, [])
        for request in (2, 3):
            assert (await phone.ask(PutKeys(request, identity)))[-1] == HeldKeys(request, identity, 1)
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
