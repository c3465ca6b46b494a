"""Why a frame or a connection is refused is said in the words of SPEC.md, never in those of Python."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from hypothesis import given

from protocol.codec import decode_from_client, decode_from_server
from protocol.codes import CLOSES, ERRORS
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import PUSHES, REPLIES, REQUESTS, Request, name_of
from protocol.states import State, StateMachine
from protocol.websocket import WebSocketError, WebSocketReceiver
from tests.protocol.strategies import cbor_items, frame_like, full, mutated
from tests.rows import checked_rows
from tests.sentences import fault_of

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
DECODERS = {"from_client": decode_from_client, "from_server": decode_from_server}


def reasons_for(direction: str, data: bytes) -> list[str]:
    """The texts that a receiver answers a WebSocket message with: details of errors, and the reason of a close."""
    said = []
    try:
        said += [frame.detail for frame in DECODERS[direction](data) if isinstance(frame, RequestError)]
    except RemoteProtocolError as error:
        said.append(error.detail)
    return said


def check(said: list[str]) -> None:
    for sentence in said:
        assert fault_of(sentence) is None, (sentence, fault_of(sentence))
        assert len(sentence.encode()) <= 1024


INVALID = [each for each in json.loads((VECTORS / "invalid.json").read_text()) if "state" not in each]


def test_the_reason_for_each_invalid_vector_is_a_sentence() -> None:
    with checked_rows() as rows:
        for vector in INVALID:
            with rows.row(vector["name"]):
                said = reasons_for(vector["direction"], bytes.fromhex(vector["hex"]))
                assert said
                check(said)


@given(frame_like() | mutated() | cbor_items)
def test_the_reason_for_any_other_bytes_is_a_sentence(data: bytes) -> None:
    for direction in DECODERS:
        check(reasons_for(direction, data))


def test_the_reason_for_a_frame_in_the_wrong_state_names_it() -> None:
    with checked_rows() as rows:
        for state, kind in itertools.product(State, REQUESTS):
            with rows.row((state, kind)):
                assert all(name_of(kind) in sentence for sentence in refusals(state, kind))
                check(refusals(state, kind))


def refusals(state: State, kind: type[Request]) -> list[str]:
    machine = StateMachine()
    machine.state = state
    try:
        machine.receive(full(kind))
    except (RequestError, RemoteProtocolError) as error:
        return [error.detail]
    return []


def test_a_frame_has_the_name_that_it_has_in_the_specification() -> None:
    with checked_rows() as rows:
        for kind in (*REQUESTS, *REPLIES, *PUSHES):
            with rows.row(kind):
                assert name_of(kind) == name_of(full(kind))
                assert name_of(kind).upper() == kind.TYPE.name


def test_the_meanings_of_codes_are_sentences() -> None:
    check([info.meaning for info in (*ERRORS.values(), *CLOSES.values())])


@given(mutated())
def test_the_reason_for_bytes_that_are_not_a_websocket_is_a_sentence(data: bytes) -> None:
    try:
        list(WebSocketReceiver(64, 4).receive(data))
    except WebSocketError as error:
        check([error.detail])
