"""The runs behind the capacity model: those that its costs come from, and those that check it.

A run has rates of operations, and the CPU of each part. Costs are the ones, none below zero, that come closest to all
runs of `costs_of`, by least squares of the relative errors. Idle clients that connect give the cost and the memory of a
connection. No run that checks the model is one that its costs come from.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

from bench.capacity_model import GATEWAY, MICRO, POSTGRES, REDIS, WORKER, Costs, Demand, cores, rates
from bench.contest import Traffic, generate
from bench.cpu import CpuMeter, used
from bench.herd import Herd
from bench.memory import resident_bytes
from bench.nodes import idlers
from bench.ours import Ours
from bench.processes import LOOPBACK, free_port
from bench.program import print_line, say
from bench.servers import Endpoint
from bench.workload import Chat

DIRECT, GROUP, CHECK_GROUP = 64, 20, 10
GROUPS: Final = 20
IDLERS: Final = 2000
SLOW, FAST = 100.0, 800.0
"""Sends a second of direct chats."""

GROUP_RATES: Final = (50.0, 200.0)
"""Sends a second of all groups."""

SELDOM_S: Final = 4.0
"""The longer time between the marks of a device."""

ROUNDS: Final = 3000
"""Rounds of the fit, which has converged long before."""

CHECK_RATE: Final = 100.0
CHECK_IDLERS: Final = 1600
NODES: Final = (1, 2, 4, 8)
WINDOW: Final = 8
"""Sends in flight of each chat that fill the cores."""

MEASURED: Final = (GATEWAY, WORKER, POSTGRES, REDIS)
KERNEL_CONNECTIONS: Final = 3000
OPEN_TIMEOUT_S, CONCURRENCY, SETTLE_S = 60.0, 16, 3.0


@dataclass(frozen=True)
class CapacityUsers:
    """Users of the runs; each participant of a conversation sends in turn.

    :ivar tokens: of users who are connected, and idle.
    """

    direct: list[Chat]
    groups: list[Chat]
    small_groups: list[Chat]
    tokens: list[str]


def make_users(server: Ours) -> CapacityUsers:
    """Make the database and its users."""
    sizes = [*[2] * DIRECT, *[GROUP] * GROUPS, *[CHECK_GROUP] * GROUPS, *[2] * (IDLERS // 2)]
    say(f"making {sum(sizes)} users")
    chats = server.prepare(sizes)
    busy = [replace(chat, writers=len(chat.participants)) for chat in chats[: DIRECT + 2 * GROUPS]]
    tokens = [participant.token for chat in chats[len(busy) :] for participant in chat.participants]
    return CapacityUsers(busy[:DIRECT], busy[DIRECT:-GROUPS], busy[-GROUPS:], tokens)


def run(server: Ours, chats: Sequence[Chat], traffic: Traffic, nodes: int = 1) -> list[dict[str, Any]]:
    """Start the gateways and a worker, and put the loads on them; a line for each load."""
    server.shared.even_out(server.database_url)
    with server.gateways(nodes) as gateways, server.companions(free_port()) as companions:
        return _generate(server, gateways, companions, chats, traffic)


def _generate(
    server: Ours,
    gateways: Mapping[int, int],
    companions: Mapping[str, list[int]],
    chats: Sequence[Chat],
    traffic: Traffic,
) -> list[dict[str, Any]]:
    url = ",".join(f"ws://{LOOPBACK}:{port}" for port in gateways)
    endpoint = Endpoint(url, {GATEWAY: list(gateways.values()), WORKER: companions["worker"]})
    lines = list(generate(server, endpoint, chats, traffic))
    for line in lines:
        if not line["valid"]:
            raise RuntimeError(f"not valid: {line}")
    return lines


@dataclass(frozen=True)
class MeasuredRun:
    """A run as the fit sees it.

    :ivar operations: a second.
    :ivar cores: CPU by part.
    """

    operations: Mapping[str, float]
    cores: Mapping[str, float]


def load_of(line: Mapping[str, Any], participants: int, mark_interval_s: float, idlers: int = 0) -> Demand:
    """The load of a run whose participants all send, and mark what they get once in each interval."""
    sends, devices = line["acked_per_s"], line["connections"]
    marks = min(devices / mark_interval_s, sends * (participants - 1))
    messages = sends * (participants - 1) / marks if marks else 0.0
    return Demand(
        connections=devices + idlers,
        sends=sends,
        deliveries_per_send=participants - 1,
        marks=marks,
        authors_per_mark=(participants - 1) * (1 - math.pow(1 - 1 / (participants - 1), messages)),
    )


def costs_of(server: Ours, people: CapacityUsers, seconds: float) -> dict[str, Any]:
    """Measure all costs; `cpu` and `other` of `bench/capacity.json`, without their commands and dates."""
    direct = Traffic(f"idle,{SLOW:g},{FAST:g},closed", warm_s=2.0, seconds=seconds, mark_interval_s=1.0)
    groups = replace(direct, loads=",".join(f"{rate:g}" for rate in GROUP_RATES))
    run(server, people.direct, replace(direct, loads="closed"))  # a new database's first run is a slow one
    wal = _wal_bytes(server)
    lines = run(server, people.direct, direct)
    sent = sum(line["acked_per_s"] for line in lines) * (direct.warm_s + seconds)
    other = {"wal_bytes": (_wal_bytes(server) - wal) / sent, "commit_s": commit_s(lines[1])}
    runs = [_measured(line, load_of(line, 2, direct.mark_interval_s), 1) for line in lines]
    clustered = replace(groups, loads=f"idle,{groups.loads}")
    for traffic, nodes in ((groups, 1), (replace(groups, mark_interval_s=SELDOM_S), 1), (clustered, max(NODES))):
        lines = run(server, people.groups, traffic, nodes)
        runs += [_measured(line, load_of(line, GROUP, traffic.mark_interval_s), nodes) for line in lines]
    moved = _redis(server, "total_net_input_bytes", "total_net_output_bytes")
    for line in run(server, people.direct, replace(direct, loads=f"{SLOW:g},{FAST:g}"), nodes=2):
        load = load_of(line, 2, direct.mark_interval_s)
        runs.append(_measured(line, load, 2, load.sends + load.marks))  # all recipients are on the other node
    moved = _redis(server, "total_net_input_bytes", "total_net_output_bytes") - moved
    other["entry_bytes"] = moved / sum(r.operations["entry"] * (direct.warm_s + seconds) for r in runs[-2:])
    cpu, of_connections = _connections(server, people.tokens)
    other.update(of_connections)
    other["message_bytes"] = _message_bytes(server)
    for each in runs:
        print_line({"kind": "run", **asdict(each)})
    return {
        "cpu": {part: {**cpu.get(part, {}), **fitted(part, runs, cpu.get(part, {}))} for part in MEASURED},
        "other": other,
    }


def _measured(line: Mapping[str, Any], load: Demand, nodes: int, entries: float | None = None) -> MeasuredRun:
    return MeasuredRun(rates(load, nodes, commit_s(line), entries), {part: line[f"{part}_cores"] for part in MEASURED})


def commit_s(line: Mapping[str, Any]) -> float:
    """The time of a commit in a run: it is the disk's, and other work changes it. An idle run has none."""
    return float(line["ack_p50_ms"] or 0.0) / 1e3


def fitted(part: str, runs: Sequence[MeasuredRun], known: Mapping[str, float]) -> dict[str, float]:
    """Microseconds of each operation of these runs, none below zero, with the least sum of squared relative errors.

    :param known: microseconds of operations whose cost is known.
    """
    standing = "once" if part == WORKER else "process"
    names = ["send", "batch", "delivery", "mark", "mark_batch", "entry", "entry_batch", standing]
    rows, goals = [], []
    for run_ in runs:
        whole = run_.cores[part] / MICRO
        rest = whole - sum(run_.operations[name] * us for name, us in known.items())
        rows.append([run_.operations[name] / whole for name in names])
        goals.append(rest / whole)
    found = least_squares(rows, goals)
    return dict(zip(names, found, strict=True))


def least_squares(rows: Sequence[Sequence[float]], goals: Sequence[float]) -> list[float]:
    """The x >= 0 for which rows * x comes closest to the goals: one number after the other, until nothing changes."""
    columns = list(zip(*rows, strict=True))
    found = [0.0] * len(columns)
    rest = list(goals)
    for _ in range(ROUNDS):
        for number, column in enumerate(columns):
            norm = sum(value * value for value in column)
            if norm == 0.0:
                continue
            step = max(-found[number], sum(value * left for value, left in zip(column, rest, strict=True)) / norm)
            found[number] += step
            rest = [left - step * value for value, left in zip(column, rest, strict=True)]
    return found


def _connections(server: Ours, tokens: Sequence[str]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """CPU by part of a client that connects, and of a second of an idle one; bytes of a process and a connection."""
    server.shared.even_out(server.database_url)
    port, count = free_port(), len(tokens)
    with closing(Herd(port, tokens)) as herd, server.gateway(port) as gateway:
        meter = CpuMeter({GATEWAY: [gateway], POSTGRES: [server.shared.postgres_pid], REDIS: [server.shared.redis_pid]})
        parts = (GATEWAY, POSTGRES, REDIS)
        resident, redis, start = resident_bytes(gateway), _redis(server, "used_memory"), meter.read()
        herd.open(CONCURRENCY, OPEN_TIMEOUT_S)
        if not herd.is_whole:
            raise RuntimeError(f"{herd.connected} of {count} clients are connected")
        herd.stay(SETTLE_S)
        opened = used(start, meter.read())
        start = meter.read()
        herd.stay(SETTLE_S)
        idle = used(start, meter.read())
        other = {
            "gateway_bytes": resident,
            "connection_bytes": (resident_bytes(gateway) - resident) / count,
            "kernel_bytes": kernel_bytes(),
            "redis_bytes": (_redis(server, "used_memory") - redis) / count,
        }
    cpu = {part: {"connect": opened[part] / count / MICRO} for part in parts}
    cpu[GATEWAY]["connection"] = idle[GATEWAY] / SETTLE_S / count / MICRO
    return cpu, other


def checks(server: Ours, people: CapacityUsers, costs: Costs, seconds: float) -> Iterator[dict[str, Any]]:
    """Runs that no cost came from, with what the model says of each: a line for each number of gateways, and one for
    the most sends a second of this machine."""
    traffic = Traffic(f"{CHECK_RATE:g}", warm_s=2.0, seconds=seconds, mark_interval_s=1.0)
    for nodes in NODES:
        say(f"{nodes} gateways")
        yield _check(server, people, costs, traffic, nodes)
    [line] = run(server, people.direct, replace(traffic, loads="closed", window=WINDOW))
    yield _saturated(costs, line)


def _check(server: Ours, people: CapacityUsers, costs: Costs, traffic: Traffic, nodes: int) -> dict[str, Any]:
    server.shared.even_out(server.database_url)
    each = CHECK_IDLERS // nodes
    with server.gateways(nodes) as gateways, server.companions(free_port()) as companions:
        before = sum(map(resident_bytes, gateways.values()))
        with idlers(list(gateways), people.tokens, each):
            grown = sum(map(resident_bytes, gateways.values())) - before
            [line] = _generate(server, gateways, companions, people.small_groups, traffic)
    load = load_of(line, CHECK_GROUP, traffic.mark_interval_s, each * nodes)
    predicted = cores(costs, rates(load, nodes, costs.other["commit_s"]))
    measured = {part: line[f"{part}_cores"] for part in MEASURED}
    sends = line["acked_per_s"]
    return {
        "kind": "check",
        "nodes": nodes,
        "sends_per_s": sends,
        **{
            f"{part}_us_per_send": compared(predicted[part] / sends / MICRO, measured[part] / sends / MICRO)
            for part in MEASURED
        },
        "total_us_per_send": compared(
            sum(predicted[part] for part in MEASURED) / sends / MICRO, sum(measured.values()) / sends / MICRO
        ),
        "bytes_per_connection": compared(costs.other["connection_bytes"], grown / (each * nodes)),
        "others_cores": line["others_cores"],
    }


def _saturated(costs: Costs, line: Mapping[str, Any]) -> dict[str, Any]:
    """The sends a second of a closed loop, from the CPU that it and the generator got. Sends wait for longer there than
    a commit takes, and share it with more others: the time is that of this run."""
    sends = line["acked_per_s"]
    predicted = cores(costs, rates(load_of(line, 2, 1.0), 1, commit_s(line)))
    of_a_send = sum(predicted[part] for part in MEASURED) / sends
    all_cores = sum(line[f"{part}_cores"] for part in (*MEASURED, "generator"))
    return {
        "kind": "saturated",
        "cores": round(all_cores, 2),
        "sends_per_s": compared(all_cores / (of_a_send + line["generator_us_per_send"] * MICRO), sends),
        "others_cores": line["others_cores"],
    }


def compared(predicted: float, measured: float) -> dict[str, float]:
    """Both figures, and the error of the first as a share of the second."""
    error = predicted / measured - 1
    return {"predicted": round(predicted, 1), "measured": round(measured, 1), "error": round(error, 3)}


def _wal_bytes(server: Ours) -> float:
    with psycopg.connect(server.database_url) as connection:
        row = connection.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return float(row[0])


def _message_bytes(server: Ours) -> float:
    """Bytes of a message on disk, with its indexes."""
    with psycopg.connect(server.database_url) as connection:
        row = connection.execute("select pg_total_relation_size('messages') / count(*)::float from messages").fetchone()
    assert row is not None
    return float(row[0])


def _redis(server: Ours, *names: str) -> int:
    """The sum of these figures of Redis."""
    address = urlsplit(server.shared.redis_url)
    with socket.create_connection((address.hostname or "localhost", address.port or 6379), 10) as connection:
        connection.sendall(b"INFO\r\nQUIT\r\n")
        with connection.makefile("r") as answer:
            figures = dict(line.rstrip().split(":", 1) for line in answer if ":" in line)
    return sum(int(figures[name]) for name in names)


def kernel_bytes() -> float:
    """Memory of the kernel for an idle TCP connection, at one end: the median of some tries, since other processes of
    this machine change the kernel's memory, too."""
    tries = []
    for _ in range(5):
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=KERNEL_CONNECTIONS))
            before = _slab_bytes()
            for _ in range(KERNEL_CONNECTIONS):
                stack.enter_context(socket.create_connection(listener.getsockname()))
                stack.enter_context(listener.accept()[0])
            tries.append((_slab_bytes() - before) / KERNEL_CONNECTIONS / 2)
    return median(tries)


def _slab_bytes() -> int:
    """Memory of the kernel's own objects, such as sockets; of the whole machine."""
    [line] = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Slab:")]
    return int(line.split()[1]) * 1024
