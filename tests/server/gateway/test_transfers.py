"""Requests about files over the WebSocket: the frames, their errors, and the queue that they have for themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from client.http import Credentials
from protocol import limits
from protocol.frames import (
    Abort,
    Complete,
    Done,
    Download,
    Downloads,
    Error,
    Hello,
    History,
    Messages,
    PartRequests,
    Parts,
    Ping,
    Pong,
    Tickets,
    Upload,
    Welcome,
)
from store import transfers as transfers_module
from store.attachments import key_of
from store.errors import ObjectStoreRefused, Unavailable
from store.objects.direct import FileStore
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from tests.server.http_world import say
from tests.server.node_world import RawClient, TestNode, open_node
from tests.store.attachment_world import Faulty, new_attachment

DATA = b"ciphertext"
DIGEST = sha256(DATA).digest()
FILE = (len(DATA), "image/jpeg", DIGEST, None)


@asynccontextmanager
async def node_with_files(
    pool: Pool, redis_url: str, folder: Path, **settings: Any
) -> AsyncGenerator[tuple[TestNode, Faulty, FileStore], None]:
    """A node, its object store, and that store without faults."""
    async with open_node(pool.url, redis_url, object_store_url=folder.as_uri(), **settings) as node:
        transfers = node.gateway.transfers
        objects = transfers.objects
        assert objects is not None
        faulty: Any = Faulty(objects)
        transfers.objects = faulty
        yield node, faulty, objects


async def reply(client: RawClient, frame: Any) -> Any:
    return (await client.ask(frame))[-1]


async def test_file_is_uploaded_completed_downloaded_and_given_up(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, direct: bytes
) -> None:
    async with (
        node_with_files(pool, redis_url, tmp_path) as (node, _, objects),
        node.open_websocket(alice.token) as client,
    ):
        tickets = await reply(client, Upload(1, [(*FILE[:3], (len(DATA), DIGEST))]))
        assert isinstance(tickets, Tickets)
        one, small = tickets.tickets
        assert (one.thumbnail_of, small.thumbnail_of) == (None, one.attachment)
        [(part, url, headers)] = one.part_requests
        assert part == 1
        assert key_of(one.attachment) in url
        assert all(name == name.lower() for name, _ in headers)
        missing = await reply(client, Parts(2, None, one.attachment))
        assert isinstance(missing, PartRequests)
        assert (missing.stored_parts, missing.more, len(missing.part_requests)) == (0, False, 1)
        assert (await reply(client, Complete(3, [one.attachment]))).code == "attachment_incomplete"
        for each in (one, small):
            await objects.put(key_of(each.attachment), DATA, "application/octet-stream")
        for request in (4, 5):
            assert await reply(client, Complete(request, [one.attachment])) == Done(request)
        await say(pool, direct, alice.user, b"1")
        used = await new_attachment(pool, alice.user, message=(direct, 1))
        found = await reply(client, Download(6, [one.attachment, used, uuid4().bytes]))
        assert isinstance(found, Downloads)
        [ticket] = found.downloads
        assert (ticket.attachment, ticket.size_bytes, ticket.media_type) == (used, 10, "image/jpeg")
        assert key_of(used) in ticket.url
        assert (await reply(client, Abort(7, [one.attachment, used]))).code == "attachment_used"
        assert await reply(client, Abort(8, [one.attachment])) == Done(8)
        assert (await reply(client, Abort(9, [one.attachment]))).code == "unknown_attachment"


async def test_history_brings_the_tickets_of_its_page_if_they_are_wanted(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, direct: bytes
) -> None:
    async with (
        node_with_files(pool, redis_url, tmp_path) as (node, _, _),
        node.open_websocket(alice.token) as client,
    ):
        ids = []
        for seq in (1, 2):
            await say(pool, direct, alice.user, b"%d" % seq)
            ids.append(await new_attachment(pool, alice.user, message=(direct, seq)))
            await pool.fetch(
                "update messages set attachments = %(ids)s where conversation_id = %(of)s::uuid and seq = %(seq)s",
                {"ids": uuids(ids[-1:]), "of": uuid(direct), "seq": seq},
            )
        page = await reply(client, History(1, direct, None, None, None, True))
        assert isinstance(page, Messages)
        assert page.downloads is not None
        assert [each.attachment for each in page.downloads] == ids[::-1]
        assert (await reply(client, History(2, direct, None, None, None))).downloads is None


async def test_wrong_number_of_digests_and_quotas_are_named(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials
) -> None:
    async with (
        node_with_files(pool, redis_url, tmp_path, attachment_bytes_per_day=19) as (node, faulty, _),
        node.open_websocket(alice.token) as client,
    ):
        wrong = await reply(client, Upload(1, [FILE, (len(DATA), "image/jpeg", DIGEST * 2, None)]))
        assert (wrong.code, wrong.detail) == (
            "invalid_frame",
            "files: a file of 10 bytes has 1 parts, so its digests have 32 bytes, not 64",
        )
        assert isinstance(await reply(client, Upload(2, [FILE])), Tickets)
        beyond = await reply(client, Upload(3, [FILE]))
        assert (beyond.code, beyond.limit, beyond.limit_value, beyond.retry_after_ms) == (
            "quota_exceeded",
            "attachment_bytes_per_day",
            19,
            None,
        )
        assert faulty.calls == []


@pytest.mark.parametrize("error", [Unavailable("the object store", "x", "500"), ObjectStoreRefused("x", "it is full")])
async def test_failure_of_the_object_store_may_be_retried(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, error: Exception
) -> None:
    async with open_node(pool.url, redis_url, object_store_url=tmp_path.as_uri()) as node:
        transfers = node.gateway.transfers
        faulty: Any = Faulty(transfers.objects)  # type: ignore[arg-type]
        transfers.objects = faulty
        async with node.open_websocket(alice.token) as client:
            tickets = await reply(client, Upload(1, [FILE]))
            faulty.fail(error, "stat")
            refused = await reply(client, Complete(2, [tickets.tickets[0].attachment]))
            assert isinstance(refused, Error)
            assert refused.code == "unavailable"
            assert refused.retry_after_ms
        refusals = [line for line in node.logs if line["event"] == "object_store_refused"]
        assert len(refusals) == isinstance(error, ObjectStoreRefused)
        node.logs[:] = [line for line in node.logs if line not in refusals]


async def test_object_store_that_does_not_answer_holds_up_no_other_requests(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, direct: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same connection."""
    async with (
        node_with_files(pool, redis_url, tmp_path) as (node, faulty, _),
        node.open_websocket(alice.token) as client,
    ):
        tickets = await reply(client, Upload(1, [FILE]))
        asked = trio.Event()

        async def silence(_: str) -> None:
            asked.set()
            await trio.sleep_forever()

        faulty.instead("stat", silence)
        monkeypatch.setattr(transfers_module, "DEADLINE_S", 1.0)
        await client.send(Complete(2, [tickets.tickets[0].attachment]))
        await asked.wait()
        assert isinstance(await reply(client, History(3, direct, None, None, None)), Messages)
        assert isinstance(await reply(client, Ping(4)), Pong)
        [refused] = await client.read(1)
        assert isinstance(refused, Error)
        assert (refused.request, refused.code) == (2, "unavailable")


async def test_welcome_tells_of_attachments_and_their_limits(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials
) -> None:
    """Only with an object store; a limit that the operator has taken away is not told."""
    hello = Hello(0, alice.token, limits.PROTOCOL_VERSION)
    settings = {"max_attachment_bytes": 1000, "attachment_bytes_per_day": 0, "open_uploads_per_user": 7}
    for url, is_offered in ((tmp_path.as_uri(), True), ("", False)):
        async with (
            open_node(pool.url, redis_url, object_store_url=url, **settings) as node,
            node.open_websocket() as client,
        ):
            welcome = await reply(client, hello)
            assert isinstance(welcome, Welcome)
            assert ("attachments" in (welcome.features or [])) == is_offered
            told = dict(welcome.limits or [])
            assert (told["attachment_bytes"], told["open_uploads_per_user"]) == (1000, 7)
            assert told["attachment_bytes_per_user"] == limits.MAX_ATTACHMENT_BYTES_PER_USER
            assert "attachment_bytes_per_day" not in told


async def test_without_an_object_store_each_request_is_refused_by_name(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    id_ = uuid4().bytes
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        for frame in (
            Upload(1, [FILE]),
            Parts(2, None, id_),
            Complete(3, [id_]),
            Download(4, [id_]),
            Abort(5, [id_]),
        ):
            assert (await reply(client, frame)).code == "no_object_store"
