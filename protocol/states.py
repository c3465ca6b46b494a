"""The life of one connection as a table: for each state and frame the next state or the refusal.

Everything about states is here. The server calls `StateMachine.receive` for each frame that it decoded, and serves the
frame if that returns; nothing else changes the state, except `welcome` and `drain`. The rules:

- The first frame is `hello`, and it comes once.
- Between `hello` and its reply the server serves nothing else: it does not know the user yet.
- While the node stops, the server answers requests in flight and refuses new ones.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from protocol import limits
from protocol.codes import CloseCode, ErrorCode
from protocol.errors import LocalProtocolError, RemoteProtocolError, RequestError
from protocol.frames import REQUESTS, Bye, Hello, Request, name_of


def agreed_version(
    asked: int, *, oldest: int = limits.OLDEST_VERSION, greatest: int = limits.PROTOCOL_VERSION
) -> int | None:
    """The version that a connection uses: the greatest that both sides speak; None if there is none.

    :param asked: the greatest that the client speaks.
    :param oldest: the least that the server serves; `greatest` is the greatest that it speaks.
    """
    version = min(asked, greatest)
    return version if version >= oldest else None


class State(Enum):
    """Where a connection is."""

    NEW = "new"
    """The WebSocket handshake is done; `hello` is awaited."""
    GREETING = "greeting"
    """`hello` has come; its token is being looked up."""
    OPEN = "open"
    """Requests are served and pushes sent."""
    LEAVING = "leaving"
    """`bye` has come; the server answers requests in flight, then closes the connection."""
    DRAINING = "draining"
    """The node is stopping: the server answers requests in flight, and refuses new ones as retryable."""


_SERVED: Final = tuple(struct for struct in REQUESTS if struct not in (Hello, Bye))

TRANSITIONS: Final[dict[State, dict[type[Request], State | CloseCode | ErrorCode]]] = {
    State.NEW: {
        Hello: State.GREETING,
        **dict.fromkeys(_SERVED, CloseCode.HELLO_EXPECTED),
        Bye: CloseCode.HELLO_EXPECTED,
    },
    State.GREETING: dict.fromkeys(REQUESTS, ErrorCode.UNEXPECTED_FRAME),
    State.OPEN: {
        Hello: ErrorCode.UNEXPECTED_FRAME,
        **dict.fromkeys(_SERVED, State.OPEN),
        Bye: State.LEAVING,
    },
    State.LEAVING: dict.fromkeys(REQUESTS, ErrorCode.UNEXPECTED_FRAME),
    State.DRAINING: dict.fromkeys(REQUESTS, ErrorCode.UNAVAILABLE),
}
"""state x frame -> next state, a close code, or the error that the frame is answered with."""


class StateMachine:
    """The state of one connection, as the server sees it."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.NEW

    def receive(self, frame: Request) -> None:
        """Move on by a frame from the client; returns if the server is to serve it.

        :raises RequestError: if the server is to answer with an error instead.
        :raises RemoteProtocolError: if the server is to close the connection.
        """
        outcome = TRANSITIONS[self.state][type(frame)]
        if isinstance(outcome, State):
            self.state = outcome
        elif isinstance(outcome, ErrorCode):
            detail = f"{name_of(frame)} may not be sent in state {self.state.value}"
            raise RequestError(frame.request, outcome, detail)
        else:
            raise RemoteProtocolError(outcome, f"{name_of(frame)} came before hello, which must be the first frame")

    def welcome(self) -> None:
        """The token is good.

        :raises LocalProtocolError: if no `hello` is being answered.
        """
        if self.state is not State.GREETING:
            raise LocalProtocolError(f"welcome in state {self.state.value}")
        self.state = State.OPEN

    def drain(self) -> None:
        """The node is stopping. May come in any state; a connection that is leaving stays so."""
        if self.state is not State.LEAVING:
            self.state = State.DRAINING
