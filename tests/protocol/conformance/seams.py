"""Where a test changes the Python client: what it reads and writes, and its public functions and methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import pytest

from client import connection

Change: TypeAlias = Callable[[pytest.MonkeyPatch], None]
"""Makes the client another one, until the end of the test."""


def instead(owner: Any, name: str, act: Any) -> Change:
    """The client does this instead, or has this value."""
    return lambda patch: patch.setattr(owner, name, act)


def around(owner: Any, name: str, act: Callable[..., Any]) -> Change:
    """The client does this instead, which gets what it does else as the first argument."""
    usual = getattr(owner, name)
    return lambda patch: patch.setattr(owner, name, lambda *args, **more: act(usual, *args, **more))


def both(*changes: Change) -> Change:
    def change(patch: pytest.MonkeyPatch) -> None:
        for each in changes:
            each(patch)

    return change


def hearing(act: Callable[[Any], Any]) -> Change:
    """The client reads another frame in place of each that comes; None: it does not read it."""

    def read(decode: Callable[[bytes], Iterable[Any]], data: bytes) -> Iterator[Any]:
        return (heard for frame in decode(data) if (heard := act(frame)) is not None)

    return around(connection, "decode_from_server", read)


def saying(act: Callable[[Any], Any]) -> Change:
    """The client writes another frame in place of each; a list: these frames in one WebSocket message."""

    def write(encode: Callable[[Any], bytes], frame: Any) -> bytes:
        said = act(frame)
        return b"".join(map(encode, said if isinstance(said, list) else [said]))

    return around(connection, "encode_request", write)


def deaf_to(*types: type, where: Callable[[Any], bool] = lambda _: True) -> Change:
    """The client reads no frames of these types, or not those for which the condition holds."""
    return hearing(lambda frame: None if isinstance(frame, types) and where(frame) else frame)
