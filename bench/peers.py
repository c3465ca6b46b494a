"""The peers: servers in Node, built from a folder that the user names.

The folder holds `socketio/` (the plan: NestJS and Socket.IO), `ws/` (lean JSON) and `db/schema.sql`; for `bench.queue`
`bullmq/`. It may be read-only, since the build works on a copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg

from bench.databases import Shared
from bench.processes import LOOPBACK, free_port, run, running
from bench.servers import Endpoint, Server
from bench.workload import Chat, ChatParticipant

_INSTALL: Final = ["npm", "install", "--no-audit", "--no-fund"]
_BUILDS: Final[Mapping[str, Sequence[list[str]]]] = {
    "socketio": (_INSTALL, ["npm", "run", "build"]),
    "ws": (_INSTALL,),
}


@dataclass(frozen=True)
class _Kind:
    protocol: str
    part: str
    program: str
    environment: Mapping[str, str]


PEERS: Final[dict[str, _Kind]] = {
    "sio-redis": _Kind("sio", "socketio", "dist/main.js", {"ADAPTER": "redis"}),
    "ws": _Kind("ws", "ws", "server.mjs", {}),
    "wsbatch": _Kind("ws", "ws", "server.mjs", {"BATCH": "1"}),
}
"""The plan; the lean peer; the lean peer with waiting sends in one INSERT."""


def missing(folder: Path | None, parts: Sequence[str] = (*_BUILDS, "db")) -> str | None:
    """Why the peers cannot be built; None if they can.

    :param parts: subfolders that the folder must hold.
    """
    if folder is None:
        return "no folder of peers is given"
    if absent := [name for name in parts if not (folder / name).is_dir()]:
        return f"{folder} has no {' and no '.join(absent)}"
    if absent := [name for name in ("node", "npm") if shutil.which(name) is None]:
        return f"{' and '.join(absent)} not found"
    return None


def build_bullmq(source: Path, copy: Path) -> None:
    """Build BullMQ alone, as `build` does.

    :param source: the folder of the peers.
    """
    build(source / "bullmq", copy, {".": (_INSTALL,)})


def build(source: Path, copy: Path, builds: Mapping[str, Sequence[list[str]]] = _BUILDS) -> None:
    """Copy the peers and install their dependencies; later calls do nothing unless the sources have changed.

    :param builds: commands by part.
    :raises ServerError: if npm fails.
    """
    changed = _sources(source) != _sources(copy) if copy.exists() else True
    if not changed and (copy / "built").exists():
        return
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
    for part, commands in builds.items():
        for command in commands:
            run(command, folder=copy / part, environment={}, log=copy / "build.log")
    (copy / "built").touch()


class Peer(Server):
    """A Node process on the peers' schema."""

    def __init__(self, name: str, shared: Shared, folder: Path, copy: Path) -> None:
        self._kind = PEERS[name]
        super().__init__(name, self._kind.protocol, shared, folder)
        self._copy = copy

    def prepare(self, sizes: Sequence[int]) -> list[Chat]:
        made = list(make_chats(sizes))
        with psycopg.connect(self.shared.create_database(self.database)) as connection:
            connection.execute((self._copy / "db" / "schema.sql").read_bytes())
            _insert(connection, made)
        return made

    @contextmanager
    def started(self, nodes: int = 1) -> Iterator[Endpoint]:
        self.log.unlink(missing_ok=True)
        with ExitStack() as stack:
            ports = [free_port() for _ in range(nodes)]
            pids = [stack.enter_context(self._process(port)) for port in ports]
            yield Endpoint(",".join(f"ws://{LOOPBACK}:{port}" for port in ports), {"server": pids}, ports[0])

    @contextmanager
    def _process(self, port: int) -> Iterator[int]:
        """Run a process that listens on the port; yields its id."""
        environment = {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.shared.redis_url,
            "PORT": str(port),
            "NODE_ENV": "production",
            **self._kind.environment,
        }
        with running(
            ["node", self._kind.program],
            folder=self._copy / self._kind.part,
            environment=environment,
            log=self.log,
            is_ready=lambda: f"peer on {port}" in self.log.read_text(),
        ) as pid:
            yield pid


def _sources(folder: Path) -> dict[str, bytes]:
    """The contents of the source files, by path."""
    wanted = ("db/*.sql", "package.json", "*.mjs", "*/package.json", "*/tsconfig.json", "*/*.mjs", "*/src/*")
    files = sorted(path for pattern in wanted for path in folder.glob(pattern) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _id(kind: int, number: int) -> str:
    """A UUID of version 4's form, which the peers insist on."""
    return str(UUID(int=(kind << 96) | (0x4000 << 64) | (0x8000 << 48) | number))


def make_chats(sizes: Sequence[int]) -> Iterator[Chat]:
    users = count(1)
    for number, size in enumerate(sizes, 1):
        yield Chat(_id(1, number), tuple(ChatParticipant(_id(0, next(users))) for _ in range(size)))


def _insert(connection: psycopg.Connection, chats: list[Chat]) -> None:
    users = [(participant.user, f"user{participant.user[-4:]}") for chat in chats for participant in chat.participants]
    rows = [(chat.conversation, participant.user) for chat in chats for participant in chat.participants]
    conversations = [(chat.conversation, chat.kind) for chat in chats]
    pairs = [chat.participants for chat in chats if chat.kind == "direct"]
    contacts = [(one.user, other.user) for pair in pairs for one, other in (pair, pair[::-1])]
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO users (id, username) VALUES (%s, %s)", users)
        cursor.executemany("INSERT INTO conversations (id, type) VALUES (%s, %s)", conversations)
        cursor.executemany("INSERT INTO conversation_participants (conversation_id, user_id) VALUES (%s, %s)", rows)
        cursor.executemany("INSERT INTO contacts (user_id, contact_user_id) VALUES (%s, %s)", contacts)
