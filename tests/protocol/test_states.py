"""The life of a connection against a model that was written from section 3 of the specification, not from the table."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from protocol.codes import CloseCode, ErrorCode
from protocol.errors import LocalProtocolError, RemoteProtocolError, RequestError
from protocol.frames import REQUESTS, Bye, Hello, Request
from protocol.states import State, StateMachine, agreed_version
from tests.protocol.strategies import full, requests_numbers
from tests.rows import each_row


@each_row(
    ("asked", "oldest", "greatest", "used"),
    [
        (0, 1, 1, None),
        (1, 1, 1, 1),
        (2, 1, 1, 1),
        (65535, 1, 1, 1),
        (1, 2, 4, None),
        (2, 2, 4, 2),
        (3, 2, 4, 3),
        (4, 2, 4, 4),
        (5, 2, 4, 4),
        (0, 0, 0, 0),
    ],
)
def test_a_connection_uses_the_greatest_version_that_both_speak(
    asked: int, oldest: int, greatest: int, used: int | None
) -> None:
    assert agreed_version(asked, oldest=oldest, greatest=greatest) == used


def some(*structs: type[Request]) -> st.SearchStrategy[Request]:
    """Frames of these kinds. The state machine ignores their fields, except the request number."""
    return st.builds(
        lambda struct, number: replace(full(struct), request=number), st.sampled_from(structs), requests_numbers
    )


class AnyConnection(RuleBasedStateMachine):
    """A client that sends any frame at any time, and a server that welcomes and stops at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = StateMachine()
        self.said_hello = False
        self.is_welcome = False
        self.said_bye = False
        self.is_stopping = False

    def outcome(self, frame: Request) -> ErrorCode | CloseCode | None:
        try:
            self.machine.receive(frame)
        except RequestError as error:
            return error.code if error.request == frame.request else None
        except RemoteProtocolError as error:
            return error.close_code
        return None

    def expected(self, frame: Request) -> ErrorCode | CloseCode | None:
        if self.is_stopping:
            return ErrorCode.UNAVAILABLE
        if not self.said_hello:
            return None if isinstance(frame, Hello) else CloseCode.HELLO_EXPECTED
        if self.said_bye or not self.is_welcome or isinstance(frame, Hello):
            return ErrorCode.UNEXPECTED_FRAME
        return None

    @rule(frame=some(*REQUESTS))
    def says_anything(self, frame: Request) -> None:
        self.says(frame)

    @rule(frame=some(Hello))
    def says_hello(self, frame: Request) -> None:
        self.says(frame)

    @precondition(lambda self: self.is_welcome)
    @rule(frame=some(Bye))
    def says_bye(self, frame: Request) -> None:
        self.says(frame)

    def says(self, frame: Request) -> None:
        expected = self.expected(frame)
        assert self.outcome(frame) is expected
        if expected is None:
            self.said_hello = True
            self.said_bye = isinstance(frame, Bye)

    @rule()
    def server_welcomes(self) -> None:
        if self.said_hello and not self.is_welcome and not self.is_stopping:
            self.machine.welcome()
            self.is_welcome = True
        else:
            before = self.machine.state
            with pytest.raises(LocalProtocolError):
                self.machine.welcome()
            assert self.machine.state is before

    @rule(times=st.integers(1, 2))
    def server_stops(self, times: int) -> None:
        for _ in range(times):
            self.machine.drain()
        self.is_stopping = not self.said_bye

    @invariant()
    def state_has_the_name_of_what_happened(self) -> None:
        if self.is_stopping:
            expected = State.DRAINING
        elif self.said_bye:
            expected = State.LEAVING
        elif self.is_welcome:
            expected = State.OPEN
        else:
            expected = State.GREETING if self.said_hello else State.NEW
        assert self.machine.state is expected


TestAnyConnection = AnyConnection.TestCase
