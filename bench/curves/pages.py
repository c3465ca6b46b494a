"""Curves of pages and sends by what is stored: messages of all conversations, and conversations of each user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import quantiles
from typing import Any, Final

from bench.contest import contestant, generate, rotated
from bench.cpu import CpuMeter, used
from bench.curves import rows
from bench.curves.settings import CurveSettings
from bench.databases import Shared
from bench.http import load
from bench.http_paths import PAGE_PATHS
from bench.pace import CLOSED
from bench.program import say
from bench.rows import Id, id_text, participant
from bench.servers import Endpoint, Server

USERS: Final = 1000
NEIGHBOURS: Final = 5
"""Neighbours of a user of `stored`, before and after: 5,000 conversations in all."""

LEAST_USERS: Final = 400
"""Users of `conversations`, whose lists are read once each."""

READERS: Final = 4
"""Connections that read, with one request in flight each."""

WRITERS: Final = 32
"""Chats that send, with one send in flight each."""


def stored(shared: Shared, settings: CurveSettings) -> Iterator[dict[str, Any]]:
    """The cost of a list, a page of history and a send by the number of stored messages. Each list and page is read
    once, so that no cache of an answer helps."""
    for total in settings.points:
        each = max(1, int(total) // (USERS * NEIGHBOURS))
        yield from _curve("stored", total, shared, settings, (USERS, NEIGHBOURS, each))


def conversations(shared: Shared, settings: CurveSettings) -> Iterator[dict[str, Any]]:
    """The same by the number of conversations of each user; a list shows the 50 that were active last."""
    for count in settings.points:
        users = max(LEAST_USERS, int(count) + 2)
        yield from _curve("conversations", count, shared, settings, (users, int(count) // 2, 2))


def _curve(
    curve: str, x: float, shared: Shared, settings: CurveSettings, size: tuple[int, int, int]
) -> Iterator[dict[str, Any]]:
    """The points of one value.

    :param size: users, neighbours and messages of each conversation.
    """
    contestants = [contestant(name, shared) for name in settings.servers]
    for server in contestants:
        say(f"{server.name}: storing {size[0] * size[1] * size[2]:,} messages")
        rows.fill(server, *size)
        shared.even_out(server.database_url)
    for round_ in range(1, settings.rounds + 1):
        for server in rotated(contestants, round_ - 1):
            for what, figures in _measure(server, settings, size[0], size[1]):
                yield {
                    "kind": "point",
                    "curve": curve,
                    "x": x,
                    "what": what,
                    "round": round_,
                    "server": server.name,
                    **figures,
                }
    for server in contestants:
        shared.drop_database(server.database)


def _measure(
    server: Server, settings: CurveSettings, users: int, neighbours: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    durability = server.shared.even_out(server.database_url)
    paths, seconds = PAGE_PATHS[server.protocol], settings.traffic.seconds
    lists = [paths.list(participant(user)) for user in range(users)]
    histories = [paths.history(participant(user), id_text(Id.CONVERSATION, user * neighbours)) for user in range(users)]
    with server.started() as endpoint:
        for what, requests in (("list", lists), ("history", histories)):
            yield what, {**_pages(server, endpoint, requests, seconds), **durability}
        chats = rows.chats(users, neighbours)[:WRITERS]
        [line] = generate(server, endpoint, chats, replace(settings.traffic, loads=CLOSED))
        yield "send", {**line, **durability, "total_us": line.get("total_us_per_send")}


def _pages(server: Server, endpoint: Endpoint, requests: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Read each page once, for at most this time; the first tenth only warms the server up.

    The cost is that of the processes that answer, of Postgres and of Redis.
    """
    warm = len(requests) // 10
    load(endpoint.http_port, requests[:warm], READERS, seconds=seconds)
    shared = server.shared
    answering = endpoint.pids.get("web") or endpoint.pids["server"]
    meter = CpuMeter({"server": answering, "postgres": [shared.postgres_pid], "redis": [shared.redis_pid]})
    before = meter.read()
    run = load(endpoint.http_port, requests[warm:], READERS, seconds=seconds)
    cpu = used(before, meter.read())
    count = max(1, len(run.latencies))
    cuts = quantiles(run.latencies, n=100) if len(run.latencies) > 1 else [0.0] * 99
    cost = cpu["server"] + cpu["postgres"] + cpu["redis"]
    return {
        "valid": not run.first_error,
        "first_error": run.first_error or None,
        "requests": len(run.latencies),
        "requests_per_s": round(len(run.latencies) / run.seconds, 1),
        "p50_ms": round(cuts[49] * 1e3, 3),
        "p99_ms": round(cuts[98] * 1e3, 3),
        "total_us": round(cost / count * 1e6, 1),
        "postgres_us": round(cpu["postgres"] / count * 1e6, 1),
        "others_cores": round(cpu["others"] / run.seconds, 3),
    }
