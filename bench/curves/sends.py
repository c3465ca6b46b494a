"""Curves of sends: latencies up to the capacity, and the cost by connections, size of a group and nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from bench.contest import contestant, generate, measure, rotated, turns
from bench.curves.settings import CurveSettings
from bench.databases import Shared
from bench.memory import PeakWatch, resident_bytes
from bench.pace import CLOSED
from bench.program import say
from bench.servers import Server
from bench.workload import Chat

CHATS: Final = 64
"""Direct chats of `latency` and `nodes`."""

SATURATING: Final = 4
"""Sends in flight of each chat while the capacity is measured."""

GROUPED: Final = 800
"""Connected participants of `groups`, for each size: with fewer groups, one user would reach the bound of what a user
may cost."""


def latency(shared: Shared, settings: CurveSettings) -> Iterator[dict[str, Any]]:
    """Latencies at shares of the server's own capacity, in percent: sends that leave at their times, whether or not
    earlier ones have been answered. The capacity is the rate of a closed loop right before."""
    for round_, server, chats in _in_turn(shared, settings, [2] * CHATS):
        durability = shared.even_out(server.database_url)
        with server.started() as endpoint:
            closed = replace(settings.traffic, loads=CLOSED, window=SATURATING)
            [full] = generate(server, endpoint, chats, closed)
            if not full["valid"]:
                yield _point("latency", 100.0, round_, server, full)
                continue
            capacity = full["acked_per_s"]
            loads = ",".join(f"{capacity * percent / 100:.6g}" for percent in settings.points)
            lines = generate(server, endpoint, chats, replace(settings.traffic, loads=loads))
            for percent, line in zip(settings.points, lines, strict=True):
                yield _point("latency", percent, round_, server, {**line, **durability, "capacity_per_s": capacity})


def connections(shared: Shared, settings: CurveSettings) -> Iterator[dict[str, Any]]:
    """The cost of a send at a steady rate, and the memory of a connection, by the number of connections. All are in
    direct chats, which send in turn."""
    for count in settings.points:
        for round_, server, chats in _in_turn(shared, settings, [2] * (int(count) // 2)):
            durability = shared.even_out(server.database_url)
            with server.started() as endpoint, ExitStack() as stack:
                pids = endpoint.pids["server"]
                before = sum(map(resident_bytes, pids))
                watches = [stack.enter_context(PeakWatch(pid)) for pid in pids]
                traffic = replace(settings.traffic, loads=f"{settings.rate:g}")
                [line] = generate(server, endpoint, chats, traffic)
            memory = (sum(watch.peak_bytes for watch in watches) - before) / count
            yield _point(
                "connections", count, round_, server, {**line, **durability, "bytes_per_connection": round(memory)}
            )


def groups(shared: Shared, settings: CurveSettings) -> Iterator[dict[str, Any]]:
    """The cost of a send by the size of its group, in a closed loop. The first participant of each group sends, all are
    connected."""
    sizes = [int(size) for size in settings.points for _ in range(max(1, GROUPED // int(size)))]
    for round_, server, chats in _in_turn(shared, settings, sizes):
        durability = shared.even_out(server.database_url)
        with server.started() as endpoint:
            for size in map(int, settings.points):
                of_size = [chat for chat in chats if len(chat.participants) == size]
                traffic = replace(settings.traffic, loads=CLOSED)
                for line in generate(server, endpoint, of_size, traffic):
                    yield _point("groups", size, round_, server, {**line, **durability, **per_delivery(line, size)})


def per_delivery(line: dict[str, Any], size: int) -> dict[str, float]:
    """The whole cost of a send, shared out among its deliveries."""
    cost = line.get("total_us_per_send")
    return {} if cost is None else {"total_us_per_delivery": round(cost / (size - 1), 2)}


def nodes(shared: Shared, settings: CurveSettings) -> Iterator[dict[str, Any]]:
    """The cost and the latency of a send by the number of nodes. Participants are connected to the nodes in turn, so
    that the two of a direct chat are on different nodes. The cost includes what the nodes do without any sends."""
    for round_, server, chats in _in_turn(shared, settings, [2] * CHATS):
        for count in rotated(settings.points, round_ - 1):
            traffic = replace(settings.traffic, loads=f"{settings.rate:g}")
            for line in measure(server, chats, traffic, nodes=int(count)):
                yield _point("nodes", count, round_, server, line)


def _in_turn(shared: Shared, settings: CurveSettings, sizes: list[int]) -> Iterator[tuple[int, Server, list[Chat]]]:
    """The servers of each round with their chats, whose database is made before the first round."""
    contestants = [contestant(name, shared) for name in settings.servers]
    say(f"making {sum(sizes)} users in {len(sizes)} conversations for each server")
    prepared = {server.name: server.prepare(sizes) for server in contestants}
    for round_, server in turns(contestants, settings.rounds):
        yield round_, server, prepared[server.name]


def _point(curve: str, x: float, round_: int, server: Server, figures: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "point", "curve": curve, "x": x, "round": round_, "server": server.name, **figures}
