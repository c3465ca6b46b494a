"""Lines for the user of a command."""

from __future__ import annotations

import sys


class CommandFailure(Exception):
    """A failure, in one line for the user."""


def warn(line: str) -> None:
    """One line on stderr."""
    print(f"client: {line}", file=sys.stderr, flush=True)


def show(line: str) -> None:
    """One line on stdout, at once."""
    print(line, flush=True)


def check(fault: str | None) -> None:
    """
    :raises CommandFailure: if there is a fault.
    """
    if fault is not None:
        raise CommandFailure(fault)
