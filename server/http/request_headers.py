"""The headers of a request, as Quart's path, the thin path and direct requests have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Headers(Protocol):
    """Names are given in lower case."""

    def get(self, name: str, default: str, /) -> str:
        """The value of a header, without the spaces around it."""


def joined_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as h11 has them, by name. One that comes several times is the list of its values (RFC 9110, section
    5.3)."""
    joined: dict[str, str] = {}
    for key, value in headers:
        name, shown = key.decode(), value.decode("latin-1")
        joined[name] = f"{joined[name]}, {shown}" if name in joined else shown
    return joined


def token_in(headers: Headers) -> str:
    """The token that a request shows; empty if it shows none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    # RFC 9110, section 11.4: one space or more.
    return token.lstrip(" ") if scheme.lower() == "bearer" else ""
