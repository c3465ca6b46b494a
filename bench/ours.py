"""Our own server: the processes of a small deployment, and accounts made over its HTTP interface."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.databases import Shared
from bench.processes import LOOPBACK, accepts, free_port, run, running
from bench.servers import Endpoint, Server
from bench.workload import Chat, Member

_REPOSITORY = Path(__file__).parent.parent
_PASSWORD = "correct horse battery staple"


class Ours(Server):
    """One gateway (`server`, what clients are connected to), one web process and one worker."""

    def __init__(self, shared: Shared, folder: Path) -> None:
        super().__init__("alo", "alo", shared, folder)

    def prepare(self, chats: int) -> list[Chat]:
        for log in self.folder.glob(f"{self.name}*.log"):
            log.unlink()
        self.shared.create_database(self.database)
        run(
            [sys.executable, "-m", "store", "migrate"],
            folder=_REPOSITORY,
            environment=self._environment(),
            log=self.log,
        )
        with self._process("web", ["server", "web"], "PORT") as (_, port):
            return _make_chats(port, chats)

    @contextmanager
    def started(self) -> Iterator[Endpoint]:
        with ExitStack() as stack:
            gateway, port = stack.enter_context(self._process("socket", ["server", "socket"], "SOCKET_PORT"))
            web, _ = stack.enter_context(self._process("web", ["server", "web"], "PORT"))
            worker = stack.enter_context(
                running(
                    [sys.executable, "-m", "jobs"],
                    folder=_REPOSITORY,
                    environment=self._environment(),
                    log=self.log,
                    is_ready=lambda: True,
                )
            )
            yield Endpoint(f"ws://{LOOPBACK}:{port}", {"server": [gateway], "web": [web], "worker": [worker]})

    def _environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.database_url, "REDIS_URL": self.shared.redis_url}

    @contextmanager
    def _process(self, name: str, module: list[str], variable: str) -> Iterator[tuple[int, int]]:
        """A process that listens; yields its id and its port."""
        port = free_port()
        with running(
            [sys.executable, "-m", *module],
            folder=_REPOSITORY,
            environment={**self._environment(), variable: str(port)},
            log=self.log.with_suffix(f".{name}.log"),
            is_ready=lambda: accepts(port),
        ) as pid:
            yield pid, port


def _make_chats(port: int, count: int) -> list[Chat]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    try:
        members = [_member(connection, f"user{number}") for number in range(2 * count)]
        return [_chat(connection, *pair) for pair in zip(members[::2], members[1::2], strict=True)]
    finally:
        connection.close()


def _member(connection: http.client.HTTPConnection, username: str) -> Member:
    credentials = {"username": username, "password": _PASSWORD}
    _post(connection, "/v1/users", credentials)
    device = _post(connection, "/v1/devices", {**credentials, "name": "bench"})
    return Member(device["user"], device["token"])


def _chat(connection: http.client.HTTPConnection, one: Member, other: Member) -> Chat:
    body = {"kind": "direct", "participants": [other.user]}
    made = _post(connection, "/v1/conversations", body, one.token)
    return Chat(made["conversation"], (one, other))


def _post(connection: http.client.HTTPConnection, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status not in (200, 201):
        raise ConnectionError(f"POST {path}: {response.status} {answer[:200]!r}")
    parsed: dict[str, Any] = json.loads(answer)
    return parsed
