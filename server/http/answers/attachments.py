"""Tickets: presigned requests with which clients upload and download files at the object store."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from server.http.encoding import IDENT, Encoding, Ident, ident_or_none
from store.transfers import MissingParts, PartRequest, ReadTicket, UploadTicket


class PartRequestAnswer(Struct, frozen=True):
    """A request that uploads a part, to the object store. It carries the bytes of the part and nothing else.

    :ivar part: its number, from 1.
    :ivar headers: to send as they are.
    """

    part: int
    method: str
    url: str
    headers: dict[str, str]


class UploadTicketAnswer(Struct, frozen=True):
    """The permission to upload a file.

    :ivar thumbnail_of: the attachment whose thumbnail this is; null: it is none.
    :ivar expires: until when the requests are good, in microseconds since 1970-01-01T00:00Z.
    :ivar part_requests: those of the first parts; the route of missing parts has the others.
    """

    attachment: Ident
    thumbnail_of: Ident | None
    expires: int
    part_requests: list[PartRequestAnswer]


class UploadTicketsAnswer(Struct, frozen=True):
    """A ticket for each file, followed by that of its thumbnail."""

    tickets: list[UploadTicketAnswer]


class MissingPartsAnswer(Struct, frozen=True):
    """The first parts that the object store does not have.

    :ivar stored_parts: how many it has.
    :ivar more: others with greater numbers are missing, too.
    :ivar expires: until when the requests are good, in microseconds since 1970-01-01T00:00Z.
    """

    stored_parts: int
    more: bool
    expires: int
    part_requests: list[PartRequestAnswer]


class DownloadTicketAnswer(Struct, frozen=True):
    """The permission to download a file.

    :ivar thumbnail_of: the attachment whose thumbnail this is; null: it is none.
    :ivar expires: until when a download may begin, in microseconds since 1970-01-01T00:00Z.
    :ivar size_bytes: of the ciphertext.
    :ivar media_type: as the uploader has declared it.
    :ivar digest: SHA-256 of a file of one part; of a larger one, SHA-256 of the joined SHA-256 of its parts; null: not
        known, since the file comes from a service that kept none.
    :ivar url: for GET, also of ranges.
    """

    attachment: Ident
    thumbnail_of: Ident | None
    expires: int
    size_bytes: int
    media_type: str
    digest: bytes | None
    url: str


class DownloadTicketsAnswer(Struct, frozen=True):
    """The tickets of those attachments that you may read, in the order of the request; each followed by that of its
    thumbnail."""

    downloads: list[DownloadTicketAnswer]


def upload_body(tickets: Sequence[UploadTicket], encoding: Encoding) -> UploadTicketsAnswer:
    ident = IDENT[encoding]
    return UploadTicketsAnswer(
        [
            UploadTicketAnswer(
                ident(each.attachment),
                ident_or_none(each.thumbnail_of, encoding),
                each.expires,
                _requests(each.requests),
            )
            for each in tickets
        ]
    )


def missing_body(missing: MissingParts) -> MissingPartsAnswer:
    return MissingPartsAnswer(missing.stored, missing.more, missing.expires, _requests(missing.requests))


def downloads_body(tickets: Sequence[ReadTicket], encoding: Encoding) -> DownloadTicketsAnswer:
    ident = IDENT[encoding]
    return DownloadTicketsAnswer(
        [
            DownloadTicketAnswer(
                ident(each.of.id),
                ident_or_none(each.of.thumbnail_of, encoding),
                each.expires,
                each.of.size_bytes,
                each.of.media_type,
                each.of.digest,
                each.url,
            )
            for each in tickets
        ]
    )


def _requests(requests: Sequence[PartRequest]) -> list[PartRequestAnswer]:
    return [
        PartRequestAnswer(each.number, each.request.method, each.request.url, dict(each.request.headers))
        for each in requests
    ]
