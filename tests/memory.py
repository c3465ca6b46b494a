"""A folder in memory, for data of services that may be lost.

Postgres makes hundreds of files for each database. On a disk's file system the kernel needs several times the CPU
for that, and more the busier the disk is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")
"""Where Linux has a file system in memory."""

ROOM_BYTES: Final = 4 << 30
"""Free in it and as memory; with less, tests use the disk (a container has 64 MB). All tests' services take 1 GB."""

_PREFIX: Final = "alo-shield-tests-"


@contextmanager
def in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder in memory, removed at the end; `otherwise` if memory is short. It blocks."""
    if not has_room():
        yield otherwise
        return
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=MEMORY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def has_room() -> bool:
    """Whether the file system in memory takes the data of all services."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = shutil.disk_usage(MEMORY).free
    except OSError:
        return False
    available = sum(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    return min(available, free) > ROOM_BYTES and os.access(MEMORY, os.W_OK)


def _sweep() -> None:
    """Remove the folders of killed processes: they would take memory until the machine is restarted."""
    for folder in MEMORY.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)
