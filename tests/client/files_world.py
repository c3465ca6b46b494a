"""An object store in memory, and the server's answers about it, for the tests of files."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import httpx
import trio

from client.object_store import ObjectStore
from protocol.frames import (
    Complete,
    Done,
    Download,
    Downloads,
    DownloadTicket,
    Error,
    Frame,
    PartRequest,
    PartRequests,
    Parts,
    Ticket,
    Tickets,
    Upload,
)
from protocol.limits import ATTACHMENT_PART_BYTES, MAX_PART_REQUESTS
from tests.client.client_world import ClientWorld

DIGEST_BYTES: Final = 32
LATER: Final = 2**60

StoreFault = Callable[[httpx.Request], httpx.Response]


def write_parts(path: Path, size_bytes: int) -> Path:
    """A sparse file whose parts differ."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for start in range(0, size_bytes, ATTACHMENT_PART_BYTES):
            file.seek(start)
            file.write((start // ATTACHMENT_PART_BYTES + 1).to_bytes(1))
    return path


def digest_of(parts: Sequence[bytes]) -> bytes:
    """The digest of the file that has these parts (SPEC 18.2)."""
    digests = [sha256(part).digest() for part in parts]
    return digests[0] if len(digests) == 1 else sha256(b"".join(digests)).digest()


class Body(httpx.AsyncByteStream):
    """The bytes of an answer, which may end too early.

    :param error: ends it.
    """

    def __init__(self, content: bytes, error: Exception | None = None) -> None:
        self._content = content
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), 50_000):
            await trio.lowlevel.checkpoint()
            yield self._content[start : start + 50_000]
        if self._error is not None:
            raise self._error


class _Transport(httpx.AsyncBaseTransport):
    """Unlike `httpx.MockTransport`, it does not read bodies by itself."""

    def __init__(self, serve: Callable[[httpx.Request], Awaitable[httpx.Response]]) -> None:
        self._serve = serve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._serve(request)


class FilesWorld:
    """The object store and the server's rows of attachments.

    :ivar stored: the digest of each part that is stored, by attachment.
    :ivar lengths: of every chunk of a body.
    :ivar puts: the numbers of the parts whose bytes came, in order; `most_at_once` is their greatest number at a time.
    :ivar gets: the headers of the requests for bytes.
    :ivar put_faults: answers to the next PUTs, instead of storing; `get_faults` those to the next GETs.
    :ivar errors: the answers to the next `complete`; None serves one normally.
    :ivar readable: the tickets of the attachments that the user may read.
    :ivar objects: the bytes of each of them in the object store.
    """

    def __init__(self, world: ClientWorld) -> None:
        self.declared: dict[bytes, bytes] = {}
        self.thumbnails: dict[bytes, bytes] = {}
        self.stored: dict[bytes, dict[int, bytes]] = defaultdict(dict)
        self.lengths: list[int] = []
        self.puts: list[int] = []
        self.most_at_once = 0
        self.gets: list[httpx.Headers] = []
        self.put_faults: deque[StoreFault | None] = deque()
        self.get_faults: deque[StoreFault | None] = deque()
        self.errors: deque[str | None] = deque()
        self.readable: dict[bytes, DownloadTicket] = {}
        self.objects: dict[bytes, bytes] = {}
        self.asked_parts = 0
        self._at_once = 0
        world.others |= {
            Upload: self._declare,
            Parts: self._missing,
            Complete: self._complete,
            Download: self._tickets,
        }

    def store(self) -> ObjectStore:
        return ObjectStore(transport=_Transport(self._serve))

    def publish(self, attachment: bytes, content: bytes, *, is_known: bool = True) -> None:
        """Put a file into the store that the user may read.

        :param is_known: whether the server knows its digest.
        """
        self.objects[attachment] = content
        parts = [content[at : at + ATTACHMENT_PART_BYTES] for at in range(0, len(content), ATTACHMENT_PART_BYTES)]
        digest = digest_of(parts) if is_known else None
        url = f"http://objects.test/{attachment.hex()}"
        self.readable[attachment] = DownloadTicket(LATER, attachment, None, len(content), "image/jpeg", digest, url)

    def is_whole(self, attachment: bytes) -> bool:
        return b"".join(digest for _, digest in sorted(self.stored[attachment].items())) == self.declared[attachment]

    def _declare(self, frame: Upload) -> Frame:
        tickets = []
        for _, _, digests, thumbnail in frame.files:
            attachment = self._row(digests)
            tickets.append(Ticket(LATER, attachment, None, self._requests(attachment, 0)[:1]))
            if thumbnail is not None:
                small = self._row(thumbnail[1])
                self.thumbnails[attachment] = small
                tickets.append(Ticket(LATER, small, attachment, self._requests(small, 0)[:1]))
        return Tickets(frame.request, tickets)

    def _row(self, digests: bytes) -> bytes:
        attachment = (len(self.declared) + 1).to_bytes(16)
        self.declared[attachment] = digests
        return attachment

    def _requests(self, attachment: bytes, after: int) -> list[PartRequest]:
        count = len(self.declared[attachment]) // DIGEST_BYTES
        missing = [part for part in range(after + 1, count + 1) if part not in self.stored[attachment]]
        return [(part, f"http://objects.test/{attachment.hex()}/{part}", [("x-part", str(part))]) for part in missing]

    def _missing(self, frame: Parts) -> Frame:
        self.asked_parts += 1
        found = self._requests(frame.attachment, frame.after or 0)
        more = len(found) > MAX_PART_REQUESTS
        stored = len(self.stored[frame.attachment])
        return PartRequests(frame.request, more, LATER, found[:MAX_PART_REQUESTS], stored)

    def _complete(self, frame: Complete) -> Frame:
        code = self.errors.popleft() if self.errors else None
        if code is None and not all(
            self.is_whole(each) for id_ in frame.attachments for each in (id_, self.thumbnails.get(id_)) if each
        ):
            code = "attachment_incomplete"
        return Done(frame.request) if code is None else Error(frame.request, code, "because")

    def _tickets(self, frame: Download) -> Frame:
        return Downloads(frame.request, [self.readable[each] for each in frame.wanted if each in self.readable])

    async def _serve(self, request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        return await (self._put(request) if request.method == "PUT" else self._get(request))

    async def _put(self, request: httpx.Request) -> httpx.Response:
        attachment, part = bytes.fromhex(request.url.path.split("/")[1]), int(request.headers["x-part"])
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await trio.lowlevel.checkpoint()
            fault = self.put_faults.popleft() if self.put_faults else None
            digest, size = sha256(), 0
            assert isinstance(request.stream, httpx.AsyncByteStream)
            async for chunk in request.stream:
                digest.update(chunk)
                size += len(chunk)
                self.lengths.append(len(chunk))
            assert size == int(request.headers["content-length"])
        finally:
            self._at_once -= 1
        self.puts.append(part)
        if fault is not None:
            return fault(request)
        wanted = self.declared[attachment][(part - 1) * DIGEST_BYTES : part * DIGEST_BYTES]
        if digest.digest() != wanted:
            return httpx.Response(400)
        self.stored[attachment][part] = wanted
        return httpx.Response(200)

    async def _get(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        self.gets.append(request.headers)
        fault = self.get_faults.popleft() if self.get_faults else None
        return self.bytes_for(request) if fault is None else fault(request)

    def bytes_for(self, request: httpx.Request, most: int = LATER, error: Exception | None = None) -> httpx.Response:
        """The honest answer to a GET.

        :param most: bytes of it, after which `error` ends it.
        """
        content = self.objects[bytes.fromhex(request.url.path.split("/")[1])]
        start = int(request.headers.get("range", "bytes=0-")[len("bytes=") : -1])
        shown = {"etag": '"tag"'}
        if "range" not in request.headers:
            return httpx.Response(200, headers=shown, stream=Body(content[:most], error))
        shown["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return httpx.Response(206, headers=shown, stream=Body(content[start:][:most], error))


def status(code: int) -> StoreFault:
    """A fault: an answer with this status."""
    return lambda _: httpx.Response(code)


def lose(_: httpx.Request) -> httpx.Response:
    """A fault: the connection is lost."""
    raise httpx.ReadError("connection reset")
