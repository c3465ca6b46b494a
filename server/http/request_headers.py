"""The headers of a request, as Quart's path and the thin path have them."""

from __future__ import annotations

from typing import Protocol


class Headers(Protocol):
    """Names are given in lower case."""

    def get(self, name: str, default: str, /) -> str:
        """The value of a header, without the spaces around it."""
