"""`python -m protocol.conformance -- COMMAND`: plays the scenarios with the adapter that the command starts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from protocol.conformance.by_hand import ByHand, check_list
from protocol.conformance.driver import BrokenAdapter, Driver, open_adapter
from protocol.conformance.kit import KitRun
from protocol.conformance.report import as_json, as_table
from protocol.conformance.scenario import Scenario, load_scenarios

PATIENCE_S: Final = 8.0
"""A client waits 2 s at most before it connects again, and some 1.5 s before it marks and fills gaps."""

JOBS: Final = 8
"""Scenarios wait for clients most of the time."""

INTERRUPTED: Final = 130
"""The exit status of programs that Ctrl-C ends."""


@asynccontextmanager
async def _open_person() -> AsyncGenerator[Driver]:
    yield ByHand()


@asynccontextmanager
async def _open_process(command: Sequence[str], patience_s: float) -> AsyncGenerator[Driver]:
    async with open_adapter(command, patience_s) as adapter:
        yield adapter


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m protocol.conformance",
        description="Tests a client of ALO Shield against a server double, and says which sections of SPEC it keeps.",
    )
    parser.add_argument("--scenario", action="append", metavar="NAME", help="play this one; may be given several times")
    parser.add_argument(
        "--by-hand", action="store_true", help="ask a person to drive the client, instead of an adapter"
    )
    parser.add_argument("--list", action="store_true", help="print the scenarios as a check-list, and play none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report into this file, too")
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="N", help=f"scenarios at a time ({JOBS})")
    parser.add_argument(
        "--patience-s", type=float, default=PATIENCE_S, metavar="S", help=f"the time for each step ({PATIENCE_S:g})"
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="starts the adapter; write -- before it")
    return parser


def _chosen(names: list[str] | None) -> list[Scenario]:
    scenarios = load_scenarios()
    if unknown := set(names or ()) - {each.name for each in scenarios}:
        raise SystemExit(f"no scenario is called {', '.join(sorted(unknown))}; --list prints all")
    return [each for each in scenarios if names is None or each.name in names]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 if no scenario failed, 1 if one did, 2 if the adapter is broken."""
    options = _parser().parse_args(arguments)
    scenarios = _chosen(options.scenario)
    if options.list:
        _show(check_list(scenarios))
        return 0
    if not options.by_hand and not options.command:
        print(
            "give the command that starts the adapter, or --by-hand; see protocol/conformance/README.md",
            file=sys.stderr,
        )
        return 2
    jobs = 1 if options.by_hand else options.jobs
    run = KitRun(
        scenarios, _open_person if options.by_hand else partial(_open_process, options.command, options.patience_s)
    )
    try:
        results = trio.run(run.play_all, jobs)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseExceptionGroup as group:
        return _status_of(group)
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(run.client, results), indent=1) + "\n")
    _show(as_table(run.client, results))
    return int(any(each.verdict == "failed" for each in results))


def _show(text: str) -> None:
    """Print; a reader who has seen enough, such as `head`, is no fault."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python writes what is left once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _status_of(group: BaseExceptionGroup[BaseException]) -> int:
    """The exit status after errors, which it raises again if they are neither an adapter's nor Ctrl-C."""
    if group.subgroup(KeyboardInterrupt) is not None:
        return INTERRUPTED
    broken, others = group.split(BrokenAdapter)
    if broken is None or others is not None:
        raise group
    print(_first(broken), file=sys.stderr)
    return 2


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


if __name__ == "__main__":
    sys.exit(main())
