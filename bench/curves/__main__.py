"""One curve: how latencies or costs change with one quantity, beside the peers.

    python -m bench.curves latency --points 10,50,90 --rounds 3
    python -m bench.curves stored --points 1e4,1e5,1e6,1e7 --servers alo,sio-redis

| curve | quantity |
|---|---|
| `latency` | sends a second, in percent of the server's own capacity |
| `connections` | connections, all in direct chats |
| `groups` | participants of a group |
| `nodes` | processes that clients are connected to |
| `stored` | stored messages |
| `conversations` | conversations of each user |
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from bench.command import add_traffic, parser_of, traffic_of
from bench.contest import compare_servers, usable
from bench.curves import pages, sends
from bench.curves.settings import CurveSettings
from bench.databases import Shared
from bench.peers import CLUSTERS
from bench.program import allow_files, run_alone
from bench.summary import OURS

ALL: Final = (OURS, "sio-redis", "ws", "wsbatch", "pysocketio")
READING: Final = (OURS, "sio-redis", "ws")


@dataclass(frozen=True)
class Curve:
    """One curve.

    :ivar points: values of the quantity, unless the user names others.
    :ivar servers: those that can do what it measures.
    """

    measure: Callable[[Shared, CurveSettings], Iterator[dict[str, Any]]]
    points: str
    servers: tuple[str, ...]


CURVES: Final[Mapping[str, Curve]] = {
    "latency": Curve(sends.latency, "10,20,30,40,50,60,70,80,90", ALL),
    "connections": Curve(sends.connections, "100,300,1000,3000,10000", ALL),
    "groups": Curve(sends.groups, "2,5,20,50,200,1000", ALL),
    "nodes": Curve(sends.nodes, "1,2,4,8", (OURS, *CLUSTERS)),
    "stored": Curve(pages.stored, "1e4,1e5,1e6,1e7", READING),
    "conversations": Curve(pages.conversations, "10,50,200,1000", READING),
}


def points_of(text: str) -> tuple[float, ...]:
    """Values of a quantity, such as "10,1e4"; refuses those that are not above 0."""
    points = tuple(map(float, text.split(",")))
    if min(points) <= 0:
        raise argparse.ArgumentTypeError("points must be above 0")
    return points


def main() -> None:
    parser = parser_of("python -m bench.curves", __doc__, ALL, rounds=1)
    add_traffic(parser, seconds=5.0, warm=2.0)
    parser.set_defaults(servers=None)
    parser.add_argument("curve", choices=CURVES)
    parser.add_argument("--points", type=points_of, help="values of the quantity")
    parser.add_argument("--rate", type=float, default=200.0, help="sends a second of connections and nodes")
    options = parser.parse_args()
    curve = CURVES[options.curve]
    servers = usable(options.servers.split(",") if options.servers else curve.servers)
    if unable := set(servers) - set(curve.servers):
        sys.exit(f"{options.curve} cannot measure {', '.join(sorted(unable))}, only {', '.join(curve.servers)}")
    settings = CurveSettings(
        servers=servers,
        points=options.points or points_of(curve.points),
        rounds=options.rounds,
        rate=options.rate,
        traffic=traffic_of(options, ""),
    )
    if options.curve == "connections":
        allow_files(2 * int(max(settings.points)))
    run_alone(lambda: compare_servers(partial(_measure, curve, settings), lambda _: []))


def _measure(curve: Curve, settings: CurveSettings, shared: Shared) -> Iterator[dict[str, Any]]:
    return curve.measure(shared, settings)


if __name__ == "__main__":
    main()
