"""Replicas: hot standbys that read pages of history and exports, which costs the primary only the look-up of a version.

A replica is behind the primary. So the primary says first which version of the history a page needs, and the replica is
asked only if it has that version; otherwise the primary reads the page itself. A reader never sees less than what was
acknowledged before its request.

A replica reads nothing else. Cursors above all: a snapshot of a standby leaves out transactions under way, and a cursor
made of it would lose messages for ever.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import count
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import structlog
import trio

from store import sql
from store.errors import StoreError
from store.exported import ExportSource
from store.history_pages import HistoryVersion, version_of
from store.postgres.columns import UUID
from store.postgres.driver import PostgresConnection
from store.postgres.pool import Pool
from store.postgres.reads import StatementReader
from store.postgres.statement import Statement

log = structlog.get_logger(__name__)
_Rows: TypeAlias = list[tuple[Any, ...]]
_T = TypeVar("_T")

_sql = sql.load("replicas")
_pages = sql.load("history_pages")

HELD_VERSION: Final = Statement(
    f"with reader as (select %(user)s as user_id) select standby_history(), {_pages.state} {_pages.version}",
    {"user": UUID, "conversation": UUID},
    label="replicas.version",
)

READABLE: Final = frozenset(
    (
        *("messages.history_before", "messages.history_after", "messages.history_around"),
        *("history_pages.newest", "envelopes.own", "replicas.version", "replicas.replayed"),
        *(f"exported.{name}" for name in vars(sql.load("exported"))),
    )
)
"""All that a replica reads. None of it makes a cursor, and none writes."""

TIMEOUT_S: Final = 1.0
"""The time for a page; then the primary reads it."""

REST_S: Final = 5.0
"""The time for which a replica that failed is not asked."""

ReadOutcome: TypeAlias = Literal["served", "behind", "other_history", "failed"]
READ_OUTCOMES: Final[tuple[ReadOutcome, ...]] = get_args(ReadOutcome)


class NotReadable(Exception):
    """A fault of this program: it gave a replica a statement that only the primary may run."""


class NeededVersion(NamedTuple):
    """What a replica must have, so that it may read a page of history.

    :ivar history: the id of the primary's history (`store.sync.history_id`), to which the version belongs.
    :ivar version: the least one; equal but for the messages at the end.
    """

    history: str
    user: bytes
    conversation: bytes
    version: HistoryVersion


class ReplicaSession:
    """One connection to a replica, for what it may read (`READABLE`): a `StatementReader`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def read(self, statement: Statement, values: Mapping[str, Any]) -> _Rows:
        """As `Pool.read`.

        :raises NotReadable: if a replica must not run this statement.
        """
        if statement.label not in READABLE:
            raise NotReadable(statement.label)
        return await self._connection.run(statement, values)

    async def fetch(self, text: str, parameters: Mapping[str, Any] = MappingProxyType({})) -> _Rows:
        """As `Pool.fetch`.

        :raises NotReadable: if a replica must not run this statement.
        """
        if sql.name_of(text) not in READABLE:
            raise NotReadable(sql.name_of(text))
        return await self._connection.query(text, parameters)


class _Replica:
    """
    :ivar rests_until: it failed, and is not asked before this time.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.where = pool.where
        self.rests_until = -math.inf


class Replicas:
    """The replicas of one process, asked in turn; the primary takes the place of one that cannot answer.

    :param urls: libpq URLs or DSNs. None: the primary reads everything.
    :param size: connections to each.
    :param slow_s: seconds after which a query is logged as slow.
    :ivar pools: of connections to the replicas.
    :ivar outcomes: how often a replica was asked, by what became of it.
    """

    def __init__(self, primary: Pool, urls: Sequence[str] = (), *, size: int = 4, slow_s: float = math.inf) -> None:
        self._primary = primary
        self.pools = [Pool(url, size, name=primary.name, slow_s=slow_s, takes_writes=False) for url in urls]
        self._replicas = [_Replica(pool) for pool in self.pools]
        self._turn = count()
        self.outcomes: Counter[ReadOutcome] = Counter()

    def __bool__(self) -> bool:
        return bool(self._replicas)

    async def page(self, needed: NeededVersion, query: Callable[[StatementReader], Awaitable[_T]]) -> _T:
        """What a query of a page of history returns: asked of a replica that has the version, or of the primary.

        :param query: called again, with the primary, if a replica fails.
        :raises StoreError: that of the primary.
        """
        replica = self._next()
        if replica is None:
            return await query(self._primary)
        try:
            with trio.fail_after(TIMEOUT_S):
                # Both on one connection: behind an address there may be several servers.
                async with replica.pool.connection() as connection:
                    session = ReplicaSession(connection)
                    outcome = await _version_at(session, needed)
                    if outcome == "served":
                        found = await query(session)
                        self.outcomes["served"] += 1
                        return found
            self._note(replica, outcome)
        except (StoreError, trio.TooSlowError) as error:
            self._note(replica, "failed", str(error) or f"no answer within {TIMEOUT_S:g} s")
        return await query(self._primary)

    @asynccontextmanager
    async def caught_up(self) -> AsyncGenerator[ExportSource, None]:
        """A replica that has everything that was acknowledged up to now, or the primary; for as long as it takes.

        :raises StoreError: in the block, as `Pool.fetch` does. The replica is not asked again for a while.
        """
        replica = self._next()
        if replica is None:
            yield self._primary
            return
        [(place, history)] = await self._primary.fetch(_sql.place)
        async with AsyncExitStack() as stack:
            session = None
            try:
                with trio.fail_after(TIMEOUT_S):
                    session = ReplicaSession(await stack.enter_async_context(replica.pool.connection()))
                    outcome = await _replayed_at(session, place, history)
                self._note(replica, outcome)
            except (StoreError, trio.TooSlowError) as error:
                outcome = "failed"
                self._note(replica, outcome, str(error) or f"no answer within {TIMEOUT_S:g} s")
            if session is None or outcome != "served":
                await stack.aclose()
                yield self._primary
                return
            try:
                yield session
            except StoreError as error:
                self._note(replica, "failed", str(error))
                raise

    def wake(self) -> None:
        """Ask replicas that rest again."""
        for replica in self._replicas:
            replica.rests_until = -math.inf

    def close(self) -> None:
        """As `Pool.close`."""
        for pool in self.pools:
            pool.close()

    def _next(self) -> _Replica | None:
        now = trio.current_time()
        for _ in self._replicas:
            replica = self._replicas[next(self._turn) % len(self._replicas)]
            if replica.rests_until <= now:
                return replica
        return None

    def _note(self, replica: _Replica, outcome: ReadOutcome, reason: str = "it follows another history") -> None:
        self.outcomes[outcome] += 1
        if outcome in ("failed", "other_history"):
            replica.rests_until = trio.current_time() + REST_S
            log.warning("replica_rests", where=replica.where, reason=reason, seconds=REST_S)


class ReplicaState(NamedTuple):
    """What an operator wants to know of a replica.

    :ivar is_same: it follows the history of the primary.
    :ivar behind_bytes: of the primary's log, that it has yet to replay.
    """

    where: str
    is_same: bool
    behind_bytes: int


async def state_of(primary: Pool, url: str) -> ReplicaState:
    """The state of one replica.

    :raises StoreError: if it is no standby that answers, or the primary does not.
    """
    [(place, history)] = await primary.fetch(_sql.place)
    with closing(Pool(url, 1, name=primary.name, takes_writes=False)) as pool:
        [(behind_bytes, held)] = await pool.fetch(_sql.behind, {"place": place})
        return ReplicaState(pool.where, held == history, max(0, behind_bytes or 0))


async def _version_at(session: ReplicaSession, needed: NeededVersion) -> ReadOutcome:
    rows = await session.read(HELD_VERSION, {"user": needed.user, "conversation": needed.conversation})
    if not rows:
        return "behind"
    if rows[0][0] != needed.history:
        return "other_history"
    return "served" if version_of(rows[0][1:]).follows(needed.version) else "behind"


async def _replayed_at(session: ReplicaSession, place: str, history: str) -> ReadOutcome:
    [(has_all, held)] = await session.fetch(_sql.replayed, {"place": place})
    if held != history:
        return "other_history"
    return "served" if has_all else "behind"
