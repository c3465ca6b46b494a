"""Checks of the replicas of Postgres that read pages of history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from server.cli.checks.finding import Finding, error, ok, warning
from store.errors import StoreError
from store.postgres.pool import Pool
from store.replicas import state_of

BEHIND_BYTES: Final = 64 * 1024**2
"""The most bytes of log to replay: a replica that is further behind reads hardly a page."""


async def check_replicas(pool: Pool, urls: Sequence[str]) -> AsyncIterator[Finding]:
    """A finding for each replica.

    :param pool: of the primary.
    """
    for url in urls:
        try:
            state = await state_of(pool, url)
        except StoreError as fault:
            advice = "start it, or take it out of DATABASE_REPLICA_URLS; meanwhile the primary reads its pages"
            yield error("replica", str(fault), advice)
            continue
        text = f"{state.where} is {state.behind_bytes / 1024**2:.1f} MiB behind"
        if not state.is_same:
            advice = (
                "after a fail-over: run CHECKPOINT on the primary, then on the replica; otherwise make it follow the"
                " server that DATABASE_URL names, and let its role execute pg_control_checkpoint()"
            )
            yield warning("replica", f"{state.where} follows another history, so it reads no pages", advice)
        elif state.behind_bytes > BEHIND_BYTES:
            yield warning(
                "replica", text, "look at its disk and at recovery_min_apply_delay: the primary reads its pages"
            )
        else:
            yield ok("replica", text)
