"""psycopg on Trio: the one file that meets the driver.

psycopg describes its I/O as generators that yield what they wait for; its own asynchronous edge is for asyncio. Here
Trio does the waiting, so a query costs one task switch and no thread. Everything above the waiting (adaptation,
prepared statements, error classes) is psycopg's own.

Ids are 16 raw `bytes` everywhere in Python. `uuids`, `byteas`, `bigints` and `texts` hand whole columns to Postgres in
its binary array format, built by one join each, because a batch has thousands of values and psycopg's general way costs
a Python call per value.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
import structlog
import trio
from psycopg import errors as driver_errors
from psycopg.abc import Buffer, PQGen, PQGenConn
from psycopg.adapt import AdaptersMap, Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.waiting import Ready, Wait

from store.errors import Unavailable

log = structlog.get_logger(__name__)
_T = TypeVar("_T")

CONNECT_TIMEOUT_S: Final = 3.0
"""For one attempt at one address, names resolved; a local connect takes 5 ms, TLS across a continent 0.5 s."""

FIRST_REPLAN: Final = 8
"""Queries of a connection after which plans are made anew for the first time; then at each doubling."""

CANCEL_TIMEOUT_S: Final = 2.0
"""How long a cancelled query may hold its task while Postgres is asked to stop it; then the connection is closed."""

DEFAULTS: Final = {
    # A peer that vanished (cut cable, frozen host) is found by the kernel, not waited for.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "application_name": "alo-shield",
}

RETRYABLE: Final = (
    driver_errors.UniqueViolation,
    driver_errors.DeadlockDetected,
    driver_errors.SerializationFailure,
)
"""Nothing was committed, and the same statement may succeed at once, on a new snapshot."""

Error = psycopg.Error
UniqueViolation = driver_errors.UniqueViolation
ForeignKeyViolation = driver_errors.ForeignKeyViolation
InvalidCatalogName = driver_errors.InvalidCatalogName


class uuid(bytes):  # noqa: N801  (reads as the Postgres type that it is)
    """One id, as a parameter: plain bytes would be a bytea."""

    __slots__ = ()


class _Column:
    """A whole column of a batch, in Postgres' binary array format."""

    __slots__ = ("values",)
    element_oid: int

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values


class uuids(_Column):  # noqa: N801
    """uuid[] of 16-byte values; None is NULL."""

    __slots__ = ()
    element_oid = 2950


class byteas(_Column):  # noqa: N801
    """bytea[]; None is NULL."""

    __slots__ = ()
    element_oid = 17


class texts(_Column):  # noqa: N801
    """text[]; None is NULL."""

    __slots__ = ()
    element_oid = 25


class bigints(_Column):  # noqa: N801
    """bigint[]; None is NULL."""

    __slots__ = ()
    element_oid = 20


_HEADER = struct.Struct("!iiIii")
_LENGTH = struct.Struct("!i")
_BIGINT = struct.Struct("!iq")
_NULL = b"\xff\xff\xff\xff"


def _array(oid: int, elements: list[bytes], *, has_null: bool) -> bytes:
    if not elements:
        return struct.pack("!iiI", 0, 0, oid)
    return _HEADER.pack(1, has_null, oid, len(elements), 1) + b"".join(elements)


class _BytesDumper(Dumper):
    format = Format.BINARY
    element = 17

    def dump(self, obj: Any) -> Buffer:
        pack, values = _LENGTH.pack, obj.values
        elements = [_NULL if v is None else pack(len(v)) + v for v in values]
        return _array(self.element, elements, has_null=None in values)


class _ByteasDumper(_BytesDumper):
    oid, element = 1001, 17


class _UuidsDumper(_BytesDumper):
    oid, element = 2951, 2950


class _TextsDumper(Dumper):
    format = Format.BINARY
    oid = 1009

    def dump(self, obj: Any) -> Buffer:
        encoded = [None if v is None else v.encode() for v in obj.values]
        elements = [_NULL if v is None else _LENGTH.pack(len(v)) + v for v in encoded]
        return _array(25, elements, has_null=None in encoded)


class _BigintsDumper(Dumper):
    format = Format.BINARY
    oid = 1016

    def dump(self, obj: Any) -> Buffer:
        pack, values = _BIGINT.pack, obj.values
        elements = [_NULL if v is None else pack(8, v) for v in values]
        return _array(20, elements, has_null=None in values)


class _UuidDumper(Dumper):
    format = Format.BINARY
    oid = 2950

    def dump(self, obj: Any) -> Buffer:
        return bytes(obj)


class _UuidLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_dumper(uuid, _UuidDumper)
    adapters.register_dumper(uuids, _UuidsDumper)
    adapters.register_dumper(byteas, _ByteasDumper)
    adapters.register_dumper(texts, _TextsDumper)
    adapters.register_dumper(bigints, _BigintsDumper)
    adapters.register_loader("uuid", _UuidLoader)
    return adapters


_ADAPTERS: Final = _adapters()


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """One Postgres connection in autocommit mode. Use by one task at a time; `store.pool` sees to that.

    Cancelling any method while a query runs asks Postgres to cancel it, for at most `CANCEL_TIMEOUT_S`; afterwards
    the connection is either idle and usable, or closed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = trio.Lock()  # type: ignore[assignment]  # psycopg asks for `async with`, which this has
        self.where = ""
        self.commit_doubted = False
        self._queries = 0
        self.add_notice_handler(self._notice)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # "canceling wait for synchronous replication": committed here, perhaps not on the standby. It is a warning,
        # and execute() returns without an error.
        if diagnostic.sqlstate == "01000" and diagnostic.severity_nonlocalized == "WARNING":
            self.commit_doubted = True

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

    async def query(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own; its rows, once the commit has succeeded.

        psycopg returns only after ReadyForQuery, which Postgres sends after the commit: a constraint that is checked
        at commit fails here. A commit of which the standby's confirmation was not waited for fails here as well.

        :raises Unavailable: if the connection was lost or the commit is in doubt: the outcome is unknown.
        :raises Error: any other error of Postgres; nothing was done.
        """
        self.commit_doubted = False
        self._queries += 1
        if self._queries >= FIRST_REPLAN and self._queries & (self._queries - 1) == 0:
            await self._discard_plans()
        cursor = self.cursor(binary=True)
        try:
            await cursor.execute(sql.encode(), parameters)
            rows = await cursor.fetchall() if cursor.description else []
        except (driver_errors.OperationalError, driver_errors.InterfaceError) as error:
            if isinstance(error, RETRYABLE):
                raise
            raise Unavailable("Postgres", self.where, _one_line(error)) from error
        except UnicodeEncodeError as error:
            # A lone surrogate. Nothing was sent; callers see it as they see a NUL, which Postgres itself refuses.
            raise driver_errors.DataError(_one_line(error)) from error
        if self.commit_doubted:
            raise Unavailable("Postgres", self.where, "committed, but the standby did not confirm it")
        return rows

    async def _discard_plans(self) -> None:
        """Forget plans that were made while the tables were smaller.

        A prepared statement keeps the plan of its first runs until somebody analyses the tables: begun on empty
        tables, it goes on reading them from end to end while they fill. Plans are made anew after 8, 16, 32 and so
        on queries, so they are never older than half of what this connection has written.
        """
        with suppress(psycopg.Error):  # A lost connection shows itself with the query that follows.
            await self.cursor().execute("discard plans")

    async def script(self, text: str) -> None:
        """Run several statements, without parameters, in one transaction."""
        await self.wait(self._script(text.encode()))

    def _script(self, text: bytes) -> PQGen[None]:
        self.pgconn.send_query(text)
        for result in (yield from psycopg.generators.execute(self.pgconn)):
            if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY):
                raise driver_errors.error_from_result(result)

    @property
    def is_idle(self) -> bool:
        """Whether another task could use this connection now."""
        return not self.closed and self.pgconn.transaction_status == TransactionStatus.IDLE

    def close_now(self) -> None:
        """Close without any I/O to wait for."""
        self.pgconn.finish()


async def connect(url: str) -> Connection:
    """A new connection: the first host of `url` that answers, each tried for `CONNECT_TIMEOUT_S`.

    :param url: libpq URL or DSN; several hosts and `target_session_attrs` work.
    :raises Unavailable: if no host answers as asked.
    """
    failures = []
    for attempt in _attempts(url):
        where = where_of(attempt)
        try:
            with trio.fail_after(CONNECT_TIMEOUT_S):
                resolved = make_conninfo("", **await _resolved(attempt))
                connection = await _drive_connecting(Connection._connect_gen(resolved))
        except trio.TooSlowError:
            failures.append(f"{where}: no answer within {CONNECT_TIMEOUT_S:g} s")
        except (psycopg.Error, OSError) as error:
            failures.append(f"{where}: {_one_line(error)}")
        else:
            connection._autocommit = True
            connection._adapters = _ADAPTERS
            connection.prepare_threshold = 0
            connection.where = where
            return connection
    raise Unavailable("Postgres", where_of(conninfo_to_dict(url)), "; ".join(failures))


def where_of(parameters: dict[str, Any] | str) -> str:
    """Host and port for messages; never the password."""
    if isinstance(parameters, str):
        parameters = conninfo_to_dict(parameters)
    host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
    return f"{host}:{parameters.get('port') or 5432}"


def _attempts(url: str) -> list[dict[str, Any]]:
    parameters = {**DEFAULTS, **conninfo_to_dict(url)}
    hosts = str(parameters.get("host") or "").split(",")
    ports = str(parameters.get("port") or "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return [{**parameters, "host": host or None, "port": port or None} for host, port in zip(hosts, ports, strict=True)]


async def _resolved(attempt: dict[str, Any]) -> dict[str, Any]:
    """libpq resolves names with a blocking call, so it gets an address."""
    host = attempt.get("host")
    if not host or host.startswith(("/", "@")) or attempt.get("hostaddr"):
        return attempt
    found = await trio.socket.getaddrinfo(host, attempt.get("port") or 5432, type=trio.socket.SOCK_STREAM)
    return {**attempt, "hostaddr": found[0][4][0]}


async def _drive(gen: PQGen[_T], fileno: int, *, resumed: bool = False) -> _T:
    try:
        # A generator whose wait was cancelled goes on as after one in which nothing became ready.
        wanted = gen.send(Ready.NONE) if resumed else next(gen)
        while True:
            wanted = gen.send(await _wait_ready(wanted, fileno))
    except StopIteration as stop:
        result: _T = stop.value
        return result


async def _drive_connecting(gen: PQGenConn[_T]) -> _T:
    # While connecting, the socket may change from one step to the next.
    try:
        fileno, wanted = next(gen)
        while True:
            fileno, wanted = gen.send(await _wait_ready(wanted, fileno))
    except StopIteration as stop:
        result: _T = stop.value
        return result
    except trio.Cancelled:
        gen.close()
        raise


async def _wait_ready(wanted: Wait, fileno: int) -> Ready:
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
        # Cancelled, the nursery raises a group of both tasks' Cancelled; callers settle on a plain one.
        await trio.lowlevel.checkpoint_if_cancelled()
        raise
    return Ready(ready)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Connection, None]:
    """A connection for one purpose, closed at the end; for migrations and tests."""
    connection = await connect(url)
    try:
        yield connection
    finally:
        connection.close_now()
