"""Requests about files in the object store: the frames of `store.transfers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from protocol import limits
from protocol.codes import ErrorCode
from protocol.errors import RequestError
from protocol.frames import (
    Abort,
    Complete,
    Done,
    Download,
    Downloads,
    DownloadTicket,
    Message,
    PartRequests,
    Parts,
    Reply,
    Ticket,
    Tickets,
    Tombstone,
    Upload,
)
from protocol.limits import Limit
from protocol.replies import PartRequest
from protocol.requests import TransferRequest
from store import transfers
from store.attachments import File, Thumbnail
from store.errors import BadUpload, QuotaExceeded
from store.transfers import Transfers


class TransferHandler:
    """Answers requests about files."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    async def answer(self, user: bytes, frame: TransferRequest) -> Reply:
        """
        :raises RequestError: if a declaration contradicts itself, or exceeds a quota.
        :raises StoreError: as `Transfers` does.
        """
        try:
            return await self._answer(user, frame)
        except BadUpload as error:
            raise RequestError(frame.request, ErrorCode.INVALID_FRAME, f"files: {error.says}") from None
        except QuotaExceeded as error:
            limit = Limit(error.quota, error.value, str(error.value), "")
            detail = f"limit {error.quota}: {error.value}"
            raise RequestError(frame.request, ErrorCode.QUOTA_EXCEEDED, detail, limit=limit) from None

    async def _answer(self, user: bytes, frame: TransferRequest) -> Reply:
        match frame:
            case Upload():
                files = [_file(*each) for each in frame.files]
                tickets = await self._transfers.upload(user, files, is_avatar=bool(frame.is_avatar))
                return Tickets(frame.request, list(map(_ticket, tickets)))
            case Parts():
                missing = await self._transfers.parts(user, frame.attachment, frame.after or 0)
                return PartRequests(
                    frame.request, missing.more, missing.expires, _requests(missing.requests), missing.stored
                )
            case Complete():
                await self._transfers.complete(user, frame.attachments)
                return Done(frame.request)
            case Download():
                return Downloads(frame.request, await self.downloads(user, frame.wanted))
            case Abort():
                await self._transfers.abort(user, frame.attachments)
                return Done(frame.request)
            case _:
                assert_never(frame)

    async def downloads(self, user: bytes, wanted: Sequence[bytes]) -> list[DownloadTicket]:
        """The tickets of those attachments that the user may read."""
        return [
            DownloadTicket(
                each.expires,
                each.of.id,
                each.of.thumbnail_of,
                each.of.size_bytes,
                each.of.media_type,
                each.of.digest,
                each.url,
            )
            for each in await self._transfers.download(user, wanted)
        ]

    async def downloads_of(self, user: bytes, messages: Sequence[Message | Tombstone]) -> list[DownloadTicket]:
        """The tickets of the first attachments of a page of history; none without an object store."""
        wanted = [each for message in messages if isinstance(message, Message) for each in message.attachments or ()]
        if not wanted or not self._transfers.is_offered:
            return []
        return await self.downloads(user, wanted[: limits.MAX_PAGE_DOWNLOADS])


def _file(size_bytes: int, media_type: str, part_digests: bytes, thumbnail: tuple[int, bytes] | None) -> File:
    return File(size_bytes, media_type, part_digests, thumbnail and Thumbnail(*thumbnail))


def _ticket(ticket: transfers.UploadTicket) -> Ticket:
    return Ticket(ticket.expires, ticket.attachment, ticket.thumbnail_of, _requests(ticket.requests))


def _requests(requests: Sequence[transfers.PartRequest]) -> list[PartRequest]:
    return [(each.number, each.request.url, sorted(each.request.headers.items())) for each in requests]
