"""Servers in turn on one Postgres and one Redis.

    python -m bench.compare --rounds 10 --seconds 6 --rate 200,1000

In each round every server is started, measured and stopped, one at a time, and the order moves on by one from round to
round. Servers run one at a time because idle servers are not free (they poll queues, renew leases, hold a dozen
Postgres backends each), and all of them would share two or three cores with the server under test. A fresh start in
each round makes the rounds independent of each other. A closed loop before the measurement compiles code and fills
caches and pools of the fresh processes, and the loads follow each other on the same connections.

Before each run Postgres gets fresh statistics and a checkpoint, and Redis is emptied, so that no run pays for the
delayed writes of the server before it. Each server has a database of its own with the same users and chats.

Postgres runs with fsync and synchronous_commit on; each line repeats what Postgres reports.
"""

from __future__ import annotations

from bench.command import add_traffic, parser_of, servers_of, traffic_of
from bench.contest import CompareSettings, in_turns
from bench.peers import PEERS
from bench.program import report, run_alone, shared_services
from bench.summary import OURS, summarize


def compare(settings: CompareSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    with shared_services() as shared:
        durability = shared.durability(shared.postgres_url)
        return report(in_turns(shared, settings), lambda runs: [{**line, **durability} for line in summarize(runs)])


def main() -> None:
    """Read the command line, compare, and exit with 1 if a run was not valid."""
    parser = parser_of("python -m bench.compare", __doc__, (OURS, *PEERS), rounds=10)
    add_traffic(parser)
    parser.add_argument("--rate", default="200,1000", help="sends a second of the open loops; empty: no open loop")
    parser.add_argument("--chats", type=int, default=64)
    parser.add_argument("--window", type=int, default=1, help="sends in flight of each chat in the closed loop")
    options = parser.parse_args()
    loads = ",".join(["closed", *filter(None, options.rate.split(","))])
    settings = CompareSettings(
        servers=servers_of(options),
        rounds=options.rounds,
        chats=options.chats,
        traffic=traffic_of(options, loads, window=options.window),
    )
    run_alone(lambda: compare(settings))


if __name__ == "__main__":
    main()
