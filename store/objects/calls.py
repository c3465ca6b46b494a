"""How long calls of an object store take, by method and outcome."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from store.distribution import DistributionsBy
from store.errors import ObjectMissing, StoreError, Unavailable

BOUNDS_S: Final = (0.0025, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""From a file of this machine to `store.objects.interface.TIMEOUT_S`."""


class CallTimes:
    """The calls of one object store.

    :ivar seconds: (method, outcome) -> times. Outcomes are `ok`, `missing`, `refused`, `unavailable` and `cancelled`.
    """

    def __init__(self) -> None:
        self.seconds: DistributionsBy[tuple[str, str]] = DistributionsBy(BOUNDS_S)

    @contextmanager
    def measured(self, method: str) -> Iterator[None]:
        """The block is a call."""
        began, outcome = trio.current_time(), "cancelled"
        try:
            yield
            outcome = "ok"
        except ObjectMissing:
            outcome = "missing"
            raise
        except Unavailable:
            outcome = "unavailable"
            raise
        except StoreError:
            outcome = "refused"
            raise
        finally:
            self.seconds[method, outcome].observe(trio.current_time() - began)
