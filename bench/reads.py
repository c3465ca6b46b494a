"""Reading over HTTP: the list of conversations and a page of history, beside the plan.

    python -m bench.reads --peers DIR

Each user has 50 direct conversations with 5 messages each; one group has 2,000 messages. Both servers have the same
data, on the same Postgres and Redis, and answer with JSON to connections that have one request in flight each. Servers
alternate from round to round; each starts with empty caches:

- `list-uncached`: each user's list once, so caches of earlier answers are of no use;
- `list-cached`: a few users' lists again and again; nothing changes meanwhile. The plan caches them for a while, ours
  asks Postgres each time whether its cached list is current;
- `history`: the newest page of the group, again and again;
- `empty`: a route of ours that does nothing, for the cost of Quart-Trio on Hypercorn before any work is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import psycopg

from bench.command import parser_of, servers_of
from bench.contest import build_peers, contestant, rotated
from bench.cpu import CpuMeter, used
from bench.databases import Shared
from bench.http import HttpRun, load, request
from bench.ours import Ours
from bench.processes import free_port
from bench.program import report, run_alone, say, shared_services
from bench.servers import Server
from bench.summary import OURS, PLAN, by_server, ratios, spread

CASES: Final = ("list-uncached", "list-cached", "history", "empty")
METRICS: Final = (
    "requests_per_s",
    "p50_ms",
    "p99_ms",
    "server_us",
    "postgres_us",
    "redis_us",
    "total_us",
    "others_cores",
)

UNCACHED_AT_LEAST: Final = 4.0
"""Least requests per second in `list-uncached`, as a multiple of the plan's."""

NEIGHBOURS: Final = 25
"""Each user talks with this number of users before and after them in a ring, which makes 50 conversations."""

MESSAGES: Final = 5
DEEP: Final = 2000

ID: Final = "(lpad(to_hex({kind}), 8, '0') || '-0000-4000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid"
"""A UUID of version 4's form, which the plan insists on; the same in both databases."""


def _id(kind: int, number: str) -> str:
    return ID.format(kind=kind, number=number)


OUR_DATA: Final = f"""
insert into users (id, username, password_hash)
    select {_id(1, "n")}, 'user' || n, 'nobody logs in' from generate_series(0, %(users)s - 1) n;
insert into devices (id, user_id, name, token_hash)
    select {_id(2, "n")}, {_id(1, "n")}, 'bench', sha256(convert_to('token' || n, 'UTF8'))
    from generate_series(0, %(users)s - 1) n;
create temporary table pairs as
    select n * {NEIGHBOURS} + k - 1 as c, n as one, (n + k) %% %(users)s as other
    from generate_series(0, %(users)s - 1) n, generate_series(1, {NEIGHBOURS}) k;
insert into conversations (id, kind, direct_low, direct_high, last_seq, active_at)
    select {_id(3, "c")}, 'direct', {_id(1, "least(one, other)")}, {_id(1, "greatest(one, other)")}, {MESSAGES},
           now() - make_interval(secs => c %% 1000) from pairs;
insert into participants (conversation_id, user_id, delivered_seq, read_seq)
    select {_id(3, "c")}, {_id(1, "u")}, 2, 2 from pairs, unnest(array[one, other]) u;
insert into conversations (id, kind, name, last_seq) values ({_id(4, "0")}, 'group', 'Deep', {DEEP});
insert into participants (conversation_id, user_id) select {_id(4, "0")}, {_id(1, "u")} from generate_series(0, 1) u;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce)
    select {_id(3, "c")}, s, gen_random_uuid(), {_id(1, "one")}, now() - make_interval(secs => 100 - s), 'text',
           decode(repeat(md5(c::text), 6), 'hex'), decode(md5(s::text), 'hex')
    from pairs, generate_series(1, {MESSAGES}) s;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content, nonce)
    select {_id(4, "0")}, s, gen_random_uuid(), {_id(1, "s % 2")}, now() - make_interval(secs => {DEEP} - s), 'text',
           decode(repeat(md5(s::text), 6), 'hex'), decode(md5(s::text), 'hex')
    from generate_series(1, {DEEP}) s;
"""

PLANS_DATA: Final = f"""
insert into users (id, username) select {_id(1, "n")}, 'user' || n from generate_series(0, %(users)s - 1) n;
create temporary table pairs as
    select n * {NEIGHBOURS} + k - 1 as c, n as one, (n + k) %% %(users)s as other
    from generate_series(0, %(users)s - 1) n, generate_series(1, {NEIGHBOURS}) k;
insert into conversations (id, type, updated_at)
    select {_id(3, "c")}, 'direct', now() - make_interval(secs => c %% 1000) from pairs;
insert into conversation_participants (conversation_id, user_id, last_read_at)
    select {_id(3, "c")}, {_id(1, "u")}, now() - make_interval(secs => 98) from pairs, unnest(array[one, other]) u;
insert into conversations (id, type, name) values ({_id(4, "0")}, 'group', 'Deep');
insert into conversation_participants (conversation_id, user_id)
    select {_id(4, "0")}, {_id(1, "u")} from generate_series(0, 1) u;
insert into messages (conversation_id, sender_id, encrypted_content, nonce, created_at)
    select {_id(3, "c")}, {_id(1, "one")}, encode(decode(repeat(md5(c::text), 6), 'hex'), 'base64'), md5(s::text),
           now() - make_interval(secs => 100 - s)
    from pairs, generate_series(1, {MESSAGES}) s;
insert into messages (conversation_id, sender_id, encrypted_content, nonce, created_at)
    select {_id(4, "0")}, {_id(1, "s % 2")}, encode(decode(repeat(md5(s::text), 6), 'hex'), 'base64'), md5(s::text),
           now() - make_interval(secs => {DEEP} - s)
    from generate_series(1, {DEEP}) s;
"""


@dataclass(frozen=True)
class ReadsSettings:
    """The settings. `users`: number of users whose lists `list-uncached` reads, once each."""

    peers: Path | None
    servers: tuple[str, ...]
    rounds: int
    users: int
    connections: int
    seconds: float


def reads(settings: ReadsSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    build_peers(settings.servers, settings.peers)
    with shared_services() as shared:
        return report(_rounds(shared, settings), summarize_reads)


def _rounds(shared: Shared, settings: ReadsSettings) -> Iterator[dict[str, Any]]:
    contestants = [contestant(name, shared) for name in settings.servers]
    for server in contestants:
        say(f"{server.name}: making {settings.users} users with {2 * NEIGHBOURS} conversations each")
        server.prepare([])
        data = OUR_DATA if server.name == OURS else PLANS_DATA
        with psycopg.connect(server.database_url) as connection:
            literal = data.replace("%(users)s", str(settings.users)).replace("%%", "%")
            connection.execute(literal.encode())
    for round_ in range(1, settings.rounds + 1):
        for server in rotated(contestants, round_ - 1):
            say(f"round {round_} of {settings.rounds}: {server.name}")
            for line in measure(server, settings):
                yield {"kind": "run", "round": round_, **line}


@contextmanager
def _started(server: Server) -> Iterator[tuple[int, list[int]]]:
    """Run the server; yields its HTTP port, and the processes that answer there."""
    if isinstance(server, Ours):
        port = free_port()
        with server.web(port) as pid:
            yield port, [pid]
    else:
        with server.started() as endpoint:
            yield int(endpoint.url.rpartition(":")[2]), endpoint.pids["server"]


def _requests(server: Server, case: str, settings: ReadsSettings) -> list[bytes]:
    prefix = "/v1" if server.name == OURS else ""

    def ask(path: str, user: int) -> bytes:
        if server.name == OURS:
            return request(prefix + path, Authorization=f"Bearer token{user}")
        return request(path, **{"x-user-id": f"00000001-0000-4000-8000-{user:012x}"})

    match case:
        case "empty":
            return [request("/healthz")]
        case "history":
            return [ask("/conversations/00000004-0000-4000-8000-000000000000/messages?limit=50", 0)]
        case "list-cached":
            return [ask("/conversations?limit=50", user) for user in range(settings.connections)]
    return [ask("/conversations?limit=50", user) for user in range(settings.users)]


def measure(server: Server, settings: ReadsSettings) -> Iterator[dict[str, Any]]:
    durability = server.shared.even_out(server.database_url)
    with _started(server) as (port, pids):
        meter = CpuMeter({"server": pids, "postgres": [server.shared.postgres_pid], "redis": [server.shared.redis_pid]})
        for case in CASES:
            if case == "empty" and server.name != OURS:
                continue
            requests = _requests(server, case, settings)
            seconds = None if case == "list-uncached" else settings.seconds
            if case == "list-uncached":
                # Other users' lists compile the code, connect and plan the queries; the measurement does not read those
                # lists.
                load(port, requests[: settings.users // 4], settings.connections)
                requests = requests[settings.users // 4 :]
            else:
                load(port, requests, settings.connections, seconds=min(1.0, settings.seconds))
            before = meter.read()
            run = load(port, requests, settings.connections, seconds=seconds)
            cpu = used(before, meter.read())
            yield {"server": server.name, "load": case, **_figures(run, cpu), **durability}


def _figures(run: HttpRun, cpu: Mapping[str, float]) -> dict[str, Any]:
    count = max(len(run.latencies), 1)
    parts = {f"{name}_us": round(cpu[name] / count * 1e6, 1) for name in ("server", "postgres", "redis", "generator")}
    cuts = quantiles(run.latencies, n=100) if len(run.latencies) > 1 else [0.0] * 99
    return {
        "valid": not run.first_error,
        "first_error": run.first_error,
        "requests": len(run.latencies),
        "requests_per_s": round(len(run.latencies) / run.seconds, 1),
        "p50_ms": round(cuts[49] * 1000, 3),
        "p99_ms": round(cuts[98] * 1000, 3),
        **parts,
        "total_us": round(sum(parts[f"{name}_us"] for name in ("server", "postgres", "redis")), 1),
        "bytes": run.answer_bytes // count,
        "others_cores": round(cpu["others"] / run.seconds, 3),
    }


def summarize_reads(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each case a line for each metric, and one with the requirement."""
    lines: list[dict[str, Any]] = []
    empty = by_server([run for run in runs if run["load"] == "empty"], "server_us").get(OURS, {})
    for case in CASES:
        its_runs = [run for run in runs if run["load"] == case]
        for metric in METRICS:
            table = by_server(its_runs, metric)
            line: dict[str, Any] = {server: spread(values.values(), 3) for server, values in sorted(table.items())}
            line["ours_to_plan"] = spread(ratios(table.get(OURS, {}), table.get(PLAN, {})), 3)
            lines.append({"kind": "summary", "load": case, "metric": metric, **line})
        if case == "empty":
            continue
        speed = by_server(its_runs, "requests_per_s")
        of_rounds = ratios(speed.get(OURS, {}), speed.get(PLAN, {}))
        least = UNCACHED_AT_LEAST if case == "list-uncached" else 1.0
        cost = by_server(its_runs, "server_us").get(OURS, {})
        requirement = {
            "invalid_runs": sum(not run["valid"] for run in its_runs),
            "least_ours_to_plan": least,
            "holds": median(of_rounds) >= least if of_rounds else None,
            # The share of the web process' CPU that any answer costs.
            "fixed_share": spread(ratios(empty, cost), 3),
        }
        lines.append({"kind": "requirement", "load": case, **requirement})
    return lines


def main() -> None:
    parser = parser_of("python -m bench.reads", __doc__, (OURS, PLAN))
    parser.add_argument("--users", type=int, default=1200, help="users whose lists are read once")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each case but list-uncached")
    options = parser.parse_args()
    settings = ReadsSettings(
        peers=options.peers,
        servers=servers_of(options),
        rounds=options.rounds,
        users=options.users,
        connections=options.connections,
        seconds=options.seconds,
    )
    run_alone(lambda: reads(settings))


if __name__ == "__main__":
    main()
