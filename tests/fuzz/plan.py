"""The first bytes of an input say how a target gets the rest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import NamedTuple

MAX_SIZES = 7


class Plan(NamedTuple):
    """How a target gets an input.

    :ivar flags: eight bits; each target defines their meaning.
    :ivar sizes: sizes of the pieces of the body; the rest is the last piece.
    """

    flags: int
    sizes: tuple[int, ...]
    body: bytes

    def pieces(self, *, repeat: bool = False) -> Iterator[bytes]:
        """The body, cut. With `repeat` the sizes start over again instead of leaving a rest."""
        at = 0
        for size in cycle(self.sizes) if repeat else self.sizes:
            if at >= len(self.body):
                return
            yield self.body[at : at + size]
            at += size
        if at < len(self.body):
            yield self.body[at:]


def read_plan(data: bytes) -> Plan:
    """Read a plan; every input is one, as missing bytes count as zero."""
    flags, count = data[0] if data else 0, (data[1] if len(data) > 1 else 0) % (MAX_SIZES + 1)
    head = 2 + count
    return Plan(flags, tuple(map(_size, data[2:head])), data[head:])


def plan(body: bytes, flags: int = 0, sizes: bytes = b"") -> bytes:
    """The input that `read_plan` reads as this; a size below 128 is cut one byte longer, others are multiples of 64."""
    return bytes((flags, len(sizes))) + sizes + body


def _size(byte: int) -> int:
    return byte + 1 if byte < 128 else (byte - 127) * 64
