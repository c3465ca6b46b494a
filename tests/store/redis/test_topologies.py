"""The keys of the nodes on three servers, and on a cluster of three masters with replicas (`make buses`)."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from store.errors import Unavailable
from store.redis.bus import Inbox, publish
from store.redis.buses import TAGS
from store.redis.client import Redis
from store.redis.directory import beat, enter, enter_watchers, leave, locate
from store.redis.rates import Rests, admit_guess, forget_guesses, take_token
from store.redis.traces import note_trace, trace_of
from tests.faults import flush_redis, masters_of
from tests.memory import in_memory
from tests.redis_topologies import ClusterServer, MovingSlot, RedisCluster, RedisServers, redis_servers
from tests.store.store_world import running
from tests.waiting import DEADLINE_S, wait_until

pytestmark = pytest.mark.buses

OPERATIONS = 100_000
AT_ONCE = 100
RESTS = Rests(free=2, first_s=3600.0, most_s=3600.0, kept_s=3600.0)


@pytest.fixture(scope="module", params=["three", "cluster"])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServers]:
    with in_memory(tmp_path_factory.mktemp("redis")) as folder, redis_servers(request.param, folder) as servers:
        yield servers


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    with in_memory(tmp_path) as folder, redis_servers("cluster", folder) as servers:
        assert isinstance(servers, RedisCluster)
        yield servers


class Everything:
    """Operations of all kinds, by many nodes and users; each must succeed.

    :ivar count: operations so far.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.nodes = [os.urandom(8) for _ in range(48)]
        self.users = [os.urandom(16) for _ in range(2000)]
        self.count = 0
        self._open_at = 0
        self._inboxes = {node: Inbox(redis, node) for node in self.nodes}
        self._operations: list[Callable[[random.Random], Awaitable[Any]]] = [
            lambda chance: locate(redis, chance.sample(self.users, 4)),
            lambda chance: publish(redis, [(node, b"entry") for node in chance.sample(self.nodes, 2)]),
            lambda chance: publish(redis, [(chance.choice(self.nodes), b"entry")]),
            lambda chance: enter(redis, chance.choice(self.nodes), chance.sample(self.users, 2)),
            lambda chance: leave(redis, chance.choice(self.nodes), chance.sample(self.users, 2)),
            lambda chance: enter_watchers(redis, chance.choice(self.nodes), chance.sample(self.users, 2)),
            lambda chance: take_token(redis, f"rate:{chance.random()}", interval_s=60.0, slack_s=60.0),
            lambda chance: admit_guess(redis, f"guesses:{chance.random()}", RESTS),
            lambda chance: forget_guesses(redis, f"guesses:{chance.random()}"),
            lambda chance: note_trace(redis, chance.sample(self.users, 3), bytes(16), 1, bytes(24)),
            lambda chance: trace_of(redis, chance.choice(self.users)),
        ]

    async def open(self) -> None:
        for node, inbox in self._inboxes.items():
            await inbox.open()
            await beat(self._redis, node, inbox.position)

    async def run(self, seed: int, operations: int) -> None:
        chance = random.Random(seed)
        for _ in range(operations):
            if self.count >= self._open_at:
                self._open_at += 2000
                await self.open()
            self.count += 1
            await chance.choice(self._operations)(chance)


def commands_of(url: str) -> dict[int, int]:
    """The commands that each master has carried out since the last reset, by its port."""
    import redis

    found = {}
    for host, port in masters_of(url):
        with redis.Redis(host, port) as client:
            statistics = client.info("commandstats")
        # Commands within a script count as well as the script.
        found[port] = sum(each["calls"] for each in statistics.values())
    return found


def reset_statistics(url: str) -> None:
    import redis

    for host, port in masters_of(url):
        with redis.Redis(host, port) as client:
            client.config_resetstat()


async def test_three_servers_have_a_third_of_the_commands_each_and_none_crosses_slots(servers: RedisServers) -> None:
    flush_redis(servers.url)
    async with running(servers.url) as redis:
        everything = Everything(redis)
        await everything.open()
        reset_statistics(servers.url)
        async with trio.open_nursery() as nursery:
            for seed in range(AT_ONCE):
                nursery.start_soon(everything.run, seed, OPERATIONS // AT_ONCE)
        found = commands_of(servers.url)
        assert everything.count == OPERATIONS
        assert len(found) == 3
        for count in found.values():
            assert 0.85 / 3 <= count / sum(found.values()) <= 1.15 / 3, found
        for reply in (await redis.ask_each("INFO", "errorstats")).values():
            assert b"CROSSSLOT" not in reply


class Load:
    """Entries for one node, and users who come and are looked up, without end.

    :ivar sent: entries that were written.
    :ivar got: entries that the node has read.
    """

    def __init__(self, redis: Redis, node: bytes, users: list[bytes]) -> None:
        self._redis = redis
        self._node = node
        self._users = users
        self.inbox = Inbox(redis, node)
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.is_over = False

    async def write(self) -> None:
        while not self.is_over:
            entry = b"%d" % len(self.sent)
            assert await publish(self._redis, [(self._node, entry)]) == []
            self.sent.append(entry)

    async def look_up(self) -> None:
        while not self.is_over:
            assert await enter(self._redis, self._node, self._users) == {}
            assert await locate(self._redis, self._users) == [(self._node,)] * len(self._users)

    async def beat(self) -> None:
        while not self.is_over:
            found = await beat(self._redis, self._node, self.inbox.position)
            assert (found.silent, found.new_on) == (frozenset(), frozenset())
            assert found.first is not None

    async def read(self) -> None:
        async def keep(entries: list[bytes]) -> None:
            self.got += entries

        while True:
            try:
                await self.inbox.follow(keep)
            except Unavailable:  # as a node, which follows again
                await trio.lowlevel.checkpoint()


async def test_a_slot_that_moves_under_load_loses_and_repeats_nothing(cluster: RedisCluster) -> None:
    """Keys move one by one: commands for those that have moved are sent after them, before and after the slot has."""
    async with running(cluster.url) as redis, trio.open_nursery() as nursery:
        node = next(node for node in (os.urandom(8) for _ in range(1000)) if redis.bus_of(node) == 5)
        users = [user for user in (os.urandom(16) for _ in range(1000)) if redis.bus_of(user) == 5][:20]
        load = Load(redis, node, users)
        await load.inbox.open()
        await beat(redis, node, load.inbox.position)
        for part in (load.read, load.write, load.look_up, load.beat):
            nursery.start_soon(part)

        async def go_on() -> None:
            goal = len(load.sent) + 200
            await wait_until(lambda: len(load.sent) >= goal, "writing goes on")

        await go_on()
        moving = MovingSlot(cluster, TAGS[5])
        await trio.to_thread.run_sync(moving.begin)
        await go_on()
        while await trio.to_thread.run_sync(moving.move_key):
            await trio.lowlevel.checkpoint()
        await go_on()
        await trio.to_thread.run_sync(moving.end)
        await go_on()
        load.is_over = True
        await wait_until(lambda: load.got == load.sent, "each entry is read once, in order", timeout_s=DEADLINE_S)
        nursery.cancel_scope.cancel()


async def test_a_replica_takes_the_place_of_a_master_that_is_killed(cluster: RedisCluster) -> None:
    async with running(cluster.url) as redis:
        everything = Everything(redis)
        await everything.open()
        killed = cluster.masters()[0]
        lost = {bus for bus in range(redis.buses) if redis.where_of(bus).endswith(f":{killed.port}")}
        assert isinstance(killed, ClusterServer)
        before = {bus: redis.epoch(bus) for bus in range(redis.buses)}
        await trio.to_thread.run_sync(killed.kill)
        await wait_until(lambda: redis.moves >= len(lost), "the replica has the buses", timeout_s=DEADLINE_S)
        await wait_until(lambda: redis.is_connected, "it is connected", timeout_s=DEADLINE_S)
        await everything.run(1, 500)
        for bus in range(redis.buses):
            assert (redis.epoch(bus) != before[bus]) == (bus in lost), "a node rebuilds what may have been lost"
