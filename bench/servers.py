"""The interface of a server to compare: the server, its data and the processes to start."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench.databases import Shared
from bench.workload import Chat


@dataclass(frozen=True)
class Endpoint:
    """A server that runs.

    :ivar url: ws://HOST:PORT; several nodes are separated by commas.
    :ivar pids: process ids by role. Clients are connected to `server`; lines report other roles beside it.
    :ivar http_port: where it answers HTTP requests.
    """

    url: str
    pids: dict[str, list[int]] = field(default_factory=dict)
    http_port: int = 0


class Server(abc.ABC):
    """One contestant.

    :ivar name: name in the figures.
    :ivar protocol: name of the adapter for this server.
    """

    def __init__(self, name: str, protocol: str, shared: Shared, folder: Path) -> None:
        self.name = name
        self.protocol = protocol
        self.shared = shared
        self.folder = folder
        self.database_url = shared.database_url(self.database)

    @property
    def database(self) -> str:
        """Name of this server's own database, so that the rows of one server do not slow another server down."""
        return "bench_" + self.name.replace("-", "_")

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @abc.abstractmethod
    def prepare(self, sizes: Sequence[int]) -> list[Chat]:
        """Make the database with a chat for each size: that number of users, each in this chat only. Two users make a
        direct chat."""

    @abc.abstractmethod
    def started(self, nodes: int = 1) -> AbstractContextManager[Endpoint]:
        """Run the server while the block runs, with this number of processes for clients to connect to."""
