"""One result of a check."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Level(IntEnum):
    """The value is the exit status of the command whose worst finding it is."""

    OK = 0
    WARNING = 1
    ERROR = 2


class Finding(NamedTuple):
    """
    :ivar check: what was looked at.
    :ivar found: one sentence or a figure.
    :ivar advice: what to do; empty if it is in order.
    """

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """It is in order."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """It works now, and may not for long."""
    return Finding(check, Level.WARNING, found, advice)


def error(check: str, found: str, advice: str) -> Finding:
    """A promise does not hold, or the processes do not work."""
    return Finding(check, Level.ERROR, found, advice)
