"""Downloads: files come from the object store, go on after any interruption, and get their name once they are whole."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final

import trio

from client import backoff
from client.errors import AttachmentGone, ObjectGone, RequestExpired, TransferFailed, Unreachable, WrongDigest
from client.file_parts import read_parts
from client.link import Link
from client.object_store import ObjectStore
from client.uploads import ATTEMPTS, LONGEST_PAUSE_S, REQUEST_TIMEOUT_S, OnProgress
from protocol.frames import DownloadTicket

PARTIAL: Final = ".part"
"""The end of the name of a file that is not whole yet."""

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)")


class Downloader:
    """The downloads of one device.

    :param link: the requests to the server go over it.
    """

    def __init__(self, link: Link, store: ObjectStore) -> None:
        self._link = link
        self._store = store

    async def tickets(self, attachments: list[bytes]) -> list[DownloadTicket]:
        """Tickets of those attachments that the user may read, and of their thumbnails; good for 15 minutes.

        :param attachments: 1 to `limits.MAX_WANTED`.
        :raises RequestRefused, NoReply, Unreachable: if the server does not give any.
        """
        reply = await self._link.insist(lambda connection: connection.download(attachments), REQUEST_TIMEOUT_S)
        return reply.downloads

    async def save(self, attachment: bytes, path: Path, on_progress: OnProgress = lambda *_: None) -> None:
        """Download a file. The bytes that have come lie beside `path`, under a name with the attachment's id; if this
        is cancelled or fails, another call goes on from there, also in another program.

        :param path: of a file that does not exist.
        :raises FileExistsError: if it exists; nothing is overwritten.
        :raises AttachmentGone: if the user may not read it.
        :raises WrongDigest: if other bytes came than were uploaded.
        :raises TransferFailed, Unreachable: if the object store gives no byte for about a minute.
        :raises RequestRefused, NoReply: if the server gives no ticket.
        :raises OSError: if the file cannot be written.
        """
        _check_free(path)
        partial = path.with_name(f".{attachment.hex()}{PARTIAL}")
        ticket = await self._fetch(attachment, partial, on_progress)
        if ticket.digest is not None and (await read_parts(partial)).digest != ticket.digest:
            partial.unlink()
            raise WrongDigest
        # Unlike a renaming, a link never replaces a file.
        os.link(partial, path)
        partial.unlink()

    async def _fetch(self, attachment: bytes, partial: Path, on_progress: OnProgress) -> DownloadTicket:
        failures = 0
        arriving: _Arriving | None = None
        while True:
            found = [each for each in await self.tickets([attachment]) if each.attachment == attachment]
            if not found:
                raise AttachmentGone
            [ticket] = found
            arriving = arriving or _Arriving(partial, ticket.size_bytes, on_progress)
            had = arriving.size_bytes
            try:
                if had < ticket.size_bytes:
                    await self._append(ticket, arriving, had)
            except ObjectGone:
                raise AttachmentGone from None
            except (Unreachable, RequestExpired):
                failures = 0 if arriving.size_bytes > had else failures + 1
                if failures == ATTEMPTS:
                    raise
                await trio.sleep(backoff.delay_s(failures, most_s=LONGEST_PAUSE_S))
            else:
                arriving.tell(ticket.size_bytes)
                return ticket

    async def _append(self, ticket: DownloadTicket, arriving: _Arriving, start: int) -> None:
        """Fetch the bytes from `start` on.

        :raises Unreachable: if the answer ends early.
        :raises TransferFailed: if it has other bytes than were asked for, or more.
        """
        async with self._store.get(ticket.url, start, arriving.etag) as answer:
            if answer.status_code != 206:
                start = 0
            elif not _begins_at(start, answer.headers.get("content-range", "")):
                raise TransferFailed("the object store gives another range than it was asked for")
            arriving.etag = answer.headers.get("etag")
            # Chunks as they come: larger ones would lose what has come when the connection is lost.
            async with await trio.open_file(arriving.path, "r+b" if start else "wb") as file:
                await file.seek(start)
                async for chunk in answer.aiter_raw():
                    if start + len(chunk) > ticket.size_bytes:
                        raise TransferFailed("the object store gives more bytes than the file has")
                    await file.write(chunk)
                    start += len(chunk)
                    arriving.tell(start)
        if start < ticket.size_bytes:
            raise Unreachable(f"the answer of the object store ended after {start} of {ticket.size_bytes} bytes")


class _Arriving:
    """A file that is not whole yet.

    :ivar etag: the object store's tag of the bytes that have come; None if they came to another program.
    """

    def __init__(self, path: Path, most: int, on_progress: OnProgress) -> None:
        self.path = path
        self.etag: str | None = None
        self._most = most
        self._on_progress = on_progress
        self._told = -1

    @property
    def size_bytes(self) -> int:
        """The bytes that have come; 0 if they are more than the file has."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return 0
        return size if size <= self._most else 0

    def tell(self, size_bytes: int) -> None:
        if size_bytes > self._told:  # an answer with all bytes takes those before it back
            self._told = size_bytes
            self._on_progress(size_bytes, self._most)


def _begins_at(start: int, content_range: str) -> bool:
    """Whether an answer has the bytes from `start` on, as its header says; without the header it may have them."""
    found = _CONTENT_RANGE.fullmatch(content_range)
    return not content_range if found is None else int(found[1]) == start


def _check_free(path: Path) -> None:
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
