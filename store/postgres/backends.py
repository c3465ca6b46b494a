"""Postgres processes that may still run a write after its caller has given up."""

from __future__ import annotations

from collections.abc import Collection

from store import sql
from store.postgres.driver import Backend, bigints, connected

_sql = sql.load("backends")


async def end_backends(url: str, backends: Collection[Backend]) -> set[Backend]:
    """End these processes, whose connections were given up; return those that still exist.

    Once a process has ended, its last statement is committed or never will be: Postgres reads no more of it, and waits
    for no lock and no standby for it. This uses its own connection: those of the pool may be as silent as the one that
    was given up.

    :raises StoreError: if Postgres cannot be reached, or does not answer.
    """
    if not backends:
        return set()
    named = sorted(backends)
    parameters = {"pid": bigints([each.pid for each in named]), "began": bigints([each.began for each in named])}
    async with connected(url) as connection:
        return {Backend(pid, began) for pid, began, _ in await connection.query(_sql.end, parameters)}
