"""Users that behave: each kind makes its requests at a steady pace, and notes how long each answer takes.

A latency begins at the moment at which the request was meant to leave, so a stall counts for every request that it
delayed.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial

from bench.http import HttpClientConnection
from bench.threads import in_thread


@dataclass
class Pace:
    """The requests of one kind.

    :ivar per_s: requests a second.
    :ivar request: makes the next one.
    :ivar status: of a good answer.
    :ivar address: that the requests come from.
    :ivar latencies: seconds.
    :ivar errors: the beginnings of answers that are not good.
    """

    name: str
    per_s: float
    request: Callable[[], bytes]
    status: int
    address: str
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, float | int | None]:
        found = sorted(self.latencies)
        return {
            f"{self.name}_p50_ms": _percentile(found, 0.5),
            f"{self.name}_p99_ms": _percentile(found, 0.99),
            f"{self.name}_answers": len(found),
            f"{self.name}_refused": len(self.errors),
        }


def _percentile(found: list[float], part: float) -> float | None:
    """In milliseconds, of sorted seconds; None of none."""
    return round(found[math.ceil(part * len(found)) - 1] * 1000, 2) if found else None


@contextmanager
def behaving(port: int, paces: list[Pace]) -> Iterator[None]:
    """Let the users make their requests while the block runs."""
    with ExitStack() as stack:
        for pace in paces:
            begun, over = threading.Event(), threading.Event()
            stack.enter_context(in_thread(partial(_run, port, pace, begun, over), begun=begun, end=over.set))
        yield


def _run(port: int, pace: Pace, begun: threading.Event, over: threading.Event) -> None:
    due = time.perf_counter()
    begun.set()
    while not over.wait(max(0.0, due - time.perf_counter())):
        if error := _ask(port, pace):
            pace.errors.append(error[:200])
        else:
            pace.latencies.append(time.perf_counter() - due)
        due += 1 / pace.per_s


def _ask(port: int, pace: Pace) -> str:
    """The error, or nothing. The connection is a new one, as after a pause: a user waits for that, too."""
    try:
        with closing(HttpClientConnection(port, pace.address)) as connection:
            connection.ask(pace.request(), pace.status)
            while (error := connection.read()) is None:
                pass
            return error
    except OSError as lost:
        return str(lost)


def login(username: str, password: str, token: str = "") -> bytes:
    """The request of a login."""
    body = json.dumps({"username": username, "password": password, "name": "bench"}).encode()
    lines = ["POST /v1/devices HTTP/1.1", "Host: bench", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *([f"Authorization: Bearer {token}"] if token else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body
