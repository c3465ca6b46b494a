"""Reads that queue up share a round trip, as one pipeline (`store.postgres.shared`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from store.postgres.driver import Read, encode
from store.postgres.shared import SharedStatistics, SharedTrips
from store.postgres.statement import Statement

_Rows: TypeAlias = list[tuple[Any, ...]]

MAX_READING: Final = 4
"""Connections that reads use at once; further reads share them. Two are enough to keep two cores busy."""

MAX_PIPELINE: Final = 16
"""Reads in one round trip: the last of them waits for all before it."""

MAX_WAITING: Final = 1024
"""Reads that wait; the next gets `Overloaded`. At 1 ms a read and 4 connections: 0.26 s of work."""


class StatementReader(Protocol):
    """What runs reads of the hot path: the pool of the primary, or a replica (`store.replicas`), for its few reads."""

    async def read(self, statement: Statement, values: Mapping[str, Any]) -> _Rows:
        """Run a read.

        :raises StoreError: as `Pool.read` does.
        """
        ...


class Reads:
    """The queue of reads of one pool.

    :param run: as that of `SharedTrips`.
    :param most: connections at once.
    """

    def __init__(
        self, run: Callable[[Callable[[], list[Read]]], Awaitable[list[_Rows | Exception]]], most: int
    ) -> None:
        self._trips: SharedTrips[Read, _Rows] = SharedTrips(
            "the reads", run, most=most, most_items=MAX_PIPELINE, most_waiting=MAX_WAITING
        )

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> _Rows:
        """Run a read, alone or with others; return its rows.

        :raises Overloaded: if too many wait already.
        :raises StoreError: as the pool does; the error of another read never reaches this one.
        """
        return await self._trips.request((statement, encode(statement, values)))

    def statistics(self) -> SharedStatistics:
        return self._trips.statistics()
