"""The paths of the HTTP requests that ours and the plan both answer, and how a user shows to each server who asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench.http import request
from bench.workload import ChatParticipant

PAGE: Final = 50
"""Entries of a page."""


@dataclass(frozen=True)
class HttpPaths:
    """The requests of one server.

    :ivar headers: the headers of a user's request.
    """

    prefix: str
    headers: Callable[[ChatParticipant], Mapping[str, str]]

    def list(self, user: ChatParticipant, **headers: str) -> bytes:
        """For the first page of the user's conversations."""
        return self._get(f"/conversations?limit={PAGE}", user, headers)

    def conversation(self, user: ChatParticipant, conversation: str, **headers: str) -> bytes:
        """For one conversation."""
        return self._get(f"/conversations/{conversation}", user, headers)

    def history(self, user: ChatParticipant, conversation: str, **headers: str) -> bytes:
        """For the newest page of a conversation."""
        return self._get(f"/conversations/{conversation}/messages?limit={PAGE}", user, headers)

    def _get(self, path: str, user: ChatParticipant, headers: Mapping[str, str]) -> bytes:
        return request(self.prefix + path, **self.headers(user), **headers)


HTTP_PATHS: Final = {
    "alo": HttpPaths("/v1", lambda user: {"Authorization": f"Bearer {user.token}"}),
    "sio": HttpPaths("", lambda user: {"x-user-id": user.user}),
}
"""By protocol. A client of the lean peer asks for pages where it sends."""

PAGE_PATHS: Final = {**HTTP_PATHS, "ws": HTTP_PATHS["sio"]}
"""By protocol, with the lean peer's, which answers over HTTP as well: for benchmarks of pages alone."""
