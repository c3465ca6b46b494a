"""What a command of operators works with."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from runtime.commands import Rows, Sections
from runtime.config import Config
from store.postgres.pool import Pool
from store.redis.client import Redis


@dataclass(frozen=True, slots=True)
class OperatorServices:
    """
    :ivar redis: that of the nodes (`Config.bus_url`). Commands that do not need it run without.
    """

    config: Config
    pool: Pool
    redis: Redis


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What a command prints.

    :ivar shown: one table, or several by title.
    :ivar status: the exit status.
    """

    shown: Rows | Sections
    status: int = 0


Ask: TypeAlias = Callable[[OperatorServices, argparse.Namespace], Awaitable[CommandAnswer]]
"""A command.

It raises CommandError or StoreError if it cannot be done.
"""
