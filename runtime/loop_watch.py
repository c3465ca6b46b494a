"""Watches the event loop: measures how late it runs, and sees from a thread that it does not run at all.

While the loop is stalled, it can answer no request, `/healthz` among them. The thread then logs where the loop is, and
tells systemd's watchdog nothing more, so that systemd restarts the process.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import trio

from runtime.metrics.samples import Sample
from runtime.systemd import WATCHDOG, notify, watchdog_s
from store.distribution import Distribution

log = structlog.get_logger(__name__)

TICK_S: Final = 0.1
"""Between two measurements: 50 us of work, a two-thousandth of a core."""

STALL_S: Final = 10.0
"""The loop is stalled after this time without a turn. The longest work between two turns takes some 10 ms."""

LOOK_S: Final = 1.0
"""How often the thread looks."""


class LoopWatch:
    """Watches the loop of the thread that makes it.

    :param liveness_fault: see `Health.liveness_fault`; asked in the loop's turns.
    """

    def __init__(self, liveness_fault: Callable[[], str]) -> None:
        self._liveness_fault = liveness_fault
        self._loop = threading.get_ident()
        self._lag = Distribution()
        self._turned_at = time.monotonic()
        self._fault = ""
        self._stalls = 0
        self._is_stalled = False
        watchdog = watchdog_s()
        self._has_watchdog = watchdog is not None
        self._look_s = LOOK_S if watchdog is None else min(LOOK_S, watchdog / 3)
        self._ended = threading.Event()

    async def run(self) -> None:
        """Measure until cancelled."""
        with self._watching():
            while True:
                due = trio.current_time() + TICK_S
                await trio.sleep_until(due)
                self._lag.observe(trio.current_time() - due)
                fault = self._liveness_fault()
                if fault and not self._fault:
                    log.error("not_live", fault=fault)
                self._fault = fault
                self._turned_at = time.monotonic()

    def samples(self) -> Iterator[Sample]:
        yield Sample("alo_event_loop_lag_seconds", self._lag)
        yield Sample("alo_event_loop_stalls_total", self._stalls)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._look,), name="loop_watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()

    def _look(self) -> None:
        looked_at = time.monotonic()
        while not self._ended.wait(self._look_s):
            now = time.monotonic()
            was_paused = now - looked_at > 2 * self._look_s + LOOK_S
            looked_at = now
            # If the whole process was paused (SIGSTOP, a frozen machine), the loop is about to have its turn.
            if not was_paused:
                self._judge(now - self._turned_at)

    def _judge(self, since_s: float) -> None:
        is_stalled = since_s > STALL_S
        if is_stalled and not self._is_stalled:
            self._stalls += 1
            log.error("event_loop_stalled", since_s=round(since_s, 1), stack=self._stack())
        self._is_stalled = is_stalled
        if self._has_watchdog and not is_stalled and not self._fault:
            notify(WATCHDOG)

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._loop)
        return "".join(traceback.format_stack(frame)) if frame else ""
