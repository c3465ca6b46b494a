"""Messages that a device cannot decrypt, over the socket: the device that wrote them is told, and heals them (P20)."""

from __future__ import annotations

from typing import Final

import pytest

from client.http import Credentials
from protocol import limits
from protocol.frames import (
    AddEnvelopes,
    Done,
    Envelope,
    Error,
    Hello,
    Lag,
    Message,
    Push,
    Reply,
    ReportUndecryptable,
    Request,
    Send,
    Sent,
    Undecryptable,
)
from protocol.limits import MAX_ENVELOPES_BYTES, MAX_REPORTS, PROTOCOL_VERSION
from protocol.undecryptable import REASONS
from server.gateway import healing
from store import devices, keys, undecryptable
from store.postgres.pool import Pool
from tests.people import new_device, new_group
from tests.rows import checked_rows
from tests.server.node_world import RawClient, TestNode, open_node, wait_caught_up

CONTENT: Final = b"for all devices"


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healing, "POLL_S", 0.02)


class HealedGroup:
    """A group of Alice and Bob; each has a phone and another device, and all of them have an identity."""

    def __init__(self, pool: Pool, phone: Credentials, bob: Credentials) -> None:
        self.pool = pool
        self.phone = phone
        self.bob = bob

    async def make(self) -> HealedGroup:
        self.tablet = await new_device(self.pool, self.phone.user)
        self.laptop = await new_device(self.pool, self.bob.user)
        for each in (self.phone, self.tablet, self.bob, self.laptop):
            await keys.put(self.pool, each.device, b"identity")
        self.group = await new_group(self.pool, self.phone, self.bob)
        return self

    async def send(self, phone: RawClient) -> Sent:
        frame = Send(1, self.group, "text", CONTENT, None, None, b"temp" * 4, envelopes=[(self.bob.device, b"for bob")])
        sent = (await phone.ask(frame))[-1]
        assert isinstance(sent, Sent)
        return sent

    async def report(self, device: Credentials, reason: str = "no_session") -> bool:
        """As a process does that then dies: the store alone notes it."""
        return await undecryptable.report(self.pool, device.user, device.device, self.group, 1, 0, reason)

    def told_of(self, device: Credentials, reason: str = "no_session") -> Undecryptable:
        return Undecryptable(self.group, 1, device.user, device.device, None, reason)


@pytest.fixture
async def scene(pool: Pool, people: list[Credentials]) -> HealedGroup:
    alice, bob, _ = people
    return await HealedGroup(pool, alice, bob).make()


async def done(client: RawClient, frame: Request) -> None:
    assert (await client.ask(frame))[-1] == Done(frame.request)


async def test_the_device_that_wrote_is_told_on_another_node_and_its_envelope_comes_in_the_messages_place(
    redis_url: str, scene: HealedGroup
) -> None:
    async with open_node(scene.pool.url, redis_url) as here, open_node(scene.pool.url, redis_url) as there:
        await wait_caught_up(here, there)
        async with (
            here.open_synced(scene.phone, scene.tablet) as (phone, tablet),
            there.open_synced(scene.bob, scene.laptop) as (bob, laptop),
        ):
            sent = await scene.send(phone)
            came = [await client.find(Message) for client in (bob, laptop, tablet)]
            assert [each.envelope for each in came] == [b"for bob", None, None]
            await done(laptop, ReportUndecryptable(2, scene.group, 1, 0, "no_session"))
            assert await phone.find(Undecryptable) == scene.told_of(scene.laptop)
            await done(phone, AddEnvelopes(2, scene.group, 1, 0, [(scene.laptop.device, b"late")]))
            healed = await laptop.find(Message)
            assert (healed.envelope, healed.message, healed.content) == (b"late", sent.message, CONTENT)
            assert (healed.created, healed.revision, healed.edited) == (sent.created, None, None)
            assert (await bob.find(Message)).envelope == b"for bob", "as it holds the message already"
            for other in (phone, tablet):
                await other.nothing_came()
            assert there.gateway.hub.span(scene.group) == (1, 1), "the message has its place"
            noted, done_here = there.gateway.samples(), here.gateway.samples()
            values = {(each.name, each.labels): each.value for each in (*noted,)}
            assert values["alo_undecryptable_total", ("no_session",)] == 1
            assert values["alo_undecryptable_total", ("damaged",)] == 0
            values = {(each.name, each.labels): each.value for each in (*done_here,)}
            assert values["alo_messages_healed_total", ()] == values["alo_undecryptable_told_total", ()] == 1


async def first_frames(node: TestNode, device: Credentials) -> list[Reply | Push]:
    """Until the answer to the cursor in the hello, which comes after all that the device is told at once."""
    async with node.open_websocket() as client:
        await client.send(Hello(0, device.token, PROTOCOL_VERSION, b"another server's"))
        frames: list[Reply | Push] = []
        while not any(isinstance(each, Lag) for each in frames):
            frames += await client.read(1)
        return frames


async def test_a_device_that_connects_is_told_after_its_welcome_until_it_has_answered(
    redis_url: str, scene: HealedGroup
) -> None:
    """Also if the process that noted the report has died since: it is a row."""
    async with open_node(scene.pool.url, redis_url) as node:
        async with node.open_websocket(scene.phone.token) as phone:
            await scene.send(phone)
        await scene.report(scene.laptop)
        for _ in range(2):
            assert scene.told_of(scene.laptop) in await first_frames(node, scene.phone)
            for other in (scene.tablet, scene.bob, scene.laptop):
                assert not any(isinstance(each, Undecryptable) for each in await first_frames(node, other))
        async with node.open_websocket(scene.phone.token) as phone:
            assert await phone.find(Undecryptable) == scene.told_of(scene.laptop)
            await scene.report(scene.bob)
            assert await phone.find(Undecryptable) == scene.told_of(scene.bob), "and not the first one again"
            late: list[Envelope] = [(each.device, b"late") for each in (scene.laptop, scene.bob)]
            await done(phone, AddEnvelopes(2, scene.group, 1, 0, late))
        assert not any(isinstance(each, Undecryptable) for each in await first_frames(node, scene.phone))


async def test_a_connected_device_is_told_whatever_process_has_noted_the_report(
    redis_url: str, scene: HealedGroup
) -> None:
    """Once: looks overlap. If the device that wrote is revoked, the other one of its user is told."""
    async with (
        open_node(scene.pool.url, redis_url) as node,
        node.open_synced(scene.phone, scene.tablet) as (phone, tablet),
    ):
        await scene.send(phone)
        await scene.report(scene.laptop, "damaged")
        assert await phone.find(Undecryptable) == scene.told_of(scene.laptop, "damaged")
        await scene.report(scene.bob)
        assert await phone.find(Undecryptable) == scene.told_of(scene.bob), "and not the first one again"
        await devices.revoke_device(scene.pool, scene.phone.user, scene.phone.device)
        found = [await tablet.find(Undecryptable) for _ in range(2)]
        assert {each.device for each in found} == {scene.laptop.device, scene.bob.device}


async def test_bad_requests_are_refused_by_name(redis_url: str, scene: HealedGroup) -> None:
    async with (
        open_node(scene.pool.url, redis_url) as node,
        node.open_websocket(scene.phone.token) as phone,
        node.open_websocket(scene.laptop.token) as laptop,
    ):
        await scene.send(phone)
        late = await new_device(scene.pool, scene.bob.user)
        group, given = scene.group, [(scene.laptop.device, b"x")]
        half = b"x" * (MAX_ENVELOPES_BYTES // 4 + 1)
        large: list[Envelope] = [(bytes([n]) * 16, half) for n in range(4)]
        requests: list[tuple[str, RawClient, Request, str, str]] = [
            ("another reason", laptop, ReportUndecryptable(2, group, 1, 0, "because"), "invalid_frame", "no_envelope"),
            ("its own", phone, ReportUndecryptable(2, group, 1, 0, "other"), "invalid_frame", "another device"),
            ("no message", laptop, ReportUndecryptable(2, group, 9, 0, "other"), "unknown_message", ""),
            ("a revision", laptop, ReportUndecryptable(2, group, 1, 3, "other"), "revision_conflict", ""),
            ("of others", laptop, AddEnvelopes(3, group, 1, 0, [(scene.phone.device, b"x")]), "not_the_sender", ""),
            ("a revision", phone, AddEnvelopes(3, group, 1, 3, given), "revision_conflict", ""),
            (
                "itself",
                phone,
                AddEnvelopes(3, group, 1, 0, [(scene.phone.device, b"x")]),
                "invalid_frame",
                "that sends",
            ),
            ("one twice", phone, AddEnvelopes(3, group, 1, 0, given * 2), "invalid_frame", "once"),
            ("too large", phone, AddEnvelopes(3, group, 1, 0, large), "invalid_frame", "together"),
            ("unlisted", phone, AddEnvelopes(3, group, 1, 0, [(late.device, b"x")]), "unknown_devices", ""),
        ]
        with checked_rows() as rows:
            for name, client, frame, code, said in requests:
                with rows.row((name, type(frame))):
                    refused = (await client.ask(frame))[-1]
                    assert isinstance(refused, Error)
                    assert (refused.code, refused.retry_after_ms) == (code, None)
                    assert said in refused.detail
        async with node.open_websocket(late.token) as silent:
            refused = (await silent.ask(ReportUndecryptable(2, group, 1, 0, "other")))[-1]
            assert isinstance(refused, Error)
            assert (refused.code, "put_keys" in refused.detail) == ("invalid_frame", True)
        for turn in range(MAX_REPORTS):
            await done(laptop, ReportUndecryptable(10 + turn, group, 1, 0, list(REASONS)[turn]))
            await done(phone, AddEnvelopes(10 + turn, group, 1, 0, [(scene.laptop.device, b"%d" % turn)]))
        refused = (await laptop.ask(ReportUndecryptable(20, group, 1, 0, "other")))[-1]
        assert isinstance(refused, Error)
        assert (refused.code, refused.limit, refused.limit_value) == ("quota_exceeded", "reports_per_message", 5)


async def test_added_envelopes_cost_by_their_number(
    redis_url: str, scene: HealedGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one is affordable, and three put the user into debt."""
    three: list[Envelope] = [(each.device, b"x") for each in (scene.laptop, scene.bob, scene.tablet)]
    async with open_node(scene.pool.url, redis_url) as node, node.open_synced(scene.phone) as (phone,):
        await scene.send(phone)
        monkeypatch.setattr(limits, "COST_OF_ENVELOPE", limits.MAX_COST_AT_ONCE // 2)
        await done(phone, AddEnvelopes(2, scene.group, 1, 0, three[:1]))
        await done(phone, AddEnvelopes(3, scene.group, 1, 0, three))
        refused = (await phone.ask(AddEnvelopes(4, scene.group, 1, 0, three)))[-1]
        assert isinstance(refused, Error)
        assert refused.code == "rate_limited"
