"""Our own server: the processes of a small deployment, and accounts made in its store.

The accounts are not made over HTTP: each password would be hashed, which is slow by design, and there may be thousands
of users.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar
from uuid import UUID

import trio

from bench.databases import Shared
from bench.processes import LOOPBACK, accepts, free_port, run, running
from bench.servers import Endpoint, Server
from bench.workload import Chat, ChatParticipant
from store import accounts, contacts, conversations, devices
from store.postgres.pool import Pool

_REPOSITORY: Final = Path(__file__).parent.parent
NO_WAIT: Final = "?options=-csynchronous_commit%3Doff"
"""Appended to the URL of a database while it is filled: commits do not wait for the disk."""

AT_ONCE: Final = 8
"""Users or chats made concurrently while a database is filled."""

_T = TypeVar("_T")
_R = TypeVar("_R")


class Ours(Server):
    """Gateways (`server`, which clients are connected to), one web process and one worker.

    :param environment: variables of all processes, over the usual ones.
    """

    def __init__(self, shared: Shared, folder: Path, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__("alo", "alo", shared, folder)
        self._more = environment

    def prepare(self, sizes: Sequence[int]) -> list[Chat]:
        for log in self.folder.glob(f"{self.name}*.log"):
            log.unlink()
        self.shared.create_database(self.database)
        run(
            [sys.executable, "-m", "store", "migrate"],
            folder=_REPOSITORY,
            environment=self._environment(),
            log=self.log,
        )
        return trio.run(_make_chats, self.database_url + NO_WAIT, sizes)

    @contextmanager
    def started(self, nodes: int = 1) -> Iterator[Endpoint]:
        http_port = free_port()
        with self.gateways(nodes) as gateways, self.companions(http_port) as companions:
            url = ",".join(f"ws://{LOOPBACK}:{port}" for port in gateways)
            yield Endpoint(url, {"server": list(gateways.values()), **companions}, http_port)

    @contextmanager
    def gateways(self, count: int) -> Iterator[dict[int, int]]:
        """Run this number of gateways as one cluster; yields their process ids by port."""
        with ExitStack() as stack:
            ports = [free_port() for _ in range(count)]
            yield {port: stack.enter_context(self.gateway(port)) for port in ports}

    @contextmanager
    def companions(self, http_port: int) -> Iterator[dict[str, list[int]]]:
        """Run the web process, which listens on this port, and the worker; yields their process ids by role."""
        with (
            self.web(http_port) as web,
            running(
                [sys.executable, "-m", "jobs"],
                folder=_REPOSITORY,
                environment=self._environment(),
                log=self.log,
                is_ready=lambda: True,
            ) as worker,
        ):
            yield {"web": [web], "worker": [worker]}

    @contextmanager
    def gateway(
        self, port: int, *, wait: bool = True, environment: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[int]:
        """Run one gateway alone; yields its process id.

        :param wait: wait until the gateway listens and has looked for missed messages, a second after its start: what
            is sent before that, it pushes twice. Without it the block begins as soon as the process runs.
        :param environment: variables that differ from those of the other processes.
        """
        log = self._log_of("socket")
        before = _looks(log)
        with self._process(
            "socket",
            ["server", "socket"],
            {"SOCKET_PORT": str(port), **environment},
            is_ready=lambda: not wait or (accepts(port) and _looks(log) > before),
        ) as pid:
            yield pid

    @contextmanager
    def web(self, port: int) -> Iterator[int]:
        """Run the web process alone; yields its process id."""
        with self._process("web", ["server", "web"], {"PORT": str(port)}, is_ready=lambda: accepts(port)) as pid:
            yield pid

    def _environment(self) -> dict[str, str]:
        # All clients of a benchmark come from one address.
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.shared.redis_url,
            "MAX_ADDRESS_CONNECTIONS": "1000000",
            "RATE_LIMIT_FACTOR": "1000000",
            "METRICS_PORT": "0",
            **self._more,
        }

    @contextmanager
    def _process(
        self, name: str, module: list[str], environment: Mapping[str, str], *, is_ready: Callable[[], bool]
    ) -> Iterator[int]:
        """Run a process; yields its id."""
        with running(
            [sys.executable, "-m", *module],
            folder=_REPOSITORY,
            environment={**self._environment(), **environment},
            log=self._log_of(name),
            is_ready=is_ready,
        ) as pid:
            yield pid

    def _log_of(self, name: str) -> Path:
        return self.log.with_suffix(f".{name}.log")


def _looks(log: Path) -> int:
    """How often the gateways that write this log have looked for missed messages."""
    return log.read_bytes().count(b"caught_up") if log.exists() else 0


async def add_participant(pool: Pool, name: str) -> ChatParticipant:
    """Add a user with a device that is logged in."""
    user = await accounts.add_user(pool, name, "nobody logs in")
    _, token, _ = await devices.add_device(pool, user, "bench", lifetime_s=24 * 3600.0)
    return ChatParticipant(str(UUID(bytes=user)), token)


async def add_chat(pool: Pool, participants: Sequence[ChatParticipant]) -> Chat:
    """Add a conversation of these participants; two make a direct chat."""
    users = [UUID(participant.user).bytes for participant in participants]
    # The users become contacts: without that the chat would be a request, where the server reports no read marks.
    for user in users[1:]:
        for one, other in ((users[0], user), (user, users[0])):
            await contacts.add(pool, one, other)
    if len(users) == 2:
        conversation, _ = await conversations.add_direct(pool, *users)
    else:
        conversation = await conversations.add_group(pool, "Group", users, admin=users[0])
    return Chat(str(UUID(bytes=conversation)), tuple(participants))


async def map_some(make: Callable[[_T], Awaitable[_R]], items: Iterable[_T]) -> list[_R]:
    """The results of `make` for each item, in the items' order; up to `AT_ONCE` calls run concurrently."""
    made: dict[int, _R] = {}
    todo = enumerate(items)

    async def work() -> None:
        for number, item in todo:
            made[number] = await make(item)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)
    return [made[number] for number in sorted(made)]


async def _make_chats(database_url: str, sizes: Sequence[int]) -> list[Chat]:
    with closing(Pool(database_url, AT_ONCE)) as pool:
        participants = iter(await map_some(lambda number: add_participant(pool, f"user{number}"), range(sum(sizes))))
        return await map_some(
            lambda participants: add_chat(pool, participants), [tuple(islice(participants, size)) for size in sizes]
        )
