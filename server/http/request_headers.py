"""The headers of a request, as Quart's path and the thin path have them."""

from __future__ import annotations

from typing import Protocol


class Headers(Protocol):
    """Names are given in lower case."""

    def get(self, name: str, default: str, /) -> str:
        """The value of a header, without the spaces around it."""


def token_in(headers: Headers) -> str:
    """The token that a request shows; empty if it shows none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    # RFC 9110, section 11.4: one space or more.
    return token.lstrip(" ") if scheme.lower() == "bearer" else ""
