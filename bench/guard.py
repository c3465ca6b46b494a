"""Has the hot path become dearer? Each piece of it against a reference loop, and that ratio against a stored one.

    python -m bench.guard              # 10 seconds; status 1 if a piece is more than 15 % dearer than it was
    python -m bench.guard --write      # after a change that is worth its cost: store today's ratios

The CPU time of one thread is measured in slices of a few milliseconds, in turn with the reference loop, which suffers
from a busy machine as much as the piece does; the median of many ratios leaves out the slices that an interrupt has
met. A piece that seems dearer is measured again, with more slices, before the program says so. The stored ratios are
those of one version of Python: another one has other ratios, and the program says that it has nothing to compare with.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import trio

from bench.hot_path import Loop, loops, reference
from bench.program import print_line, say

STORED: Final = Path(__file__).with_name("guard.json")

MOST: Final = 1.15
"""A piece fails if it costs more than this, as a multiple of its stored ratio."""

SLICE_NS: Final = 3_000_000
SLICES: Final = 100
AGAIN: Final = 3
"""How often a piece is measured that seems dearer; it fails if it is dearer each time."""

VERSION: Final = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"


def _slice_of(loop: Loop) -> int:
    """The number of times that take a slice."""
    loop(10)  # the first call fills caches
    count = 1
    while (took := _time(loop, count)) < SLICE_NS // 4:
        count *= 2
    return max(1, count * SLICE_NS // took)


def _time(loop: Loop, count: int) -> int:
    began = time.thread_time_ns()
    loop(count)
    return time.thread_time_ns() - began


def ratio_of(loop: Loop, slices: int = SLICES) -> float:
    """What one time of a loop costs, in units of the reference loop."""
    count, units = _slice_of(loop), _slice_of(reference)
    ratios = []
    gc.collect()
    gc.disable()
    try:
        before = _time(reference, units)
        for _ in range(slices):
            took = _time(loop, count)
            after = _time(reference, units)
            ratios.append(took / (before + after))
            before = after
    finally:
        gc.enable()
    return median(ratios) * 2 * units / count


def judge(piece: str, loop: Loop, stored: float) -> dict[str, Any]:
    """The line of a piece: its ratio, that to the stored one, and whether it holds."""
    for slices in (SLICES, *[2 * SLICES] * (AGAIN - 1)):
        ratio = ratio_of(loop, slices)
        if ratio <= MOST * stored:
            break
    return {
        "kind": "requirement",
        "piece": piece,
        "to_reference": round(ratio, 4),
        "to_stored": round(ratio / stored, 3),
        f"at_most_{MOST:g}": ratio <= MOST * stored,
    }


def guard(pieces: Mapping[str, Loop], stored: Mapping[str, float]) -> bool:
    """Print a line for each piece; whether all hold. A piece without a stored ratio holds."""
    lines = [judge(piece, loop, stored[piece]) for piece, loop in pieces.items() if piece in stored]
    for line in lines:
        print_line(line)
    return all(line[f"at_most_{MOST:g}"] for line in lines)


def _write(pieces: Mapping[str, Loop], all_stored: dict[str, dict[str, float]]) -> None:
    all_stored[VERSION] = {piece: round(ratio_of(loop, 3 * SLICES), 4) for piece, loop in pieces.items()}
    STORED.write_text(json.dumps(all_stored, indent=4, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="store the ratios instead of comparing with them")
    options = parser.parse_args()
    sys.exit(0 if trio.run(_run, options.write) else 1)


async def _run(is_writing: bool) -> bool:
    """The pieces ask Trio for the time; nothing waits."""
    pieces = loops()
    all_stored: dict[str, dict[str, float]] = json.loads(STORED.read_text()) if STORED.exists() else {}
    if is_writing:
        _write(pieces, all_stored)
        return True
    if (stored := all_stored.get(VERSION)) is None:
        say(f"nothing to compare with: {STORED.name} has {', '.join(sorted(all_stored))}, and this is {VERSION}")
        return True
    holds = guard(pieces, stored)
    if not holds:
        say(
            "The hot path is dearer than it was. Make it cheaper, or store what it costs: python -m bench.guard --write"
        )
    return holds


if __name__ == "__main__":
    main()
