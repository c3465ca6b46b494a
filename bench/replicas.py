"""What replicas spare the primary, and whether they ever show too little.

    python -m bench.replicas

A primary and a hot standby run on this machine. Devices read pages of 50 messages from random places of random
conversations: with the replica and without it, in turn. The CPU of a server is that of its processes, for each page.
Then the standby applies changes 10 s late: after each acknowledged send its reader asks for the newest page, which must
have the message. Then the standby is killed under readers, of whom none may see an error.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from collections.abc import Awaitable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Final, NamedTuple, TypeAlias
from uuid import uuid4

import psycopg
import structlog
import trio

from bench.cpu import CpuMeter, used
from bench.program import FOLDER, print_line, run_alone, say
from embedded.postgres import PostgresServer
from embedded.standby import StandbyServer
from server.http.conditional import EntityTags
from server.http.first_pages import FirstPages
from server.http.queries import HistoryQuery
from store import accounts, conversations, messages
from store.devices import add_device
from store.errors import StoreError
from store.messages import Committed, HistoryPage, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.migrate import migrate
from store.postgres.pool import Pool
from store.postgres.reads import StatementReader
from store.replicas import Replicas

MOST_SHARE: Final = 0.3
"""Required: of the primary's CPU for a page, the part that is left with a replica."""

LATE_S: Final = 10
READERS: Final = 4
PAGE: Final = 50
BYTES: Final = 300
"""Of a message's ciphertext."""
GROUPS: Final = 8
"""Of each reader."""


@dataclass(frozen=True)
class ReplicaSettings:
    """The settings of the benchmark.

    :ivar pages: of a round with the replica, and of one without.
    :ivar messages: in each conversation at the beginning.
    :ivar sends: with a read after each, while the standby is late.
    """

    rounds: int
    pages: int
    messages: int
    sends: int


class PagesReader(NamedTuple):
    """A reader, with the conversations of that user alone: whose they are costs nothing here."""

    user: bytes
    device: bytes
    token: str
    conversations: list[bytes]


_Round: TypeAlias = tuple[float, float, float]
"""Seconds of CPU of the primary, and of the standby; the median time of a page, in seconds."""


class Scene:
    """The servers, the people and their messages.

    :ivar errors: what readers were told, other than a page.
    """

    def __init__(self, pool: Pool, replicas: Replicas, people: list[PagesReader], settings: ReplicaSettings) -> None:
        self.pool = pool
        self.replicas = replicas
        self.people = people
        self.settings = settings
        self.chance = random.Random(1)
        self.errors: list[StoreError] = []

    async def read_pages(self, replicas: Replicas, count: int) -> list[float]:
        """Read pages from random places, some at a time; the seconds of each, in order."""
        first = FirstPages(self.pool, EntityTags(self.pool), replicas)
        seconds: list[float] = []
        left = count

        async def read(person: PagesReader) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                began = perf_counter()
                with suppress_noted(self.errors):
                    await self._page(first, replicas, person)
                seconds.append(perf_counter() - began)

        async with trio.open_nursery() as nursery:
            for person in self.people:
                nursery.start_soon(read, person)
        return sorted(seconds)

    async def _page(self, first: FirstPages, replicas: Replicas, person: PagesReader) -> HistoryPage:
        conversation = self.chance.choice(person.conversations)
        query = HistoryQuery(after_seq=self.chance.randrange(self.settings.messages - PAGE), limit=PAGE)
        _, page = await first.older_of(person.token, conversation, query, "cbor")

        def read(reader: StatementReader) -> Awaitable[HistoryPage]:
            return messages.history(
                reader, person.user, conversation, limit=PAGE, after=page.after, device=person.device
            )

        return await replicas.page(page.needed, read)

    async def send_and_read(self) -> int:
        """Send messages, and read the newest page after each ack; how many pages lacked the message."""
        first, stale = FirstPages(self.pool, EntityTags(self.pool), self.replicas), 0
        left = self.settings.sends

        async def go_on(person: PagesReader) -> None:
            nonlocal left, stale
            while left > 0:
                left -= 1
                conversation = self.chance.choice(person.conversations)
                committed = await say_one(self.pool, person.user, conversation)
                _, page = await first.older_of(person.token, conversation, HistoryQuery(limit=1), "cbor")

                def read(reader: StatementReader, conversation: bytes = conversation) -> Awaitable[HistoryPage]:
                    return messages.history(reader, person.user, conversation, limit=1)

                found = await self.replicas.page(page.needed, read)
                stale += found.messages[0].seq < committed.seq

        async with trio.open_nursery() as nursery:
            for person in self.people:
                nursery.start_soon(go_on, person)
        return stale


@contextmanager
def suppress_noted(errors: list[StoreError]) -> Iterator[None]:
    """Note an error of the store instead of raising it."""
    try:
        yield
    except StoreError as error:
        errors.append(error)


async def say_one(pool: Pool, user: bytes, conversation: bytes) -> Committed:
    """Send one message."""
    message = NewMessage(conversation, user, uuid4().bytes, "text", bytes(BYTES), None, None)
    [outcome] = await send(pool, ParticipantsCache(), [message])
    assert isinstance(outcome, Committed), outcome
    return outcome


async def new_person(pool: Pool, n: int, settings: ReplicaSettings) -> PagesReader:
    """A user with a device, groups and messages."""
    user = await accounts.add_user(pool, f"reader{n}", "no password")
    device, token, _ = await add_device(pool, user, "bench", lifetime_s=86400)
    groups = [await conversations.add_group(pool, "g", [user], admin=user) for _ in range(GROUPS)]
    for group in groups:
        for _ in range(0, settings.messages, 100):
            batch = [
                NewMessage(group, user, uuid4().bytes, "text", random.randbytes(BYTES), None, None) for _ in range(100)
            ]
            await send(pool, ParticipantsCache(), batch)
    return PagesReader(user, device, token, groups)


def bench_replicas(settings: ReplicaSettings) -> bool:
    """Print a line for each measurement; whether all was as it has to be."""
    folder = FOLDER / "replicas"
    shutil.rmtree(folder, ignore_errors=True)
    primary = PostgresServer(folder / "primary")
    standby = StandbyServer(folder / "standby", primary)
    primary.start()
    try:
        trio.run(migrate, primary.url)
        standby.start()
        return trio.run(_measure, primary, standby, settings)
    finally:
        standby.stop()
        primary.stop()


async def _measure(primary: PostgresServer, standby: StandbyServer, settings: ReplicaSettings) -> bool:
    with closing(Pool(primary.url, 8)) as pool, closing(Replicas(pool, [standby.url])) as replicas:
        people = [await new_person(pool, n, settings) for n in range(READERS)]
        scene = Scene(pool, replicas, people, settings)
        await _wait_replayed(pool, replicas)
        meter = CpuMeter({"primary": [primary.pid], "standby": [standby.pid]})
        with_replica: list[_Round] = []
        without: list[_Round] = []
        for n in range(settings.rounds + 1):
            for asked, found in ((replicas, with_replica), (Replicas(pool), without)):
                before = meter.read()
                seconds = await scene.read_pages(asked, settings.pages)
                cost = used(before, meter.read())
                if n:  # the first round fills caches and makes plans
                    found.append((cost["primary"], cost["standby"], seconds[len(seconds) // 2]))
        shares = [mine[0] / theirs[0] for mine, theirs in zip(with_replica, without, strict=True)]
        share = median(shares)
        print_line(
            {
                "kind": "cost",
                "rounds": settings.rounds,
                "pages": settings.pages,
                "primary_us_per_page": _us(with_replica, 0, settings),
                "standby_us_per_page": _us(with_replica, 1, settings),
                "primary_us_per_page_without": _us(without, 0, settings),
                "share": round(share, 3),
                "spread": [round(min(shares), 3), round(max(shares), 3)],
                "p50_ms": round(median(each[2] for each in with_replica) * 1000, 2),
                "p50_ms_without": round(median(each[2] for each in without) * 1000, 2),
                "as_required": share <= MOST_SHARE,
            }
        )
        _tell(standby, f"alter system set recovery_min_apply_delay = '{LATE_S}s'", "select pg_reload_conf()")
        replicas.outcomes.clear()
        stale = await scene.send_and_read()
        line = {"kind": "late", "late_s": LATE_S, "sends": settings.sends, "stale": stale}
        print_line({**line, "outcomes": dict(replicas.outcomes), "as_required": stale == 0})
        _tell(standby, "alter system reset recovery_min_apply_delay", "select pg_reload_conf()")
        await _wait_replayed(pool, replicas)
        replicas.outcomes.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.read_pages, replicas, settings.pages)
            await trio.to_thread.run_sync(standby.kill)
        failed = replicas.outcomes["failed"]
        line = {"kind": "killed", "pages": settings.pages, "errors": len(scene.errors)}
        is_whole = not scene.errors and failed > 0
        print_line({**line, "outcomes": dict(replicas.outcomes), "as_required": is_whole})
        return share <= MOST_SHARE and stale == 0 and is_whole


def _us(rounds: list[_Round], column: int, settings: ReplicaSettings) -> int:
    return round(median(each[column] for each in rounds) / settings.pages * 1e6)


async def _wait_replayed(pool: Pool, replicas: Replicas) -> None:
    while True:
        async with replicas.caught_up() as source:
            if source is not pool:
                return
        await trio.sleep(0.05)


def _tell(server: PostgresServer, *commands: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for command in commands:
            connection.execute(command.encode())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.replicas", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--sends", type=int, default=100_000)
    options = parser.parse_args()
    settings = ReplicaSettings(options.rounds, options.pages, options.messages, options.sends)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for figures
    say("a primary and its standby start")
    run_alone(lambda: bench_replicas(settings))


if __name__ == "__main__":
    main()
