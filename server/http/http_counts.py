"""Counts of requests over HTTP; all routes of a process share one object."""

from __future__ import annotations

from collections import Counter
from typing import Final

from store.distribution import BYTES, Distribution, DistributionsBy

CLASSES: Final = {status: f"{status // 100}xx" for status in range(100, 600)}
"""Status -> its class."""

UNCODED: Final = "identity"
"""The coding of a body that is not compressed (RFC 9110, section 12.5.3)."""


class HttpCounts:
    """Plain numbers. Synchronous.

    :ivar in_flight: requests that are being answered.
    :ivar seconds: (route, class of statuses) -> the times from the head to the answer, the body's coming included.
    :ivar unrouted: class of statuses -> answers to requests that come to no route.
    :ivar limited: class of requests -> answers that a limit is reached.
    :ivar request_bytes: lengths of the bodies of requests that routes have read.
    :ivar answer_bytes: coding -> lengths of the bodies of answers, as they go out.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.seconds: DistributionsBy[tuple[str, str]] = DistributionsBy()
        self.unrouted: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        self.request_bytes = Distribution(BYTES)
        self.answer_bytes: DistributionsBy[str] = DistributionsBy(BYTES)

    def answered(self, rule: str, seconds: float, status: int, coding: str, body_bytes: int) -> None:
        """A route has answered.

        :param rule: the route's.
        """
        self.seconds[rule, CLASSES[status]].observe(seconds)
        if body_bytes:
            self.answer_bytes[coding].observe(body_bytes)

    def refused(self, status: int) -> None:
        """A request that comes to no route was answered."""
        self.unrouted[CLASSES[status]] += 1
