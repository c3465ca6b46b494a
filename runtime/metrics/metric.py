"""A row of the table of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

WEB: Final = ("web",)
SOCKET: Final = ("socket",)
WORKER: Final = ("worker",)
EACH: Final = ("web", "socket", "worker")
"""Processes that show a metric."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    :ivar name: with its unit; that of a counter ends in `_total`.
    :ivar help: one line, in the page and in `docs/metrics.md`.
    :ivar processes: that show it.
    :ivar labels: name -> which values it has: a closed set, never a user, a conversation or a path.
    """

    name: str
    kind: Kind
    help: str
    processes: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
