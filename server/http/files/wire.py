"""The connection of a request, as the service of files needs it; `server.http.hypercorn_seam` has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from server.http.exchange import Reply


class Wire(Protocol):
    """One request on a connection. Its task alone reads the socket until the answer is written.

    :ivar peer: the address of the connection's other end, or the one that its PROXY header names.
    :ivar descriptor: of the socket, which does not block.
    :ivar left: bytes of the request's body that were not taken yet; None: its length is unknown. If there are any when
        the answer is written, it is the last one of the connection.
    :ivar status: of the answer that was begun; None before that.
    :ivar body_bytes: of that answer.
    """

    peer: str
    descriptor: int
    left: int | None
    status: int | None
    body_bytes: int

    @property
    def is_body_held_back(self) -> bool:
        """Whether the client waits for 100 (Continue) before it sends the body."""

    def take_received(self) -> bytes:
        """The bytes of the body that came with the head; takes them off `left`."""

    async def ask_for_body(self) -> None:
        """Answer 100 (Continue) to a client that holds the body back, and to no other."""

    async def answer(self, reply: Reply, *, has_body: bool = True) -> None:
        """Write an answer; without its body for HEAD."""

    async def begin_answer(self, status: int, headers: Mapping[str, str], size_bytes: int) -> None:
        """Write the head of an answer, whose body of this size the caller writes to the socket."""
