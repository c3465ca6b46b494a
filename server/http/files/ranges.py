"""The range of a file that a client asks for, and whether it holds the file already (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from server.http.request_headers import Headers

_RANGE: Final = re.compile(r"bytes=(?:(\d{1,19})-(\d{1,19})?|-(\d{1,19}))", re.IGNORECASE)
_ENTITY_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


class Extent(Struct, frozen=True):
    """A range of a file."""

    start: int
    size_bytes: int


class NoSuchRange(Exception):
    """The file has no byte of the range."""


def asked_range(headers: Headers, tag: str, size_bytes: int) -> Extent | None:
    """The range of the answer; None: the whole file, also for several ranges, or one of a file with another tag.

    :param tag: of the file, without quotes.
    :raises NoSuchRange: if the file ends before the range begins.
    """
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    condition = headers.get("if-range", "")
    if found is None or (condition and condition.strip() != f'"{tag}"'):
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        count = min(int(suffix), size_bytes)
        if not count:
            raise NoSuchRange
        return Extent(size_bytes - count, count)
    start, end = int(first), int(last) if last is not None else size_bytes - 1
    if last is not None and end < start:
        return None
    if start >= size_bytes:
        raise NoSuchRange
    return Extent(start, min(end, size_bytes - 1) - start + 1)


def is_held(headers: Headers, tag: str) -> bool:
    """Whether the client holds the file, by its `If-None-Match`."""
    held = headers.get("if-none-match", "").strip()
    return held == "*" or tag in _ENTITY_TAG.findall(held)
