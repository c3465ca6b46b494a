"""Downloads: files come from the object store, go on after any interruption, and get their name once they are whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

import trio

from client import backoff
from client.errors import AttachmentGone, ObjectGone, RequestExpired, TransferFailed, Unreachable, WrongDigest
from client.file_parts import CHUNK_BYTES, read_parts
from client.link import Link
from client.object_store import ObjectStore
from client.uploads import ATTEMPTS, LONGEST_PAUSE_S, REQUEST_TIMEOUT_S, OnProgress
from protocol.frames import DownloadTicket

PARTIAL: Final = ".part"
"""The end of the name of a file that is not whole yet."""


UNKNOWN_DIGEST: Final = bytes(32)
"""Of a file that the server has taken over from another system (18.8)."""


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
        if ticket.digest != UNKNOWN_DIGEST and (await read_parts(partial)).digest != ticket.digest:
            partial.unlink()
            raise WrongDigest
        # Unlike a renaming, a link never replaces a file.
        os.link(partial, path)
        partial.unlink()

    async def _fetch(self, attachment: bytes, partial: Path, on_progress: OnProgress) -> DownloadTicket:
        failures = 0
        etag: str | None = None
        while True:
            found = [each for each in await self.tickets([attachment]) if each.attachment == attachment]
            if not found:
                raise AttachmentGone
            [ticket] = found
            had = _size_of(partial, ticket.size_bytes)
            try:
                if had < ticket.size_bytes:
                    etag = await self._append(ticket, partial, had, etag, on_progress)
            except ObjectGone:
                raise AttachmentGone from None
            except (Unreachable, RequestExpired):
                failures = 0 if _size_of(partial, ticket.size_bytes) > had else failures + 1
                if failures == ATTEMPTS:
                    raise
                await trio.sleep(backoff.delay_s(failures, most_s=LONGEST_PAUSE_S))
            else:
                return ticket

    async def _append(
        self, ticket: DownloadTicket, partial: Path, start: int, etag: str | None, on_progress: OnProgress
    ) -> str | None:
        """Fetch the bytes from `start` on; returns the file's tag.

        :raises Unreachable: if the answer ends early.
        """
        async with self._store.get(ticket.url, start, etag) as answer:
            if answer.status_code != 206:
                start = 0
            async with await trio.open_file(partial, "r+b" if start else "wb") as file:
                await file.seek(start)
                async for chunk in answer.aiter_raw(CHUNK_BYTES):
                    start += len(chunk)
                    if start > ticket.size_bytes:
                        raise TransferFailed("the object store gives more bytes than the file has")
                    await file.write(chunk)
                    on_progress(start, ticket.size_bytes)
        if start < ticket.size_bytes:
            raise Unreachable(f"the answer of the object store ended after {start} of {ticket.size_bytes} bytes")
        tag: str | None = answer.headers.get("etag")
        return tag


def _check_free(path: Path) -> None:
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _size_of(partial: Path, most: int) -> int:
    """The bytes that have come; 0 if they are more than the file has."""
    try:
        size = partial.stat().st_size
    except FileNotFoundError:
        return 0
    return size if size <= most else 0
