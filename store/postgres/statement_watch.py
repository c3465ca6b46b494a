"""Names the statements of a pool that wait, and the processes of Postgres that they wait for.

A statement logs nothing while it waits. One that waits for a lock often gives up within a quarter of a second
(`lock_timeout`), and then Postgres no longer knows the holder of the lock. So the watch looks at the pool ten times a
second, and asks Postgres as soon as a statement has been under way for `LOOK_AFTER_S`. It asks over a connection of its
own: those of the pool may all be waiting. The log has no text of a statement, and no parameter, neither ours nor
others'.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from store.errors import StoreError
from store.postgres.backends import BackendWait, waits_of
from store.postgres.pool import Pool, WaitingStatement

log = structlog.get_logger(__name__)

TICK_S: Final = 0.1
"""Between two looks at the pool: 50 us of work, a two-thousandth of a core."""

LOOK_AFTER_S: Final = 0.1
"""A statement takes milliseconds, and a commit holds its locks as long: one that takes this long waits for something.
The shortest `lock_timeout` is 0.2 s, so each statement that gives up is looked at once before."""

PAUSE_S: Final = 1.0
"""After a question to Postgres, which costs a connection: 5 ms."""

LONG_S: Final = 1.0
"""A statement that waits for no lock is logged after this time."""

ANSWER_S: Final = 5.0
"""For the connection and the answer; as long as all connections may be used up, Postgres gives none."""


class StatementWatch:
    """Watches one pool. Run `run` in a nursery."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await trio.sleep(TICK_S)
            if waiting := self._pool.waiting_for(LOOK_AFTER_S):
                await self._look(waiting)
                await trio.sleep(PAUSE_S)

    async def _look(self, waiting: dict[int, WaitingStatement]) -> None:
        found: list[BackendWait] = []
        with trio.move_on_after(ANSWER_S) as scope:
            try:
                found = await waits_of(self._pool.url, list(waiting), name=self._pool.name)
            except StoreError as error:
                log.warning("waits_not_seen", statements=len(waiting), error=str(error))
        if scope.cancelled_caught:
            log.warning("waits_not_seen", statements=len(waiting), error=f"no answer within {ANSWER_S:g} s")
        for each in found:
            _log(each, waiting[each.pid])


def _log(found: BackendWait, statement: WaitingStatement) -> None:
    waited_s = round(statement.waited_s, 3)
    if found.blockers:
        held_s = None if found.held_s is None else round(found.held_s, 3)
        log.warning(
            "lock_wait", statement=statement.name, waited_s=waited_s, blocked_by=list(found.blockers), held_s=held_s
        )
    elif statement.waited_s >= LONG_S:
        log.warning("statement_waits", statement=statement.name, waited_s=waited_s, waits_for=found.event)
