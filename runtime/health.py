"""Whether this process lives, and whether it can serve.

A process lives while its event loop turns and its batches progress: if it does not, only a restart helps. It can serve
while Postgres and Redis answer and Redis keeps all keys, from its start until it is told to stop. Liveness does not
depend on other services: a restart would not bring them back.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, TypeAlias

import structlog
import trio

from runtime.metrics.samples import Sample
from runtime.systemd import READY, STOPPING, notify
from store.errors import EvictingRedis, Overloaded, StoreError

log = structlog.get_logger(__name__)

CHECK_S: Final = 5.0
"""The time for the answers of all services: as long as a query may wait for a connection of the pool."""

KEPT_S: Final = 0.5
"""Answers count for this time: a service is asked twice a second at most, whatever the number of requests."""

Check: TypeAlias = Callable[[], Awaitable[object]]
"""Asks a service for a sign of life. Raises EvictingRedis if it may evict keys, and another StoreError if it does not
answer."""


class Health:
    """The health of one process.

    :param checks: service -> its check.
    :param overdue: names what should have ended long ago, such as a commit; "" if there is nothing. Synchronous.
    :ivar is_stopping: the process was told to stop.
    """

    def __init__(self, checks: Mapping[str, Check], overdue: Callable[[], str] = lambda: "") -> None:
        self._checks = checks
        self._overdue = overdue
        self._asking = trio.Lock()
        self._asked_at = -math.inf
        self._unfit: dict[str, str] = {}
        self._is_started = False
        self.is_stopping = False

    def started(self) -> None:
        """The process serves. Atomic (no checkpoint)."""
        self._is_started = True
        notify(READY)

    def stopping(self) -> None:
        """The process was told to stop: from now on it is not ready. Atomic (no checkpoint)."""
        self.is_stopping = True
        notify(STOPPING)

    def liveness_fault(self) -> str:
        """Why only a restart helps; "" if the process lives. Atomic (no checkpoint).

        A process whose event loop is stalled does not come to this call; `runtime.loop_watch` sees it from a thread.
        """
        return self._overdue()

    async def readiness_fault(self) -> str:
        """Why the process cannot serve; "" if it can. Answers within `CHECK_S`, and names no address."""
        if self.is_stopping:
            await trio.lowlevel.checkpoint()
            return "stopping"
        if not self._is_started:
            await trio.lowlevel.checkpoint()
            return "starting"
        await self._ask()
        return self._fault()

    def _fault(self) -> str:
        if self.is_stopping:
            return "stopping"
        if not self._is_started:
            return "starting"
        return " and ".join(f"{service} {fault}" for service, fault in self._unfit.items())

    async def _ask(self) -> None:
        """Ask all services, unless that was done a moment ago; requests that come meanwhile wait for the answers."""
        async with self._asking:
            if trio.current_time() < self._asked_at + KEPT_S:
                return
            unfit = dict.fromkeys(self._checks, "cannot be reached")
            with trio.move_on_after(CHECK_S):
                async with trio.open_nursery() as nursery:
                    for service, check in self._checks.items():
                        nursery.start_soon(_note_answer, service, check, unfit)
            self._unfit = unfit
            self._asked_at = trio.current_time()

    def samples(self) -> Iterator[Sample]:
        """Readiness is that of the last request for it."""
        yield Sample("alo_live", int(not self.liveness_fault()))
        yield Sample("alo_ready", int(not self._fault()))


async def _note_answer(service: str, check: Check, unfit: dict[str, str]) -> None:
    try:
        await check()
    except Overloaded:
        # Others get answers, which is why this one has to wait: a busy process must not be taken out of service.
        del unfit[service]
    except EvictingRedis as error:
        log.error("not_ready", service=service, error=str(error))
        unfit[service] = "may evict keys"
    except StoreError as error:
        log.warning("not_ready", service=service, error=str(error))
    else:
        del unfit[service]
