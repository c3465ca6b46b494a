"""Threads of low priority, for work that takes a core: copies between sockets and files, digests, and waits for a disk.

Whatever else runs on the machine comes first, so transfers take what is left and slow nobody down. Trio's own threads
are shared with other calls, and a thread without privileges cannot raise its priority again.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue
from typing import Final, TypeVar

import structlog
import trio

from server.http.files.priorities import lower_priority

log = structlog.get_logger(__name__)

THREADS: Final = 8
"""Jobs at a time: a disk that is slow for one of them, or an fsync, does not stop the others."""

_T = TypeVar("_T")


class Lease:
    """Descriptors that a task shares with its job in a thread. They are closed when neither needs them any more.

    A task that is cancelled does not wait for its job: a descriptor that it closed could be another file's by then.
    """

    def __init__(self) -> None:
        self._holders = 1
        self._lock = threading.Lock()
        self._closers: list[Callable[[], None]] = []

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call this in the end; a holder may add it."""
        self._closers.append(closer)

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def drop(self) -> None:
        with self._lock:
            self._holders -= 1
            is_last = not self._holders
        while is_last and self._closers:
            try:
                self._closers.pop()()
            except OSError as error:
                log.error("transfer_not_closed", error=str(error))


class LowPriorityThreads:
    """A pool that starts its threads when the first job comes."""

    def __init__(self, threads: int = THREADS) -> None:
        self._most = threads
        self._started = False
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()

    @asynccontextmanager
    async def lease(self) -> AsyncGenerator[Lease, None]:
        """A lease for the block. All is closed on its end, or soon if the task is cancelled."""
        lease = Lease()
        try:
            yield lease
        except trio.Cancelled:
            self._start(lease.drop)
            raise
        except BaseException:
            await self._close(lease)
            raise
        await self._close(lease)

    async def run(self, job: Callable[[], _T], lease: Lease) -> _T:
        """The result of a job. If the caller is cancelled, the job goes on, and holds the lease until it ends; also
        one that has not begun."""
        token, done = trio.lowlevel.current_trio_token(), trio.Event()
        results: list[_T] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                results.append(job())
            except Exception as error:  # noqa: BLE001  (the caller raises it)
                errors.append(error)
            lease.drop()
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        lease.hold()
        self._start(work)
        await done.wait()
        if errors:
            raise errors.pop()
        return results[0]

    async def _close(self, lease: Lease) -> None:
        # A job, too: it may take the disk a while to remove a file.
        await self.run(lease.drop, Lease())

    def _start(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)
        if not self._started:
            self._started = True
            for number in range(self._most):
                threading.Thread(target=self._work, name=f"transfers-{number}", daemon=True).start()

    def _work(self) -> None:
        lower_priority()
        while True:
            self._jobs.get()()
