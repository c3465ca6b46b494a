"""`protocol.session.Session`: whatever comes in whatever order is served, refused or the end, by SPEC section 3."""

from __future__ import annotations

from protocol.codec import decode_from_client
from protocol.errors import LocalProtocolError, RemoteProtocolError, RequestError
from protocol.frames import REQUESTS, Bye, Hello, Request
from protocol.session import Session
from tests.fuzz.decoder import check_close
from tests.fuzz.frames import EXAMPLES

_SAMPLES: dict[type[Request], Request] = {
    type(frame): frame
    for data in reversed(EXAMPLES.from_client)
    for frame in decode_from_client(data)
    if not isinstance(frame, RequestError)
}
SAMPLES: tuple[Request, ...] = tuple(_SAMPLES[struct] for struct in REQUESTS)
"""A frame of each type: the state machine looks at nothing else."""

WELCOME, DRAIN = len(SAMPLES), len(SAMPLES) + 1


class Life:
    """What has happened to a connection, as far as the specification lets it decide what is served."""

    def __init__(self) -> None:
        self.session = Session()
        self.is_greeted = self.is_welcome = self.is_over = False

    def step(self, action: int) -> bool:
        """Let one thing happen; false if the connection is closed."""
        if action == DRAIN:
            self.session.drain()
            self.is_over = True
        elif action == WELCOME:
            self._welcome()
        else:
            return self._receive(SAMPLES[action])
        return True

    def _welcome(self) -> None:
        may = self.is_greeted and not self.is_welcome and not self.is_over
        try:
            self.session.welcome()
        except LocalProtocolError:
            assert not may
        else:
            assert may
            self.is_welcome = True

    def _receive(self, frame: Request) -> bool:
        try:
            self.session.receive(frame)
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
    """Each byte is a frame that comes, the welcome, or the node's going down."""
    life = Life()
    for byte in data:
        if not life.step(byte % (len(SAMPLES) + 2)):
            return
