"""psycopg on Trio: with `store.postgres.copying` the only module that imports the driver.

psycopg describes its I/O as generators that yield the socket event they wait for; its own asynchronous edge is for
asyncio. Here Trio waits, so a query costs one task switch and no thread. Everything above the waiting (adaptation,
prepared statements, error classes) is psycopg's own.

Ids are 16 raw `bytes` everywhere in Python. `uuid` marks one as a parameter; `uuids`, `byteas`, `texts` and `bigints`
are whole columns (`store.postgres.columns`). Statements of the hot path (`store.postgres.statement`) bypass psycopg's
cursors.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import psycopg
import structlog
import trio
from psycopg import errors as driver_errors
from psycopg.abc import Buffer, PQGen, PQGenConn
from psycopg.adapt import AdaptersMap, Dumper, Transformer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.types.string import ByteaBinaryLoader
from psycopg.waiting import Ready, Wait

from store.distribution import DistributionsBy
from store.errors import BadValue, DatabaseError, Locked, PoolerRefused, Retryable, StoreError, Unavailable
from store.postgres import copying
from store.postgres.columns import BIGINTS, BYTEAS, TEXTS, UUIDS, ColumnType
from store.postgres.statement import Statement
from store.sql import UNNAMED, name_of

log = structlog.get_logger(__name__)
_T = TypeVar("_T")
_Rows: TypeAlias = list[tuple[Any, ...]]
Read: TypeAlias = tuple[Statement, list[bytes | None]]
"""A statement of the hot path that only reads, and its encoded parameters."""

CONNECT_TIMEOUT_S: Final = 3.0
"""For one attempt at one address, with names resolved. A local connect takes 5 ms, TLS across a continent 0.5 s."""

FIRST_REPLAN: Final = 8
"""A connection makes its plans again after this number of queries, and then at each doubling."""

LOCK_TIMEOUT_S: Final = 1.0
"""For a lock, in statements without a deadline of their own for it. Commits hold locks for milliseconds; a caller that
waits longer should know why, and let others have the connection."""

CANCEL_TIMEOUT_S: Final = 2.0
"""How long a cancelled query may hold its task while Postgres is asked to stop it; then the connection is closed."""

COPY_BYTES: Final = 1024 * 1024
"""Rows that are copied at a time: a piece costs a commit, and each of the two sides holds one."""

APPLICATION: Final = "alo-shield"
"""The name of a connection in `pg_stat_activity`, unless its pool or the URL gives one."""

DEFAULTS: Final = {
    # The kernel finds a peer that vanished (cut cable, frozen host), so no query has to wait for one.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    # Every process writes. After a fail-over the old primary may come back as a standby, under the address that is
    # tried first; Postgres 14 and newer say while connecting whether they take writes, so the check is free.
    "target_session_attrs": "read-write",
}

_RETRYABLE: Final = (
    driver_errors.UniqueViolation,
    driver_errors.DeadlockDetected,
    driver_errors.SerializationFailure,
)
_BAD_VALUE: Final = (driver_errors.DataError, driver_errors.CheckViolation)


class Running(NamedTuple):
    """Statements that share a round trip which is under way.

    :ivar names: of the statements, in the SQL files.
    :ivar began: by `time.perf_counter`.
    """

    names: Sequence[str]
    began: float


class Backend(NamedTuple):
    """The Postgres process that serves a connection.

    :ivar pid: its number, which a later process may have after it has ended.
    :ivar began: when it began, in microseconds since 1970. Both together identify the process.
    """

    pid: int
    began: int


class uuid(bytes):  # noqa: N801  (reads as the Postgres type that it is)
    """One id, as a parameter: plain bytes would be a bytea."""

    __slots__ = ()


class _Column:
    """A whole column, as a parameter; None is NULL."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values


class uuids(_Column):  # noqa: N801
    """uuid[] of 16-byte values."""


class byteas(_Column):  # noqa: N801
    """bytea[]"""


class texts(_Column):  # noqa: N801
    """text[]"""


class bigints(_Column):  # noqa: N801
    """bigint[]"""


class _UuidDumper(Dumper):
    format = Format.BINARY
    oid = 2950

    def dump(self, obj: Any) -> Buffer:
        return bytes(obj)


def _column_dumper(type_: ColumnType) -> type[Dumper]:
    class ColumnDumper(Dumper):
        format = Format.BINARY
        oid = type_.oid

        def dump(self, obj: Any) -> Buffer:
            return type_.encode(obj.values)

    return ColumnDumper


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_dumper(uuid, _UuidDumper)
    adapters.register_dumper(uuids, _column_dumper(UUIDS))
    adapters.register_dumper(byteas, _column_dumper(BYTEAS))
    adapters.register_dumper(texts, _column_dumper(TEXTS))
    adapters.register_dumper(bigints, _column_dumper(BIGINTS))
    adapters.register_loader("uuid", ByteaBinaryLoader)
    return adapters


_ADAPTERS: Final = _adapters()


class PostgresConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """One Postgres connection in autocommit mode. One task at a time may use it; `store.postgres.pool` ensures that.

    Cancelling any method while a query runs asks Postgres to cancel the query, for at most `CANCEL_TIMEOUT_S`;
    afterwards the connection is either idle and usable, or closed.

    :ivar query_seconds: the time of each query by its name; a pool has its connections share one. Queries that share a
        round trip take its time.
    :ivar slow_s: seconds after which a statement counts as slow: its end is logged by its name.
    :ivar running: the statements under way; None between them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = trio.Lock()  # type: ignore[assignment]  # psycopg asks for `async with`, which this has
        self.where = ""
        self.backend = Backend(0, 0)
        self.is_unconfirmed = False
        self.query_seconds: DistributionsBy[str] = DistributionsBy()
        self.slow_s = math.inf
        self.running: Running | None = None
        self._queries = 0
        self._prepared_names: set[bytes] = set()
        self._loaders: dict[bytes, psycopg.abc.Transformer] = {}
        self.add_notice_handler(self._notice)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # "canceling wait for synchronous replication": committed here, perhaps not on the standby. Postgres sends it as
        # a warning, and execute() returns without an error.
        if diagnostic.sqlstate == "01000" and diagnostic.severity_nonlocalized == "WARNING":
            self.is_unconfirmed = True

    async def wait(self, gen: PQGen[_T], interval: float = 0, timeout: float | None = None) -> _T:
        """Drive a psycopg generator that works on this connection's socket."""
        try:
            return await _drive(gen, self.pgconn.socket)
        except trio.Cancelled:
            await self._settle_cancelled(gen)
            raise

    async def _settle_cancelled(self, gen: PQGen[Any]) -> None:
        if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            return
        with trio.move_on_after(CANCEL_TIMEOUT_S, shield=True) as scope:
            try:
                await _drive_connecting(self._cancel_gen())
                await _drive(gen, self.pgconn.socket, resumed=True)
            except driver_errors.QueryCanceled:
                return
            except psycopg.Error:
                self.pgconn.finish()
        if scope.cancelled_caught:
            self.pgconn.finish()

    async def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in its own transaction; return its rows after the commit.

        psycopg returns only after ReadyForQuery, which Postgres sends after the commit: a constraint that Postgres
        checks at commit fails here, and so does a commit that the standby did not confirm.

        :raises Unavailable: if the connection was lost or the standby did not confirm the commit: the outcome is
            unknown. Or if the server no longer takes writes: nothing was done, and the connection is closed.
        :raises Locked: if a lock took longer than `lock_timeout`, or on a deadlock; nothing was done.
        :raises DatabaseError: any other error of Postgres; nothing was done.
        """
        name = name_of(sql)
        self.running = Running((name,), perf_counter())
        try:
            await self._begin()
            cursor = self.cursor(binary=True)
            await cursor.execute(sql.encode(), parameters)
            rows = await cursor.fetchall() if cursor.description else []
        except (driver_errors.DeadlockDetected, driver_errors.SerializationFailure) as error:
            # A batch retries at once (it uses `run`, which raises `Retryable`); for one statement the client retries.
            raise Locked(_one_line(error)) from error
        except (psycopg.Error, UnicodeEncodeError) as error:
            raise self._mapped(error, name) from error
        finally:
            self._note_ended()
        self._check_confirmed()
        return rows

    async def run(self, statement: Statement, values: Mapping[str, Any]) -> _Rows:
        """Like `query`, for a statement of the hot path."""
        return await self.run_encoded(statement, encode(statement, values))

    async def run_encoded(self, statement: Statement, parameters: list[bytes | None]) -> _Rows:
        """Like `run`, with encoded parameters."""
        self.running = Running((statement.label,), perf_counter())
        try:
            await self._begin()
            if statement.name not in self._prepared_names:
                await self._prepare(statement)
            self.pgconn.send_query_prepared(statement.name, parameters, statement.formats, Format.BINARY)
            result = _checked(await self.wait(psycopg.generators.execute(self.pgconn)))
        except psycopg.Error as error:
            raise self._mapped(error, statement.label) from error
        finally:
            self._note_ended()
        self._check_confirmed()
        return self._rows(result, statement)

    async def run_all(self, reads: Sequence[Read]) -> list[_Rows | Exception]:
        """Run several reads in one round trip, each in its own transaction; return the rows or the error of each.

        Cancelling it while they run closes the connection.

        :raises Unavailable: if the connection was lost.
        """
        self.running = Running([statement.label for statement, _ in reads], perf_counter())
        try:
            for statement, _ in reads:
                await self._begin()
                if statement.name not in self._prepared_names:
                    await self._prepare(statement)
            self.pgconn.enter_pipeline_mode()
            for statement, parameters in reads:
                self.pgconn.send_query_prepared(statement.name, parameters, statement.formats, Format.BINARY)
                self.pgconn.pipeline_sync()
            results = await _drive(_pipelined(self.pgconn, len(reads)), self.pgconn.socket)
            self.pgconn.exit_pipeline_mode()
        except psycopg.Error as error:
            raise self._mapped(error) from error
        except trio.Cancelled:
            self.close_now()
            raise
        finally:
            self._note_ended()
        return [self._outcome(result, statement) for result, (statement, _) in zip(results, reads, strict=True)]

    def _outcome(self, result: PGresult, statement: Statement) -> _Rows | Exception:
        if result.status == ExecStatus.TUPLES_OK:
            return self._rows(result, statement)
        error = driver_errors.error_from_result(result, encoding="utf-8")
        mapped = self._mapped(error, statement.label)
        mapped.__cause__ = error
        return mapped

    def _rows(self, result: PGresult, statement: Statement) -> _Rows:
        """All rows by one call of psycopg's C code: from Python, each value would take as long as ten do there."""
        loaders = self._loaders.get(statement.name)
        if loaders is None:
            loaders = self._loaders[statement.name] = Transformer(self)
            loaders.set_pgresult(result, format=Format.BINARY)
        else:
            loaders.set_pgresult(result, set_loaders=False)
        rows = loaders.load_rows(0, result.ntuples, tuple)
        loaders.set_pgresult(None, set_loaders=False)
        return rows

    async def _prepare(self, statement: Statement) -> None:
        self.pgconn.send_prepare(statement.name, statement.sql, statement.oids)
        # The statement exists already if Postgres had prepared it when an earlier attempt was cancelled.
        with suppress(driver_errors.DuplicatePreparedStatement):
            _checked(await self.wait(psycopg.generators.execute(self.pgconn)))
        self._prepared_names.add(statement.name)

    async def _begin(self) -> None:
        self.is_unconfirmed = False
        self._queries += 1
        if self._queries >= FIRST_REPLAN and self._queries & (self._queries - 1) == 0:
            await self._discard_plans()

    def _note_ended(self) -> None:
        """The round trip is over, whatever its outcome."""
        running, self.running = self.running, None
        if running is None:
            return
        seconds = perf_counter() - running.began
        for name in running.names:
            self.query_seconds[name].observe(seconds)
        if seconds >= self.slow_s:
            log.warning("slow_statement", statement=", ".join(running.names), seconds=round(seconds, 3))

    def _mapped(self, error: psycopg.Error | UnicodeEncodeError, name: str = UNNAMED) -> StoreError:
        """The error that callers see in place of the driver's.

        :param name: of the statement.
        """
        if isinstance(error, UnicodeEncodeError):
            # A lone surrogate. Nothing was sent; callers treat it like a NUL, which Postgres itself refuses.
            return BadValue(_one_line(error))
        if isinstance(error, driver_errors.LockNotAvailable):
            log.warning("lock_timeout", statement=name)
            return Locked(_one_line(error))
        if isinstance(error, driver_errors.ReadOnlySqlTransaction):
            # It was the primary when we connected. The next connection finds the current one.
            self.close_now()
            return Unavailable("Postgres", self.where, "it now takes no writes")
        # Postgres also ends sessions with errors that do not sound like a lost connection, such as a transaction that
        # took too long.
        is_lost = self.pgconn.status == ConnStatus.BAD
        is_connection = is_lost or isinstance(error, (driver_errors.OperationalError, driver_errors.InterfaceError))
        if is_connection and not isinstance(error, _RETRYABLE):
            return Unavailable("Postgres", self.where, _one_line(error))
        return _refusal(error)

    def _check_confirmed(self) -> None:
        if self.is_unconfirmed:
            raise Unavailable("Postgres", self.where, "committed, but the standby did not confirm it")

    async def _discard_plans(self) -> None:
        """Forget plans that Postgres made while the tables were smaller.

        A prepared statement keeps the plan of its first runs until the tables are analysed: one that began on empty
        tables scans them whole while they fill. The connection makes plans again after 8, 16, 32 and so on queries, so
        a plan is never older than half of the queries that this connection has run.
        """
        with suppress(psycopg.Error):  # The query that follows reports a lost connection.
            await self.cursor().execute("discard plans")

    async def script(self, text: str) -> None:
        """Run several statements, without parameters, in one transaction.

        :raises Unavailable: if the connection was lost: the outcome is unknown.
        :raises Locked: if a lock took longer than `lock_timeout`; nothing was done.
        :raises DatabaseError: if one of them fails; nothing was done.
        """
        try:
            await self.wait(self._script(text.encode()))
        except psycopg.Error as error:
            raise self._mapped(error) from error

    def _script(self, text: bytes) -> PQGen[None]:
        self.pgconn.send_query(text)
        for result in (yield from psycopg.generators.execute(self.pgconn)):
            if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY):
                raise driver_errors.error_from_result(result)

    async def copy_out(self, sql: str) -> AsyncGenerator[bytes, None]:
        """The rows of a query in the text format of COPY, in pieces of whole rows of at least `COPY_BYTES`, but for the
        last. A caller that stops before the end closes the connection.

        :raises Unavailable: if the connection was lost.
        :raises DatabaseError: if Postgres refuses the statement.
        """
        try:
            await self.wait(copying.begin(self.pgconn, f"copy ({sql}) to stdout"))
            is_last = False
            while not is_last:
                rows, is_last = await self.wait(copying.take(self.pgconn, COPY_BYTES))
                if rows:
                    yield rows
        except psycopg.Error as error:
            raise self._mapped(error) from error

    async def copy_in(self, table: str, rows: bytes) -> None:
        """Add rows to a table, whose columns may follow its name in parentheses.

        :param rows: in the text format of COPY.
        :raises Unavailable: if the connection was lost.
        :raises DatabaseError: if Postgres refuses a row; none was added.
        """
        try:
            await self.wait(copying.give(self.pgconn, f"copy {table} from stdin", rows))
        except psycopg.Error as error:
            raise self._mapped(error) from error

    @property
    def is_idle(self) -> bool:
        """Whether another task could use this connection now."""
        return not self.closed and self.pgconn.transaction_status == TransactionStatus.IDLE

    def close_now(self) -> None:
        """Close without waiting for I/O."""
        self.pgconn.finish()


async def connect(
    url: str, *, preferred: str = "", is_ours: bool = True, name: str = APPLICATION, takes_writes: bool = True
) -> PostgresConnection:
    """A new connection: to the first host of `url` that answers, each tried for `CONNECT_TIMEOUT_S`.

    :param url: libpq URL or DSN; several hosts and `target_session_attrs` work. Without the latter, servers that take
        no writes are skipped.
    :param preferred: `where` of the last successful connection; tried first if `url` names it. Without it each new
        connection would wait out the timeout of a host that accepts and stays silent.
    :param is_ours: False for a database of another product that is only read: it may be a standby, or behind a pooler.
    :param name: `application_name` of the connection, if the URL has none.
    :param takes_writes: False: only standbys of our database will do.
    :raises Unavailable: if no host answers as required.
    :raises PoolerRefused: if a connection pooler answers instead of Postgres.
    """
    failures = []
    for attempt in sorted(
        _attempts(url, is_ours=is_ours, name=name, takes_writes=takes_writes),
        key=lambda attempt: where_of(attempt) != preferred,
    ):
        where = where_of(attempt)
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                resolved = make_conninfo("", **await _resolved(attempt))
                connection = await _drive_connecting(PostgresConnection._connect_gen(resolved))
                await _begin_session(connection, where, is_ours=is_ours)
        except trio.TooSlowError:
            failures.append(f"{where}: no answer within {CONNECT_TIMEOUT_S:g} s")
        except (psycopg.Error, OSError) as error:
            failures.append(f"{where}: {_one_line(error)}")
        else:
            return connection
    raise Unavailable("Postgres", where_of(url), "; ".join(failures))


def _pipelined(pgconn: Any, count: int) -> PQGen[list[PGresult]]:
    """Send the pipeline; return the one result of each statement."""
    yield from psycopg.generators.send(pgconn)
    results: list[PGresult] = []
    while len(results) < count:
        # A statement has one result and the end of its results (None), followed by its sync.
        result = yield from psycopg.generators.fetch(pgconn)
        if result is None:
            raise driver_errors.OperationalError("the connection was lost in a pipeline")
        results.append(result)
        while (yield from psycopg.generators.fetch(pgconn)) is not None:
            pass
        yield from psycopg.generators.fetch(pgconn)
    return results


async def _begin_session(connection: PostgresConnection, where: str, *, is_ours: bool) -> None:
    """Set the session up, and detect poolers: a pooler invents the process id that it reports while connecting."""
    connection._autocommit = True
    connection._adapters = _ADAPTERS
    connection.prepare_threshold = 0
    connection.where = where
    try:
        cursor = connection.cursor(binary=True)
        setting = f"{round(LOCK_TIMEOUT_S * 1000)}ms"
        # Not prepared: behind a pooler the prepared name would belong to another session.
        question = (
            "select pg_backend_pid(), set_config('lock_timeout', %s, false),"
            " (select (extract(epoch from a.backend_start) * 1000000)::bigint"
            " from pg_stat_get_activity(pg_backend_pid()) a)"
        )
        await cursor.execute(question, (setting,), prepare=False)
        [(pid, _, began)] = await cursor.fetchall()
    except BaseException:
        connection.close_now()
        raise
    if is_ours and pid != connection.pgconn.backend_pid:
        connection.close_now()
        raise PoolerRefused(where)
    connection.backend = Backend(pid, began or 0)


def encode(statement: Statement, values: Mapping[str, Any]) -> list[bytes | None]:
    """The parameters of a statement.

    :raises BadValue: if a text has a lone surrogate; callers treat it like a NUL, which Postgres itself refuses.
    """
    try:
        return statement.encode(values)
    except UnicodeEncodeError as error:
        raise BadValue(_one_line(error)) from error


def _refusal(error: psycopg.Error) -> DatabaseError:
    kind: type[DatabaseError] = DatabaseError
    if isinstance(error, _RETRYABLE):
        kind = Retryable
    elif isinstance(error, _BAD_VALUE):
        kind = BadValue
    # Postgres' detail has the values of the row.
    text = error.diag.message_primary or str(error)
    return kind(text, error.sqlstate or "", error.diag.constraint_name or "")


def _checked(results: list[PGresult]) -> PGresult:
    """The first result, if all are good: an error at commit comes as a second result, after the rows."""
    for result in results:
        if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            raise driver_errors.error_from_result(result, encoding="utf-8")
    return results[0]


def is_url(url: str) -> bool:
    """Whether `connect` can read the URL. libpq's own error would show the password."""
    try:
        for attempt in _attempts(url):
            int(attempt.get("port") or 0)
    except ValueError:
        return False
    return True


def where_of(parameters: dict[str, Any] | str) -> str:
    """Host and port for messages; never the password."""
    if isinstance(parameters, str):
        parameters = _parsed(parameters)
    host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
    return f"{host}:{parameters.get('port') or 5432}"


def _parsed(url: str) -> dict[str, Any]:
    """
    :raises ValueError: if libpq cannot read the URL; the text repeats no part of it, since any may be the password.
    """
    try:
        return conninfo_to_dict(url)
    except psycopg.Error:
        raise ValueError("must be a postgresql:// URL or a libpq connection string") from None


def _attempts(
    url: str, *, is_ours: bool = True, name: str = APPLICATION, takes_writes: bool = True
) -> list[dict[str, Any]]:
    defaults = {**DEFAULTS, "application_name": name}
    if not is_ours or not takes_writes:
        defaults["target_session_attrs"] = "standby" if is_ours else "any"
    parameters = {**defaults, **_parsed(url)}
    hosts = str(parameters.get("host") or "").split(",")
    ports = str(parameters.get("port") or "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return [{**parameters, "host": host or None, "port": port or None} for host, port in zip(hosts, ports, strict=True)]


async def _resolved(attempt: dict[str, Any]) -> dict[str, Any]:
    """The address of a host name: libpq resolves names with a blocking call."""
    host = attempt.get("host")
    if not host or host.startswith(("/", "@")) or attempt.get("hostaddr"):
        return attempt
    found = await trio.socket.getaddrinfo(host, attempt.get("port") or 5432, type=trio.socket.SOCK_STREAM)
    return {**attempt, "hostaddr": found[0][4][0]}


async def _drive(gen: PQGen[_T], fileno: int, *, resumed: bool = False) -> _T:
    try:
        # After a cancelled wait the generator resumes as if nothing had become ready.
        wanted = gen.send(Ready.NONE) if resumed else next(gen)
        while True:
            wanted = gen.send(await wait_socket(wanted, fileno))
    except StopIteration as stop:
        result: _T = stop.value
        return result


async def _drive_connecting(gen: PQGenConn[_T]) -> _T:
    # While connecting, the socket may change between two steps.
    try:
        fileno, wanted = next(gen)
        while True:
            fileno, wanted = gen.send(await wait_socket(wanted, fileno))
    except StopIteration as stop:
        result: _T = stop.value
        return result
    except trio.Cancelled:
        gen.close()
        raise


async def wait_socket(wanted: Wait, fileno: int) -> Ready:
    if wanted == Wait.R:
        await trio.lowlevel.wait_readable(fileno)
        return Ready.R
    if wanted == Wait.W:
        await trio.lowlevel.wait_writable(fileno)
        return Ready.W
    return await _wait_either(fileno)


async def _wait_either(fileno: int) -> Ready:
    ready = 0

    async def wait_one(wait: Any, flag: Ready) -> None:
        nonlocal ready
        await wait(fileno)
        ready |= flag
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_one, trio.lowlevel.wait_readable, Ready.R)
            nursery.start_soon(wait_one, trio.lowlevel.wait_writable, Ready.W)
    except BaseExceptionGroup:
        # When cancelled, the nursery raises a group of both tasks' Cancelled; callers expect a single one.
        await trio.lowlevel.checkpoint_if_cancelled()
        raise
    return Ready(ready)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@asynccontextmanager
async def connected(
    url: str, *, is_ours: bool = True, name: str = APPLICATION
) -> AsyncGenerator[PostgresConnection, None]:
    """A connection for one purpose, closed at the end; for migrations, imports and tests."""
    connection = await connect(url, is_ours=is_ours, name=name)
    try:
        yield connection
    finally:
        connection.close_now()
