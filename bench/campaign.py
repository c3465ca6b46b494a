"""All comparisons, one after the other: one results file, and the plots.

    python -m bench                          # make bench: some hours
    python -m bench --quick                  # fewer points and one round: some ten minutes
    python -m bench --only latency,queue --results var/bench/results.jsonl

Each step is a program of this package, as a process of its own. Its lines go to the end of the results file as they
come, each with the name of its `step`. A first line of kind `machine` names the machine and the revision; a line of
kind `step` ends each step. Invalid runs of one step do not stop the others, but the exit status is 1 then. Peers that
this machine cannot run are left out by name.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TextIO

from bench.plots import draw, note_of, pictures, read_results
from bench.program import FOLDER, say

_REPOSITORY: Final = Path(__file__).parent.parent
RESULTS: Final = FOLDER / "results.jsonl"
PLOTS: Final = FOLDER / "plots"


@dataclass(frozen=True)
class Step:
    """One program of this package.

    :ivar quick: further options of the quick form; None if it leaves this step out.
    """

    module: str
    options: str = ""
    quick: str | None = None


_SHORT = "--rounds 1 --seconds 1.5 --warm 1"
STEPS: Final[Mapping[str, Step]] = {
    "latency": Step("bench.curves", "latency --rounds 3", f"{_SHORT} --points 10,50,90"),
    "connections": Step("bench.curves", "connections", f"{_SHORT} --points 100,1000 --servers alo,sio-redis,wsbatch"),
    "groups": Step("bench.curves", "groups --rounds 3", f"{_SHORT} --points 2,20,200"),
    "nodes": Step("bench.curves", "nodes --rounds 3", f"{_SHORT} --points 1,2,4"),
    "stored": Step("bench.curves", "stored", f"{_SHORT} --points 1e4,1e5"),
    "conversations": Step("bench.curves", "conversations", f"{_SHORT} --points 10,50,200"),
    "compare": Step(
        "bench.compare", "--rounds 10", "--rounds 1 --seconds 2 --warm 1 --rate 200 --servers alo,sio-redis"
    ),
    "queue": Step("bench.queue", "", "--rounds 1 --jobs 5000 --cases add64,bulk,proc1,proc32"),
    "wire": Step("bench.wire", "", "--messages 5"),
    "reads": Step("bench.reads", "", "--rounds 1 --seconds 0.5 --forms json --users 400"),
    "hits": Step("bench.hits", "", None),
    "fanout": Step("bench.fanout"),
    "across": Step("bench.across", "--rate 300"),
    "hot": Step("bench.hot"),
    "day": Step("bench.day"),
    "idle": Step("bench.idle"),
    "catchup": Step("bench.catchup"),
    "depth": Step("bench.depth"),
}
"""By name, in their order: what is drawn first."""


def command(step: Step, *, is_quick: bool) -> list[str]:
    """The command of a step. Later options replace earlier ones."""
    options = f"{step.options} {step.quick or ''}" if is_quick else step.options
    return [sys.executable, "-m", step.module, *options.split()]


def chosen(only: str | None, *, is_quick: bool) -> list[str]:
    """The names of the steps to run.

    :raises ValueError: for a name that no step has.
    """
    if only is None:
        return [name for name, step in STEPS.items() if not is_quick or step.quick is not None]
    names = only.split(",")
    if unknown := [name for name in names if name not in STEPS]:
        raise ValueError(f"no step is called {', '.join(unknown)}; the steps are {', '.join(STEPS)}")
    return names


def campaign(names: Iterable[str], results: Path, *, is_quick: bool) -> bool:
    """Run the steps; returns whether all runs of all steps were valid."""
    results.parent.mkdir(parents=True, exist_ok=True)
    is_valid = True
    with results.open("a") as file:
        _write(file, machine(is_quick=is_quick))
        for name in names:
            say(f"step: {name}")
            began = time.monotonic()
            status = _run(command(STEPS[name], is_quick=is_quick), name, file)
            is_valid = is_valid and status == 0
            ended = {"kind": "step", "step": name, "status": status, "seconds": round(time.monotonic() - began, 1)}
            _write(file, ended)
    return is_valid


def _run(arguments: Sequence[str], name: str, file: TextIO) -> int:
    """Run one step, whose text for people goes where ours goes; returns its exit status."""
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=_REPOSITORY) as process:
        assert process.stdout is not None
        for text in process.stdout:
            if text.startswith("{"):
                _write(file, {"step": name, **json.loads(text)})
            else:  # a part of the product has logged
                say(text.rstrip())
    return process.returncode


def _write(file: TextIO, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


def machine(*, is_quick: bool = False) -> dict[str, Any]:
    """The line that says where the results are from."""
    names = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    processor = next((text.strip() for name, _, text in names if name.strip() == "model name"), platform.machine())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "kind": "machine",
        "date": datetime.now(UTC).date().isoformat(),
        "revision": _output("git", "rev-parse", "--short=8", "HEAD"),
        "is_quick": is_quick,
        "cores": os.cpu_count(),
        "processor": processor,
        "memory_gib": round(pages / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "node": _output("node", "--version"),
    }


def _output(*arguments: str) -> str | None:
    """The output of a program; None if it cannot be run."""
    try:
        done = subprocess.run(arguments, cwd=_REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def plot(results: Path, folder: Path) -> None:
    """Draw what the results allow; without matplotlib say so."""
    if find_spec("matplotlib") is None:
        say("no plots: matplotlib is not installed, which make bench installs")
        return
    lines = read_results(results)
    for name, panels in pictures(lines).items():
        draw(lines, panels, folder / f"{name}.svg", note_of(lines))
    say(f"results: {results}\nplots: {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer points and steps: some ten minutes")
    parser.add_argument("--only", help=f"steps, with commas: {', '.join(STEPS)}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file; lines are added to its end")
    parser.add_argument("--plots", type=Path, default=PLOTS, help="folder for the plots")
    options = parser.parse_args()
    try:
        names = chosen(options.only, is_quick=options.quick)
    except ValueError as error:
        parser.error(str(error))
    is_valid = campaign(names, options.results, is_quick=options.quick)
    plot(options.results, options.plots)
    sys.exit(0 if is_valid else 1)
