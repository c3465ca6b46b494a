"""A bounded pool of Postgres connections: last used, first out; no background tasks.

A connection returns to the pool only if it is idle. Any other (Postgres did not stop a cancelled query, the peer is
lost) is closed, and the next task connects again. So the pool heals by itself: after a restart of Postgres each dead
connection costs one failed query.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import structlog
import trio

from store import sql as sql_files
from store.distribution import Distribution, DistributionsBy
from store.errors import Overloaded, Unavailable
from store.postgres.driver import APPLICATION, Backend, PostgresConnection, Read, connect, where_of
from store.postgres.reads import MAX_READING, Reads
from store.postgres.statement import Statement

log = structlog.get_logger(__name__)
_Rows: TypeAlias = list[tuple[Any, ...]]
_T = TypeVar("_T")

MAX_WAITING: Final = 1024
"""Callers that wait for a connection; the next gets `Overloaded`. At 1 ms a query and 8 connections: 0.13 s of work."""

WAIT_TIMEOUT_S: Final = 5.0
"""For a free connection. After that the client of the caller has given up, too."""

QUERY_TIMEOUT_S: Final = 10.0
"""For one query of `fetch`. Our slowest takes milliseconds, so one that takes longer means that Postgres is stuck."""


class WaitingStatement(NamedTuple):
    """A statement that is under way, or several that share a round trip.

    :ivar name: in the SQL files.
    :ivar waited_s: since it was sent.
    """

    name: str
    waited_s: float


class UnknownOutcome(NamedTuple):
    """A write with an unknown outcome: Postgres has committed it, may still commit it, or never will.

    :ivar began: when it was sent, by Trio's clock.
    :ivar backend: the Postgres process that may still run it; None if there is none.
    """

    began: float
    backend: Backend | None


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A snapshot of a pool's counters since its start."""

    size: int
    in_use: int
    idle: int
    waiting: int
    connects: int
    discarded: int
    unknown_outcomes: int


class Pool:
    """Connections to one Postgres, at most `size` at a time.

    :param url: libpq URL or DSN.
    :param slow_s: seconds after which a query is logged as slow.
    :param takes_writes: False: connections are to standbys alone.
    :ivar name: of its connections in `pg_stat_activity`, unless the URL gives one.
    :ivar connects: how many connections were made.
    :ivar query_seconds: the time of each query, by its name in the SQL files.
    :ivar wait_seconds: for a connection, of each caller; 0 if one was free.
    :ivar on_unknown_outcome: called with each write whose outcome is unknown: the connection was lost, no answer came
        in time, the standby did not confirm it, or the task was cancelled. Synchronous; it must not raise.
    """

    def __init__(
        self,
        url: str,
        size: int,
        *,
        name: str = APPLICATION,
        slow_s: float = math.inf,
        takes_writes: bool = True,
    ) -> None:
        self.url = url
        self.name = name
        self._slow_s = slow_s
        self._takes_writes = takes_writes
        self.on_unknown_outcome: Callable[[UnknownOutcome], None] = lambda _: None
        self._ends_at = math.inf
        self._scopes: set[trio.CancelScope] = set()
        self._size = size
        self._free = trio.CapacityLimiter(size)
        self._idle: list[PostgresConnection] = []
        self._open: set[PostgresConnection] = set()
        self.reads = Reads(self._run_reads, max(1, min(MAX_READING, size - 1)))
        self._last_where = ""
        self.connects = 0
        self._discarded = 0
        self._unknown_outcomes = 0
        self.query_seconds: DistributionsBy[str] = DistributionsBy()
        self.wait_seconds = Distribution()

    @property
    def where(self) -> str:
        """Host and port, for the operator."""
        return where_of(self.url)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[PostgresConnection, None]:
        """A connection for this task alone.

        :raises Overloaded: if too many tasks wait already, or no connection became free within `WAIT_TIMEOUT_S`.
        :raises Unavailable: if Postgres cannot be reached.
        """
        borrower = await self._wait_turn()
        try:
            connection = self._take_idle() or await self._connect()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._free.release_on_behalf_of(borrower)

    async def fetch(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> _Rows:
        """Run one statement in its own transaction, and return its rows after the commit.

        :raises Overloaded: if no connection became free.
        :raises Unavailable: if Postgres cannot be reached, or did not answer in time; the outcome is unknown.
        """
        return await self._with_deadline(lambda connection: connection.query(sql, parameters), sql)

    async def run(self, statement: Statement, values: Mapping[str, Any]) -> _Rows:
        """Like `fetch`, for a statement of the hot path."""
        return await self._with_deadline(lambda connection: connection.run(statement, values), statement.text)

    async def read(self, statement: Statement, values: Mapping[str, Any]) -> _Rows:
        """Like `run`, for a read of the hot path; reads that queue up share a round trip."""
        return await self.reads.fetch(statement, values)

    async def run_taken(self, statement: Statement, take: Callable[[], Mapping[str, Any]]) -> _Rows:
        """Like `run`, with values that are taken once there is a connection; from then on it is not cancelled.

        :raises DatabaseError: as `run` does.
        """
        return await self._with_deadline(
            lambda connection: connection.run(statement, take()), statement.text, shield=True
        )

    async def _run_reads(self, take: Callable[[], list[Read]]) -> list[_Rows | Exception]:
        taken: list[Read] = []

        async def run(connection: PostgresConnection) -> list[_Rows | Exception]:
            taken.extend(take())
            if len(taken) > 1:
                return await connection.run_all(taken)
            return [await connection.run_encoded(*read) for read in taken]

        return await self._with_deadline(run, shield=True)

    async def _with_deadline(
        self, query: Callable[[PostgresConnection], Awaitable[_T]], sql: str = "", *, shield: bool = False
    ) -> _T:
        """
        :param sql: the text of the query, if that may be a write.
        :param shield: only the deadline may cancel the query, once there is a connection for it.
        """
        # `connection` would cost more: this is the hot path, and each context manager in it takes time.
        borrower = await self._wait_turn()
        try:
            connection = self._take_idle() or await self._connect()
            began = trio.current_time()
            scope = trio.CancelScope(deadline=began + QUERY_TIMEOUT_S, shield=shield)
            try:
                self._end_in_time(scope)
                with scope:
                    return await query(connection)
                raise Unavailable("Postgres", connection.where, f"no answer within {scope.deadline - began:.3g} s")
            except Unavailable:
                # In all other cases Postgres itself has said that it did nothing: its disk is full, for example.
                if scope.cancelled_caught or connection.is_unconfirmed or not connection.is_idle:
                    self._note_unknown_outcome(sql, connection, began)
                raise
            except trio.Cancelled:
                self._note_unknown_outcome(sql, connection, began)
                raise
            finally:
                self._scopes.discard(scope)
                self._give_back(connection)
        finally:
            self._free.release_on_behalf_of(borrower)

    def end_by(self, deadline: float) -> None:
        """The process was told to stop: from this time on, no task waits for Postgres. Atomic (no checkpoint).

        Tasks that cannot be cancelled because others depend on them end by then, too: some reads, and requests that
        write. A query that is broken off may take `CANCEL_TIMEOUT_S` longer, the same for all together.
        """
        self._ends_at = deadline
        for scope in self._scopes:
            scope.deadline = min(scope.deadline, deadline)

    async def end_after(self, told: trio.Event, seconds: float) -> None:
        """Call `end_by` once the process is told to stop, for `seconds` from then."""
        await told.wait()
        self.end_by(trio.current_time() + seconds)

    def _end_in_time(self, scope: trio.CancelScope) -> None:
        """
        :raises Unavailable: if the time has come already. Nothing was sent.
        """
        if trio.current_time() >= self._ends_at:
            raise Unavailable("Postgres", self.where, "this process is about to end")
        if scope.deadline > self._ends_at:  # setting it takes a microsecond
            scope.deadline = self._ends_at
        self._scopes.add(scope)

    @contextmanager
    def _ending_in_time(self) -> Iterator[None]:
        """For a wait for anything other than a query."""
        scope = trio.CancelScope()
        try:
            self._end_in_time(scope)
            with scope:
                yield
        finally:
            self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise Unavailable("Postgres", self.where, "this process is about to end")

    def _note_unknown_outcome(self, sql: str, connection: PostgresConnection, began: float) -> None:
        """The only place that notes writes that may be committed although the caller was not told so."""
        if sql_files.writes(sql):
            self._unknown_outcomes += 1
            # An idle connection runs no statement: its last one has ended, either way.
            self.on_unknown_outcome(UnknownOutcome(began, None if connection.is_idle else connection.backend))

    async def _wait_turn(self) -> object:
        """Wait for the right to a connection; the returned object holds it, until the caller releases it."""
        borrower = object()
        try:
            self._free.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            began = trio.current_time()
            try:
                await self._wait_long(borrower)
            finally:
                self.wait_seconds.observe(trio.current_time() - began)
        else:
            self.wait_seconds.observe(0)
        return borrower

    async def _wait_long(self, borrower: object) -> None:
        if self._free.statistics().tasks_waiting >= MAX_WAITING:
            raise Overloaded("the Postgres pool", MAX_WAITING)
        with self._ending_in_time(), trio.move_on_after(WAIT_TIMEOUT_S) as scope:
            await self._free.acquire_on_behalf_of(borrower)
        if scope.cancelled_caught:
            raise Overloaded("the Postgres pool", self._free.statistics().tasks_waiting)

    async def wait_ready(self) -> None:
        """Return once Postgres answers; until then log every few seconds which server is missing.

        :raises PoolerRefused: if a pooler answers instead of Postgres: waiting would not help.
        """
        delay_s = 0.1
        while True:
            try:
                await self.fetch("select 1")
            except (Unavailable, Overloaded) as error:
                log.warning("waiting_for_postgres", error=str(error), retry_in_s=delay_s)
                await trio.sleep(delay_s)
                delay_s = min(delay_s * 2, 3.0)
            else:
                return

    def waiting_for(self, seconds: float) -> dict[int, WaitingStatement]:
        """The statements that have been under way for so long, by the Postgres process that runs them. Atomic."""
        now = perf_counter()
        return {
            connection.backend.pid: WaitingStatement(", ".join(running.names), now - running.began)
            for connection in self._open
            if (running := connection.running) is not None and now - running.began >= seconds
        }

    def statistics(self) -> PoolStatistics:
        free = self._free.statistics()
        return PoolStatistics(
            size=self._size,
            in_use=free.borrowed_tokens,
            idle=len(self._idle),
            waiting=free.tasks_waiting,
            connects=self.connects,
            discarded=self._discarded,
            unknown_outcomes=self._unknown_outcomes,
        )

    def close(self) -> None:
        """Close the idle connections; tasks that use one close it when they return it."""
        while self._idle:
            connection = self._idle.pop()
            self._open.discard(connection)
            connection.close_now()

    async def _connect(self) -> PostgresConnection:
        with self._ending_in_time():
            connection = await connect(
                self.url, preferred=self._last_where, name=self.name, takes_writes=self._takes_writes
            )
        self._last_where = connection.where
        connection.query_seconds = self.query_seconds
        connection.slow_s = self._slow_s
        self._open.add(connection)
        self.connects += 1
        return connection

    def _take_idle(self) -> PostgresConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_idle:
                return connection
            self._discard(connection)
        return None

    def _give_back(self, connection: PostgresConnection) -> None:
        if connection.is_idle:
            self._idle.append(connection)
        else:
            self._discard(connection)

    def _discard(self, connection: PostgresConnection) -> None:
        self._discarded += 1
        self._open.discard(connection)
        connection.close_now()
