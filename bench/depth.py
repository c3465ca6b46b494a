"""Do stored messages make reads and sends dearer: a page deep in a conversation, a send beside ten million others?

    python -m bench.depth

- `page`: the newest and the oldest page of 50 of a conversation with `--depth` messages, in turn;
- `send`: sends by the store in batches of 1 and of 64, on a database with 10,000 messages and on one with `--messages`,
  in turn; each with the CPU of its own Postgres processes. SQL fills both databases in the order of the keys.

Postgres waits for the disk at each commit. Nothing else runs meanwhile: a round's CPU is that of this process and
Postgres.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Final
from uuid import uuid4

import psycopg
import trio

from bench.cpu import CpuMeter, used
from bench.databases import Shared
from bench.processes import run
from bench.program import FOLDER, print_line, run_alone, say, shared_services
from bench.summary import spread
from store.messages import Committed, NewMessage, history, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool

MOST: Final = 1.2
"""The most that the large side may cost, as a multiple of the small side."""

SMALL: Final = 10_000
CHATS: Final = 2_000
PAGE: Final = 50

FILL: Final = """
insert into users (id, username, password_hash)
    select md5('u' || n)::uuid, 'user' || n, 'x' from generate_series(0, {users}) n;
create temporary table chats as
    select row_number() over (order by id) - 1 as n, id
    from (select md5('c' || n)::uuid as id from generate_series(1, {chats}) n) c;
insert into conversations (id, kind, name, last_seq) select id, 'group', 'g', {each} from chats;
insert into participants (conversation_id, user_id, delivered_seq, read_seq)
    select id, md5('u' || (n * 2 + k) % {users})::uuid, {each}, {each} from chats, generate_series(0, 1) k;
insert into messages (conversation_id, seq, id, sender_id, created, content_type, content)
    select c.id, s, gen_random_uuid(), md5('u' || n * 2 % {users})::uuid, now(), 'text',
           decode(repeat(md5(s::text), 6), 'hex')
    from (select * from chats order by id) c, generate_series(1, {each}) s;
insert into sends (sender_id, temp_id, conversation_id, digest, seq, message_id, created)
    select sender_id, id, conversation_id, decode(md5(seq::text) || md5(seq::text), 'hex'), seq, id, created
    from messages;
"""


@dataclass(frozen=True)
class DepthSettings:
    """The settings."""

    depth: int
    messages: int
    rounds: int
    repeats: int


def depth(settings: DepthSettings) -> bool:
    """Print a line for each run, then the summary; returns whether all runs are valid."""
    with shared_services() as shared:
        runs = [*_pages(shared, settings), *_sends(shared, settings)]
        for line in summarize_depth(runs):
            print_line({**line, **shared.durability(shared.postgres_url)})
    return bool(runs)


def _fill(shared: Shared, name: str, chats: int, messages: int) -> str:
    say(f"{name}: storing {messages:,} messages in {chats:,} conversations")
    url = shared.create_database(name)
    environment = {"DATABASE_URL": url, "REDIS_URL": shared.redis_url}
    run(
        [sys.executable, "-m", "store", "migrate"],
        folder=FOLDER.parent.parent,
        environment=environment,
        log=FOLDER / "depth.log",
    )
    with psycopg.connect(url) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute(FILL.format(users=2 * chats, chats=chats, each=messages // chats).encode())
    shared.even_out(url)
    return url


def _pages(shared: Shared, settings: DepthSettings) -> list[dict[str, Any]]:
    url = _fill(shared, "bench_depth", 1, settings.depth)
    try:
        return trio.run(_measure_pages, shared, url, settings)
    finally:
        shared.drop_database("bench_depth")


async def _measure_pages(shared: Shared, url: str, settings: DepthSettings) -> list[dict[str, Any]]:
    with closing(Pool(url, 1)) as pool:
        [(conversation, user)] = await pool.fetch("select conversation_id, user_id from participants limit 1")

        async def read(before: int | None) -> None:
            page = await history(pool, user, conversation, limit=PAGE, before=before)
            assert len(page.messages) == PAGE

        sides: dict[str, Callable[[], Awaitable[None]]] = {
            "small": lambda: read(None),
            "large": lambda: read(PAGE + 1),
        }
        return await _in_turn("page", sides, {"small": shared, "large": shared}, settings, 1)


def _sends(shared: Shared, settings: DepthSettings) -> list[dict[str, Any]]:
    names = {"small": ("bench_small", SMALL), "large": ("bench_large", settings.messages)}
    try:
        urls = {
            side: _fill(shared, name, min(CHATS, messages // 5), messages) for side, (name, messages) in names.items()
        }
        return [line for batch in (1, 64) for line in trio.run(_measure_sends, shared, urls, settings, batch)]
    finally:
        for name, _ in names.values():
            shared.drop_database(name)


async def _measure_sends(
    shared: Shared, urls: Mapping[str, str], settings: DepthSettings, batch: int
) -> list[dict[str, Any]]:
    pools = {side: Pool(url, 1) for side, url in urls.items()}
    people = {
        side: await pool.fetch("select distinct on (conversation_id) conversation_id, user_id from participants")
        for side, pool in pools.items()
    }
    turns = dict.fromkeys(urls, 0)

    def sender(side: str) -> Callable[[], Awaitable[None]]:
        cache = ParticipantsCache()

        async def send_batch() -> None:
            chosen = people[side]
            messages = []
            for _ in range(batch):
                turns[side] += 1
                conversation, user = chosen[turns[side] % len(chosen)]
                messages.append(NewMessage(conversation, user, uuid4().bytes, "text", bytes(200), None, None))
            outcomes = await send(pools[side], cache, messages)
            refused = [outcome for outcome in outcomes if not isinstance(outcome, Committed)]
            assert not refused, refused

        return send_batch

    try:
        sides = {side: sender(side) for side in urls}
        return await _in_turn(f"send of {batch}", sides, dict.fromkeys(urls, shared), settings, batch)
    finally:
        for pool in pools.values():
            pool.close()


async def _in_turn(
    case: str,
    sides: Mapping[str, Callable[[], Awaitable[None]]],
    shared: Mapping[str, Shared],
    settings: DepthSettings,
    per_operation: int,
) -> list[dict[str, Any]]:
    """Warm each side up, then measure them in turn."""
    lines = []
    for operate in sides.values():
        for _ in range(settings.repeats):
            await operate()
    for round_ in range(1, settings.rounds + 1):
        for side, operate in sorted(sides.items(), reverse=round_ % 2 == 0):
            meter = CpuMeter({"postgres": [shared[side].postgres_pid]})
            before, latencies = meter.read(), []
            for _ in range(settings.repeats):
                began = time.perf_counter()
                await operate()
                latencies.append(time.perf_counter() - began)
            cpu = used(before, meter.read())
            count, cuts = settings.repeats * per_operation, quantiles(latencies, n=100)
            line = {
                "kind": "run",
                "round": round_,
                "case": case,
                "side": side,
                "p50_ms": round(cuts[49] * 1000, 3),
                "p99_ms": round(cuts[98] * 1000, 3),
                "postgres_us": round(cpu["postgres"] / count * 1e6, 1),
                "store_us": round(cpu["generator"] / count * 1e6, 1),
                "others_cores": round(cpu["others"] / sum(latencies), 3),
            }
            lines.append(line)
            print_line(line)
    return lines


def summarize_depth(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each case the ratios of the large side to the small one, and whether they are small enough."""
    lines: list[dict[str, Any]] = []
    for case in dict.fromkeys(each["case"] for each in runs):
        its_runs = [each for each in runs if each["case"] == case]
        found = {}
        for metric in ("p50_ms", "p99_ms", "postgres_us", "store_us"):
            of_side = {
                side: {each["round"]: each[metric] for each in its_runs if each["side"] == side}
                for side in ("small", "large")
            }
            found[metric] = [
                of_side["large"][round_] / small
                for round_, small in of_side["small"].items()
                if round_ in of_side["large"]
            ]
            lines.append(
                {"kind": "summary", "case": case, "metric": metric, "large_to_small": spread(found[metric], 3)}
            )
        holds = all(median(found[metric]) <= MOST for metric in ("p50_ms", "postgres_us"))
        lines.append({"kind": "requirement", "case": case, "most_large_to_small": MOST, "holds": holds})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.depth", description=__doc__.partition("\n")[0])
    parser.add_argument("--depth", type=int, default=1_000_000, help="messages of the deep conversation")
    parser.add_argument("--messages", type=int, default=10_000_000, help="messages of the large database; some 4 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=300, help="operations of each round and side")
    options = parser.parse_args()
    settings = DepthSettings(options.depth, options.messages, options.rounds, options.repeats)
    run_alone(lambda: depth(settings))


if __name__ == "__main__":
    main()
