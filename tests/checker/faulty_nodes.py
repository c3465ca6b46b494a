"""Gateways that die, stop and lose answers of Postgres, and a Redis that forgets everything: the faults of a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import trio

from store.postgres.pool import Pool
from tests.checker.plan import NODES, Kind, Step
from tests.faults import flush_redis
from tests.pg_proxy import Proxy, serve_proxy
from tests.processes import Cluster
from tests.system.many_nodes import Node, start_node
from tests.waiting import let_pass

EXIT_S: Final = 25.0
"""A process must end this soon after it is told to stop (P10)."""

FAULTS: Final = frozenset((Kind.KILL, Kind.STOP, Kind.FLUSH, Kind.UNKNOWN))
"""The kinds of steps that `take` takes."""


class FaultyNodes:
    """The nodes of a run, and the process that serves HTTP, each with a connection to Postgres that may lose answers.

    :param note: told of each fault.
    """

    def __init__(
        self, pool: Pool, cluster: Cluster, redis_url: str, nursery: trio.Nursery, note: Callable[[str], None]
    ) -> None:
        self._pool = pool
        self._cluster = cluster
        self._redis_url = redis_url
        self._nursery = nursery
        self._note = note
        self._nodes: list[Node] = []
        self._up: list[bool] = [True] * NODES
        self._proxies: list[Proxy] = []
        """Proxies to Postgres: one for each node, and one for the process that serves HTTP."""

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self._nodes]

    async def begin(self) -> None:
        """Start all processes."""
        for _ in range(NODES + 1):
            self._proxies.append(await self._nursery.start(serve_proxy, urlsplit(self._pool.url).port))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._start_web)
            nursery.start_soon(self._start_nodes)

    async def act(self, plan: Sequence[Step]) -> None:
        """Take the faults of a plan at their times, and nothing else."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for step in plan:
                if step.kind in FAULTS:
                    await trio.sleep_until(began + step.at_s)
                    nursery.start_soon(self.take, step)

    async def take(self, step: Step) -> None:
        """Cause a fault; one that is impossible now (the node is down already) does nothing."""
        match step.kind:
            case Kind.KILL:
                await self._kill(step)
            case Kind.STOP:
                await self._stop(step)
            case Kind.FLUSH:
                self._note("Redis is flushed")
                await trio.to_thread.run_sync(flush_redis, self._redis_url)
            case _:
                self._lose_answers(step)

    def faults_logged(self) -> list[str]:
        """The lines of level error or critical in the nodes' logs."""
        lines = [line for node in self._nodes for line in node.process.log]
        return [str(line) for line in lines if line.get("level") in ("error", "critical")]

    async def _kill(self, step: Step) -> None:
        number = step.place % NODES
        if self._up[number]:
            self._up[number] = False
            self._note(f"node{number} is killed")
            self._nodes[number].process.kill()
            await self._nodes[number].process.wait()
            await let_pass(step.pick, why="the node is down")
            await self._start_again(number)

    async def _stop(self, step: Step) -> None:
        number = step.place % NODES
        if self._up[number]:
            self._up[number] = False
            self._note(f"node{number} is told to stop")
            status = await self._nodes[number].process.stop(timeout_s=EXIT_S)
            assert status == 0, f"node{number} ended with {status}"
            await self._start_again(number)

    async def _start_again(self, number: int) -> None:
        self._nodes[number] = await self._start_node(number, port=self._nodes[number].port)
        self._note(f"node{number} is up again")
        self._up[number] = True

    def _lose_answers(self, step: Step) -> None:
        """Each connection of a process to Postgres loses its next answer: the process gets an unknown outcome."""
        number = step.place % len(self._proxies)
        self._note(f"{'the web process' if number == NODES else f'node{number}'} loses what Postgres answers")
        self._proxies[number].lose_answers()

    async def _start_web(self) -> None:
        await self._cluster.start_web(DATABASE_URL=self._proxies[NODES].url(self._pool.url))

    async def _start_node(self, number: int, *, port: int = 0) -> Node:
        settings = {"DATABASE_URL": self._proxies[number].url(self._pool.url)}
        return await start_node(self._cluster, port=port, module="tests.checker.quick_node", **settings)

    async def _start_nodes(self) -> None:
        nodes: dict[int, Node] = {}

        async def start(number: int) -> None:
            nodes[number] = await self._start_node(number)

        async with trio.open_nursery() as nursery:
            for number in range(NODES):
                nursery.start_soon(start, number)
        self._nodes = [nodes[number] for number in range(NODES)]
