"""Memory of a process, on Linux."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final, Self

_INTERVAL_S: Final = 0.5


def resident_bytes(pid: int) -> int:
    """What it has in memory now, shared pages included.

    From its page tables: the counters in /proc/PID/status may be some hundred pages behind.

    :raises OSError: if it does not run, or is somebody else's.
    """
    return _field(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Rss")


class PeakWatch:
    """The most that a process has in memory while a block runs, looked at twice a second by a thread.

    The kernel's own peak (VmHWM) also knows what the process needed to start, which may be far more.

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
