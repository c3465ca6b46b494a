"""Limits on requests: by the client's address before a request is authenticated, by its user after that."""

from __future__ import annotations


class RateLimited(Exception):
    """A client makes too many requests.

    :ivar wait_s: until the same request may succeed.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many requests; the next one may succeed in {wait_s:.1f} s")
        self.wait_s = wait_s
