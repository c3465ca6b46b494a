"""Processes of Postgres: those that may still run a write after its caller has given up, and those that wait."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

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


class BackendWait(NamedTuple):
    """A process of Postgres with a statement under way.

    :ivar event: what it waits for, as Postgres names it, such as `IO:DataFileRead`; empty if it computes.
    :ivar blockers: the processes that hold the lock that it waits for, such as `psql (pid 42, idle in transaction)`.
    :ivar held_s: the age of the blockers' oldest transaction; None if Postgres does not tell, or nothing blocks.
    """

    pid: int
    event: str
    blockers: Sequence[str]
    held_s: float | None


async def waits_of(url: str, pids: Sequence[int], *, name: str) -> list[BackendWait]:
    """What these processes wait for; those that have ended are left out. It uses a connection of its own.

    :param name: `application_name` of the connection.
    :raises StoreError: if Postgres cannot be reached, or does not answer.
    """
    async with connected(url, name=name) as connection:
        rows = await connection.query(_sql.waits, {"pid": bigints(pids)})
    return [BackendWait(*row) for row in rows]
