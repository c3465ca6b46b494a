"""An object store and clients that send its presigned requests, changed by the tests at one point or another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import msgspec
import trio

from protocol.limits import ATTACHMENT_PART_BYTES
from store.objects.direct import DirectTransfers, Part, PresignedRequest
from store.objects.folder import Folder
from store.objects.interface import Objects
from store.objects.s3 import S3
from store.objects.s3_copied_parts import CopyingS3
from store.objects.url import open_objects
from store.postgres.pool import Pool
from tests.server.http.files.file_world import open_files

PART_BYTES: Final = ATTACHMENT_PART_BYTES
"""Of all parts but the last: a folder takes no other size, and S3 no less than 5 MiB."""


class Store(Objects, DirectTransfers, Protocol):
    """Either kind."""


FOLDER: Final = "a folder"
SERVICE: Final = "a service"
COPYING: Final = "a service without checksums of parts"
KINDS: Final = (FOLDER, SERVICE, COPYING)
"""Of object stores: the same tests run on each."""


@asynccontextmanager
async def open_store(
    kind: str, pool: Pool, redis_url: str, path: Path, s3_url: str
) -> AsyncGenerator[Folder | S3, None]:
    """An empty object store of this kind, whose presigned requests are served; `web` serves those of a folder.

    :param path: of the folder.
    :param s3_url: of the service; nothing is left there.
    """
    if kind == FOLDER:
        async with open_files(pool, redis_url, path) as (folder, _):
            yield folder
        return
    async with open_objects(f"{s3_url}&part_checksums=false" if kind == COPYING else s3_url) as objects:
        assert isinstance(objects, S3)
        yield objects
        await objects.delete([entry.key for entry in await objects.list("")])
        for left in await objects.list_multiparts(""):
            await objects.abort_multipart(left.key, left.upload)


@dataclass(frozen=True)
class TransferWorld:
    """An empty object store.

    :ivar late: a context in which the object store signs as of so many seconds ago.
    """

    objects: Store
    client: httpx.AsyncClient = field(repr=False)
    late: AbstractContextManager[None]

    @property
    def takes_late_parts(self) -> bool:
        """Whether a part of an upload that is over is stored all the same; it counts for nothing."""
        return isinstance(self.objects, CopyingS3)

    async def check_stored(self, key: str, size_bytes: int, parts: list[Part]) -> None:
        """An object was joined from these parts, and the store tells its digest, if it says that it does."""
        state = await self.objects.stat(key)
        assert state.size_bytes == size_bytes
        assert state.digest == composite(parts) or (state.digest is None and not self.objects.joined_have_digests)

    async def send(self, request: PresignedRequest, body: bytes = b"") -> httpx.Response:
        """Send it as it is."""
        return await self.client.request(request.method, request.url, headers=dict(request.headers), content=body)

    async def send_part_of(self, request: PresignedRequest, body: bytes) -> bytes:
        """Send the head and these bytes, and say that there are no more; the answer, which may be empty."""
        parts = urlsplit(request.url)
        head = f"{request.method} {parts.path}?{parts.query} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
        answer = b""
        async with stream:
            try:
                await stream.send_all(head.encode() + b"\r\n" + body)
                await stream.send_eof()
                async for piece in stream:
                    answer += piece
            except trio.BrokenResourceError:
                pass  # it has read enough
        return answer

    async def begin(self, request: PresignedRequest, headers: Mapping[str, str], body: bytes) -> trio.SocketStream:
        """A connection on which the head was sent, with these headers over those of the ticket, and these bytes."""
        parts = urlsplit(request.url)
        shown = {"host": parts.netloc, **request.headers, **headers}
        head = f"{request.method} {parts.path}?{parts.query} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in shown.items())
        stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
        await stream.send_all(head.encode() + b"\r\n" + body)
        return stream

    async def put(self, key: str, data: bytes) -> None:
        """Upload an object in one part, as a client does."""
        answer = await self.send(self.objects.presign_put(key, part_of(data), expires_s=60), data)
        assert answer.is_success, answer.text

    async def put_part(self, key: str, upload: str, data: bytes, number: int) -> Part:
        """Upload a part; again, if another client is uploading it."""
        part = part_of(data, number)
        request = self.objects.presign_part(key, upload, part, expires_s=60)
        while (answer := await self.send(request, data)).status_code == 409:
            pass
        assert answer.is_success, answer.text
        return part

    async def get(self, key: str) -> bytes:
        """Download an object, as a client does."""
        answer = await self.send(self.objects.presign_get(key, expires_s=60))
        assert answer.is_success, answer.text
        return answer.content


def part_of(data: bytes, number: int = 1) -> Part:
    return Part(number, len(data), sha256(data).digest())


def composite(parts: list[Part]) -> bytes:
    """The digest of an object that has these parts."""
    return sha256(b"".join(part.digest for part in parts)).digest()


def altered(request: PresignedRequest) -> Iterator[tuple[str, PresignedRequest]]:
    """The same request with each component of its URL and each header changed, or left out.

    HTTP libraries add a missing content-length.
    """
    url = urlsplit(request.url)
    pairs = parse_qsl(url.query, keep_blank_values=True)
    for n, (name, value) in enumerate(pairs):
        for what, query in (
            (f"{name} changed", [*pairs[:n], (name, f"{value}1"), *pairs[n + 1 :]]),
            (f"{name} left out", [*pairs[:n], *pairs[n + 1 :]]),
        ):
            yield what, msgspec.structs.replace(request, url=url._replace(query=urlencode(query)).geturl())
    for name in request.headers:
        yield f"{name} changed", _with_headers(request, {**request.headers, name: _other(name, request.headers[name])})
        if name != "content-length":
            yield f"{name} left out", _with_headers(request, {k: v for k, v in request.headers.items() if k != name})
    yield "another key", msgspec.structs.replace(request, url=url._replace(path=f"{url.path}2").geturl())
    for method in {"GET", "PUT", "POST", "DELETE"} - {request.method}:
        yield method, msgspec.structs.replace(request, method=method)


def _with_headers(request: PresignedRequest, headers: Mapping[str, str]) -> PresignedRequest:
    return msgspec.structs.replace(request, headers=headers)


def _other(name: str, value: str) -> str:
    """A valid value that is another one."""
    return str(int(value) + 1) if name == "content-length" else value[::-1]
