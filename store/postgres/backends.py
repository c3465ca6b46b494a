"""Processes of Postgres that may still be at a write whose writer has given up waiting."""

from __future__ import annotations

from collections.abc import Collection

from store import sql
from store.postgres.driver import Backend, bigints, connected

_sql = sql.load("backends")


async def end_backends(url: str, backends: Collection[Backend]) -> set[Backend]:
    """End these processes, each of which served a connection that has been given up; those that are still there.

    Once a process has ended, what it was asked is committed or never will be: Postgres reads no more of it, and waits
    for no lock and no standby on its behalf. On a connection of its own: those of the pool may be as silent as the one
    that was given up.

    :raises StoreError: if Postgres cannot be reached, or refuses to tell.
    """
    if not backends:
        return set()
    named = sorted(backends)
    parameters = {"pid": bigints([each.pid for each in named]), "began": bigints([each.began for each in named])}
    async with connected(url) as connection:
        return {Backend(pid, began) for pid, began, _ in await connection.query(_sql.end, parameters)}
