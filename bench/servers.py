"""What can be compared: a server, its data and the processes to start, behind one interface."""

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

    :ivar url: ws://HOST:PORT; of several nodes with commas between them.
    :ivar pids: process ids by role. `server` is what clients are connected to; other roles are reported beside it.
    """

    url: str
    pids: dict[str, list[int]] = field(default_factory=dict)


class Server(abc.ABC):
    """One contestant.

    :ivar name: in the figures.
    :ivar protocol: the adapter that speaks with it.
    """

    def __init__(self, name: str, protocol: str, shared: Shared, folder: Path) -> None:
        self.name = name
        self.protocol = protocol
        self.shared = shared
        self.folder = folder
        self.database_url = shared.database_url(self.database)

    @property
    def database(self) -> str:
        """Its own, so that no server's rows slow another one down."""
        return "bench_" + self.name.replace("-", "_")

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @abc.abstractmethod
    def prepare(self, sizes: Sequence[int]) -> list[Chat]:
        """Make the database with a chat for each size: so many users, who are in no other. Two are a direct chat."""

    @abc.abstractmethod
    def started(self, nodes: int = 1) -> AbstractContextManager[Endpoint]:
        """The server runs while the block does, in so many processes that clients are connected to."""
