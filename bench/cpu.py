"""Processor time (user and system) of trees of processes, on Linux.

The meter reads a process's own CPU clock instead of `utime` and `stime` of /proc/PID/stat, which are the same time in
ticks of 10 ms: at 200 sends a second ticks would be a tenth of the figure. The clock includes threads that have ended.
For children that ended and were waited for, /proc/PID/stat gives the time, which counts with their parent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PARENT: Final = 1
_CHILDREN_USER, _CHILDREN_SYSTEM = 13, 14
"""Fields of /proc/PID/stat after the name, which may itself hold spaces and parentheses."""


class CpuMeter:
    """The processor time of named groups of process trees."""

    def __init__(self, groups: Mapping[str, Iterable[int]]) -> None:
        self._groups = {name: tuple(pids) for name, pids in groups.items()}

    def read(self) -> dict[str, float]:
        """Seconds so far of each group, of this process as `generator`, and of the whole machine as `machine`.

        `machine` includes the time that the hypervisor gave to other machines ("steal"), since this machine wanted it
        too.

        :raises ProcessLookupError: if the root of a group does not run; its cost would be missing.
        """
        seconds = {"generator": time.process_time(), "machine": _busy()}
        children = _children()
        for name, roots in self._groups.items():
            if gone := [pid for pid in roots if not Path(f"/proc/{pid}").exists()]:
                raise ProcessLookupError(f"{name}: no process {gone[0]}")
            seconds[name] = sum(map(_seconds, tree(roots, children)))
        return seconds


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each group between two readings, and `others` instead of `machine`: the time of all other processes.

    If `others` is high, the run's latencies are worth little.
    """
    seconds = {name: after[name] - before[name] for name in before}
    machine = seconds.pop("machine")
    return {**seconds, "others": max(0.0, machine - sum(seconds.values()))}


def tree(roots: Iterable[int], children: Mapping[int, Iterable[int]]) -> set[int]:
    """The processes and all that descend from them."""
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        found.add(pid)
        todo += children.get(pid, ())
    return found


def clock_of(pid: int) -> float:
    """Seconds of processor time of a process so far, without its children; some microseconds to read.

    :raises OSError: if it does not run.
    """
    return time.clock_gettime((~pid << 3) | 2)  # the clock's number, as clock_getcpuclockid(3) computes it


def _children() -> dict[int, list[int]]:
    """The children of every process."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (fields := _fields(int(entry))):
            children.setdefault(int(fields[_PARENT]), []).append(int(entry))
    return children


def _busy() -> float:
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _wait, interrupts, soft_interrupts, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + interrupts + soft_interrupts + steal) / _TICKS_PER_S


def _seconds(pid: int) -> float:
    fields = _fields(pid)
    try:
        own = clock_of(pid)
    except OSError:
        return 0.0
    return own + sum(int(fields[i]) for i in (_CHILDREN_USER, _CHILDREN_SYSTEM) if fields) / _TICKS_PER_S


def _fields(pid: int) -> list[str]:
    """Fields of /proc/PID/stat; empty if the process has ended, since its parent then has its time."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
