"""Uploads: files go to the object store in parts, several at once, and go on after any interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final, TypeAlias

import trio
from msgspec import Struct

from client import backoff
from client.errors import ClientFailure, FileChanged, RequestExpired, RequestRefused, TransferFailed, Unreachable
from client.file_parts import FileParts, is_unchanged, read_part
from client.link import Link
from client.object_store import CONNECTIONS, ObjectStore
from protocol.frames import PartRequest, PartRequests

ATTEMPTS: Final = 8
"""For one part, and for one file without a part stored in between: with the pauses, about a minute."""

LONGEST_PAUSE_S: Final = 15.0
"""Between two attempts."""

REQUEST_TIMEOUT_S: Final = 120.0
"""For one request to the server, including reconnecting."""

MEDIA_TYPE: Final = "application/octet-stream"
"""All that others learn of a ciphertext's type."""

OnProgress: TypeAlias = Callable[[int, int], object]
"""Called with the bytes that are stored or on their way, and with the bytes of the file; never with fewer than
before."""


class OutgoingFile(Struct, frozen=True):
    """A file to upload.

    :ivar thumbnail: of one part, and at most `limits.MAX_THUMBNAIL_FILE_BYTES`.
    """

    file: FileParts
    thumbnail: FileParts | None = None
    media_type: str = MEDIA_TYPE


class OpenUpload(Struct, frozen=True):
    """An upload that the server knows.

    :ivar attachment: its id, which a message names once the upload is complete.
    :ivar thumbnail: the id of its thumbnail; None: it has none.
    """

    attachment: bytes
    thumbnail: bytes | None = None


class Uploader:
    """The uploads of one device.

    :param link: the requests to the server go over it.
    """

    def __init__(self, link: Link, store: ObjectStore) -> None:
        self._link = link
        self._store = store

    async def declare(self, files: Sequence[OutgoingFile], *, is_avatar: bool = False) -> list[OpenUpload]:
        """Declare files; returns their uploads, in order. No byte is sent yet: see `finish`.

        :param files: 1 to `limits.MAX_ATTACHMENTS`.
        :param is_avatar: they are avatars, which no message takes.
        :raises RequestRefused: `quota_exceeded`, `no_object_store`, among others.
        :raises NoReply, Unreachable: if the server does not answer.
        """
        declared = [
            (
                each.file.size_bytes,
                each.media_type,
                each.file.digests,
                None if each.thumbnail is None else (each.thumbnail.size_bytes, each.thumbnail.digests),
            )
            for each in files
        ]
        reply = await self._link.insist(
            lambda connection: connection.upload(declared, is_avatar=is_avatar), REQUEST_TIMEOUT_S
        )
        thumbnails = {ticket.thumbnail_of: ticket.attachment for ticket in reply.tickets}
        return [
            OpenUpload(ticket.attachment, thumbnails.get(ticket.attachment))
            for ticket in reply.tickets
            if ticket.thumbnail_of is None
        ]

    async def finish(
        self, upload: OpenUpload, outgoing: OutgoingFile, on_progress: OnProgress = lambda *_: None
    ) -> None:
        """Store the parts that are missing, whatever was stored before. When this returns, a message may name the
        attachment. If this is cancelled, another call goes on from there, also in another program.

        :param on_progress: told of the file without its thumbnail.
        :raises RequestRefused: `unknown_attachment` if the server has given the upload up, among others.
        :raises TransferFailed, Unreachable: if the object store takes no part for about a minute.
        :raises FileChanged: if another program has changed the file.
        :raises NoReply: if the server does not answer.
        """
        progress = _Progress(outgoing.file.size_bytes, on_progress)
        for failures in range(ATTEMPTS):
            if upload.thumbnail is not None and outgoing.thumbnail is not None:
                await self._store_all(upload.thumbnail, outgoing.thumbnail, _Progress(outgoing.thumbnail.size_bytes))
            await self._store_all(upload.attachment, outgoing.file, progress)
            try:
                await self._link.insist(lambda connection: connection.complete([upload.attachment]), REQUEST_TIMEOUT_S)
            except RequestRefused as refused:
                if refused.code != "attachment_incomplete":
                    raise
                await trio.sleep(backoff.delay_s(failures, most_s=LONGEST_PAUSE_S))
            else:
                return
        raise TransferFailed("the object store has lost parts of the file again and again")

    async def _store_all(self, attachment: bytes, file: FileParts, progress: _Progress) -> None:
        """Store the parts until the server misses none."""
        after: int | None = None
        failures = 0
        while True:
            reply = await self._missing(attachment, after)
            missing = [part for part, _, _ in reply.part_requests]
            last = missing[-1] if reply.more else file.count
            for part in {*range((after or 0) + 1, last + 1)}.difference(missing):
                progress.stored(part, file.size_of(part))
            if missing:
                before = progress.stored_parts
                refused = await self._store_some(file, reply.part_requests, progress)
                if refused is not None:
                    failures = 1 if progress.stored_parts > before else failures + 1
                    if failures == ATTEMPTS:
                        raise refused
                    if not await is_unchanged(file):
                        raise FileChanged(file.path)
                    await trio.sleep(backoff.delay_s(failures, most_s=LONGEST_PAUSE_S))
                    continue
            failures = 0
            if not reply.more:
                return
            after = last

    async def _missing(self, attachment: bytes, after: int | None) -> PartRequests:
        return await self._link.insist(lambda connection: connection.parts(attachment, after=after), REQUEST_TIMEOUT_S)

    async def _store_some(
        self, file: FileParts, requests: Sequence[PartRequest], progress: _Progress
    ) -> RequestExpired | None:
        """Store these parts, some at a time; the error if the object store takes a request no longer."""
        left = list(reversed(requests))
        failed: list[ClientFailure] = []

        async def store() -> None:
            try:
                while left and not failed:
                    await self._store_part(file, left.pop(), progress)
            except RequestExpired as error:
                failed.append(error)
            except ClientFailure as error:
                failed.insert(0, error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(min(CONNECTIONS, len(left))):
                nursery.start_soon(store)
        match failed:
            case []:
                return None
            case [RequestExpired() as error, *_]:
                return error
            case [error, *_]:
                raise error
        raise AssertionError("not reached")

    async def _store_part(self, file: FileParts, request: PartRequest, progress: _Progress) -> None:
        part = request[0]
        for failures in range(ATTEMPTS):
            progress.begin(part)
            try:
                async with aclosing(read_part(file, part, progress.on_chunk(part))) as chunks:
                    await self._store.put(request, file.size_of(part), chunks)
            except Unreachable:
                if failures == ATTEMPTS - 1:
                    raise
                await trio.sleep(backoff.delay_s(failures, most_s=LONGEST_PAUSE_S))
            else:
                progress.stored(part, file.size_of(part))
                return


class _Progress:
    """The bytes of each part that are stored or on their way."""

    def __init__(self, size_bytes: int, on_progress: OnProgress = lambda *_: None) -> None:
        self._size_bytes = size_bytes
        self._on_progress = on_progress
        self._parts: dict[int, int] = {}
        self._stored = set[int]()
        self._most = -1

    @property
    def stored_parts(self) -> int:
        return len(self._stored)

    def begin(self, part: int) -> None:
        self._parts[part] = 0
        self._stored.discard(part)

    def on_chunk(self, part: int) -> Callable[[int], None]:
        def add(size: int) -> None:
            self._parts[part] += size
            self._tell()

        return add

    def stored(self, part: int, size_bytes: int) -> None:
        self._parts[part] = size_bytes
        self._stored.add(part)
        self._tell()

    def _tell(self) -> None:
        done = sum(self._parts.values())
        if done > self._most:  # an attempt that failed takes its bytes back
            self._most = done
            self._on_progress(done, self._size_bytes)
