"""Headers that all answers have, made ahead as far as they can be."""

from __future__ import annotations

from typing import Final

from runtime.log_context import RequestNames
from server.http.origins import Origins
from server.http.request_headers import Headers


class AnswerHeaders:
    """
    :ivar origins: the web pages whose scripts may read answers.
    """

    def __init__(self, origins: Origins) -> None:
        self.origins: Final = origins
        self._constant = {
            # Answers are a user's own, and soon out of date. An answer that may be kept says so itself.
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "vary": origins.vary,
        }

    def of(self, request: Headers, names: RequestNames) -> dict[str, str]:
        """The headers of an answer to this request; those of the route go over them."""
        return {**self._constant, "x-request-id": names.request_id, **self.origins.headers(request)}
