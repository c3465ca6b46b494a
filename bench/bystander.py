"""A participant whose latencies are not measured: it reads all that comes, or stops reading after the welcome."""

from __future__ import annotations

import select
import threading
import time
from contextlib import AbstractContextManager
from typing import Final

from bench.adapters import ADAPTERS
from bench.connection import LoadConnection
from bench.threads import in_thread
from bench.websocket import ServerFault
from bench.workload import Chat, ChatParticipant, body

SEGMENT_BYTES: Final = 1400
"""The segment size of a mobile network. The kernel sizes a send buffer by it: with loopback's 64 KiB segments, the
buffer would take 4 MB before the gateway noticed that the client does not read."""

_LOOK_S: Final = 0.5

_POLL_S: Final = 0.1
_ESTABLISHED: Final = "01"
_LOCAL, _REMOTE, _STATE = 1, 2, 3
"""Fields of /proc/net/tcp."""


class Bystander:
    """One connection, in a thread of its own. Implements `connection.Reports`.

    When the server cuts a stuck bystander, it comes back and sticks again, so that the group always has a stuck
    participant.

    :ivar cuts: seconds from the end of its reading until the server cut it, each time.
    :ivar error: why the bystander gave up, if it did.
    """

    def __init__(self, url: str, participant: ChatParticipant, *, is_stuck: bool) -> None:
        self._url, self._participant, self._is_stuck = url, participant, is_stuck
        self._is_welcome = threading.Event()
        self._is_over = threading.Event()
        self.cuts: list[float] = []
        self.error: str | None = None

    def present(self) -> AbstractContextManager[None]:
        """Keep the bystander connected while the block runs."""
        return in_thread(self._run, begun=self._is_welcome, end=self._is_over.set)

    def acked(self, connection: LoadConnection, chat: Chat, stamp: float) -> None: ...
    def passed(self, connection: LoadConnection, messages: int) -> None: ...
    def delivered(self, connection: LoadConnection, stamp: float) -> None: ...

    def failed(self, why: str) -> None:
        self.error = why

    def _run(self) -> None:
        try:
            while not self._is_over.is_set() and self.error is None:
                self._connect_once()
        except (OSError, ServerFault) as error:
            self.error = str(error)
        finally:
            self._is_welcome.set()

    def _connect_once(self) -> None:
        with select.epoll() as epoll:
            make = ADAPTERS["alo"]
            connection = LoadConnection(
                self._url,
                epoll,
                self,
                lambda events: make(events, self._participant, body(0)),
                segment_bytes=SEGMENT_BYTES,
            )
            while not connection.is_open and not self._is_over.is_set():
                for _, events in epoll.poll(_POLL_S):
                    if not connection.ready(events):
                        return
            self._is_welcome.set()
            if self._is_stuck:
                self._stick(connection, epoll)
            else:
                while not self._is_over.is_set():
                    for _, events in epoll.poll(_POLL_S):
                        if not connection.ready(events):
                            return
            connection.close()

    def _stick(self, connection: LoadConnection, epoll: select.epoll) -> None:
        epoll.modify(connection, 0)
        since = time.monotonic()
        while not self._is_over.wait(_LOOK_S):
            if not has_peer(*connection.ports):
                self.cuts.append(round(time.monotonic() - since, 1))
                return


def has_peer(port: int, peer: int) -> bool:
    """Whether the other end, at the port `peer`, of a connection on this machine from `port` has not closed it.

    A full connection cannot tell that itself: the end of the stream waits behind all bytes that are not read.
    """
    with open("/proc/net/tcp") as connections:
        return any(
            fields[_LOCAL].endswith(f":{peer:04X}")
            and fields[_REMOTE].endswith(f":{port:04X}")
            and fields[_STATE] == _ESTABLISHED
            for fields in map(str.split, connections)
        )
