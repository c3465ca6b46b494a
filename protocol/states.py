"""The life of one connection as a table: in which state which frame may come, and what follows.

Everything about states lives here. The server asks `StateMachine.receive` for each frame that it decoded, and acts on
what it returned; nothing else moves the state. The rules:

- The first frame is `hello`, and it comes once.
- Between `hello` and its reply nothing else is served: the server does not know yet for whom.
- After the server has said that it is going away, requests in flight are answered and new ones refused.
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
    :param oldest: the least that the server serves; `greatest` is what it speaks itself.
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
    """`bye` has come; what is in flight is answered, then the connection is closed."""
    DRAINING = "draining"
    """The node is stopping: what is in flight is answered, new requests are refused as retryable."""


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
        """Take note of a frame from the client; returns if it is to be served.

        :raises RequestError: if it is to be answered with an error instead.
        :raises RemoteProtocolError: if the connection is to be closed.
        """
        outcome = TRANSITIONS[self.state][type(frame)]
        if isinstance(outcome, State):
            self.state = outcome
        elif isinstance(outcome, ErrorCode):
            detail = f"{name_of(frame)} in state {self.state.value}"
            raise RequestError(frame.request, outcome, detail)
        else:
            raise RemoteProtocolError(outcome, f"{name_of(frame)} came before hello")

    def welcome(self) -> None:
        """The token was found good.

        :raises LocalProtocolError: if no `hello` is being answered.
        """
        if self.state is not State.GREETING:
            raise LocalProtocolError(f"welcome in state {self.state.value}")
        self.state = State.OPEN

    def drain(self) -> None:
        """The node is stopping. May come in any state; who is leaving goes on leaving."""
        if self.state is not State.LEAVING:
            self.state = State.DRAINING
