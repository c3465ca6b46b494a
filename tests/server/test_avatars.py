"""Avatars from upload to download: over HTTP and the socket, told to devices on two nodes, encrypted and public."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from client.http import Credentials
from jobs.tasks.orphans import Orphans
from protocol.frames import Complete, Done, Download, Error, Profile, Settings, Tickets, Upload
from store import contacts, participants
from store.attachments import key_of
from store.objects.avatar_modes import AvatarMode
from store.objects.folder import Folder
from store.objects.signed_urls import SignedUrl
from store.postgres.pool import Pool
from store.transfers import DOWNLOAD_TICKET_S, PUBLIC_TICKET_S
from tests.jobs.jobs_world import a_job
from tests.people import new_direct, new_group
from tests.server.http_world import Api, both_encodings, open_api, say
from tests.server.node_world import RawClient, TestNode, open_node, wait_caught_up
from tests.store.attachment_world import new_attachment

PICTURE = b"ciphertext of a picture"
DIGEST = sha256(PICTURE).digest()
OCTETS = "application/octet-stream"
NIL = str(UUID(int=0))


@dataclass
class AvatarDeployment:
    """Two nodes and `web`, with a folder."""

    api: Api
    nodes: list[TestNode]
    folder: Folder

    async def upload(self, who: Credentials, media_type: str = OCTETS) -> bytes:
        """Declare an avatar, put it into the object store, and complete it, over the socket."""
        async with self.nodes[0].open_websocket(who.token) as client:
            tickets = await last(client, Upload(1, [(len(PICTURE), media_type, DIGEST, None)], True))
            assert isinstance(tickets, Tickets), tickets
            [ticket] = tickets.tickets
            await self.folder.put(key_of(ticket.attachment), PICTURE, OCTETS)
            assert await last(client, Complete(2, [ticket.attachment])) == Done(2)
            return ticket.attachment

    async def show(self, who: Credentials, avatar: bytes | None, group: bytes | None = None) -> Any:
        path = "/v1/profile" if group is None else f"/v1/conversations/{UUID(bytes=group)}"
        text = NIL if avatar is None else str(UUID(bytes=avatar))
        return await self.api.of(who.token).request("PATCH", path, json={"avatar": text})

    async def ticket(self, who: Credentials, avatar: bytes) -> SignedUrl | None:
        """The ticket that a user gets; the same over HTTP and over the socket."""
        answer = await self.api.of(who.token).post("/v1/attachments/downloads", {"attachments": [avatar]})
        found = answer.body["downloads"]
        async with self.nodes[1].open_websocket(who.token) as client:
            downloads = (await last(client, Download(1, [avatar]))).downloads
        assert [each["size_bytes"] for each in found] == [each.size_bytes for each in downloads]
        if not found:
            return None
        for url in (found[0]["url"], downloads[0].url):
            parts = urlsplit(url)
            signed = self.folder.signer.check("GET", parts.path, parts.query)
            assert signed.key == key_of(avatar)
        return signed


@asynccontextmanager
async def deployed(
    pool: Pool, redis_url: str, path: Path, mode: AvatarMode = "encrypted", encoding: str = "json"
) -> AsyncGenerator[AvatarDeployment, None]:
    folder = Folder(path, "http://files.example")
    await folder.start()
    url = path.as_uri()
    async with (
        open_node(pool.url, redis_url, object_store_url=url, avatars=mode) as near,
        open_node(pool.url, redis_url, object_store_url=url, avatars=mode) as far,
        open_api(pool, redis_url, encoding, objects=folder, avatars=mode) as api,
    ):
        await wait_caught_up(near, far)
        yield AvatarDeployment(api, [near, far], folder)


async def last(client: RawClient, frame: Any) -> Any:
    return (await client.ask(frame))[-1]


async def test_avatar_of_a_user_is_told_live_and_found_by_everybody_who_sees_the_profile(
    pool: Pool, redis_url: str, tmp_path: Path, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    await new_direct(pool, alice, bob)
    async with deployed(pool, redis_url, tmp_path) as here:
        avatar = await here.upload(alice)
        shown = (avatar, len(PICTURE), DIGEST)
        async with (
            here.nodes[0].open_websocket(bob.token) as near,
            here.nodes[1].open_websocket(bob.token) as far,
            here.nodes[1].open_websocket(carol.token) as stranger,
        ):
            answer = await here.show(alice, avatar)
            assert answer.status == 200
            assert UUID(answer.body["avatar"]["attachment"]).bytes == avatar
            for client in (near, far):
                assert await client.find(Profile) == Profile(alice.user, 1, "alice", None, shown)
            await stranger.nothing_came()
            for who in people:
                found = await here.api.of(who.token).get("/v1/users/alice")
                assert found.body["avatar"] == answer.body["avatar"]
                assert await here.ticket(who, avatar) is not None
            await here.show(alice, None)
            for client in (near, far):
                assert await client.find(Profile) == Profile(alice.user, 2, "alice", None)
        assert await here.ticket(bob, avatar) is None


async def test_avatar_of_a_group_is_told_like_its_name_and_a_removed_participant_gets_none(
    pool: Pool, redis_url: str, tmp_path: Path, people: list[Credentials]
) -> None:
    alice, bob, carol = people
    group = await new_group(pool, alice, bob)
    async with deployed(pool, redis_url, tmp_path) as here:
        avatar = await here.upload(alice)
        async with (
            here.nodes[0].open_websocket(bob.token) as near,
            here.nodes[1].open_websocket(bob.token) as far,
        ):
            assert (await here.show(alice, avatar, group)).status == 204
            shown = (avatar, len(PICTURE), DIGEST)
            for client in (near, far):
                settings = await client.find(Settings)
                assert settings == Settings(group, "Group", 1, 2, None, None, alice.user, shown)
        assert (await here.show(bob, await here.upload(bob), group)).code == "not_an_administrator"
        assert (await here.show(carol, await here.upload(carol), group)).code == "not_found"
        assert [await here.ticket(each, avatar) is not None for each in people] == [True, True, False]
        await participants.remove(pool, alice.user, group, bob.user)
        assert await here.ticket(bob, avatar) is None


async def test_a_user_who_blocks_the_owner_gets_none_and_a_blocked_user_notices_nothing(
    pool: Pool, redis_url: str, tmp_path: Path, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    await new_direct(pool, alice, bob)
    async with deployed(pool, redis_url, tmp_path) as here:
        hers, his = await here.upload(alice), await here.upload(bob)
        await here.show(alice, hers)
        await here.show(bob, his)
        await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
        async with here.nodes[0].open_websocket(bob.token) as client:
            await here.show(alice, None)
            assert await client.find(Profile) == Profile(alice.user, 2, "alice")
            await here.show(alice, other := await here.upload(alice))
            assert await client.find(Profile) == Profile(alice.user, 3, "alice")
        assert await here.ticket(bob, other) is None
        assert (await here.api.of(bob.token).get("/v1/users/alice")).body["avatar"] is None
        assert await here.ticket(alice, his) is not None


@both_encodings
async def test_avatar_that_cannot_be_set_is_refused_by_name(
    pool: Pool, redis_url: str, tmp_path: Path, people: list[Credentials], encoding: str
) -> None:
    alice, bob, _ = people
    group = await new_group(pool, alice, bob)
    async with deployed(pool, redis_url, tmp_path, encoding=encoding) as here:
        used = await here.upload(alice)
        assert (await here.show(alice, used)).status == 200
        incomplete = await here.api.of(alice.token).post(
            "/v1/attachments",
            {
                "files": [{"size_bytes": 1, "part_digests": bytes(32) if encoding == "cbor" else "A" * 43 + "="}],
                "is_avatar": True,
            },
        )
        [ticket] = incomplete.body["tickets"]
        open_one = bytes(ticket["attachment"]) if encoding == "cbor" else UUID(ticket["attachment"]).bytes
        refusals = {
            "unknown_attachment": [await here.upload(bob), await new_attachment(pool, alice.user), uuid4().bytes],
            "attachment_used": [used],
            "attachment_incomplete": [open_one],
        }
        for code, ids in refusals.items():
            for each in ids:
                assert (await here.show(alice, each, group)).code == code
                if each != used:
                    assert (await here.show(alice, each)).code == code


async def test_former_avatar_goes_and_the_one_that_is_shown_stays(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials
) -> None:
    async with deployed(pool, redis_url, tmp_path) as here:
        former, shown = await here.upload(alice), await here.upload(alice)
        for each in (former, shown):
            await here.show(alice, each)
        await pool.fetch("update attachments set created = created - interval '3 days'")
        await Orphans(pool, here.folder).orphaned_attachments(a_job("orphaned_attachments"))
        assert [each.key for each in await here.folder.list("")] == [key_of(shown)]


@pytest.mark.parametrize("media_type", ["image/svg+xml", "text/html", OCTETS, "image/PNG"])
async def test_public_avatar_is_a_picture_of_a_type_that_runs_nothing(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, media_type: str
) -> None:
    async with (
        deployed(pool, redis_url, tmp_path, "public") as here,
        here.nodes[0].open_websocket(alice.token) as client,
    ):
        refused = await last(client, Upload(1, [(1, media_type, DIGEST, None)], True))
        assert isinstance(refused, Error)
        assert refused.code == "invalid_frame"
        assert "image/jpeg or image/png or image/webp" in refused.detail


async def test_public_avatar_has_a_long_ticket_that_shows_it_and_other_files_have_not(
    pool: Pool, redis_url: str, tmp_path: Path, people: list[Credentials]
) -> None:
    """Nor have avatars, once the operator has made them private."""
    alice, bob, _ = people
    group = await new_group(pool, alice, bob)
    async with deployed(pool, redis_url, tmp_path, "public") as here:
        avatar = await here.upload(alice, "image/png")
        assert (await here.show(alice, avatar)).status == 200
        ticket = await here.ticket(bob, avatar)
        assert ticket is not None
        assert ticket.shown_as == "image/png"
        assert DOWNLOAD_TICKET_S < ticket.left_s <= PUBLIC_TICKET_S
        await say(pool, group, alice.user, b"1")
        file = await new_attachment(pool, alice.user, message=(group, 1))
        plain = await here.ticket(bob, file)
        assert plain is not None
        assert plain.shown_as is None
        assert plain.left_s <= DOWNLOAD_TICKET_S
    async with deployed(pool, redis_url, tmp_path) as here:
        private = await here.ticket(bob, avatar)
        assert private is not None
        assert private.shown_as is None
        assert private.left_s <= DOWNLOAD_TICKET_S


async def test_frame_names_the_limit_of_avatars(pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials) -> None:
    settings = {"object_store_url": tmp_path.as_uri(), "max_avatar_bytes": 5}
    async with open_node(pool.url, redis_url, **settings) as node, node.open_websocket(alice.token) as client:
        refused = await last(client, Upload(1, [(6, OCTETS, DIGEST, None)], True))
        assert (refused.code, refused.limit, refused.limit_value) == ("quota_exceeded", "avatar_bytes", 5)
        assert isinstance(await last(client, Upload(2, [(5, OCTETS, DIGEST, None)], True)), Tickets)
        assert isinstance(await last(client, Upload(3, [(6, OCTETS, DIGEST, None)])), Tickets)
