"""Figures of the process itself."""

from __future__ import annotations

import gc
import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import trio

from runtime.metrics.samples import Sample
from store.distribution import Distribution

_STATUS: Final = Path("/proc/self/statm")
_FILES: Final = ("/proc/self/fd", "/dev/fd")
"""The folder of this process's open files: on Linux, and on macOS."""


class ProcessFigures:
    """CPU, memory, open files and garbage collection of this process. Makes the collector report its pauses."""

    def __init__(self) -> None:
        self._started = time.time()
        self._pauses = Distribution()
        self._began = 0.0
        gc.callbacks.append(self._collecting)

    def close(self) -> None:
        """The collector reports no longer."""
        gc.callbacks.remove(self._collecting)

    def _collecting(self, phase: Literal["start", "stop"], _: object) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self._pauses.observe(time.perf_counter() - self._began)

    def samples(self) -> Iterator[Sample]:
        used = os.times()
        yield Sample("alo_process_cpu_seconds_total", used.user, ("user",))
        yield Sample("alo_process_cpu_seconds_total", used.system, ("system",))
        yield Sample("alo_process_start_time_seconds", self._started)
        yield Sample("alo_process_resident_memory_bytes", _resident_bytes())
        yield Sample("alo_process_open_files", _open_files())
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield Sample("alo_process_max_open_files", math.inf if most == resource.RLIM_INFINITY else most)
        yield Sample("alo_trio_tasks", trio.lowlevel.current_statistics().tasks_living)
        yield Sample("alo_gc_pause_seconds", self._pauses)
        for generation, figures in enumerate(gc.get_stats()):
            yield Sample("alo_gc_collections_total", figures["collections"], (str(generation),))


def _resident_bytes() -> int:
    """The bytes of now on Linux; elsewhere the most until now, in bytes on macOS."""
    if _STATUS.exists():
        return int(_STATUS.read_text().split()[1]) * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _open_files() -> int:
    # One of them is the folder itself.
    return next(len(os.listdir(folder)) - 1 for folder in _FILES if Path(folder).is_dir())
