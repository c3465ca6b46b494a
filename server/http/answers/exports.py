"""Exports of accounts."""

from __future__ import annotations

from msgspec import Struct

from server.http.encoding import IDENT, Encoding, Ident
from store.exports import Export


class ExportAnswer(Struct, frozen=True):
    """An export of your account; times in microseconds since 1970-01-01T00:00Z.

    :ivar asked: when you asked for it.
    :ivar ready: since when it can be fetched; null: it is being made, like the following.
    :ivar expires: when it is deleted.
    :ivar parts: how many there are. All of them, one after the other, are one gzip file.
    :ivar size_bytes: of all parts together.
    """

    export: Ident
    asked: int
    ready: int | None
    expires: int | None
    parts: int | None
    size_bytes: int | None


class ExportsAnswer(Struct, frozen=True):
    """Your exports that are being made or can be fetched, the newest first."""

    exports: list[ExportAnswer]


def export_body(export: Export, encoding: Encoding) -> ExportAnswer:
    return ExportAnswer(
        IDENT[encoding](export.export), export.asked, export.ready, export.expires, export.parts, export.size_bytes
    )
