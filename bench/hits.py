"""Hit rates of the caches, under a load with a realistic skew.

    python -m bench.hits

Zipf's law chooses the users, conversations and watched contacts (the n-th most popular in proportion to 1/n^0.9); each
user takes part in some 20 groups of 5. The operations are 6 % sends, 2 % marks, and otherwise reads of the list and of
the newest page of a conversation. Then all users connect, and each watches 20 contacts. All of it runs in one process,
through the same parts as in the server. The first half fills the caches, the second half is counted. The benchmark
compares every hundredth page with the answer of an empty cache.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, Final
from uuid import uuid4

import psycopg
import trio

from bench.ours import Ours
from bench.program import FOLDER, print_line, run_alone, say, shared_services
from server.cluster.presence import PresenceWatch
from server.delivery.hub import Hub
from server.http.conditional import EntityTags
from server.http.first_pages import CachedPage, FirstPage, FirstPages
from store.devices import add_device
from store.marks import Mark, mark
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache, Watchable
from store.postgres.pool import Pool
from store.redis.client import Redis

WANTED: Final = {"list": 0.80, "metadata": 0.85, "history": 0.70, "presence": 0.90}
"""The required hit rate of each cache."""

SKEW: Final = 0.9
SENDS, MARKS, LISTS = 0.06, 0.02, 0.46


GROUPS: Final = """
insert into conversations (id, kind, name) select md5('g' || n)::uuid, 'group', 'g' from generate_series(1, {groups}) n;
insert into participants (conversation_id, user_id)
    select md5('g' || n)::uuid, u.id from generate_series(1, {groups}) n
    cross join lateral (select id from users where n > 0 order by md5(n || id::text) limit {size}) u;
"""


@dataclass(frozen=True)
class HitsSettings:
    """The settings of the simulation."""

    users: int
    operations: int
    seed: int


class Popular:
    """Things that are chosen by Zipf's law."""

    def __init__(self, things: Sequence[bytes], chance: random.Random) -> None:
        self._things = list(things)
        self._weights = list(accumulate(1 / (n + 1) ** SKEW for n in range(len(things))))
        self._chance = chance
        chance.shuffle(self._things)

    def one(self) -> bytes:
        return self._chance.choices(self._things, cum_weights=self._weights)[0]


def hits(settings: HitsSettings) -> bool:
    """Print a line for each cache; returns whether every send, mark and compared page was correct."""
    with shared_services() as shared:
        server = Ours(shared, FOLDER)
        say(f"making {settings.users} users")
        server.prepare([2] * (settings.users // 2))
        with psycopg.connect(server.database_url) as connection:
            connection.execute(GROUPS.format(groups=settings.users * 4, size=5).encode())
        shared.even_out(server.database_url)
        lines, is_true = trio.run(_simulate, server.database_url, shared.redis_url, settings)
        for line in lines:
            print_line({**line, **shared.durability(server.database_url)})
    return is_true


async def _simulate(database_url: str, redis_url: str, settings: HitsSettings) -> tuple[list[dict[str, Any]], bool]:
    chance = random.Random(settings.seed)
    with closing(Pool(database_url, 4)) as pool:
        pages, lists = FirstPages(pool, EntityTags(pool)), ParticipantsCache()
        rows = await pool.fetch("select user_id, array_agg(conversation_id) from participants group by user_id")
        of_user: dict[bytes, list[bytes]] = dict(rows)
        users = Popular(list(of_user), chance)
        tokens = {user: (await add_device(pool, user, "bench", lifetime_s=86400))[1] for user in of_user}
        is_true, filled = True, _counts(pages, lists)
        for n in range(settings.operations):
            if n == settings.operations // 2:
                filled = _counts(pages, lists)
            user = users.one()
            conversation = of_user[user][int(len(of_user[user]) * chance.random() ** 3)]
            what = chance.random()
            if what < SENDS:
                message = NewMessage(conversation, user, uuid4().bytes, "text", bytes(100), None, None)
                [outcome] = await send(pool, lists, [message])
                is_true &= isinstance(outcome, Committed)
            elif what < SENDS + MARKS:
                is_true &= (await mark(pool, [[Mark(user, conversation, 2**40, 2**40)]])).outcomes == [None]
            else:
                read = _list if what < SENDS + MARKS + LISTS else _history
                body = await read(pages, tokens[user], conversation)
                if n % 100 == 0:
                    is_true &= body == await read(FirstPages(pool, EntityTags(pool)), tokens[user], conversation)
        found = {
            name: (hit - filled[name][0], missed - filled[name][1])
            for name, (hit, missed) in _counts(pages, lists).items()
        }
        found["presence"] = await _watch(pool, redis_url, users, list(of_user), chance)
    lines = []
    for name, (hit, missed) in found.items():
        rate = round(hit / max(hit + missed, 1), 3)
        holds = rate >= WANTED[name]
        lines.append({"kind": "cache", "cache": name, "hits": hit, "misses": missed, "rate": rate, "as_wanted": holds})
    return lines, is_true


def _counts(pages: FirstPages, lists: ParticipantsCache) -> dict[str, tuple[int, int]]:
    """Hits and misses so far, by cache; a page that was mended counts as a miss."""
    found = {each.name: (each.hits, each.mended + each.misses) for each in pages.statistics()}
    kept = lists.statistics()
    return {**found, "metadata": (kept.hits, kept.misses)}


async def _list(pages: FirstPages, token: str, _: bytes) -> bytes:
    return _body((await pages.first_of_list(token, 50, "json"))[1])


async def _history(pages: FirstPages, token: str, conversation: bytes) -> bytes:
    return _body((await pages.newest_of(token, conversation, 50, "json"))[1])


def _body(page: FirstPage) -> bytes:
    assert isinstance(page, CachedPage)
    return page.body


class _Watcher:
    """The part of a connection that presence needs."""

    def __init__(self, user: bytes) -> None:
        self.user = user
        self.watched: frozenset[bytes] = frozenset()
        self.outbox = SimpleNamespace(cut_reason=None, offer=lambda _: None, is_touched=True)


async def _watch(
    pool: Pool, redis_url: str, popular: Popular, users: Sequence[bytes], chance: random.Random
) -> tuple[int, int]:
    """Connect all users; each watches 20 contacts."""
    redis, hub = Redis(redis_url), Hub()
    presence = PresenceWatch(redis, pool, bytes(8), hub, lambda: frozenset({bytes(8), bytes(7) + b"x"}))
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        await redis.wait_connected()
        filled = presence.statistics()
        for n, user in enumerate(chance.sample(list(users), len(users))):
            if n == len(users) // 2:
                filled = presence.statistics()
            connection: Any = _Watcher(user)
            watched = [Watchable(each, False, None) for each in {popular.one() for _ in range(20)}]
            await presence.watch(connection, watched, trio.current_time())
        nursery.cancel_scope.cancel()
    statistics = presence.statistics()
    return statistics.hits - filled.hits, statistics.misses - filled.misses


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hits", description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = HitsSettings(options.users, options.operations, options.seed)
    run_alone(lambda: hits(settings))


if __name__ == "__main__":
    main()
