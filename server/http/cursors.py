"""Cursors of pages, as text (`store.page_cursor`)."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from store.page_cursor import InvalidCursor, decode_cursor, encode_cursor


def cursor_text(*parts: int | bytes | str) -> str:
    """A cursor as text."""
    return urlsafe_b64encode(encode_cursor(*parts)).rstrip(b"=").decode()


def cursor_parts(text: str, kind: str, *types: type) -> list[Any]:
    """The parts of a cursor of this kind.

    :raises InvalidCursor: if the text is not a cursor of this kind.
    """
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise InvalidCursor from None
    return decode_cursor(data, kind, *types)


def history_bounds(cursor: str | None, conversation: bytes) -> tuple[int | None, int | None]:
    """The seqs `before` and `after` which the page of a cursor lies, at most one of them given.

    :raises InvalidCursor: if the text is not a cursor of this conversation's history.
    """
    if cursor is None:
        return None, None
    try:
        of, seq = cursor_parts(cursor, "before", bytes, int)
        bounds = (seq, None)
    except InvalidCursor:
        of, seq = cursor_parts(cursor, "after", bytes, int)
        bounds = (None, seq)
    if of != conversation:
        raise InvalidCursor
    return bounds
