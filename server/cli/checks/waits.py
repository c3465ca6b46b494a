"""Checks of how soon Postgres answers: the way to it, locks, and other things that statements wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import trio

from server.cli.checks.finding import Finding, error, ok, warning
from server.cli.shown import shown_span
from store import database_checks as checks
from store.postgres.pool import Pool

SLOW_S: Final = 0.05
"""For a question and its answer: within a datacentre it takes a millisecond, and each send waits for one at least."""

QUESTIONS: Final = 3
"""The quickest counts: the others may have waited for a processor of this machine."""

HELD_S: Final = 1.0
"""A transaction of the processes holds its locks for milliseconds."""

LOOK_S: Final = 1.0
"""A send waits for a lock for a quarter of a second, gives up and tries again: one look may fall in between."""

PAUSE_S: Final = 0.1

_ADVICE: Final = {
    "IPC:SyncRep": "look at the synchronous standby: commits wait for it (docs/operations.md, Fail-over of Postgres)",
    "IO": "look at Postgres' disk (iostat -x 1): it is slow, or full",
    "LWLock": "look at Postgres' disk and processors (iostat -x 1): its sessions wait for each other",
}
"""By the name of the wait, or by its kind."""


async def check_waits(pool: Pool) -> AsyncIterator[Finding]:
    """Findings about a Postgres that answers.

    :raises StoreError: if it stops answering.
    """
    yield check_round_trip(await _round_trip_s(pool))
    for finding in await _locks(pool):
        yield finding
    for wait in await checks.long_waits(pool, than_s=HELD_S):
        advice = _ADVICE.get(wait.event) or _ADVICE.get(wait.event.partition(":")[0])
        longest = f"for {wait.event}, the longest for {shown_span(wait.seconds)}"
        text = f"{longest}; statements that wait for it: {wait.sessions}"
        yield warning("waits in Postgres", text, advice or "look it up in Postgres' manual (Wait Events)")


def check_round_trip(seconds: float) -> Finding:
    """
    :param seconds: from the question to the answer.
    """
    name, text = "way to Postgres", f"a question takes {1000 * seconds:.1f} ms there and back"
    if seconds <= SLOW_S:
        return ok(name, text)
    advice = "look at the network to Postgres (ping), and at its processors: each send waits at least so long"
    return warning(name, text, advice)


async def _round_trip_s(pool: Pool) -> float:
    taken = []
    for _ in range(QUESTIONS + 1):  # the first one may connect
        began = trio.current_time()
        await checks.answer(pool)
        taken.append(trio.current_time() - began)
    return min(taken[1:])


async def _locks(pool: Pool) -> list[Finding]:
    ends_at = trio.current_time() + LOOK_S
    while True:
        found = await checks.blockers(pool, than_s=HELD_S)
        if found or trio.current_time() >= ends_at:
            break
        await trio.sleep(PAUSE_S)
    if not found:
        return [ok("locks", f"no session holds one for {shown_span(HELD_S)} that another waits for")]
    findings = []
    for each in found:
        if each.pid:
            who = f"process {each.pid} ({each.program or 'unnamed'}, {each.state or 'unknown'})"
            advice = f"end it, unless it is about to end by itself: select pg_terminate_backend({each.pid})"
        else:
            who, advice = "a prepared transaction", "end it: see prepared transactions"
        since = "" if each.seconds is None else f", in a transaction of {shown_span(each.seconds)}"
        findings.append(error("locks", f"{who} holds a lock{since}; sessions that wait for it: {each.waiting}", advice))
    return findings
