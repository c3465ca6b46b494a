"""What a deployment needs, by arithmetic from measured costs: no I/O.

The CPU of each part (gateways, web processes, workers, Postgres, Redis) is a sum over operations: their number a second
times what one of them costs that part. Operations are counted once for the whole deployment:

| operation | counts |
|---|---|
| `send` | acknowledged sends, with their share of a batch left out |
| `batch` | commits of sends: those that queue during a commit share the next one |
| `delivery` | messages that reach a connected device of another user |
| `mark`, `mark_batch` | delivered and read marks, with the receipts that follow; their commits |
| `entry`, `entry_batch` | messages and receipts that pass between gateways; reads of them, each of all that came |
| `connect` | devices that connect |
| `history`, `list` | pages that the web processes answer |
| `connection`, `process` | seconds of an idle connection, and of an idle gateway with its queries |
| `once` | seconds of an idle worker |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

GATEWAY, WEB, WORKER, POSTGRES, REDIS = PARTS = ("gateway", "web", "worker", "postgres", "redis")
OPERATIONS: Final = (
    *("send", "batch", "delivery", "mark", "mark_batch", "entry", "entry_batch", "connect", "history", "list"),
    *("connection", "process", "once"),
)

DAY_S: Final = 86_400
YEAR_S: Final = 365 * DAY_S
MICRO: Final = 1e-6


@dataclass(frozen=True)
class Costs:
    """Measured costs.

    :ivar us: microseconds of CPU for each part and operation; what is left out costs nothing.
    :ivar other: `commit_s`, the time of a commit; bytes: `gateway_bytes` (an idle process), `connection_bytes`,
        `kernel_bytes` (of a connection), `redis_bytes` (of a connection), `message_bytes` (on disk), `wal_bytes` (of a
        send), `send_wire_bytes`, `delivery_wire_bytes`, `mark_wire_bytes` (WebSocket messages), `entry_bytes` (in and
        out of Redis), `history_wire_bytes`, `list_wire_bytes`.
    """

    us: Mapping[str, Mapping[str, float]]
    other: Mapping[str, float]

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Costs:
        """The costs of `bench/capacity.json`."""
        return cls(
            {part: {name: cost["us"] for name, cost in of_part.items()} for part, of_part in stored["cpu"].items()},
            {name: cost["value"] for name, cost in stored["other"].items()},
        )

    def cpu(self, part: str, operation: str) -> float:
        """Seconds of CPU."""
        return self.us.get(part, {}).get(operation, 0.0) * MICRO


@dataclass(frozen=True)
class Mix:
    """What users do.

    :ivar online: share of the users whose device is connected at the peak.
    :ivar recipients: participants of a conversation beside the sender, on average over the sends.
    :ivar sends_per_day, pages_per_day, lists_per_day, connects_per_day: of one user.
    :ivar peak: the rate of the busiest hour, as a multiple of the day's mean.
    """

    online: float = 0.2
    recipients: float = 4.0
    sends_per_day: float = 40.0
    pages_per_day: float = 10.0
    lists_per_day: float = 5.0
    connects_per_day: float = 20.0
    peak: float = 3.0

    def load(self, users: float) -> Demand:
        """The load of this number of users in the busiest hour."""
        each = users * self.peak / DAY_S
        sends, connects, online = self.sends_per_day * each, self.connects_per_day * each, self.online
        return Demand(
            connections=users * online,
            sends=sends,
            deliveries_per_send=self.recipients * online,
            marks=sends * self.recipients * online + connects,  # a device that comes back marks what it missed
            connects=connects,
            pages=self.pages_per_day * each,
            lists=self.lists_per_day * each,
        )


@dataclass(frozen=True)
class Demand:
    """Rates a second of the whole deployment, and its connections.

    :ivar authors_per_mark: users whose messages a mark covers; each gets a receipt.
    """

    connections: float
    sends: float
    deliveries_per_send: float
    marks: float
    authors_per_mark: float = 1.0
    connects: float = 0.0
    pages: float = 0.0
    lists: float = 0.0


def batch(sends_per_s: float, commit_s: float) -> float:
    """The mean number of sends of a commit: one that finds the store idle, and those that come meanwhile."""
    return 1 + sends_per_s * commit_s


def other_nodes(recipients: float, nodes: int) -> float:
    """How many other nodes hold at least one of the recipients, who are spread evenly."""
    return (nodes - 1) * (1 - math.pow(1 - 1 / nodes, recipients))


def rates(load: Demand, nodes: int, commit_s: float, entries: float | None = None) -> dict[str, float]:
    """Operations a second.

    :param entries: those of a run in which recipients are not spread evenly.
    """
    if entries is None:
        entries = load.sends * other_nodes(load.deliveries_per_send, nodes)
        entries += load.marks * other_nodes(load.authors_per_mark, nodes)
    return {
        "send": load.sends,
        "batch": load.sends / batch(load.sends / nodes, commit_s),
        "delivery": load.sends * load.deliveries_per_send,
        "mark": load.marks,
        "mark_batch": load.marks / batch(load.marks / nodes, commit_s),
        "entry": entries,
        "entry_batch": entries / batch(entries / nodes, commit_s),
        "connect": load.connects,
        "history": load.pages,
        "list": load.lists,
        "connection": load.connections,
        "process": float(nodes),
        "once": 1.0,
    }


def cores(costs: Costs, operations: Mapping[str, float]) -> dict[str, float]:
    """Seconds of CPU a second, by part."""
    return {part: sum(rate * costs.cpu(part, name) for name, rate in operations.items()) for part in PARTS}


@dataclass(frozen=True)
class Headroom:
    """How full the parts may be in the busiest hour.

    :ivar busy: the most share of a core or machine, for bursts and for a machine that fails.
    :ivar connections: the most of one gateway.
    """

    busy: float = 0.6
    connections: int = 10_000


@dataclass(frozen=True)
class Deployment:
    """What a load needs in the busiest hour, and in a year.

    :ivar machines: those of gateways, web processes and workers, all with the same number of cores.
    """

    load: Demand
    machines: int
    gateways: int
    webs: int
    workers: int
    postgres_cores: float
    redis_cores: float
    gateway_bytes: float
    kernel_bytes: float
    redis_bytes: float
    client_bytes_per_s: float
    bus_bytes_per_s: float
    wal_bytes_per_s: float

    @property
    def deliveries(self) -> float:
        return self.load.sends * self.load.deliveries_per_send


def size(costs: Costs, load: Demand, machine_cores: int, limits: Headroom) -> Deployment:
    """The deployment for a load. More gateways make smaller batches and more entries, so they are added until they
    suffice."""
    nodes = max(1, math.ceil(load.connections / limits.connections))
    while True:
        operations = rates(load, nodes, costs.other["commit_s"])
        used = cores(costs, operations)
        if used[GATEWAY] <= nodes * limits.busy:
            break
        nodes = max(nodes + 1, math.ceil(used[GATEWAY] / limits.busy))
    webs, workers = (max(1, math.ceil(used[part] / limits.busy)) for part in (WEB, WORKER))
    other = costs.other
    wire = {"send": "send", "delivery": "delivery", "mark": "mark", "history": "history", "list": "list"}
    return Deployment(
        load=load,
        machines=math.ceil((used[GATEWAY] + used[WEB] + used[WORKER]) / (machine_cores * limits.busy)),
        gateways=nodes,
        webs=webs,
        workers=workers,
        postgres_cores=used[POSTGRES] / limits.busy,
        redis_cores=used[REDIS] / limits.busy,
        gateway_bytes=nodes * other["gateway_bytes"] + load.connections * other["connection_bytes"],
        kernel_bytes=load.connections * other["kernel_bytes"],
        redis_bytes=load.connections * other["redis_bytes"],
        client_bytes_per_s=sum(operations[name] * other[f"{key}_wire_bytes"] for name, key in wire.items()),
        bus_bytes_per_s=operations["entry"] * other["entry_bytes"],
        wal_bytes_per_s=load.sends * other["wal_bytes"],
    )


def disk_bytes_per_year(costs: Costs, mix: Mix, users: float) -> float:
    """Messages that are kept for ever, with their indexes."""
    return users * mix.sends_per_day * 365 * costs.other["message_bytes"]


def most_users(costs: Costs, mix: Mix, machines: int, machine_cores: int, limits: Headroom) -> int:
    """The most users that this number of machines serves; Postgres and Redis have machines of their own."""
    low, high = 0, 1
    while size(costs, mix.load(high), machine_cores, limits).machines <= machines:
        low, high = high, high * 2
    while high - low > max(1, low // 1000):
        middle = (low + high) // 2
        if size(costs, mix.load(middle), machine_cores, limits).machines <= machines:
            low = middle
        else:
            high = middle
    return low
