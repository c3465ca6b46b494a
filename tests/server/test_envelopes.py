"""Envelopes over the socket and over HTTP: each device is shown its own alone, by every way in which it meets a message
(P15), and bad ones are refused by name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import pytest
import trio

from client.http import Credentials
from protocol import limits
from protocol.codec import encode
from protocol.frames import (
    AddEnvelopes,
    Conversation,
    Conversations,
    Cursor,
    Done,
    Edit,
    Envelope,
    Error,
    Hello,
    History,
    Lag,
    List,
    Message,
    Messages,
    Push,
    Reply,
    Revised,
    Send,
    Sent,
    Sync,
    Synced,
)
from store import devices, keys, revisions, undecryptable
from store.envelopes import pack
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.people import new_device, new_group
from tests.planted import PLANTED
from tests.server.http_world import CBOR, Api, open_api
from tests.server.node_world import RawClient, TestNode, open_node, wait_caught_up
from tests.store.store_world import a_message
from tests.waiting import PATIENCE_S

IDENTITY: Final = b"identity"


def secret(device: Credentials, number: int = 0) -> bytes:
    return b"%b envelope %d of %b" % (PLANTED.encode(), number, device.device)


class Phase(Enum):
    """What has become of the message."""

    SENT = 0
    EDITED = 1
    HEALED = 2


class EncryptingGroup(NamedTuple):
    """A group of Alice, Bob and Carol. The devices but for Bob's `late` have an identity.

    :ivar phone: of Alice, which sends.
    :ivar tablet: her other device.
    :ivar late: of Bob, which publishes its identity after the message.
    """

    pool: Pool
    group: bytes
    phone: Credentials
    tablet: Credentials
    bob: Credentials
    laptop: Credentials
    late: Credentials
    carol: Credentials

    @property
    def all(self) -> list[Credentials]:
        return [self.phone, self.tablet, self.bob, self.laptop, self.late, self.carol]

    @property
    def named(self) -> list[Credentials]:
        """By the message. The edit names `bob` and `carol`; envelopes are added for `tablet` and `bob`."""
        return [self.tablet, self.bob, self.laptop]

    def message(self, content: bytes = b"for all") -> Send:
        return Send(
            7,
            self.group,
            "text",
            content,
            None,
            None,
            uuid4().bytes,
            envelopes=[(d.device, secret(d)) for d in self.named],
        )

    def edit(self, seq: int = 1) -> Edit:
        given = [(each.device, secret(each, 1)) for each in (self.bob, self.carol)]
        return Edit(8, self.group, seq, "text", b"edited", None, None, 0, envelopes=given)

    def healing(self, seq: int = 1) -> AddEnvelopes:
        return AddEnvelopes(9, self.group, seq, 1, [(each.device, secret(each, 2)) for each in (self.tablet, self.bob)])

    def expected(self, device: Credentials, *, phase: Phase = Phase.SENT) -> bytes | None:
        if phase is Phase.HEALED and device in (self.tablet, self.bob):
            return secret(device, 2)
        if phase is not Phase.SENT and device in (self.bob, self.carol):
            return secret(device, 1)
        return secret(device) if device in self.named else None

    def secrets_of_others(self, device: Credentials) -> list[bytes]:
        return [secret(each, number) for each in self.all if each != device for number in (0, 1, 2)]


@pytest.fixture
async def scene(pool: Pool, people: list[Credentials]) -> EncryptingGroup:
    alice, bob, carol = people
    tablet, laptop, late = [await new_device(pool, user) for user in (alice.user, bob.user, bob.user)]
    for each in (alice, tablet, bob, laptop, carol):
        await keys.put(pool, each.device, IDENTITY)
    return EncryptingGroup(pool, await new_group(pool, alice, bob, carol), alice, tablet, bob, laptop, late, carol)


def messages_in(frames: Iterable[Reply | Push]) -> list[Message]:
    """All messages in frames, also those within others."""
    found: list[Message] = []
    for frame in frames:
        match frame:
            case Message():
                found.append(frame)
            case Messages():
                found += messages_in(each for each in frame.messages if isinstance(each, Message))
            case Conversation(last_message=Message() as last):
                found.append(last)
            case Conversations():
                found += messages_in(frame.conversations)
    return found


class WatchedDevice:
    """A device's connection, with all frames that have come over it."""

    def __init__(self, scene: EncryptingGroup, owner: Credentials, client: RawClient) -> None:
        self.scene = scene
        self.owner = owner
        self.client = client
        self.frames: list[Reply | Push] = []

    async def until(self, wanted: Callable[[Reply | Push], bool]) -> list[Reply | Push]:
        """Read until such a frame has come; returns the frames since the call."""
        came: list[Reply | Push] = []
        with trio.fail_after(PATIENCE_S):
            while not any(map(wanted, came)):
                came += await self.client.read(1)
        self.frames += came
        return came

    async def pushed(self, *, phase: Phase = Phase.SENT) -> None:
        """Wait for the message, and check it."""
        revision = None if phase is Phase.SENT else 1
        came = await self.until(lambda each: isinstance(each, Message) and each.revision == revision)
        self.check(came, phase=phase)

    async def ask(self, frame: Send | Edit | AddEnvelopes | Sync | History | List) -> list[Reply | Push]:
        await self.client.send(frame)
        return await self.until(lambda each: getattr(each, "request", None) == frame.request)

    def check(self, frames: Sequence[Reply | Push], *, phase: Phase = Phase.SENT) -> None:
        """They show the message, with the device's own envelope."""
        shown = messages_in(frames)
        assert shown, frames
        for message in shown:
            assert message.has_envelopes
            assert message.envelope == self.scene.expected(self.owner, phase=phase)

    def check_nothing_of_others(self) -> None:
        """The bytes of frames are those that came (`RawClient.read`)."""
        data = b"".join(map(encode, self.frames))
        for other in self.scene.secrets_of_others(self.owner):
            assert other not in data


@asynccontextmanager
async def open_all(scene: EncryptingGroup, nodes: Sequence[TestNode]) -> AsyncGenerator[list[WatchedDevice]]:
    """Each device on each node, synced."""
    async with AsyncExitStack() as stack:
        watched = []
        for node in nodes:
            clients = await stack.enter_async_context(node.open_synced(*scene.all))
            watched += [WatchedDevice(scene, owner, client) for owner, client in zip(scene.all, clients, strict=True)]
        yield watched
        for each in watched:
            each.check_nothing_of_others()


async def cursor_of(client: RawClient) -> bytes:
    synced = (await client.ask(Sync(5, None)))[-1]
    assert isinstance(synced, Synced)
    return synced.cursor


async def read_in_all_ways(
    scene: EncryptingGroup, node: TestNode, cursors: dict[bytes, bytes], *, phase: Phase
) -> None:
    """Each device connects anew, and asks for the message in each way in which it can."""
    for owner in scene.all:
        async with node.open_websocket() as raw:
            device = WatchedDevice(scene, owner, raw)
            cursor = cursors[owner.device]
            await raw.send(Hello(1, owner.token, limits.PROTOCOL_VERSION, cursor))
            device.check(await device.until(lambda each: isinstance(each, Cursor)), phase=phase)
            for frame in (
                Sync(2, cursor),
                Sync(3, cursor, 1),
                Sync(4, None),
                History(5, scene.group, None, None, None),
                History(6, scene.group, None, None, 0),
                List(7, None, None),
            ):
                device.check(await device.ask(frame), phase=phase)
            device.check_nothing_of_others()


async def test_each_way_to_meet_a_message_shows_a_device_its_own_envelope_alone(
    redis_url: str, scene: EncryptingGroup
) -> None:
    """Live on the sender's node and on another one; by a cursor in `hello`, by `sync` and by `history` and `list`; as
    it was sent, after an edit that names other devices, and after envelopes were added for some."""
    pool = scene.pool
    async with open_node(pool.url, redis_url) as here, open_node(pool.url, redis_url) as there:
        await wait_caught_up(here, there)
        async with open_all(scene, [here, there]) as watched:
            cursors = {each.owner.device: await cursor_of(each.client) for each in watched}
            phone, *others = watched
            assert isinstance((await phone.ask(scene.message()))[-1], Sent)
            for each in others:
                await each.pushed()
            await read_in_all_ways(scene, here, cursors, phase=Phase.SENT)
            assert isinstance((await phone.ask(scene.edit()))[-1], Revised)
            for each in others:
                await each.pushed(phase=Phase.EDITED)
            await keys.put(pool, scene.late.device, IDENTITY)
            await read_in_all_ways(scene, there, cursors, phase=Phase.EDITED)
            assert isinstance((await phone.ask(scene.healing()))[-1], Done)
            for each in others:
                # Devices of the users whose devices are named are told, each as it holds the message now.
                if each.owner.user != scene.carol.user and each.owner != scene.phone:
                    await each.pushed(phase=Phase.HEALED)
            await read_in_all_ways(scene, here, cursors, phase=Phase.HEALED)


@pytest.mark.parametrize("encoding", ["json", "cbor"])
async def test_history_over_http_shows_a_device_its_own_envelope_alone(
    redis_url: str, scene: EncryptingGroup, encoding: str
) -> None:
    """Each page for each device twice, since pages are kept for all who see the same; with their entity tags."""
    pool, path = scene.pool, f"/v1/conversations/{UUID(bytes=scene.group)}/messages"
    await commit(scene, b"before", [])
    async with open_api(pool, redis_url, encoding) as api:
        for owner in scene.all:
            assert (await api.of(owner.token).get(path)).status == 200
        for phase in Phase:
            match phase:
                case Phase.SENT:
                    await commit(scene, b"for all", [(each.device, secret(each)) for each in scene.named])
                case Phase.EDITED:
                    await edit_of(scene, 2)
                case Phase.HEALED:
                    await heal(scene, 2)
            tags: dict[str, Credentials] = {}
            for _ in range(2):
                for owner in scene.all:
                    for query in ({}, {"after_seq": 0}, {"around_seq": 2}, {"limit": 1}):
                        answer = await api.of(owner.token).get(path, **query)
                        page: Any = answer.body
                        shown = {each["seq"]: each for each in page["messages"]}
                        expected = scene.expected(owner, phase=phase)
                        assert (shown[2]["has_envelopes"], shown[2]["envelope"]) == (True, expected)
                        if 1 in shown:
                            assert (shown[1]["has_envelopes"], shown[1]["envelope"]) == (False, None)
                        assert tags.setdefault(answer.headers["ETag"], owner) == owner
                        again = await held(api.of(owner.token), path, query, answer.headers["ETag"])
                        assert again == 304
            listed: Any = (await api.of(scene.bob.token).get("/v1/conversations")).body
            [conversation] = listed["conversations"]
            assert (conversation["last_message"]["has_envelopes"], conversation["last_message"]["envelope"]) == (
                True,
                None,
            )


async def held(api: Api, path: str, query: dict[str, int], tag: str) -> int:
    """The status of a request that shows a tag."""
    headers = {"If-None-Match": tag, "Authorization": f"Bearer {api.token}"} | (
        {"Accept": CBOR} if api.encoding == "cbor" else {}
    )
    client: Any = api.app.test_client()
    response = await client.open(path, method="GET", headers=headers, query_string=query)
    return int(response.status_code)


async def commit(scene: EncryptingGroup, content: bytes, given: list[Envelope]) -> int:
    """As another node does that then dies."""
    message = a_message(
        scene.group, scene.phone.user, content, envelopes=pack(given or None), device=scene.phone.device
    )
    [sent] = await send(scene.pool, ParticipantsCache(), [message])
    assert isinstance(sent, Committed)
    return sent.seq


async def heal(scene: EncryptingGroup, seq: int) -> None:
    frame, phone = scene.healing(seq), scene.phone
    await undecryptable.add_envelopes(
        scene.pool, phone.user, phone.device, scene.group, seq, frame.revision, frame.envelopes
    )


async def edit_of(scene: EncryptingGroup, seq: int) -> None:
    frame = scene.edit(seq)
    user, device = scene.phone.user, scene.phone.device
    await revisions.edit(
        scene.pool,
        user,
        scene.group,
        seq,
        0,
        "text",
        frame.content,
        None,
        None,
        device=device,
        envelopes=frame.envelopes,
    )


async def test_a_node_that_missed_pushes_tells_each_device_its_own_envelope_alone(
    redis_url: str, scene: EncryptingGroup
) -> None:
    """Of a message, of an edit and of added envelopes that it finds in Postgres."""
    async with open_node(scene.pool.url, redis_url) as node, open_all(scene, [node]) as watched:
        given = [(each.device, secret(each)) for each in scene.named]
        await commit(scene, b"for all", given)
        node.gateway.node.catch_up.request(1.0)
        for each in watched:
            await each.pushed()
        await edit_of(scene, 1)
        node.gateway.node.catch_up.request(1.0)
        for each in watched:
            await each.pushed(phase=Phase.EDITED)
        await heal(scene, 1)
        node.gateway.node.catch_up.request(1.0)
        for each in watched:
            await each.pushed(phase=Phase.HEALED)


async def test_a_device_that_lags_finds_its_own_envelope_alone(redis_url: str, scene: EncryptingGroup) -> None:
    async with open_node(scene.pool.url, redis_url) as node, open_all(scene, [node]) as watched:
        phone, *others = watched
        cursors = [await cursor_of(each.client) for each in others]
        for each in others:
            [connection] = [c for c in node.gateway.hub.of(each.owner.user) if c.device == each.owner.device]
            connection.outbox.lag("pushes_dropped")
        assert isinstance((await phone.ask(scene.message()))[-1], Sent)
        for each, cursor in zip(others, cursors, strict=True):
            await each.until(lambda frame: isinstance(frame, Lag))
            each.check(await each.ask(Sync(9, cursor)))


async def test_a_revoked_device_is_told_no_envelope_of_a_later_message(redis_url: str, scene: EncryptingGroup) -> None:
    """Its connection lives until the node has heard of the revocation: the send is refused meanwhile, if it names the
    device, and without it the device learns nothing."""
    async with open_node(scene.pool.url, redis_url) as node, open_all(scene, [node]) as watched:
        phone = watched[0]
        await devices.revoke_device(scene.pool, scene.laptop.user, scene.laptop.device)
        refused = (await phone.ask(scene.message()))[-1]
        assert isinstance(refused, Error)
        assert (refused.code, refused.unknown_devices) == ("unknown_devices", [scene.laptop.device])
        message = scene.message()
        assert message.envelopes is not None
        frame = Send(
            9,
            scene.group,
            "text",
            b"",
            None,
            None,
            uuid4().bytes,
            envelopes=[message.envelopes[0], message.envelopes[1]],
        )
        assert isinstance((await phone.ask(frame))[-1], Sent)
        laptop = next(each for each in watched if each.owner == scene.laptop)
        await laptop.client.wait_end()
        async with node.open_websocket() as raw:
            await raw.send(Hello(1, scene.laptop.token, limits.PROTOCOL_VERSION))
            assert await raw.wait_end() == 4505


DEVICE: Final = b"d" * 16
TOO_MANY: Final = [(n.to_bytes(16, "big"), b"e") for n in range(limits.MAX_ENVELOPES + 1)]
THIRD: Final = limits.MAX_ENVELOPES_BYTES // 3
BAD: Final[dict[str, tuple[Callable[[EncryptingGroup], list[Envelope]], str, str]]] = {
    "none": (lambda _: [], "invalid_frame", "an array of 1 to 256 elements"),
    "too many": (lambda _: TOO_MANY, "invalid_frame", "an array of 1 to 256 elements"),
    "an empty one": (lambda s: [(s.bob.device, b"")], "invalid_frame", "[device, envelope] with 1 to 65536 bytes"),
    "one that is too long": (lambda s: [(s.bob.device, bytes(65537))], "invalid_frame", "1 to 65536 bytes"),
    "an id that is too short": (lambda _: [(DEVICE[:15], b"e")], "invalid_frame", "[device, envelope] with 16 bytes"),
    "a device twice": (
        lambda s: [(s.bob.device, b"e"), (s.tablet.device, b"e"), (s.bob.device, b"e")],
        "invalid_frame",
        "must name each device once",
    ),
    "the device itself": (
        lambda s: [(s.bob.device, b"e"), (s.phone.device, b"e")],
        "invalid_frame",
        "must not name the device that sends them",
    ),
    "too long together": (
        lambda s: [(each.device, bytes(THIRD)) for each in (s.tablet, s.bob, s.laptop)] + [(s.carol.device, b"e")],
        "invalid_frame",
        "must have at most 196608 bytes together, and have 196609",
    ),
    "of unknown devices": (lambda _: [(DEVICE, b"e")], "unknown_devices", "leave these out"),
    "of a device without an identity": (lambda s: [(s.late.device, b"e")], "unknown_devices", "leave these out"),
}
"""Name -> envelopes, the code of the error, a part of its detail."""


async def test_bad_envelopes_are_refused_by_name_and_nothing_is_stored(redis_url: str, scene: EncryptingGroup) -> None:
    async with open_node(scene.pool.url, redis_url) as node, node.open_websocket(scene.phone.token) as phone:
        first = Send(1, scene.group, "text", b"1", None, None, uuid4().bytes)
        assert isinstance((await phone.ask(first))[-1], Sent)
        for name, (make, code, detail) in BAD.items():
            given = make(scene)
            for frame in (
                Send(2, scene.group, "text", b"2", None, None, uuid4().bytes, envelopes=given),
                Edit(3, scene.group, 1, "text", b"3", None, None, 0, envelopes=given),
            ):
                refused = (await phone.ask(frame))[-1]
                assert isinstance(refused, Error), name
                assert refused.code == code, name
                assert detail in refused.detail, (name, refused.detail)
                assert refused.retry_after_ms is None
                assert refused.unknown_devices == ([each for each, _ in given] if code == "unknown_devices" else None)
        assert await scene.pool.fetch("select seq, content, has_envelopes from messages") == [(1, b"1", False)]
        assert await scene.pool.fetch("select 1 from envelopes") == []
        largest = [(each.device, bytes(THIRD)) for each in (scene.tablet, scene.bob, scene.laptop)]
        good = Send(4, scene.group, "text", b"", None, None, uuid4().bytes, envelopes=largest)
        assert isinstance((await phone.ask(good))[-1], Sent)


async def test_a_message_of_the_largest_envelope_fits_into_the_pushes_of_both_nodes(
    redis_url: str, scene: EncryptingGroup
) -> None:
    """Its content is as long as it can be beside them; each device gets its own frame."""
    pool = scene.pool
    async with open_node(pool.url, redis_url) as here, open_node(pool.url, redis_url) as there:
        await wait_caught_up(here, there)
        async with here.open_synced(scene.phone) as [phone], there.open_synced(scene.bob, scene.carol) as (bob, carol):
            size = limits.MAX_ENVELOPE_BYTES
            given = [(scene.bob.device, b"b" * size), (scene.carol.device, b"c" * size)]
            frame = Send(
                1, scene.group, "text", bytes(limits.MAX_CONTENT_BYTES), None, None, uuid4().bytes, envelopes=given
            )
            assert isinstance((await phone.ask(frame))[-1], Sent)
            for client, (_, envelope) in ((bob, given[0]), (carol, given[1])):
                message = await client.find(Message)
                assert (message.envelope, len(message.content)) == (envelope, limits.MAX_CONTENT_BYTES)
