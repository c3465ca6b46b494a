"""The settings that a user changes over HTTP can be read there, and are pushed to their devices on every node."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import cbor2
import pytest

from client.http import Credentials
from protocol.frames import Contact, Conversation, OwnSettings, Sync, Synced
from server.delivery.fanout import Fanout
from store import conversations
from store.postgres.pool import Pool
from tests.people import new_device
from tests.server.http_world import CBOR, Api, open_api
from tests.server.node_world import RawClient, open_node


async def change(api: Api, method: str, path: str, **body: Any) -> None:
    answer = await api.request(method, path, data=cbor2.dumps(body), headers={"Content-Type": CBOR})
    assert answer.status < 300, answer.body


class FrameReader:
    """Reads frame by frame, though several may have come in one message."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self._left: list[Any] = []

    async def find(self, kind: type[Any]) -> Any:
        """The next frame of this kind."""
        while True:
            while self._left:
                if isinstance(frame := self._left.pop(0), kind):
                    return frame
            self._left += await self._client.read(1)


async def synced(client: RawClient, cursor: bytes | None = None) -> list[Any]:
    *pushes, reply = await client.ask(Sync(1, cursor))
    assert isinstance(reply, Synced)
    return [*pushes, reply.cursor]


async def test_settings_are_read_and_pushed_to_the_users_devices_on_every_node_and_to_no_other_user(
    pool: Pool, redis_url: str, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    talk, _ = await conversations.add_direct(pool, alice.user, bob.user)
    mute = f"/v1/conversations/{UUID(bytes=talk)}/mute"
    contact = f"/v1/contacts/{UUID(bytes=carol.user)}"
    night = (1320, 420, "Europe/Berlin")
    minutes = {"from_minute": 1320, "until_minute": 420, "zone": "Europe/Berlin"}
    async with (
        open_node(pool.url, redis_url) as one,
        open_node(pool.url, redis_url) as two,
        open_api(pool, redis_url, "cbor") as app,
        one.open_websocket(alice.token) as here,
        two.open_websocket((await new_device(pool, alice.user)).token) as there,
        two.open_websocket(bob.token) as other,
        one.open_websocket(carol.token) as third,
    ):
        # A node that still catches up with the time before may push settings again.
        for node in (one, two):
            await node.gateway.node.catch_up.settled.wait()
        api = app.of(alice.token)
        own, *_, cursor = await synced(here)
        assert own == OwnSettings(0, True, True, None, 0, "everybody", "everybody")
        for client in (there, other, third):
            await synced(client)

        readers = [FrameReader(here), FrameReader(there)]

        async def told(kind: type[Any]) -> Any:
            seen, also = [await reader.find(kind) for reader in readers]
            assert seen == also
            return seen

        await change(api, "PATCH", "/v1/profile", gives_receipts=False)
        assert await told(OwnSettings) == OwnSettings(1, False, True, None, 0, "everybody", "everybody")
        profile = (await api.get("/v1/profile")).body
        assert (profile["gives_receipts"], profile["shows_presence"]) == (False, True)

        await change(api, "PUT", "/v1/quiet-hours", **minutes)
        assert await told(OwnSettings) == OwnSettings(2, False, True, night, 0, "everybody", "everybody")
        assert (await api.get("/v1/quiet-hours")).body == minutes
        await change(api, "DELETE", "/v1/quiet-hours")
        assert await told(OwnSettings) == OwnSettings(3, False, True, None, 0, "everybody", "everybody")

        await change(api, "PUT", contact, is_blocked=True)
        assert await told(Contact) == Contact(carol.user, "carol", None, 1, True, True)
        listed = (await api.get("/v1/contacts")).body
        assert (listed["revision"], [each["is_blocked"] for each in listed["contacts"]]) == (1, [True])
        await change(api, "PUT", contact, is_blocked=False)
        assert await told(Contact) == Contact(carol.user, "carol", None, 2, True, False)
        await change(api, "DELETE", contact)
        assert await told(Contact) == Contact(carol.user, "carol", None, 3, False, False)
        assert (await api.get("/v1/contacts")).body == {"contacts": [], "cursor": None, "revision": 3}

        await change(api, "PUT", mute, seconds=3600)
        muted = await told(Conversation)
        assert (muted.conversation, muted.participants, muted.own_revision) == (talk, None, 1)
        for path in (f"/v1/conversations/{UUID(bytes=talk)}", "/v1/conversations"):
            body = (await api.get(path)).body
            [shown] = body.get("conversations", [body])
            assert shown["muted_until"] == muted.muted_until
        await change(api, "PUT", mute, seconds=0)
        unmuted = await told(Conversation)
        assert (unmuted.muted_until, unmuted.own_revision) == (None, 2)

        for client in (other, third):
            await client.nothing_came()
        # A device that was away is told the current settings.
        *rest, _ = await synced(here, cursor)
        assert rest[0] == OwnSettings(3, False, True, None, 3, "everybody", "everybody")
        assert [each.own_revision for each in rest[1:] if isinstance(each, Conversation)] == [2]


async def test_a_node_that_catches_up_pushes_the_settings_that_it_missed(
    pool: Pool, redis_url: str, people: list[Credentials], direct: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, _ = people
    async with (
        open_node(pool.url, redis_url) as node,
        open_api(pool, redis_url, "cbor") as app,
        node.open_websocket(alice.token) as client,
    ):
        await node.wait_event("caught_up")
        await synced(client)
        with monkeypatch.context() as lost:
            lost.setattr(Fanout, "send", lambda *_: None)
            api = app.of(alice.token)
            await change(api, "PATCH", "/v1/profile", shows_presence=False)
            await change(api, "PUT", f"/v1/contacts/{UUID(bytes=bob.user)}")
            await change(api, "PUT", f"/v1/conversations/{UUID(bytes=direct)}/mute", seconds=60)
        node.gateway.node.catch_up.request(0)
        reader = FrameReader(client)
        assert await reader.find(OwnSettings) == OwnSettings(1, True, False, None, 1, "everybody", "everybody")
        assert (await reader.find(Conversation)).own_revision == 1
