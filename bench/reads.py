"""Reading over HTTP: the list of conversations, one conversation and a page of history, beside the plan.

    python -m bench.reads

Each user has 50 direct conversations with 5 messages each; one group of 20 has 2,000 messages (`bench.reads_data`).
Both servers have the same data, on the same Postgres and Redis. Servers alternate from round to round; each starts with
empty caches. Ours answers in JSON and in CBOR, the plan in JSON, and both with and without compression, if the client
allows it. The connections have one request in flight each.

| case | |
|---|---|
| `empty` | a route of ours that does nothing, for the cost of HTTP before any work is done |
| `list-uncached` | users' lists, each once, so caches of earlier answers are of no use |
| `list-cached` | a few users' lists again and again; nothing changes meanwhile |
| `list-moving` | a user's list, with a new message in one of 25 of its conversations before each read |
| `conversation` | the group alone |
| `history` | the newest page of the group again and again |
| `history-moving` | the same, with a new message before each read |
| `list-unchanged`, `history-unchanged` | the client has the page, and ours answers 304; the plan has no ETags |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import cycle
from statistics import median, quantiles
from typing import Any, Final

from bench.command import parser_of, servers_of
from bench.contest import compare_servers, contestant, turns
from bench.cpu import CpuMeter, used
from bench.databases import Shared
from bench.http import HttpRun, headers_of, load, request
from bench.http_paths import HTTP_PATHS
from bench.ours import Ours
from bench.page_changes import sends_to
from bench.processes import free_port
from bench.program import run_alone, say
from bench.reads_data import DEEP, DEEP_PARTICIPANTS, NEIGHBOURS, fill_ours, fill_plans
from bench.rows import Id, id_text, participant
from bench.servers import Server
from bench.summary import OURS, PLAN, by_server, ratios, spread


class Page(StrEnum):
    """Cases, in the order of their measurement."""

    EMPTY = "empty"
    LIST_UNCACHED = "list-uncached"
    LIST_CACHED = "list-cached"
    LIST_MOVING = "list-moving"
    LIST_UNCHANGED = "list-unchanged"
    CONVERSATION = "conversation"
    HISTORY = "history"
    HISTORY_MOVING = "history-moving"
    HISTORY_UNCHANGED = "history-unchanged"


MOVING: Final = {
    Page.LIST_MOVING: [(id_text(Id.CONVERSATION, number - 1), [number, 0]) for number in range(1, NEIGHBOURS + 1)],
    Page.HISTORY_MOVING: [(DEEP, list(range(DEEP_PARTICIPANTS)))],
}
"""The conversations that change in turn, with their participants; the first of these sends."""

UNCHANGED: Final = frozenset({Page.LIST_UNCHANGED, Page.HISTORY_UNCHANGED})


@dataclass(frozen=True)
class Form:
    """How a client wants its answers."""

    is_cbor: bool = False
    is_compressed: bool = False

    @property
    def name(self) -> str:
        return ("cbor" if self.is_cbor else "json") + ("-compressed" if self.is_compressed else "")

    @property
    def plans(self) -> Form:
        """The form of the plan's answers to the same client."""
        return replace(self, is_cbor=False)

    def headers(self) -> dict[str, str]:
        headers = {"Accept": "application/cbor" if self.is_cbor else "application/json"}
        return {**headers, "Accept-Encoding": ENCODINGS} if self.is_compressed else headers


FORMS: Final = {form.name: form for form in (Form(), Form(False, True), Form(True), Form(True, True))}
ENCODINGS: Final = "gzip, deflate, br, zstd"
"""As browsers ask."""

ONCE: Final = frozenset({Page.EMPTY}) | UNCHANGED
"""Cases of ours alone, whose answers are the same in each form."""

METRICS: Final = (
    "requests_per_s",
    "p50_ms",
    "p99_ms",
    "server_us",
    "postgres_us",
    "redis_us",
    "total_us",
    "bytes",
    "others_cores",
)

LEAST: Final = {Page.LIST_UNCACHED: 4.0, Page.LIST_CACHED: 1.0, Page.HISTORY: 1.0}
"""Least requests per second, as a multiple of the plan's; the p99 must be no worse."""

MOST_EMPTY_US: Final = 150.0
"""The most CPU of the web process for `empty`."""


@dataclass(frozen=True)
class ReadsSettings:
    """The settings. `users`: number of users; each form reads the lists of some of them once."""

    servers: tuple[str, ...]
    pages: tuple[Page, ...]
    forms: tuple[Form, ...]
    rounds: int
    users: int
    connections: int
    seconds: float


def reads(settings: ReadsSettings) -> bool:
    """Print a line for each run, then the summary; returns whether every run was valid."""
    return compare_servers(lambda shared: _rounds(shared, settings), summarize_reads)


def _rounds(shared: Shared, settings: ReadsSettings) -> Iterator[dict[str, Any]]:
    contestants = [contestant(name, shared) for name in settings.servers]
    for server in contestants:
        say(f"{server.name}: making {settings.users} users with {2 * NEIGHBOURS} conversations each")
        prepare(server, settings.users)
    for round_, server in turns(contestants, settings.rounds):
        for line in measure(server, settings):
            yield {"kind": "run", "round": round_, **line}


def prepare(server: Server, users: int) -> None:
    """Make the server's database with its rows."""
    server.prepare([])
    (fill_ours if server.name == OURS else fill_plans)(server.database_url, users)


def measure(server: Server, settings: ReadsSettings) -> Iterator[dict[str, Any]]:
    """Start the server, and read each page in each form; a line for each."""
    durability = server.shared.even_out(server.database_url)
    with _started(server) as (port, pids):
        reader = _PageLoad(server, port, pids, settings)
        forms = [form for form in settings.forms if server.name == OURS or not form.is_cbor]
        for form in forms:
            for page in settings.pages:
                if page in ONCE and (server.name != OURS or form is not forms[0]):
                    continue
                if figures := reader.measure(page, form):
                    case = {"load": _load_name(page, form), "page": page, "form": form.name}
                    yield {"server": server.name, **case, **figures, **durability}


def _load_name(page: Page, form: Form) -> str:
    return page if page in ONCE else f"{page}-{form.name}"


@contextmanager
def _started(server: Server) -> Iterator[tuple[int, list[int]]]:
    """Run the server; yields its HTTP port, and the processes that answer there."""
    if isinstance(server, Ours):
        port = free_port()
        with server.web(port) as pid:
            yield port, [pid]
    else:
        with server.started() as endpoint:
            yield endpoint.http_port, endpoint.pids["server"]


class _PageLoad:
    """Reads the pages of one server that runs."""

    def __init__(self, server: Server, port: int, pids: list[int], settings: ReadsSettings) -> None:
        self._server, self._port, self._settings = server, port, settings
        self._paths = HTTP_PATHS[server.protocol]
        groups = {"server": pids, "postgres": [server.shared.postgres_pid], "redis": [server.shared.redis_pid]}
        self._meter = CpuMeter(groups)

    def measure(self, page: Page, form: Form) -> dict[str, Any] | None:
        """Warm up and measure; None if the server has no such answer."""
        requests, status = self._requests(page, form), 200
        headers = headers_of(self._port, requests[0])
        if page in UNCHANGED:
            if "etag" not in headers:
                say(f"{self._server.name}: no ETag, so no {page}")
                return None
            requests, status = [self._conditional(request) for request in requests], 304
        warm_up = self._lists(len(self._settings.forms), form) if page is Page.LIST_UNCACHED else requests
        connections = 1 if page in MOVING else self._settings.connections
        with self._changes(page) as before:
            self._load(cycle(warm_up), connections, min(1.0, self._settings.seconds), status, before)
            used_before = self._meter.read()
            todo = requests if page is Page.LIST_UNCACHED else cycle(requests)
            run = self._load(todo, connections, self._settings.seconds, status, before)
            cpu = used(used_before, self._meter.read())
        return {**_figures(run, cpu), "content_encoding": headers.get("content-encoding", "identity")}

    def _load(
        self, requests: Iterable[bytes], connections: int, seconds: float, status: int, before: Callable[[], None]
    ) -> HttpRun:
        return load(self._port, requests, connections, seconds=seconds, status=status, before=before)

    def _requests(self, page: Page, form: Form) -> list[bytes]:
        if page is Page.EMPTY:
            return [request("/healthz")]
        if page is Page.LIST_UNCACHED:
            return self._lists(self._settings.forms.index(form), form)
        user, headers = participant(0), form.headers()
        match page:
            case Page.LIST_CACHED | Page.LIST_UNCHANGED:
                users = range(self._settings.connections)
                return [self._paths.list(participant(each), **headers) for each in users]
            case Page.LIST_MOVING:
                return [self._paths.list(user, **headers)]
            case Page.CONVERSATION:
                return [self._paths.conversation(user, DEEP, **headers)]
            case _:
                return [self._paths.history(user, DEEP, **headers)]

    def _lists(self, part: int, form: Form) -> list[bytes]:
        """The lists of some users: each form reads those of others once, and the last ones only warm the server up."""
        size = self._settings.users // (len(self._settings.forms) + 1)
        users = range(part * size, (part + 1) * size)
        return [self._paths.list(participant(user), **form.headers()) for user in users]

    def _conditional(self, request: bytes) -> bytes:
        etag = headers_of(self._port, request)["etag"]
        return request.removesuffix(b"\r\n") + f"If-None-Match: {etag}\r\n\r\n".encode()

    def _changes(self, page: Page) -> AbstractContextManager[Callable[[], None]]:
        if page not in MOVING:
            return nullcontext(lambda: None)
        return sends_to(self._server, MOVING[page])


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
    """For each page and form a line for each metric, and one with the requirement, if there is one."""
    lines: list[dict[str, Any]] = []
    for load_ in dict.fromkeys(run["load"] for run in runs):
        ours = [run for run in runs if run["load"] == load_]
        page, form = Page(ours[0]["page"]), FORMS[ours[0]["form"]]
        plans = [run for run in runs if run["load"] == _load_name(page, form.plans) and run["server"] == PLAN]
        its_runs = [*(run for run in ours if run["server"] != PLAN), *plans]
        for metric in METRICS:
            table = by_server(its_runs, metric)
            line: dict[str, Any] = {server: spread(values.values(), 3) for server, values in sorted(table.items())}
            line["ours_to_plan"] = spread(_ratios(table), 3)
            lines.append({"kind": "summary", "load": load_, "metric": metric, **line})
        if requirement := _requirement(page, its_runs):
            invalid = sum(not run["valid"] for run in its_runs)
            lines.append({"kind": "requirement", "load": load_, "invalid_runs": invalid, **requirement})
    return lines


def _ratios(table: Mapping[str, Mapping[int, float]]) -> list[float]:
    return ratios(table.get(OURS, {}), table.get(PLAN, {}))


def _requirement(page: Page, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By the medians of the rounds' ratios, None: unknown. Empty if nothing is required of the page."""
    if page is Page.EMPTY:
        costs = by_server(runs, "server_us").get(OURS, {}).values()
        return {"cpu_at_most_150_us": median(costs) <= MOST_EMPTY_US if costs else None}
    if page not in LEAST:
        return {}
    speed, p99 = (_ratios(by_server(runs, metric)) for metric in ("requests_per_s", "p99_ms"))
    return {
        "least_ours_to_plan": LEAST[page],
        "is_fast_enough": median(speed) >= LEAST[page] if speed else None,
        "p99_no_worse": median(p99) <= 1 if p99 else None,
    }


def main() -> None:
    parser = parser_of("python -m bench.reads", __doc__, (OURS, PLAN))
    parser.add_argument("--pages", default=",".join(Page), help="cases to measure; by default all")
    parser.add_argument("--forms", default=",".join(FORMS), help="of the answers; by default all")
    parser.add_argument("--users", type=int, default=1500, help="users whose lists are read once")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0, help="the longest time of each case")
    options = parser.parse_args()
    settings = ReadsSettings(
        servers=servers_of(options),
        pages=tuple(map(Page, options.pages.split(","))),
        forms=tuple(FORMS[name] for name in options.forms.split(",")),
        rounds=options.rounds,
        users=options.users,
        connections=options.connections,
        seconds=options.seconds,
    )
    run_alone(lambda: reads(settings))


if __name__ == "__main__":
    main()
