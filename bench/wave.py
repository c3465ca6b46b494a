"""How long many clients take to connect."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Any

from bench.recorder import milliseconds


@dataclass
class Wave:
    """How a number of clients connected.

    :ivar seconds: from the beginning of the wave to the last connected client.
    :ivar first_s: from the beginning of the wave to the first connected client.
    :ivar hellos: from `hello` to `welcome`, of each client.
    :ivar openings: from connecting to `welcome`, of each client; failed attempts before that do not count.
    :ivar syncs: from `welcome` to the last `synced`, of each client that syncs.
    :ivar failures: failed attempts and refused syncs, by reason.
    """

    seconds: float = math.inf
    first_s: float = math.inf
    hellos: array[float] = field(default_factory=lambda: array("d"))
    openings: array[float] = field(default_factory=lambda: array("d"))
    syncs: array[float] = field(default_factory=lambda: array("d"))
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """Connections a second since the first connection; a server that starts answers no client for a while."""
        return len(self.openings) / (self.seconds - self.first_s) if self.seconds > self.first_s else 0.0


def describe(wave: Wave) -> dict[str, Any]:
    """The figures of a wave."""
    is_over = wave.seconds < math.inf
    return {
        "seconds": round(wave.seconds, 3) if is_over else None,
        "first_s": round(wave.first_s, 3) if wave.openings else None,
        "connects_per_s": round(wave.per_s, 1) if is_over else None,
        "hello_p50_ms": milliseconds(wave.hellos, 50),
        "hello_p99_ms": milliseconds(wave.hellos, 99),
        "open_p50_ms": milliseconds(wave.openings, 50),
        "open_p99_ms": milliseconds(wave.openings, 99),
        **(
            {"sync_p50_ms": milliseconds(wave.syncs, 50), "sync_p99_ms": milliseconds(wave.syncs, 99)}
            if wave.syncs
            else {}
        ),
        "failed_attempts": wave.failures,
    }
