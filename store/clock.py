"""The time by Postgres: the one clock that all processes share.

Times in rows are Postgres' own. Where a process needs the same clock without a query (the age of a temp_id, the time
in a frame), it adds a measured offset to its monotonic clock; so a machine whose wall clock is wrong, or jumps, does
not differ from others.
"""

from __future__ import annotations

import time
from typing import Final

import structlog
import trio

from store.errors import StoreError
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 60.0
"""Between measurements: a bad quartz drifts by 6 ms in that time."""

RETRY_S: Final = 0.5
"""Between attempts at the first measurement; a node serves no clients before it succeeds."""

SAMPLES: Final = 3
"""Samples of one measurement; the fastest is the most exact, to half of the time that it took."""

SUSPICIOUS_S: Final = 1.0
"""The clock warns when this machine's wall clock is off by more: logs and certificates depend on that."""


class Clock:
    """Postgres' clock, as this process knows it; before the first measurement, this machine's.

    :ivar error_us: the greatest possible error; None before the first measurement.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ahead_us = (time.time_ns() - time.monotonic_ns()) // 1000
        self.error_us: int | None = None
        self._measured = trio.Event()

    async def wait_measured(self) -> None:
        """Return once the first measurement has succeeded. Has no deadline of its own."""
        await self._measured.wait()

    def now_us(self) -> int:
        """Microseconds since 1970."""
        return time.monotonic_ns() // 1000 + self._ahead_us

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.now_us() // 1000

    def wall_offset_us(self) -> int:
        """How far this machine's wall clock is ahead of Postgres'."""
        return time.time_ns() // 1000 - self.now_us()

    async def run(self) -> None:
        """Measure repeatedly, until cancelled."""
        while True:
            try:
                await self.measure()
            except StoreError as error:
                log.warning("clock_not_measured", error=str(error))
            else:
                if abs(self.wall_offset_us()) > SUSPICIOUS_S * 1e6:
                    log.warning("clock_is_wrong", ahead_of_postgres_s=round(self.wall_offset_us() / 1e6, 3))
            await trio.sleep(INTERVAL_S if self._measured.is_set() else RETRY_S)

    async def measure(self) -> None:
        """
        :raises StoreError: if Postgres does not answer; the former measurement stays in use.
        """
        samples = []
        for _ in range(SAMPLES):
            before = time.monotonic_ns() // 1000
            [(now,)] = await self._pool.fetch("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")
            took = time.monotonic_ns() // 1000 - before
            samples.append((took, now - before - took // 2))
        took, self._ahead_us = min(samples)
        self.error_us = took // 2
        self._measured.set()
