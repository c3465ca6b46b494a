"""The terminal: reads lines without holding up Trio, and shows text of others without letting it drive the terminal."""

from __future__ import annotations

import codecs
import os
import unicodedata
from collections.abc import AsyncGenerator
from datetime import datetime
from functools import partial
from typing import Final

import trio

_READ_BYTES: Final = 64 * 1024
MAX_LINE_BYTES: Final = 1024 * 1024
"""A longer line of a pipe is handed on in pieces; the protocol takes far less."""

_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_DIRECTIONAL: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that change the order of all text behind them, our own included (Trojan Source, CVE-2021-42574)."""


def printable(text: str) -> str:
    """Text of others, fit for a terminal: control characters are shown as escapes, such as `\\x1b` for ESC."""
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if unicodedata.category(character) in _UNPRINTABLE or character in _DIRECTIONAL:
        return character.encode("unicode_escape").decode("ascii")
    return character


def local_time(created: int) -> str:
    """Microseconds since 1970 as time of day here, with the date if that is not today."""
    try:
        when = datetime.fromtimestamp(created / 1_000_000).astimezone()
    except (OverflowError, ValueError, OSError):
        return "????"
    is_today = when.date() == datetime.now().astimezone().date()
    return when.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M")


async def read_lines(fd: int = 0) -> AsyncGenerator[str]:
    """Lines without their ends, until EOF; bytes that are not UTF-8 become U+FFFD.

    A thread waits in `os.read`, not in `sys.stdin`: when Ctrl-C abandons it, it holds no lock that the interpreter
    needs to exit. Close it with `aclosing`.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    while data := await trio.to_thread.run_sync(partial(os.read, fd, _READ_BYTES), abandon_on_cancel=True):
        *lines, rest = (rest + decoder.decode(data)).split("\n")
        for line in lines:
            yield line.removesuffix("\r")
        if len(rest) > MAX_LINE_BYTES:
            yield rest
            rest = ""
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest
