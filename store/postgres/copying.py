"""COPY in both directions, as generators that yield the socket event they wait for, like those of psycopg."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import errors as driver_errors
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

_PIECE_BYTES: Final = 128 * 1024
"""Rows that libpq gets at a time: it takes a larger piece than its buffer never, and says only that it would block."""


def begin(pgconn: PGconn, sql: str) -> PQGen[None]:
    """Begin a COPY.

    :raises psycopg.Error: if Postgres refuses it.
    """
    pgconn.send_query(sql.encode())
    yield from psycopg.generators.send(pgconn)
    result = yield from psycopg.generators.fetch(pgconn)
    if result is None or result.status not in (ExecStatus.COPY_OUT, ExecStatus.COPY_IN):
        # The end of its results; else the connection would still be in the middle of this statement.
        while (yield from psycopg.generators.fetch(pgconn)) is not None:
            pass
        raise driver_errors.error_from_result(result) if result is not None else psycopg.OperationalError("no result")


def take(pgconn: PGconn, least: int) -> PQGen[tuple[bytes, bool]]:
    """The next rows, in at least so many bytes unless they are the last; and whether they are. Postgres sends each row
    as a whole."""
    rows = bytearray()
    while len(rows) < least:
        row = yield from psycopg.generators.copy_from(pgconn)
        if not isinstance(row, memoryview):
            return bytes(rows), True
        rows += row
    return bytes(rows), False


def give(pgconn: PGconn, sql: str, rows: bytes) -> PQGen[None]:
    """Copy rows into a table.

    :raises psycopg.Error: if Postgres refuses one of them.
    """
    yield from begin(pgconn, sql)
    for start in range(0, len(rows), _PIECE_BYTES):
        yield from psycopg.generators.copy_to(pgconn, rows[start : start + _PIECE_BYTES])
    yield from psycopg.generators.copy_end(pgconn, None)
