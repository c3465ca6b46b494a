"""The settings of a curve."""

from __future__ import annotations

from dataclasses import dataclass

from bench.contest import Traffic


@dataclass(frozen=True)
class CurveSettings:
    """The settings.

    :ivar points: values of the quantity.
    :ivar rate: sends a second, of all chats together, of `connections` and `nodes`.
    :ivar traffic: the load; each curve replaces its `loads`.
    """

    servers: tuple[str, ...]
    points: tuple[float, ...]
    rounds: int
    rate: float
    traffic: Traffic
