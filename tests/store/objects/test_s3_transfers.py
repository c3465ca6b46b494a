"""Direct transfers with services that are away, slow, at their limits, or not telling the truth."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

import pytest

from embedded.ports import free_port
from store.errors import ObjectDiffers, ObjectMissing, ObjectStoreRefused, StoreError, Unavailable
from store.objects import s3_requests
from store.objects.bucket import Bucket
from store.objects.direct import ObjectState, Part, missing_parts
from store.objects.s3 import S3
from store.objects.sigv4 import SigningKey
from store.objects.url import open_objects
from tests.store.objects.scripted_service import ServiceReply, ServiceRequest, scripted
from tests.store.objects.transfer_world import part_of
from tests.store.store_world import silent_server

KEY = "attachments/ab/01"
UPLOAD = "an upload/+&="
PART = part_of(b"some bytes")
CHECKSUM = b64encode(PART.digest).decode()
COMPOSITE = f"{b64encode(sha256(PART.digest).digest()).decode()}-1"
LISTED = f"<Part><PartNumber>1</PartNumber><ETag>&quot;x&quot;</ETag><Size>{PART.size_bytes}</Size></Part>"
JOINED = b"<CompleteMultipartUploadResult><Key>a</Key></CompleteMultipartUploadResult>"

CALLS: dict[str, Callable[[S3], Awaitable[object]]] = {
    "begin": lambda objects: objects.begin_multipart(KEY),
    "list of parts": lambda objects: objects.list_parts(KEY, UPLOAD),
    "join": lambda objects: objects.complete_multipart(KEY, UPLOAD, [PART]),
    "abort": lambda objects: objects.abort_multipart(KEY, UPLOAD),
    "list of uploads": lambda objects: objects.list_multiparts(""),
    "stat": lambda objects: objects.stat(KEY),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("status", "expected"),
    [(500, Unavailable), (503, Unavailable), (429, Unavailable), (403, ObjectStoreRefused), (501, ObjectStoreRefused)],
)
async def test_service_that_refuses_or_is_at_its_limits_is_told_apart(
    call: Callable[[S3], Awaitable[object]], status: int, expected: type[StoreError]
) -> None:
    async with scripted(lambda asked: ServiceReply(b"<Error><Code>Some</Code></Error>", status)) as objects:
        with pytest.raises(expected, match=f"status {status}") as caught:
            await call(objects)
    assert "planted-secret" not in f"{caught.value!r} {caught.value}"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_service_that_breaks_off_its_answer_is_unavailable(call: Callable[[S3], Awaitable[object]]) -> None:
    def script(asked: ServiceRequest) -> ServiceReply:
        status = 204 if asked.method == "DELETE" else 200
        return ServiceReply(b"<a", status, {"content-length": "x" if asked.method in ("HEAD", "DELETE") else "1000"})

    async with scripted(script) as objects:
        with pytest.raises(Unavailable, match="RemoteProtocolError"):
            await call(objects)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_service_that_is_away_or_silent_is_unavailable_in_time(
    call: Callable[[S3], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_requests, "TIMEOUT_S", 0.1)
    async with silent_server() as server, service(f"127.0.0.1:{server.port}") as objects:
        with pytest.raises(Unavailable, match=r"no answer within 0\.1 s"):
            await call(objects)
    async with service(f"127.0.0.1:{free_port()}") as objects:
        with pytest.raises(Unavailable, match="ConnectError"):
            await call(objects)


@asynccontextmanager
async def service(host: str) -> AsyncGenerator[S3, None]:
    async with open_objects(f"s3://key:planted-secret@{host}/bucket?tls=false") as objects:
        assert isinstance(objects, S3)
        yield objects


async def join(objects: S3) -> None:
    await objects.complete_multipart(KEY, UPLOAD, [PART])


def joining(body: bytes, status: int = 200, checksum: str = COMPOSITE) -> Callable[[ServiceRequest], ServiceReply]:
    """A service that has the part, answers a join like this, and then has an object of this checksum."""

    def script(asked: ServiceRequest) -> ServiceReply:
        match asked.method:
            case "GET":
                return ServiceReply(f"<L>{LISTED}</L>".encode())
            case "POST":
                return ServiceReply(body, status)
            case "HEAD":
                return ServiceReply(headers={"x-amz-checksum-sha256": checksum} if checksum else {})
            case _:
                return ServiceReply(status=204)

    return script


@pytest.mark.parametrize(
    ("body", "status", "expected", "match"),
    [
        (b"  \n <Error><Code>InternalError</Code></Error>", 200, Unavailable, "InternalError"),
        (b"<Error><Code>SlowDown</Code></Error>", 200, Unavailable, "SlowDown"),
        (b"<Error><Code>InvalidPart</Code></Error>", 400, Unavailable, "InvalidPart"),
        (b"<Error><Code>InvalidPart</Code></Error>", 200, Unavailable, "InvalidPart"),
        (b"<Error><Code>BadDigest</Code></Error>", 400, ObjectDiffers, KEY),
        (b"<Error><Code>BadDigest</Code></Error>", 200, ObjectDiffers, KEY),
        (b"<Error><Code>NoSuchUpload</Code></Error>", 404, ObjectMissing, KEY),
        (b"<Error><Code>NoSuchUpload</Code></Error>", 200, ObjectMissing, KEY),
        (b"<Error><Code>NoSuchBucket</Code></Error>", 404, ObjectStoreRefused, "NoSuchBucket"),
        (b"<Error><Code>EntityTooSmall</Code></Error>", 200, ObjectStoreRefused, "EntityTooSmall"),
        (b"<Error/>", 200, ObjectStoreRefused, "it does not say that it has joined the parts"),
        (b"", 200, ObjectStoreRefused, "its answer cannot be read"),
        (b"    ", 200, ObjectStoreRefused, "its answer cannot be read"),
        (b"<html/>", 200, ObjectStoreRefused, "it does not say that it has joined the parts"),
    ],
)
async def test_join_that_failed_after_its_status_is_seen(
    body: bytes, status: int, expected: type[StoreError], match: str
) -> None:
    async with scripted(joining(body, status)) as objects:
        with pytest.raises(expected, match=match):
            await join(objects)


async def test_service_may_send_spaces_while_it_joins() -> None:
    async with scripted(joining(b" " * 10_000 + b"\n" + JOINED)) as objects:
        await join(objects)


@pytest.mark.parametrize(
    ("checksum", "expected", "match"),
    [("", ObjectStoreRefused, "it keeps no SHA-256"), (CHECKSUM, ObjectDiffers, KEY)],
    ids=["none", "another one"],
)
async def test_object_without_the_right_digest_is_refused_by_name_and_stays(
    checksum: str, expected: type[StoreError], match: str
) -> None:
    """A second join of one upload may meet a service that has just told the truth to the first, and lies now: by then a
    message may have the object."""
    asked: list[str] = []

    def script(each: ServiceRequest) -> ServiceReply:
        asked.append(f"{each.method} {each.path}")
        return joining(JOINED, checksum=checksum)(each)

    async with scripted(script) as objects:
        with pytest.raises(expected, match=match):
            await join(objects)
    assert [each.split()[0] for each in asked] == ["GET", "POST", "HEAD"]


async def test_join_repeats_the_digest_and_the_tag_of_each_part() -> None:
    """The service compares them with those that it has."""
    asked: list[ServiceRequest] = []

    def script(each: ServiceRequest) -> ServiceReply:
        asked.append(each)
        return joining(JOINED)(each)

    async with scripted(script) as objects:
        await join(objects)
    assert asked[1].query == {"uploadId": UPLOAD}
    part = f'<ChecksumSHA256>{CHECKSUM}</ChecksumSHA256><ETag>"x"</ETag><PartNumber>1</PartNumber>'
    name = 'CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    assert asked[1].body.decode() == f"<{name}><Part>{part}</Part></CompleteMultipartUpload>"


@pytest.mark.parametrize(
    "listed",
    [
        "",
        LISTED.replace("<PartNumber>1<", "<PartNumber>2<"),
        LISTED.replace(f"<Size>{PART.size_bytes}<", "<Size>9<"),
        LISTED.replace("<Size>", f"<ChecksumSHA256>{b64encode(bytes(32)).decode()}</ChecksumSHA256><Size>"),
    ],
    ids=["none", "another number", "another size", "another digest"],
)
async def test_parts_that_are_not_as_declared_are_not_joined(listed: str) -> None:
    def script(asked: ServiceRequest) -> ServiceReply:
        assert asked.method == "GET", "no join"
        return ServiceReply(f"<L>{listed}</L>".encode())

    async with scripted(script) as objects:
        with pytest.raises(ObjectDiffers, match=KEY):
            await join(objects)
        assert missing_parts([PART], await objects.list_parts(KEY, UPLOAD)) == [PART]


async def test_digests_of_parts_are_read_where_the_service_lists_them() -> None:
    listed = LISTED.replace("<Size>", f"<ChecksumSHA256>{CHECKSUM}</ChecksumSHA256><Size>")
    async with scripted(lambda asked: ServiceReply(f"<L>{listed}</L>".encode())) as objects:
        assert await objects.list_parts(KEY, UPLOAD) == [PART]
    async with scripted(lambda asked: ServiceReply(f"<L>{LISTED}</L>".encode())) as objects:
        assert await objects.list_parts(KEY, UPLOAD) == [Part(1, PART.size_bytes, b"")]


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("begin", b""),
        ("begin", b"<InitiateMultipartUploadResult/>"),
        ("list of parts", b"not XML"),
        ("list of parts", b"<L><Part><PartNumber>1</PartNumber></Part></L>"),
        ("list of parts", LISTED.replace("<Size>", "<ChecksumSHA256>AAAA</ChecksumSHA256><Size>").encode()),
        ("list of uploads", b"not XML"),
        ("list of uploads", b"<L><Upload><Key>a</Key><UploadId>b</UploadId></Upload></L>"),
    ],
)
async def test_answer_that_cannot_be_read_is_the_operators_to_look_at(call: str, body: bytes) -> None:
    if call == "list of parts" and body.startswith(b"<Part>"):
        body = b"<L>" + body + b"</L>"
    async with scripted(lambda asked: ServiceReply(body)) as objects:
        with pytest.raises(ObjectStoreRefused, match=r"cannot be read|gives a multipart upload no name"):
            await CALLS[call](objects)


@pytest.mark.parametrize(("call", "page"), [("list of parts", LISTED), ("list of uploads", "")])
async def test_list_that_never_ends_is_given_up(call: str, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_requests, "TIMEOUT_S", 0.3)
    upload = "<Upload><Key>a</Key><UploadId>b</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload>"
    marks = "<NextPartNumberMarker>1</NextPartNumberMarker><NextKeyMarker>a</NextKeyMarker>"
    body = f"<L><IsTruncated>true</IsTruncated>{marks}{page or upload}</L>".encode()
    async with scripted(lambda asked: ServiceReply(body)) as objects:
        with pytest.raises(Unavailable, match=r"no answer within 0\.3 s"):
            await CALLS[call](objects)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-amz-checksum-sha256": CHECKSUM}, PART.digest),
        ({"x-amz-checksum-sha256": f"{CHECKSUM}-3"}, PART.digest),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, None),
    ],
)
async def test_digest_of_an_object_is_the_services_own_or_none(headers: dict[str, str], expected: bytes | None) -> None:
    def script(asked: ServiceRequest) -> ServiceReply:
        assert (asked.method, asked.headers["x-amz-checksum-mode"]) == ("HEAD", "ENABLED")
        return ServiceReply(headers={"content-length": "1234", **headers})

    async with scripted(script) as objects:
        assert await objects.stat(KEY) == ObjectState(1234, expected)


@pytest.mark.parametrize("checksum", ["AAAA", "?", f"{CHECKSUM}x", CHECKSUM[:-4]])
async def test_invalid_digest_is_not_taken_for_a_missing_one(checksum: str) -> None:
    async with scripted(lambda asked: ServiceReply(headers={"x-amz-checksum-sha256": checksum})) as objects:
        with pytest.raises(ObjectStoreRefused, match="its checksum cannot be read"):
            await objects.stat(KEY)


async def test_clients_are_sent_to_the_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is part of what is signed, so the service has to see the public one."""
    async with scripted(lambda asked: ServiceReply(), "https://files.example:8443") as objects:
        for request in (
            objects.presign_get(KEY, expires_s=60),
            objects.presign_put(KEY, PART, expires_s=60),
            objects.presign_part(KEY, UPLOAD, PART, expires_s=60),
        ):
            url = urlsplit(request.url)
            assert (url.scheme, url.netloc, url.path) == ("https", "files.example:8443", f"/bucket/{KEY}")
            assert "host" not in request.headers
            assert "host" in parse_qs(url.query)["X-Amz-SignedHeaders"][0].split(";")
        assert await objects.get("a") == b"", "the server goes to the address of OBJECT_STORE_URL"


def test_bucket_shows_no_secret() -> None:
    bucket = Bucket("h", "files", SigningKey("key", "planted-secret", "auto"))
    assert "planted-secret" not in f"{bucket} {bucket!r}"
    assert bucket.clients_url == bucket.url == "https://h"
