"""The key service, device sets and envelopes carry X3DH and the double ratchet as they carry Olm and MLS."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from client.http import Credentials
from client.session import open_session
from protocol.frames import Message
from store import devices, keys
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.people import new_device, new_direct
from tests.server.node_world import TestNode, open_node
from tests.system.signal_style import SignalDevice
from tests.waiting import wait_until


@asynccontextmanager
async def signal_device(node: TestNode, credentials: Credentials, *, prekeys: int) -> AsyncGenerator[SignalDevice]:
    async with open_session([node.url], credentials) as session:
        with trio.fail_after(60):
            await session.wait_caught_up()
            device = SignalDevice(session, credentials)
            await device.publish(prekeys)
        yield device


async def talk_once(talk: bytes, writer: SignalDevice, readers: list[SignalDevice], text: str) -> None:
    """The writer sends a text, and each reader decrypts it."""
    with trio.fail_after(60):
        sent = await writer.send(talk, text)
    for reader in readers:
        found: list[Message] = []

        def has_come(reader: SignalDevice = reader, found: list[Message] = found) -> bool:
            held = reader.session.mailbox.messages(talk)
            found[:] = [each for each in held if isinstance(each, Message) and each.seq == sent.seq]
            return bool(found)

        await wait_until(has_come, f"message {sent.seq} has come", timeout_s=60)
        assert await reader.read(found[0]) == text


async def left(pool: Pool, device: SignalDevice) -> int:
    """The one-time keys that the server has of a device."""
    return (await keys.status(pool, device.credentials.device)).pools[0][1]


async def test_pairwise_sessions_of_all_devices_through_new_devices_lost_ones_and_an_empty_pool(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    talk = await new_direct(pool, alice, bob)
    tablet, laptop = await new_device(pool, alice.user), await new_device(pool, bob.user)
    async with (
        open_node(pool.url, redis_url) as node,
        signal_device(node, alice, prekeys=4) as a1,
        signal_device(node, bob, prekeys=1) as b1,
        signal_device(node, tablet, prekeys=4) as a2,
    ):
        await talk_once(talk, a1, [b1, a2], "the first takes a prekey of each device")
        assert [await left(pool, each) for each in (b1, a2)] == [0, 3]
        await talk_once(talk, a1, [b1, a2], "before an answer")
        await talk_once(talk, a2, [a1, b1], "the pool of b1 is empty")
        assert (b1.last_resort_begins, a1.last_resort_begins) == (1, 0), "the signed prekey alone"
        await talk_once(talk, b1, [a1, a2], "an answer in both sessions")
        for number in range(3):
            await talk_once(talk, b1 if number % 2 else a1, [a2, a1 if number % 2 else b1], f"turn {number}")
        async with signal_device(node, laptop, prekeys=2) as b2:
            await talk_once(talk, a1, [b1, b2, a2], "with a device that came meanwhile")
            assert await left(pool, b2) == 1, "the refusal has claimed its key"
            await talk_once(talk, b2, [a1, a2, b1], "the new device begins sessions, too")
            await b1.publish(3)
            assert await left(pool, b1) == 3
            held = [each for each in b2.session.mailbox.messages(talk) if isinstance(each, Message)]
            assert [await b2.read(each) for each in held if each.seq < held[-2].seq and each.device] == [None] * (
                len(held) - 2
            ), "nothing from before it came"
        await devices.revoke_device(pool, bob.user, laptop.device)
        await talk_once(talk, a1, [b1, a2], "without the revoked device")
        [named] = await pool.fetch(
            "select count(*) from messages where conversation_id = %s::uuid and has_envelopes and content = ''",
            (uuid(talk),),
        )
        assert named == (len(a1.session.mailbox.messages(talk)),), "each text is in envelopes alone"
