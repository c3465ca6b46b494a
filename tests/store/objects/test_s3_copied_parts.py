"""Parts that are objects, with services that fail while they copy them, or lie about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import md5, sha256
from urllib.parse import unquote

import pytest

from protocol.limits import ATTACHMENT_PART_BYTES
from store.errors import ObjectDiffers, ObjectMissing, ObjectStoreRefused, StoreError, Unavailable
from store.objects.bucket import Bucket
from store.objects.direct import OpenMultipart, Part
from store.objects.s3_copied_parts import CopyingS3
from store.objects.url import parse_objects_url
from tests.rows import each_row
from tests.store.objects.scripted_service import ServiceReply, ServiceRequest, scripted

KEY = "attachments/ab/01"
UPLOAD = "an upload/+&="
FOLDER = sha256(UPLOAD.encode()).hexdigest()[:32]
CONTENTS = (b"one", b"two")
PARTS = [Part(n, len(data), sha256(data).digest()) for n, data in enumerate(CONTENTS, 1)]
TAGS = [md5(data, usedforsecurity=False).hexdigest() for data in CONTENTS]
KEYS = [f"parts/{KEY}/{FOLDER}/{part.number:05d}-3-{part.digest.hex()}" for part in PARTS]
JOINED_TAG = md5(b"".join(map(bytes.fromhex, TAGS)), usedforsecurity=False).hexdigest() + "-2"
COPIED = "<CopyPartResult><ETag>&quot;{}&quot;</ETag></CopyPartResult>"


def listed(keys: Mapping[str, str], size_bytes: int = 3) -> bytes:
    """A list of objects.

    :param keys: key -> tag.
    """
    rows = (
        f"<Contents><Key>{key}</Key><Size>{size_bytes}</Size><ETag>&quot;{tag}&quot;</ETag>"
        "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        for key, tag in keys.items()
    )
    return f"<L>{''.join(rows)}</L>".encode()


class CopyingService:
    """A service with these parts that answers as R2 does, unless a test has it answer otherwise.

    :ivar asked: the requests so far.
    :ivar instead: name of a call -> its answer.
    """

    def __init__(self, **instead: ServiceReply) -> None:
        self.asked: list[ServiceRequest] = []
        self.instead = instead
        self._is_removed = False

    def __call__(self, asked: ServiceRequest) -> ServiceReply:
        self.asked.append(asked)
        name = self._name(asked)
        if name == "delete":
            self._is_removed = True
        return self.instead.get(name) or self._truth(name, asked)

    def names(self) -> list[str]:
        return [self._name(each) for each in self.asked]

    def _name(self, asked: ServiceRequest) -> str:
        match asked.method:
            case "GET":
                return "objects" if "list-type" in asked.query else "parts"
            case "PUT":
                return "copy"
            case "POST":
                return "join"
            case "HEAD":
                return "stat"
        return "delete"

    def _truth(self, name: str, asked: ServiceRequest) -> ServiceReply:
        match name:
            case "objects":
                return ServiceReply(listed({} if self._is_removed else dict(zip(KEYS, TAGS, strict=True))))
            case "parts":
                return ServiceReply(b"<L/>")
            case "copy":
                source = unquote(asked.headers["x-amz-copy-source"])
                assert source.startswith("bucket/parts/"), "without a slash before it"
                tag = TAGS[KEYS.index(source.removeprefix("bucket/"))]
                return ServiceReply(COPIED.format(tag).encode())
            case "join":
                return ServiceReply(b"<CompleteMultipartUploadResult><Key>a</Key></CompleteMultipartUploadResult>")
            case "stat":
                return ServiceReply(headers={"content-length": "6", "etag": f'"{JOINED_TAG}"'})
        return ServiceReply(status=204)


async def join(service: Callable[[ServiceRequest], ServiceReply]) -> None:
    async with scripted(service, more="&part_checksums=false") as objects:
        assert isinstance(objects, CopyingS3)
        await objects.complete_multipart(KEY, UPLOAD, PARTS)


async def test_parts_are_copied_compared_joined_and_removed() -> None:
    service = CopyingService()
    await join(service)
    names = service.names()
    assert sorted(names[:4]) == ["copy", "copy", "objects", "parts"]
    assert names[4:6] == ["join", "stat"]
    assert sorted(unquote(each.path) for each in service.asked if each.method == "DELETE") == [
        f"/bucket/{key}" for key in KEYS
    ]
    [body] = [each.body.decode() for each in service.asked if each.method == "POST"]
    assert "ChecksumSHA256" not in body, "R2 knows none of parts"
    assert [tag in body for tag in TAGS] == [True, True]
    assert not [each for each in service.asked if "x-amz-checksum-sha256" in each.headers]


async def test_parts_that_were_copied_are_not_copied_again() -> None:
    """A join that was broken off goes on where it was. A copy with another tag is no copy."""
    rows = "".join(
        f"<Part><PartNumber>{n}</PartNumber><Size>3</Size><ETag>&quot;{tag}&quot;</ETag></Part>"
        for n, tag in ((1, TAGS[0]), (2, "0" * 32))
    )
    service = CopyingService(parts=ServiceReply(f"<L>{rows}</L>".encode()))
    await join(service)
    assert [each.query["partNumber"] for each in service.asked if each.method == "PUT"] == ["2"]


@pytest.mark.parametrize(
    ("instead", "expected", "match"),
    [
        ({"copy": ServiceReply(b"<Error><Code>InternalError</Code></Error>")}, Unavailable, "InternalError"),
        ({"copy": ServiceReply(b"<Error><Code>SlowDown</Code></Error>", 503)}, Unavailable, "SlowDown"),
        ({"copy": ServiceReply(b"<Error><Code>NoSuchKey</Code></Error>")}, ObjectMissing, KEY),
        ({"copy": ServiceReply(b"<Error><Code>NoSuchKey</Code></Error>", 404)}, ObjectMissing, KEY),
        ({"copy": ServiceReply(b"<Error><Code>NotImplemented</Code></Error>", 501)}, ObjectStoreRefused, "501"),
        ({"copy": ServiceReply(COPIED.format("0" * 32).encode())}, ObjectStoreRefused, "has another tag"),
        ({"copy": ServiceReply(b"")}, ObjectStoreRefused, "cannot be read"),
        ({"join": ServiceReply(b"<Error><Code>NoSuchUpload</Code></Error>", 404)}, ObjectMissing, KEY),
        ({"parts": ServiceReply(b"<Error><Code>NoSuchUpload</Code></Error>", 404)}, ObjectMissing, KEY),
        ({"stat": ServiceReply(headers={"content-length": "6", "etag": f'"{TAGS[0]}-2"'})}, ObjectDiffers, KEY),
        ({"stat": ServiceReply(headers={"content-length": "5", "etag": f'"{JOINED_TAG}"'})}, ObjectDiffers, KEY),
        ({"objects": ServiceReply(listed({KEYS[0]: TAGS[0]}))}, ObjectDiffers, KEY),
        ({"objects": ServiceReply(listed(dict(zip(KEYS, TAGS, strict=True)), size_bytes=4))}, ObjectDiffers, KEY),
    ],
)
async def test_copy_that_fails_or_differs_is_refused_and_nothing_is_deleted(
    instead: dict[str, ServiceReply], expected: type[StoreError], match: str
) -> None:
    """A message may have the object since another request, which has seen the right one."""
    service = CopyingService(**instead)
    async with scripted(service, more="&part_checksums=false") as objects:
        with pytest.raises(expected, match=match):
            await objects.complete_multipart(KEY, UPLOAD, PARTS)
    assert "delete" not in service.names()


async def test_parts_that_cannot_be_removed_do_not_keep_the_file_from_being_complete() -> None:
    await join(CopyingService(delete=ServiceReply(b"<Error><Code>AccessDenied</Code></Error>", 403)))


async def test_parts_without_a_multipart_upload_are_listed_as_one_that_can_be_aborted() -> None:
    """As a crash leaves them, or a ticket that is used late."""
    gone: list[str] = []

    def service(asked: ServiceRequest) -> ServiceReply:
        if asked.method == "DELETE":
            gone.append(unquote(asked.path))
            return ServiceReply(status=204)
        keys = {} if gone else dict(zip(KEYS, TAGS, strict=True))
        return ServiceReply(listed(keys) if "list-type" in asked.query else b"<L/>")

    async with scripted(service, more="&part_checksums=false") as objects:
        [left] = await objects.list_multiparts("attachments/")
        assert left == OpenMultipart(KEY, f"parts:{FOLDER}", 1_767_225_600_000_000)
        await objects.abort_multipart(left.key, left.upload)
    assert sorted(gone) == [f"/bucket/{key}" for key in KEYS], "the parts alone"


async def test_part_is_uploaded_as_an_object_of_its_own() -> None:
    async with scripted(CopyingService(), more="&part_checksums=false") as objects:
        part = Part(256, ATTACHMENT_PART_BYTES, bytes(32))
        request = objects.presign_part(KEY, UPLOAD, part, expires_s=60)
    assert request.method == "PUT"
    assert f"/bucket/parts/{KEY}/{FOLDER}/00256-8388608-{'0' * 64}?" in request.url
    assert "uploadId" not in request.url
    assert len(request.url) <= 1024


@each_row(
    ("host", "query", "expected"),
    [
        ("s3.eu-central-1.amazonaws.com", "", True),
        ("0123abcd.r2.cloudflarestorage.com", "", False),
        ("0123abcd.eu.r2.cloudflarestorage.com:443", "?region=auto", False),
        ("0123abcd.r2.cloudflarestorage.com", "?part_checksums=true", True),
        ("127.0.0.1:9000", "?tls=false&part_checksums=false", False),
        ("r2.cloudflarestorage.com.example", "", True),
    ],
)
def test_r2_has_copied_parts_by_itself_and_others_by_a_word(host: str, query: str, expected: bool) -> None:
    bucket = parse_objects_url(f"s3://key:secret@{host}/files{query}")
    assert isinstance(bucket, Bucket)
    assert bucket.part_checksums is expected
