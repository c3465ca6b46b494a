"""Memory of a process, on Linux."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final, Self

_INTERVAL_S: Final = 0.5


def resident_bytes(pid: int) -> int:
    """The process's memory now, shared pages included.

    Read from its page tables, since the counters in /proc/PID/status may be some hundred pages behind.

    :raises OSError: if the process does not run, or belongs to another user.
    """
    return _field(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Rss")


class PeakWatch:
    """The most memory that a process has while a block runs. A thread reads it twice a second.

    The kernel's own peak (VmHWM) includes the process's start, which may need far more.

    :ivar peak_bytes: as `resident_bytes` counts.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._is_over.wait(_INTERVAL_S)
            self.peak_bytes = max(self.peak_bytes, resident_bytes(self._pid))


def _field(text: str, name: str) -> int:
    [line] = [line for line in text.splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024
