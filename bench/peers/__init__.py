"""The peers: servers that the benchmarks compare ours with, written for it (README.md in this folder).

They share the tables of `schema.sql`. Those in Node need `node/node_modules`, the one in Python the packages of
`locks/peers.txt`; `make peers` and `make bench` install both.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg

from bench.databases import Shared
from bench.processes import LOOPBACK, accepts, free_port, running
from bench.servers import Endpoint, Server
from bench.workload import Chat, ChatParticipant

SOURCES: Final = Path(__file__).parent
NODE: Final = SOURCES / "node"
SCHEMA: Final = SOURCES / "schema.sql"

PYTHON_PACKAGES: Final = ("socketio", "uvicorn", "uvloop", "websockets", "asyncpg", "orjson")


def node_lacks() -> str | None:
    """Why no program of `node/` can run here; None if they can."""
    if shutil.which("node") is None:
        return "node not found"
    return None if (NODE / "node_modules").is_dir() else "no packages: make peers installs them"


def python_lacks() -> str | None:
    """Why the server in Python cannot run here; None if it can."""
    return None if all(map(find_spec, PYTHON_PACKAGES)) else "no packages: make peers installs them"


@dataclass(frozen=True)
class _Kind:
    """One kind of peer.

    :ivar protocol: name of the adapter.
    :ivar lacks: why it cannot run here, or None.
    :ivar is_cluster: whether several processes of it serve the same users.
    """

    protocol: str
    command: tuple[str, ...]
    lacks: Callable[[], str | None]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_cluster: bool = False


PEERS: Final[dict[str, _Kind]] = {
    "sio-redis": _Kind("sio", ("node", str(NODE / "plan" / "server.mjs")), node_lacks, is_cluster=True),
    "ws": _Kind("ws", ("node", str(NODE / "lean.mjs")), node_lacks),
    "wsbatch": _Kind("ws", ("node", str(NODE / "lean.mjs")), node_lacks, {"BATCH": "1"}),
    "pysocketio": _Kind("sio", (sys.executable, str(SOURCES / "python" / "server.py")), python_lacks),
}
"""The plan; the lean peer; the lean peer with waiting sends in one INSERT; python-socketio."""

CLUSTERS: Final = tuple(name for name, kind in PEERS.items() if kind.is_cluster)
"""The peers whose processes serve the same users."""


def lacks(name: str) -> str | None:
    """Why this peer cannot run here; None if it can."""
    return PEERS[name].lacks()


class Peer(Server):
    """Processes of one kind, on the peers' schema."""

    def __init__(self, name: str, shared: Shared, folder: Path) -> None:
        self._kind = PEERS[name]
        super().__init__(name, self._kind.protocol, shared, folder)

    def prepare(self, sizes: Sequence[int]) -> list[Chat]:
        made = list(make_chats(sizes))
        with psycopg.connect(self.shared.create_database(self.database)) as connection:
            connection.execute(SCHEMA.read_bytes())
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
            self._kind.command,
            folder=SOURCES,
            environment=environment,
            log=self.log,
            is_ready=lambda: accepts(port),
        ) as pid:
            yield pid


def _id(kind: int, number: int) -> str:
    """A UUID of version 4's form, as the service before ours had them."""
    return str(UUID(int=(kind << 96) | (0x4000 << 64) | (0x8000 << 48) | number))


def make_chats(sizes: Sequence[int]) -> Iterator[Chat]:
    users = count(1)
    for number, size in enumerate(sizes, 1):
        yield Chat(_id(1, number), tuple(ChatParticipant(_id(0, next(users))) for _ in range(size)))


def _insert(connection: psycopg.Connection, chats: list[Chat]) -> None:
    users = [(participant.user, f"user{participant.user[-8:]}") for chat in chats for participant in chat.participants]
    rows = [(chat.conversation, participant.user) for chat in chats for participant in chat.participants]
    conversations = [(chat.conversation, chat.kind) for chat in chats]
    pairs = [chat.participants for chat in chats if chat.kind == "direct"]
    contacts = [(one.user, other.user) for pair in pairs for one, other in (pair, pair[::-1])]
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO users (id, username) VALUES (%s, %s)", users)
        cursor.executemany("INSERT INTO conversations (id, type) VALUES (%s, %s)", conversations)
        cursor.executemany("INSERT INTO conversation_participants (conversation_id, user_id) VALUES (%s, %s)", rows)
        cursor.executemany("INSERT INTO contacts (user_id, contact_user_id) VALUES (%s, %s)", contacts)
