"""`protocol.states.StateMachine` serves or refuses each request, in any order, or closes, as SPEC section 3 says."""

from __future__ import annotations

from protocol.codec import decode_from_client
from protocol.errors import LocalProtocolError, RemoteProtocolError, RequestError
from protocol.frames import Bye, Hello, Request, Type
from protocol.states import StateMachine
from tests.fuzz.decoder import check_close
from tests.fuzz.frames import EXAMPLES

SAMPLES: dict[int, Request] = {
    int(frame.TYPE): frame
    for data in reversed(EXAMPLES.from_client)
    for frame in decode_from_client(data)
    if not isinstance(frame, RequestError)
}
"""A request of each type: the state machine looks only at a frame's type."""

WELCOME, DRAIN = int(Type.WELCOME), int(Type.MOVE)
ACTIONS: tuple[int, ...] = (*sorted(SAMPLES), WELCOME, DRAIN)
"""The bytes that have a meaning: types of frames. So the meaning of an input in the corpus never changes."""


class Life:
    """The events of a connection, as far as the specification lets them decide which requests it serves."""

    def __init__(self) -> None:
        self.machine = StateMachine()
        self.is_greeted = self.is_welcome = self.is_over = False

    def step(self, action: int) -> bool:
        """Take one action; false if the connection is closed."""
        if action == DRAIN:
            self.machine.drain()
            self.is_over = True
        elif action == WELCOME:
            self._welcome()
        else:
            return action not in SAMPLES or self._receive(SAMPLES[action])
        return True

    def _welcome(self) -> None:
        may = self.is_greeted and not self.is_welcome and not self.is_over
        try:
            self.machine.welcome()
        except LocalProtocolError:
            assert not may
        else:
            assert may
            self.is_welcome = True

    def _receive(self, frame: Request) -> bool:
        try:
            self.machine.receive(frame)
        except RequestError as error:
            assert error.request == frame.request
            assert error.detail
            assert self.is_greeted or self.is_over
            assert not self._may(frame)
        except RemoteProtocolError as error:
            check_close(error.close_code, error.detail)
            assert not self.is_greeted
            assert not self._may(frame)
            return False
        else:
            assert self._may(frame)
            self.is_greeted |= isinstance(frame, Hello)
            self.is_over |= isinstance(frame, Bye)
        return True

    def _may(self, frame: Request) -> bool:
        if self.is_over:
            return False
        return not self.is_greeted if isinstance(frame, Hello) else self.is_welcome


def check(data: bytes) -> None:
    """Each byte is an action: a request of this type comes, the server welcomes, or the node stops."""
    life = Life()
    for action in data:
        if not life.step(action):
            return
