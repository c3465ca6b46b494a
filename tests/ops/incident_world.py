"""A whole installation under load, watched by Prometheus, to which tests do harm."""

from __future__ import annotations

import itertools
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import httpx
import pytest
import trio
import trustme

from client.http import Credentials
from client.session import open_session
from embedded.ports import free_port
from store.postgres.pool import Pool
from tests.exporters import SmallDisk, running_blackbox, small_disk
from tests.haproxy_server import running_haproxy
from tests.people import new_group, new_user
from tests.pg_proxy import Proxy, open_proxy
from tests.processes import open_cluster
from tests.prometheus_server import Prometheus, Scraped, running_prometheus
from tests.proxies import Servers, new_certificate
from tests.server.cli.shell_world import Shell
from tests.system.instances import READY_S, Instances
from tests.system.many_nodes import talking
from tests.waiting import let_pass

COUNTS: Final = {"web": 1, "socket": 2, "worker": 1}
TALKERS: Final = 3
READERS: Final = 2
PACE_S: Final = 0.3
TICK_S: Final = 0.05
COMMAND_S: Final = 120.0
"""The doctor asks Postgres some thirty times, also while each answer takes half a second."""


class FrontProxy:
    """The given HAProxy with TLS, which can be restarted with another certificate. Start `run` in a nursery."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self._folder = folder
        self._servers = servers
        self._authority = trustme.CA()
        self._certificate = new_certificate(folder, authority=self._authority)
        self._port = free_port()
        self._is_up = trio.Event()
        self._is_due = trio.Event()

    @property
    def authority(self) -> Path:
        """The file of the authority that clients have to trust."""
        return self._certificate.authority

    @property
    def url(self) -> str:
        return f"https://localhost:{self._port}"

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        while True:
            async with running_haproxy(self._folder, self._servers, self._certificate, port=self._port):
                self._is_up.set()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await self._is_due.wait()
            self._is_due = trio.Event()

    async def restart(self, name: str = "localhost", *, ends: datetime | None = None) -> None:
        """Restart it with a certificate for this name."""
        self._certificate = new_certificate(self._folder, name, authority=self._authority, ends=ends)
        self._is_up = trio.Event()
        self._is_due.set()
        await self._is_up.wait()


class HttpReaders:
    """Clients that read lists and histories over HTTP.

    :ivar outcomes: statuses, and errors by name, since the last call of `forget`.
    """

    def __init__(self, url: str, user: Credentials, conversation: bytes) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {user.token}"}
        self._paths = ("/v1/conversations", f"/v1/conversations/{UUID(bytes=conversation)}/messages")
        self.outcomes: Counter[int | str] = Counter()

    def forget(self) -> None:
        self.outcomes.clear()

    async def run(self) -> None:
        context = ssl.create_default_context()  # trusts SSL_CERT_FILE
        async with trio.open_nursery() as nursery:
            for number in range(READERS):
                nursery.start_soon(self._read, context, number)

    async def _read(self, context: ssl.SSLContext, number: int) -> None:
        async with httpx.AsyncClient(
            base_url=self._url, http2=True, verify=context, timeout=20, headers=self._headers
        ) as client:
            for turn in itertools.count(number):
                try:
                    outcome: int | str = (await client.get(self._paths[turn % 2])).status_code
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                self.outcomes[outcome] += 1
                await let_pass(PACE_S, why="the pace of a reader")


class LatenessWatch:
    """How late this process has its turns: on a busy machine the processes of the installation are as late."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    async def run(self) -> None:
        while True:
            due = trio.current_time() + TICK_S
            await trio.sleep_until(due)
            self._late.append((due, trio.current_time() - due))

    def p99_s(self, since: float) -> float:
        """
        :param since: by Trio's clock.
        """
        late = sorted(late for at, late in self._late if at >= since)
        return late[len(late) * 99 // 100] if late else 0.0


@dataclass(frozen=True)
class Installation:
    """
    :ivar pool: of the test, which no fault holds up.
    :ivar way: between the processes and Postgres.
    :ivar shell: of an operator, with the environment of the processes.
    """

    pool: Pool
    way: Proxy
    redis_url: str
    instances: Instances
    front: FrontProxy
    disk: SmallDisk
    prometheus: Prometheus
    readers: HttpReaders
    lateness: LatenessWatch
    shell: Shell


@asynccontextmanager
async def open_installation(
    pool: Pool, redis_url: str, folder: Path, factor: float
) -> AsyncGenerator[Installation, None]:
    """Processes behind the given HAProxy, with users who chat and read, and a Prometheus whose clock is faster by the
    factor. In the end nothing acknowledged is lost, repeated or reordered.
    """
    people = [await new_user(pool, f"user{number}") for number in range(TALKERS)]
    group = await new_group(pool, *people)
    postgres_port = int(pool.url.rpartition("/")[0].rpartition(":")[2])
    async with AsyncExitStack() as stack:
        way = await stack.enter_async_context(open_proxy(postgres_port))
        disk = await stack.enter_async_context(small_disk(folder / "disk"))
        settings = {"TRUSTED_PROXIES": "127.0.0.1", "OBJECT_STORE_URL": f"file://{disk.path}/files"}
        cluster = await stack.enter_async_context(open_cluster(way.url(pool.url), redis_url, **settings))
        instances = Instances(cluster)
        servers = _addresses(instances.address)
        del servers["worker"]
        front = FrontProxy(folder, servers)
        instances.settings["PUBLIC_URL"] = front.url
        await _start_all(instances)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("SSL_CERT_FILE", str(front.authority))
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        await nursery.start(front.run)
        blackbox = await stack.enter_async_context(running_blackbox(folder, front.authority, factor))
        prometheus = await stack.enter_async_context(
            running_prometheus(folder, _scraped(instances, disk, front, blackbox), factor, node=_only(disk))
        )
        readers, lateness = HttpReaders(front.url, people[0], group), LatenessWatch()
        environment = {**cluster.environment, **instances.settings, "SSL_CERT_FILE": str(front.authority)}
        shell = Shell(**environment)
        shell.patience_s = COMMAND_S
        async with _chatting(front.url, pool, group, people):
            nursery.start_soon(readers.run)
            nursery.start_soon(lateness.run)
            yield Installation(pool, way, redis_url, instances, front, disk, prometheus, readers, lateness, shell)


async def _start_all(instances: Instances) -> None:
    async with trio.open_nursery() as nursery:
        for kind, count in COUNTS.items():
            for instance in range(1, count + 1):
                nursery.start_soon(instances.start, kind, instance)


@asynccontextmanager
async def _chatting(
    url: str, pool: Pool, conversation: bytes, people: Sequence[Credentials]
) -> AsyncGenerator[None, None]:
    async with AsyncExitStack() as stack:
        socket_url = url.replace("https:", "wss:")
        sessions = [await stack.enter_async_context(open_session([socket_url], person)) for person in people]
        with trio.fail_after(READY_S):
            for session in sessions:
                await session.wait_caught_up()
        async with talking(conversation, sessions, pace_s=PACE_S) as senders:
            yield
        await senders.verify(pool, sessions)


def _scraped(instances: Instances, disk: SmallDisk, front: FrontProxy, blackbox: str) -> Scraped:
    processes = _addresses(lambda kind, instance: f"127.0.0.1:{instances.operator_port(kind, instance)}")
    return Scraped(processes, disk.exporter, f"{front.url}/readyz", blackbox)


def _addresses(address: Callable[[str, int], str]) -> dict[str, list[str]]:
    """Those of all processes, by kind."""
    return {kind: [address(kind, instance) for instance in range(1, count + 1)] for kind, count in COUNTS.items()}


def _only(disk: SmallDisk) -> dict[str, object]:
    """Of all disks of this machine, only the small one; it counts as one that is not in memory."""
    is_small = {"source_labels": ["mountpoint"], "regex": disk.mountpoint, "action": "keep"}
    return {"metric_relabel_configs": [is_small, {"target_label": "fstype", "replacement": "ext4"}]}
