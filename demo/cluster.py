"""A web process and two gateways, with their own Postgres, Redis and object store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.ports import answers, free_port
from embedded.process import wait_until
from embedded.services import services

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Cluster:
    """The running processes and their URLs.

    :ivar database_url: of their Postgres.
    :ivar gateways: the two `socket` processes, in the order of `socket_urls`.
    """

    http_url: str
    database_url: str
    socket_urls: tuple[str, str]
    gateways: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]


@contextmanager
def open_cluster(folder: Path, **settings: str) -> Iterator[Cluster]:
    """All processes while a block runs; logs and data are below `folder`.

    :param settings: variables of the environment of all of them.
    :raises EmbeddedError: if Postgres or Redis does not start.
    :raises TimeoutError: if another process does not start.
    """
    with ExitStack() as stack:
        running = stack.enter_context(services(folder, durable=True, has_password=True))
        urls_of_services = {"DATABASE_URL": running.postgres.url, "REDIS_URL": running.redis.url}
        # Both gateways would listen on the same port for operators.
        environment = {**os.environ, **urls_of_services, "METRICS_PORT": "0", **settings}

        def start(name: str, *command: str, **own: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen([sys.executable, "-m", *command], stderr=log, env={**environment, **own})
            stack.callback(_stop, process)
            return process

        if start("release", "store", "migrate").wait(START_TIMEOUT_S):
            raise TimeoutError(f"the migrations failed: see {folder / 'release.log'}")
        http_port, first, second = free_port(), free_port(), free_port()
        http_url = f"http://127.0.0.1:{http_port}"
        environment["OBJECT_STORE_URL"] = (folder / "objects").resolve().as_uri()
        environment["PUBLIC_FILES_URL"] = http_url
        start("web", "server", "web", PORT=str(http_port))
        gateways = (
            start("node-1", "server", "socket", SOCKET_PORT=str(first)),
            start("node-2", "server", "socket", SOCKET_PORT=str(second)),
        )
        if not wait_until(lambda: all(map(answers, (http_port, first, second))), START_TIMEOUT_S):
            raise TimeoutError(f"a process did not start within {START_TIMEOUT_S:g} s: see the logs in {folder}")
        urls = (f"ws://127.0.0.1:{first}", f"ws://127.0.0.1:{second}")
        yield Cluster(http_url, running.postgres.url, urls, gateways)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
