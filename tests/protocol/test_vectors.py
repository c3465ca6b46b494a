"""The code agrees with the golden vectors in `protocol/vectors`, which authors of other clients test with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from protocol.codec import decode_from_client, decode_from_server, encode
from protocol.codes import CloseCode, ErrorCode
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import PUSHES, REPLIES, REQUESTS
from protocol.states import TRANSITIONS, State, StateMachine
from tests.protocol.make_vectors import FILES, VECTORS, text_of
from tests.protocol.meaning import meaning
from tests.protocol.strategies import bare, full, optional_fields
from tests.rows import checked_rows


def vectors(name: str) -> list[dict[str, Any]]:
    return list(json.loads((VECTORS / f"{name}.json").read_text()))


def decoded(vector: dict[str, Any]) -> list[Any]:
    data = bytes.fromhex(vector["hex"])
    return list((decode_from_client if vector["direction"] == "from_client" else decode_from_server)(data))


def outcome_of(vector: dict[str, Any]) -> dict[str, Any]:
    """The outcome of the first frame in this message that the receiver does not serve."""
    machine = StateMachine()
    machine.state = State(vector.get("state", "open"))
    data = bytes.fromhex(vector["hex"])
    try:
        for frame in decode_from_client(data) if vector["direction"] == "from_client" else decode_from_server(data):
            if isinstance(frame, RequestError):
                raise frame
            if vector["direction"] == "from_client":
                machine.receive(frame)  # type: ignore[arg-type]
    except RemoteProtocolError as error:
        return {"close": error.close_code.value}
    except RequestError as error:
        return {"error": error.code.value, "request": error.request}
    return {}


def test_valid_messages_mean_what_the_vectors_say_and_are_encoded_to_the_same_bytes() -> None:
    with checked_rows() as rows:
        for vector in vectors("valid"):
            with rows.row(vector["name"]):
                frames = decoded(vector)
                assert [meaning(frame) for frame in frames] == vector["frames"]
                assert b"".join(map(encode, frames)).hex() == vector["hex"]


def test_messages_in_another_encoding_or_of_a_later_version_are_read_all_the_same() -> None:
    with checked_rows() as rows:
        for vector in vectors("ignored"):
            with rows.row(vector["name"]):
                frames = decoded(vector)
                assert [meaning(frame) for frame in frames] == vector["frames"]
                assert b"".join(map(encode, frames)).hex() != vector["hex"]


def test_invalid_messages_have_the_outcome_that_the_vectors_say() -> None:
    with checked_rows() as rows:
        for vector in vectors("invalid"):
            with rows.row(vector["name"]):
                assert outcome_of(vector) == vector["outcome"]


@pytest.mark.parametrize("name", FILES)
def test_vectors_are_what_the_program_writes(name: str) -> None:
    remedy = "renew it with `python -m tests.protocol.make_vectors`, and look at the difference"
    assert (VECTORS / f"{name}.json").read_text() == text_of(name), remedy


@pytest.mark.parametrize("name", FILES)
def test_vectors_are_of_the_form_that_the_specification_gives(name: str) -> None:
    keys = {"name", "direction", "hex", "outcome" if name == "invalid" else "frames"}
    for vector in vectors(name):
        assert set(vector) - {"state"} == keys, vector["name"]
        assert vector["direction"] in ("from_client", "from_server")
        assert "state" not in vector or name == "invalid"
    names = [vector["name"] for vector in vectors(name)]
    assert len(set(names)) == len(names)


def test_valid_vectors_have_every_frame_with_its_optional_fields_and_without() -> None:
    seen = [frame for vector in vectors("valid") for frame in vector["frames"]]
    for struct in (*REQUESTS, *REPLIES, *PUSHES):
        assert meaning(full(struct)) in seen, struct
        assert meaning(bare(struct)) in seen, struct
    for name in {name for struct in (*REQUESTS, *REPLIES, *PUSHES) for name in optional_fields(struct)}:
        assert any(name in frame for frame in seen), name


def test_invalid_vectors_have_every_outcome_that_bytes_and_states_alone_can_have() -> None:
    of_states = {outcome for table in TRANSITIONS.values() for outcome in table.values()} - set(State)
    of_decoding = {ErrorCode.INVALID_FRAME, ErrorCode.UNKNOWN_FRAME, ErrorCode.UNEXPECTED_FRAME, CloseCode.BAD_FRAME}
    expected = {code.value for code in of_states | of_decoding}
    assert {vector["outcome"].get("close") or vector["outcome"]["error"] for vector in vectors("invalid")} == expected


def test_vectors_are_files_that_one_can_read() -> None:
    assert sum(file.stat().st_size for file in VECTORS.glob("*.json")) < 1_100_000
