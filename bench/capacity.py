"""How much a deployment can do, and how large one has to be, from measured costs.

    python -m bench.capacity                             # deployments for 10^4 to 10^7 users
    python -m bench.capacity --machines 10 --cores 16    # the most that ten machines of 16 cores can do
    python -m bench.capacity --write                     # measure the costs again, for bench/capacity.json (2 minutes)
    python -m bench.capacity --check                     # runs with 1, 2, 4 and 8 gateways, beside the model

`bench.capacity_model` has the arithmetic, `bench/capacity.json` the costs, with the command and the date of each, and
`docs/capacity.md` a table. Options change what a user does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench import capacity_model as model
from bench.capacity_model import Costs, Deployment, Headroom, Mix
from bench.capacity_runs import checks, costs_of, make_users
from bench.ours import Ours
from bench.program import FOLDER, allow_files, print_line, run_alone, shared_services

STORED: Final = Path(__file__).with_name("capacity.json")
COMMAND: Final = "python -m bench.capacity --write"

USERS: Final = "10000,100000,1000000,10000000"
MOST_ERROR: Final = 0.2

FILES: Final = 8000
"""Connections of the largest run, at both ends."""


def prediction(costs: Costs, mix: Mix, users: int, deployment: Deployment) -> dict[str, Any]:
    """The figures of a deployment: rates in the busiest hour, bytes in units that their names tell."""
    return {
        "users": users,
        "connections": round(deployment.load.connections),
        "sends_per_s": round(deployment.load.sends, 1),
        "deliveries_per_s": round(deployment.deliveries, 1),
        "machines": deployment.machines,
        "gateways": deployment.gateways,
        "webs": deployment.webs,
        "workers": deployment.workers,
        "postgres_cores": round(deployment.postgres_cores, 2),
        "redis_cores": round(deployment.redis_cores, 3),
        "gateway_memory_gb": round((deployment.gateway_bytes + deployment.kernel_bytes) / 1e9, 2),
        "redis_memory_mb": round(deployment.redis_bytes / 1e6, 1),
        "clients_mbit_per_s": round(deployment.client_bytes_per_s * 8 / 1e6, 2),
        "redis_mbit_per_s": round(deployment.bus_bytes_per_s * 8 / 1e6, 2),
        "wal_mbit_per_s": round(deployment.wal_bytes_per_s * 8 / 1e6, 2),
        "disk_gb_per_year": round(model.disk_bytes_per_year(costs, mix, users) / 1e9, 1),
    }


def predictions(costs: Costs, mix: Mix, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A line for each number of users, and one for the number of machines."""
    limits = Headroom(options.busy, options.connections)
    for users in map(int, options.users.split(",")):
        deployment = model.size(costs, mix.load(users), options.cores, limits)
        yield {"kind": "deployment", "cores": options.cores, **prediction(costs, mix, users, deployment)}
    users = model.most_users(costs, mix, options.machines, options.cores, limits)
    deployment = model.size(costs, mix.load(users), options.cores, limits)
    yield {"kind": "most", "cores": options.cores, **prediction(costs, mix, users, deployment)}


def stored_with(stored: Mapping[str, Any], measured: Mapping[str, Any], today: str) -> dict[str, Any]:
    """The stored costs with those that were measured; the others stay."""
    source = {"command": COMMAND, "date": today}
    cpu = {part: dict(of_part) for part, of_part in stored["cpu"].items()}
    for part, of_part in measured["cpu"].items():
        cpu.setdefault(part, {}).update({name: {"us": round(us, 3), **source} for name, us in of_part.items()})
    other = {name: {"value": round(value, 6), **source} for name, value in measured["other"].items()}
    return {"cpu": cpu, "other": {**stored["other"], **other}}


def write(seconds: float) -> bool:
    """Measure the costs and store them."""
    with shared_services() as shared:
        server = Ours(shared, FOLDER)
        measured = costs_of(server, make_users(server), seconds)
    stored = stored_with(json.loads(STORED.read_text()), measured, datetime.now(UTC).date().isoformat())
    STORED.write_text(json.dumps(stored, indent=4, sort_keys=True) + "\n")
    return True


def check(costs: Costs, seconds: float) -> bool:
    """Print a line for each run; whether all errors that count are at most `MOST_ERROR`."""
    worst = 0.0
    with shared_services() as shared:
        server = Ours(shared, FOLDER)
        for line in checks(server, make_users(server), costs, seconds):
            print_line(line)
            judged = (line.get(name) for name in ("total_us_per_send", "bytes_per_connection", "sends_per_s"))
            worst = max([worst, *(abs(item["error"]) for item in judged if isinstance(item, dict))])
    print_line({"kind": "requirement", "worst_error": worst, f"error_at_most_{MOST_ERROR:g}": worst <= MOST_ERROR})
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__.partition("\n")[0])
    parser.add_argument("--users", default=USERS, help="numbers of users, with commas")
    parser.add_argument("--machines", type=int, default=4, help="of gateways, web processes and workers")
    parser.add_argument("--cores", type=int, default=8, help="of such a machine")
    parser.add_argument(
        "--busy", type=float, default=Headroom.busy, help="the most share of a core in the busiest hour"
    )
    parser.add_argument("--connections", type=int, default=Headroom.connections, help="the most of a gateway")
    for field in fields(Mix):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=float, default=field.default)
    parser.add_argument("--write", action="store_true", help="measure the costs, and store them")
    parser.add_argument("--check", action="store_true", help="compare the model with runs")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured seconds of a run")
    options = parser.parse_args()
    costs = Costs.of(json.loads(STORED.read_text()))
    if options.write or options.check:
        allow_files(FILES)
        run_alone(lambda: write(options.seconds) if options.write else check(costs, options.seconds))
    mix = Mix(**{field.name: getattr(options, field.name) for field in fields(Mix)})
    for line in predictions(costs, mix, options):
        print_line(line)
    sys.exit(0)


if __name__ == "__main__":
    main()
