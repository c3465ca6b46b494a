"""Runs a module of ours, and notes every few milliseconds of processor time which functions run.

    python -m bench.sampler samples.json server socket

The kernel sends SIGPROF each `INTERVAL_S` of processor time, of Python and of system calls alike; Python handles it
after the call in C that was under way, in the frame of its caller. When the process ends, the file gets one JSON list
for each second and stack: the second by `time.monotonic`, the functions from the innermost one outwards, the samples.
"""

from __future__ import annotations

import atexit
import json
import runpy
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

INTERVAL_S: Final = 0.004
"""The kernel's own resolution on most machines."""

MOST_FRAMES: Final = 16
"""Frames of a stack that are noted: as far as `bench.costs` has to look for a stage."""

_HERE: Final = f"{Path(__file__).parent.parent}/"


def _name_of(frame: FrameType) -> str:
    """File and function, such as `server/delivery/hub.py:push`; of packages from their own folder on."""
    path = frame.f_code.co_filename
    return f"{path.removeprefix(_HERE).rpartition('site-packages/')[2]}:{frame.f_code.co_name}"


class Sampler:
    """Counts stacks from now on."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, tuple[str, ...]]] = Counter()
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def write(self, path: Path) -> None:
        """Stop, and write what was counted."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        path.write_text(json.dumps([[second, stack, count] for (second, stack), count in self._counts.items()]))

    def _sample(self, _: int, innermost: FrameType | None) -> None:
        frames: list[str] = []
        frame = innermost
        while frame is not None and len(frames) < MOST_FRAMES:
            frames.append(_name_of(frame))
            frame = frame.f_back
        self._counts[int(time.monotonic()), tuple(frames)] += 1


def main() -> None:
    path, module, *arguments = sys.argv[1:]
    atexit.register(Sampler().write, Path(path))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
