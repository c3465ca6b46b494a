"""Has the hot path become dearer? Instructions of each piece of it, and that figure against a stored one.

    python -m bench.guard              # 20 seconds; status 1 if a piece is more than 15 % dearer than it was
    python -m bench.guard --write      # after a change that is worth its cost: store today's figures
    python -m bench.guard --plant 17   # proof of the guard: each piece costs 17 % of its stored cost more, and fails

The guard counts instructions (`bench.instructions`), so other work on the machine changes no figure. They are in units
of the reference loop, which a different build of Python or of the C library changes about as much as the pieces. The
stored figures are those of one version of Python on one kind of processor; elsewhere the program says that it has
nothing to compare with. Instructions are not time: the guard does not see that caches are missed more often.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import trio

from bench.hot_path import Loop, loops, reference
from bench.instructions import CannotCountError, count_instructions
from bench.program import print_line, say

STORED: Final = Path(__file__).with_name("guard.json")

MOST: Final = 1.15
"""A piece fails if it costs more than this, as a multiple of its stored figure."""

LOW: Final = 0.95
"""Below this multiple the stored figure is too high to find a piece that became 15 % dearer; the guard says so."""

WARM: Final = 300
"""Times before the count: Python rewrites a function's instructions in its first calls."""

TIMES: Final = 1
TIMES_AGAIN: Final = 2
"""Times that are counted, and those of a piece that seems dearer: one of them may have made a table grow."""

VERSION: Final = (
    f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor} {platform.machine()}"
)


class CostMeter:
    """Tells costs in units of the reference loop.

    :param count: the instructions of a call.
    """

    def __init__(self, count: Callable[[Callable[[], object]], int] = count_instructions) -> None:
        self._count = count
        self._unit = self.instructions(reference)

    def instructions(self, loop: Loop, times: int = TIMES) -> float:
        """The instructions of one time of a loop."""
        loop(WARM)
        return (self._count(partial(loop, times)) - self._count(partial(loop, 0))) / times

    def cost(self, loop: Loop, times: int = TIMES) -> float:
        """The cost of one time of a loop, in units."""
        return self.instructions(loop, times) / self._unit

    def planted(self, loop: Loop, more: float) -> Loop:
        """The loop with some units of cost more in each time."""
        each = round(more * self._unit / self.instructions(_filler, 100))

        def planted(count: int) -> None:
            loop(count)
            _filler(count * each)

        return planted


def _filler(count: int) -> None:
    for _ in repeat(None, count):  # numbers above 256 would be objects, and cost more
        pass


def judge(meter: CostMeter, piece: str, loop: Loop, stored: float) -> dict[str, Any]:
    """The line of a piece: its cost, that to the stored one, and whether it holds."""
    cost = meter.cost(loop)
    if cost > MOST * stored:
        cost = meter.cost(loop, TIMES_AGAIN)
    return {
        "kind": "requirement",
        "piece": piece,
        "to_reference": round(cost, 4),
        "to_stored": round(cost / stored, 3),
        f"at_most_{MOST:g}": cost <= MOST * stored,
    }


def guard(meter: CostMeter, pieces: Mapping[str, Loop], stored: Mapping[str, float]) -> bool:
    """Print a line for each piece; whether all hold. A piece without a stored cost holds."""
    holds = True
    for piece, loop in pieces.items():
        if piece in stored:
            line = judge(meter, piece, loop, stored[piece])
            print_line(line)
            holds = holds and line[f"at_most_{MOST:g}"]
            if line["to_stored"] < LOW:
                say(f"{piece} is cheaper than it was; store that: python -m bench.guard --write")
    return holds


def _write(meter: CostMeter, pieces: Mapping[str, Loop], all_stored: dict[str, dict[str, float]]) -> None:
    all_stored[VERSION] = {piece: round(meter.cost(loop, TIMES_AGAIN), 4) for piece, loop in pieces.items()}
    STORED.write_text(json.dumps(all_stored, indent=4, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="store the costs instead of comparing with them")
    parser.add_argument("--plant", type=float, default=0.0, metavar="PERCENT", help="add to each piece")
    options = parser.parse_args()
    try:
        holds = trio.run(_run, options.write, options.plant / 100)
    except CannotCountError as error:
        sys.exit(str(error))
    sys.exit(0 if holds else 1)


async def _run(is_writing: bool, plant: float) -> bool:
    """The pieces ask Trio for the time; nothing waits."""
    pieces = loops()
    all_stored: dict[str, dict[str, float]] = json.loads(STORED.read_text())
    if is_writing:
        _write(CostMeter(), pieces, all_stored)
        return True
    if (stored := all_stored.get(VERSION)) is None:
        say(f"nothing to compare with: {STORED.name} has {', '.join(sorted(all_stored))}, and this is {VERSION}")
        return True
    meter = CostMeter()
    if plant:
        pieces = {piece: meter.planted(loop, plant * stored[piece]) for piece, loop in pieces.items()}
    holds = guard(meter, pieces, stored)
    if not holds:
        say(
            "The hot path is dearer than it was. Make it cheaper, or store what it costs: python -m bench.guard --write"
        )
    return holds


if __name__ == "__main__":
    main()
