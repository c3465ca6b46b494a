"""Cross-origin requests (CORS): the web pages whose scripts may read answers.

The thin path and Quart's path share this, so a browser's reads are as cheap as those of other clients.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from server.http.request_headers import Headers

EXPOSED: Final = "Content-Range, ETag, Link, Retry-After, X-Request-ID"
"""Headers of answers that scripts may read, beside those that the Fetch standard always shows."""

ALLOWED: Final = (
    "Authorization, Content-Type, If-None-Match, If-Range, Range, X-Request-ID, traceparent, X-No-Compression"
)
"""Headers that scripts may send, beside those that the Fetch standard always allows."""

MAX_AGE_S: Final = 7200
"""For this time a browser asks once for each path. Chromium takes no longer time."""

_NOTHING: Final[Mapping[str, str]] = {}


class Origins:
    """The origins that the deployment allows, as a browser names them: `https://chat.example`.

    :param allowed: if there are none, answers have no headers of CORS.
    """

    def __init__(self, allowed: Collection[str] = ()) -> None:
        self._shared = {
            origin: {"access-control-allow-origin": origin, "access-control-expose-headers": EXPOSED}
            for origin in allowed
        }
        self.vary: Final = "accept, origin" if allowed else "accept"
        """A cache must not show one origin the answer to another."""

    def headers(self, request: Headers) -> Mapping[str, str]:
        """The headers that let the page of this request read the answer."""
        if not self._shared:
            return _NOTHING
        return self._shared.get(request.get("origin", ""), _NOTHING)

    def preflight_headers(self, request: Headers, methods: str) -> Mapping[str, str]:
        """The headers that let the page of this preflight request go on.

        :param methods: those of the path.
        """
        if not self.headers(request) or not request.get("access-control-request-method", ""):
            return _NOTHING
        return {
            "access-control-allow-methods": methods,
            "access-control-allow-headers": ALLOWED,
            "access-control-max-age": str(MAX_AGE_S),
        }
