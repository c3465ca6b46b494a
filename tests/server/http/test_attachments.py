"""Attachments over HTTP, in JSON and in CBOR: declared, completed, downloaded, given up, and refused by name."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from client.http import Credentials
from protocol.limits import ATTACHMENT_PART_BYTES
from store import transfers as transfers_module
from store.attachments import key_of
from store.errors import ObjectStoreRefused, Unavailable
from store.objects.direct import FileStore
from store.objects.quotas import Quotas
from store.objects.url import open_objects
from store.postgres.pool import Pool
from tests.rows import each_row
from tests.server.http_world import Answer, Api, both_encodings, open_api, say
from tests.store.attachment_world import Faulty, new_attachment

DATA = b"ciphertext"
DIGEST = sha256(DATA).digest()


class Uploader:
    """A user at the interface of a deployment with a folder.

    :ivar faulty: the object store.
    """

    def __init__(self, api: Api, faulty: Faulty, objects: FileStore) -> None:
        self.api = api
        self.faulty = faulty
        self.objects = objects

    def file(self, **changes: Any) -> dict[str, Any]:
        return {"size_bytes": len(DATA), "part_digests": self.sent(DIGEST), "media_type": "image/jpeg", **changes}

    def sent(self, value: bytes) -> Any:
        """Bytes as a body has them."""
        return value if self.api.encoding == "cbor" else b64encode(value).decode()

    def ident(self, id_: Any) -> bytes:
        return bytes(id_) if self.api.encoding == "cbor" else UUID(id_).bytes

    async def declare(self, *files: dict[str, Any]) -> Answer:
        return await self.api.post("/v1/attachments", {"files": list(files)})

    async def put(self, attachment: bytes, data: bytes = DATA) -> None:
        """As a client does with its ticket."""
        await self.objects.put(key_of(attachment), data, "application/octet-stream")

    async def asked(self, method: str, attachment: bytes, rest: str = "") -> Answer:
        return await self.api.request(method, f"/v1/attachments/{UUID(bytes=attachment)}{rest}")

    async def downloads(self, *ids: bytes) -> Answer:
        return await self.api.post("/v1/attachments/downloads", {"attachments": list(ids)})


@asynccontextmanager
async def uploader(
    pool: Pool, redis_url: str, folder: Path, user: Credentials, encoding: str = "json", **settings: Any
) -> AsyncGenerator[Uploader, None]:
    async with open_objects(folder.as_uri()) as objects:
        assert objects is not None
        faulty: Any = Faulty(objects)
        async with open_api(pool, redis_url, encoding, objects=faulty, **settings) as api:
            yield Uploader(api.of(user.token), faulty, objects)


@both_encodings
async def test_file_is_declared_completed_and_downloaded(
    pool: Pool, redis_url: str, tmp_path: Path, encoding: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with uploader(pool, redis_url, tmp_path, alice, encoding) as at:
        thumbnail = {"size_bytes": len(DATA), "digest": at.sent(DIGEST)}
        declared = await at.declare(at.file(thumbnail=thumbnail))
        assert declared.status == 201
        one, small = declared.body["tickets"]
        ids = [at.ident(each["attachment"]) for each in (one, small)]
        assert (one["thumbnail_of"], at.ident(small["thumbnail_of"])) == (None, ids[0])
        [request] = one["part_requests"]
        assert (request["part"], request["method"]) == (1, "PUT")
        assert key_of(ids[0]) in request["url"]
        assert one["expires"] > 1_700_000_000_000_000
        assert (await at.asked("POST", ids[0], "/complete")).code == "attachment_incomplete"
        for id_ in ids:
            await at.put(id_)
        for _ in range(2):
            assert (await at.asked("POST", ids[0], "/complete")).status == 204
        parts = (await at.asked("GET", ids[0], "/parts?after=0")).body
        assert (parts["stored_parts"], parts["more"], parts["part_requests"]) == (1, False, [])
        await say(pool, direct, alice.user, b"1")
        used = await new_attachment(pool, alice.user, message=(direct, 1))
        bobs = Uploader(at.api.of(bob.token), at.faulty, at.objects)
        for user in (at, bobs):
            found = (await user.downloads(used, uuid4().bytes, ids[0])).body["downloads"]
            [ticket] = found
            assert (at.ident(ticket["attachment"]), ticket["size_bytes"], ticket["media_type"]) == (
                used,
                10,
                "image/jpeg",
            )
            assert key_of(used) in ticket["url"]
        assert (await at.asked("DELETE", used)).code == "attachment_used"
        assert (await at.asked("DELETE", ids[0])).status == 204
        assert (await at.asked("DELETE", ids[0])).code == "unknown_attachment"


async def test_parts_of_a_large_file_come_page_by_page(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials
) -> None:
    async with uploader(pool, redis_url, tmp_path, alice) as at:
        large = at.file(size_bytes=40 * ATTACHMENT_PART_BYTES, part_digests=at.sent(DIGEST * 40))
        [ticket] = (await at.declare(large)).body["tickets"]
        assert [each["part"] for each in ticket["part_requests"]] == list(range(1, 33))
        rest = (await at.asked("GET", at.ident(ticket["attachment"]), "/parts?after=32")).body
        assert [each["part"] for each in rest["part_requests"]] == list(range(33, 41))
        assert (rest["more"], rest["stored_parts"]) == (False, 0)


BAD: dict[str, dict[str, Any]] = {
    "no byte": {"size_bytes": 0},
    "less than a byte": {"size_bytes": -1},
    "a digest too few": {"size_bytes": ATTACHMENT_PART_BYTES + 1},
    "half a digest": {"part_digests": b64encode(DIGEST[:16]).decode()},
    "no digest": {"part_digests": ""},
    "a name for a type": {"media_type": "../../etc/passwd\r\n"},
    "no type": {"media_type": ""},
    "a large thumbnail": {"thumbnail": {"size_bytes": 512 * 1024 + 1, "digest": b64encode(DIGEST).decode()}},
    "a thumbnail without a byte": {"thumbnail": {"size_bytes": 0, "digest": b64encode(DIGEST).decode()}},
}


@each_row("name", BAD)
async def test_bad_declaration_is_an_invalid_body_and_nothing_is_stored(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, name: str
) -> None:
    async with uploader(pool, redis_url, tmp_path, alice) as at:
        assert (await at.declare(at.file(), at.file(**BAD[name]))).code == "invalid_body"
        assert at.faulty.calls == []
    assert await pool.fetch("select count(*) from attachments") == [(0,)]


@pytest.mark.parametrize("count", [0, 11])
async def test_request_declares_one_to_ten_files(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, count: int
) -> None:
    async with uploader(pool, redis_url, tmp_path, alice) as at:
        assert (await at.declare(*[at.file()] * count)).code == "invalid_body"


@both_encodings
async def test_quota_is_refused_with_its_name_and_value(
    pool: Pool, redis_url: str, tmp_path: Path, encoding: str, alice: Credentials
) -> None:
    async with uploader(pool, redis_url, tmp_path, alice, encoding, quotas=Quotas(attachment_bytes_per_day=19)) as at:
        assert (await at.declare(at.file())).status == 201
        refused = await at.declare(at.file())
        assert refused.code == "quota_exceeded"
        assert (refused.body["limit"], refused.body["limit_value"]) == ("attachment_bytes_per_day", 19)


@pytest.mark.parametrize("error", [Unavailable("the object store", "x", "500"), ObjectStoreRefused("x", "it is full")])
async def test_failure_of_the_object_store_is_unavailable(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, error: Exception
) -> None:
    async with uploader(pool, redis_url, tmp_path, alice) as at:
        [ticket] = (await at.declare(at.file())).body["tickets"]
        at.faulty.fail(error, "stat", "begin_multipart")
        id_ = at.ident(ticket["attachment"])
        large = at.file(size_bytes=2 * ATTACHMENT_PART_BYTES, part_digests=at.sent(DIGEST * 2))
        for answer in (
            await at.asked("POST", id_, "/complete"),
            await at.asked("GET", id_, "/parts"),
            await at.declare(large),
        ):
            assert answer.code == "unavailable"


async def test_object_store_that_does_not_answer_is_unavailable_in_time(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other requests are answered meanwhile."""
    monkeypatch.setattr(transfers_module, "DEADLINE_S", 0.5)
    async with uploader(pool, redis_url, tmp_path, alice) as at:
        [ticket] = (await at.declare(at.file())).body["tickets"]
        asked = trio.Event()

        async def silence(_: str) -> None:
            asked.set()
            await trio.sleep_forever()

        at.faulty.instead("stat", silence)
        answers: list[Answer] = []

        async def complete() -> None:
            answers.append(await at.asked("POST", at.ident(ticket["attachment"]), "/complete"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(complete)
            await asked.wait()
            assert (await at.api.get("/v1/profile")).status == 200
            assert not answers
        assert [answer.code for answer in answers] == ["unavailable"]


@both_encodings
async def test_without_an_object_store_each_route_is_refused_by_name(
    pool: Pool, redis_url: str, encoding: str, alice: Credentials
) -> None:
    async with open_api(pool, redis_url, encoding) as api:
        at = Uploader(api.of(alice.token), None, None)  # type: ignore[arg-type]
        id_ = uuid4().bytes
        for answer in (
            await at.declare(at.file()),
            await at.asked("GET", id_, "/parts"),
            await at.asked("POST", id_, "/complete"),
            await at.asked("DELETE", id_),
            await at.downloads(id_),
        ):
            assert answer.code == "no_object_store"
