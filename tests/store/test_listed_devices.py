"""The devices of a version of a device set, kept in memory (P14, P15)."""

from __future__ import annotations

import pytest

from client.http import Credentials
from store import conversations, devices, keys
from store.envelopes import pack
from store.errors import StaleDevices, UnlistedDevices
from store.listed_devices import ListedDevices
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from tests.people import new_device, new_direct
from tests.store.key_world import IDENTITY
from tests.store.store_world import a_message


class Writer:
    """Alice writes to Bob's devices, by a process that remembers them.

    :ivar others: plain messages in each batch, since a batch of one has a path of its own.
    """

    def __init__(self, pool: Pool, alice: Credentials, talk: bytes, others: int) -> None:
        self.pool = pool
        self.alice = alice
        self.talk = talk
        self.others = others
        self.cache = ParticipantsCache()

    async def version(self) -> int | None:
        return (await conversations.one(self.pool, self.alice.user, self.talk)).devices_version

    def message(self, version: int | None, *named: Credentials) -> NewMessage:
        envelopes = pack([(each.device, b"for it") for each in named])
        return a_message(self.talk, self.alice.user, devices_version=version, envelopes=envelopes)

    async def send(self, version: int | None, *named: Credentials) -> Outcome:
        plain = [a_message(self.talk, self.alice.user) for _ in range(self.others)]
        outcome, *_ = await send(self.pool, self.cache, [self.message(version, *named), *plain])
        return outcome


@pytest.fixture(params=[0, 1])
async def writer(pool: Pool, alice: Credentials, bob: Credentials, request: pytest.FixtureRequest) -> Writer:
    writer = Writer(pool, alice, await new_direct(pool, alice, bob), request.param)
    await keys.put(pool, bob.device, IDENTITY)
    return writer


async def drop_identity_unnoticed(pool: Pool, device: Credentials) -> None:
    """The device is no longer of the set, but the version stays: no server does that."""
    async with connected(pool.url) as connection:
        # No trigger fires.
        await connection.query("set session_replication_role = replica")
        await connection.query("update devices set identity = null where id = %s", (uuid(device.device),))


async def test_devices_are_looked_up_once_for_a_version(writer: Writer, pool: Pool, bob: Credentials) -> None:
    version, tablet = await writer.version(), await new_device(pool, bob.user)
    assert isinstance(await writer.send(version, bob), Committed)
    await drop_identity_unnoticed(pool, bob)
    assert isinstance(await writer.send(version, bob), Committed), "not looked up again"
    for named, unlisted in (([bob, tablet], [bob, tablet]), ([tablet], [tablet])):
        refused = await writer.send(version, *named)
        assert isinstance(refused, UnlistedDevices), "with a device that is not known"
        assert refused.devices == [each.device for each in unlisted]
    assert isinstance(await writer.send(None, bob), UnlistedDevices), "without a version"
    writer.cache.forget()
    assert isinstance(await writer.send(version, bob), UnlistedDevices), "it knows nothing any longer"


async def test_only_the_message_whose_devices_are_unknown_is_refused(
    writer: Writer, pool: Pool, bob: Credentials
) -> None:
    version, tablet = await writer.version(), await new_device(pool, bob.user)
    for _ in range(2):
        batch = [writer.message(version, bob), writer.message(version, tablet), writer.message(None, bob)]
        known, unknown, unversioned = await send(pool, writer.cache, batch)
        assert isinstance(known, Committed)
        assert isinstance(unknown, UnlistedDevices)
        assert isinstance(unversioned, Committed)


async def test_a_device_that_is_known_is_of_no_later_set(writer: Writer, pool: Pool, bob: Credentials) -> None:
    """Its version has passed, so the send is refused; for the new version it is looked up."""
    tablet = await new_device(pool, bob.user)
    await keys.put(pool, tablet.device, IDENTITY)
    version = await writer.version()
    assert isinstance(await writer.send(version, bob, tablet), Committed)
    await devices.revoke_device(pool, bob.user, tablet.device)
    assert isinstance(await writer.send(version, bob, tablet), StaleDevices)
    refused = await writer.send(await writer.version(), bob, tablet)
    assert isinstance(refused, UnlistedDevices)
    assert refused.devices == [tablet.device]
    assert isinstance(await writer.send(await writer.version(), bob), Committed)


def test_the_least_recently_used_sets_go_first_and_older_versions_change_nothing() -> None:
    listed, (one, two, three) = ListedDevices(max_devices=3), (b"1", b"2", b"3")
    listed.add(one, 5, [b"a"])
    listed.add(two, 1, [b"b"])
    listed.add(one, 4, [b"c"])
    assert listed.has_all(one, 5, [b"a"])
    assert not listed.has_all(one, 5, [b"a", b"c"])
    assert not listed.has_all(one, 4, [b"c"])
    listed.add(one, 5, [b"c"])
    listed.add(three, 1, [b"d"])
    assert [listed.has_all(*known) for known in ((one, 5, [b"a", b"c"]), (two, 1, [b"b"]), (three, 1, [b"d"]))] == [
        True,
        False,
        True,
    ]
    listed.add(one, 6, [b"e"])
    assert not listed.has_all(one, 6, [b"a"])
