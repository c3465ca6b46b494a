"""Rules for the envelopes of a `send` or an `edit` that concern several of them, or the device that sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocol.limits import MAX_ENVELOPES_BYTES
from protocol.numbers import Key
from protocol.requests import Envelope

_NAME: Final = f"envelopes (key {int(Key.ENVELOPES)})"


def fault_of(envelopes: Sequence[Envelope], device: bytes) -> str | None:
    """What is wrong with the envelopes that a device sends, as a sentence for its developer; None if nothing is.

    The checks of single fields (`protocol.fields`) have passed.
    """
    table = dict(envelopes)
    if len(table) < len(envelopes):
        return f"{_NAME} must name each device once"
    if device in table:
        return f"{_NAME} must not name the device that sends them"
    size = sum(map(len, table.values()))
    if size > MAX_ENVELOPES_BYTES:
        return f"{_NAME} must have at most {MAX_ENVELOPES_BYTES} bytes together, and have {size}"
    return None
