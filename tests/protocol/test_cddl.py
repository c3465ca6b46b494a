"""A validator that shares no code with the codec checks the grammar in `protocol/alo.cddl` against it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given

from protocol.codec import decode_from_client, decode_from_server
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Conversation,
    DownloadTicket,
    Frame,
    Key,
    ListedDevice,
    Message,
    Participant,
    Push,
    Reply,
    Request,
    Stay,
    Ticket,
    Tombstone,
)
from tests.cddl import InvalidFrame, accepts, check_from_client, check_from_server, rule_of
from tests.protocol.strategies import (
    RECORDS,
    as_map,
    bare,
    from_server,
    full,
    optional_fields,
    reference_frame,
    requests,
)
from tests.rows import checked_rows

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
CHECKS = {"from_client": check_from_client, "from_server": check_from_server}

OF_LATER_VERSIONS = ("an unknown frame", "an unknown push", "an unknown reply", "a type beyond", "optional fields")
"""A receiver ignores these, and the grammar of this version does not have them. (A null field counts as absent.)"""

BEYOND_A_GRAMMAR = (
    "no bytes",
    "4097 frames",
    "24 fields",
    "levels",
    "longer than need be",
    "indefinite length",
    "tag in a field",
    "shared value",
    "bignum",
    "twice",
    "keys in a field",
    "as key in a field",
    " with NUL",
)
"""`alo.cddl` says that it leaves these rules out: encoding of values, contents of unknown fields, NUL in texts."""


def vectors(name: str) -> list[dict[str, Any]]:
    return [vector for vector in json.loads((VECTORS / f"{name}.json").read_text()) if "state" not in vector]


def fits(direction: str, data: bytes) -> bool:
    try:
        CHECKS[direction](data)
    except (InvalidFrame, cbor2.CBORDecodeError):
        return False
    return True


def test_valid_vectors_fit_the_grammar_of_their_direction_alone() -> None:
    with checked_rows() as rows:
        for vector in vectors("valid"):
            with rows.row(vector["name"]):
                data = bytes.fromhex(vector["hex"])
                assert [direction for direction in CHECKS if fits(direction, data)] == [vector["direction"]]


def test_ignored_vectors_fit_unless_they_are_of_a_later_version() -> None:
    with checked_rows() as rows:
        for vector in vectors("ignored"):
            with rows.row(vector["name"]):
                is_later = vector["name"].startswith(OF_LATER_VERSIONS)
                assert fits(vector["direction"], bytes.fromhex(vector["hex"])) != is_later


def test_invalid_vectors_do_not_fit_unless_it_is_beyond_a_grammar() -> None:
    with checked_rows() as rows:
        for vector in vectors("invalid"):
            with rows.row(vector["name"]):
                is_beyond = any(what in vector["name"] for what in BEYOND_A_GRAMMAR)
                assert fits(vector["direction"], bytes.fromhex(vector["hex"])) == is_beyond


@given(requests)
def test_any_request_fits(frame: Request) -> None:
    check_from_client(reference_frame(frame))


@given(from_server)
def test_any_frame_of_a_server_fits(frame: Reply | Push) -> None:
    check_from_server(reference_frame(frame))


@pytest.mark.parametrize("struct", [*REQUESTS, *REPLIES, *PUSHES])
def test_a_frame_fits_its_own_rule_and_no_other(struct: type[Frame]) -> None:
    for frame in (bare(struct), full(struct)):
        found = [each for each in (*REQUESTS, *REPLIES, *PUSHES) if accepts(rule_of(each.TYPE), reference_frame(frame))]
        assert found == [struct]


ID = bytes(16)
FILE = [70_000, "image/png", bytes(64), [2000, bytes(32)]]
FILES = [
    *([FILE] * count for count in (1, 10, 11)),
    *([[*FILE[:3], thumbnail]] for thumbnail in (None, True, [], [1], [0, bytes(32)], [524_288, bytes(32)])),
    *([[*FILE[:3], thumbnail]] for thumbnail in ([524_289, bytes(32)], [1, bytes(31)], [1, bytes(33)])),
    *([[size, *FILE[1:]]] for size in (0, 1, 2**63 - 1, 2**63, True, 1.0)),
    *([[1, media_type, bytes(32), None]] for media_type in ("", "a", "a" * 127, "a" * 128, "two words", "é", b"a")),
    *([[1, "a", bytes(size), None]] for size in (0, 31, 32, 65_536, 65_537)),
    *([FILE[:3]], [[*FILE, 1]], [FILE, None], FILE),
]
PART_REQUEST = [1, "https://files.example.org/a", [["content-length", "70000"]]]
PART_REQUESTS = [
    *([PART_REQUEST] * count for count in (1, 32, 33)),
    *([[part, *PART_REQUEST[1:]]] for part in (0, 2048, 2049, True)),
    *([[1, url, []]] for url in ("", "a" * 1024, "a" * 1025, "two words", b"a")),
    *([[1, "a", [["a", "two words"]] * count]] for count in (8, 9)),
    *([[1, "a", [header]]] for header in ([], ["a"], ["a", "b", "c"], ["", "b"], ["a", ""], ["a" * 257, "b"])),
    *([[1, "a", [header]]] for header in (["a", "b" * 256], ["a", "b" * 257], ["é", "b"], ["a", 1], "a")),
    *([PART_REQUEST[:2]], [[*PART_REQUEST, 1]], [None]),
]
KEY = ["otk", 1, b"k"]
POOL = ["otk", 84, 17, 100, bytes(32), 1, False]
KEYS = [
    *([KEY] * count for count in (1, 8, 9, 200, 201)),
    *([[kind, 1, b"k"]] for kind in ("", "a" * 32, "a" * 33, b"a")),
    *([["otk", number, b"k"]] for number in (0, 2**63 - 1, 2**63, True)),
    *([["otk", 1, key]] for key in (b"", bytes(16_384), bytes(16_385), "k")),
    *([KEY[:2]], [[*KEY, 1]], KEY),
    *([POOL] * count for count in (1, 8, 9)),
    *([[*POOL[:at], value, *POOL[at + 1 :]]] for at in (1, 2, 3, 5) for value in (-1, 200, 201, 2**63, True)),
    *([[*POOL[:4], bytes(31), *POOL[5:]]], [[*POOL[:6], 1]], [POOL[:6]], [[*POOL, 1]], POOL),
    *(["otk"] * count for count in (1, 8, 9)),
]
ENVELOPE = [ID, b"e"]
ENVELOPES = [
    *([ENVELOPE] * count for count in (1, 256, 257)),
    *([[ID, bytes(size)]] for size in (0, 65_536, 65_537)),
    *([[bytes(15), b"e"]], [[ID, "e"]], [ENVELOPE[:1]], [[*ENVELOPE, 1]], ENVELOPE, [{17: ID, 239: b"e"}]),
]
VALUES = [
    *(None, True, False, 0.0, 1.5, cbor2.undefined),
    *(-(2**64), -1, 0, 1, 100, 101, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1),
    *(bytes(n) for n in (0, 1, 8, 15, 16, 17, 64, 65, 1024, 1025, 2048, 2049, 65536, 65537)),
    *("é" * n for n in (0, 1, 8, 9, 16, 17, 32, 33, 64, 128, 129, 256, 257, 512, 513)),
    *([[], [[]], [None], [1], ["a"], [ID], [ID, ID], [ID, 1], [{}], [{0: 128}], [True], [bytes(15)], ["a" * 16]]),
    *([[ID, 1]], [[ID, 1]] * 256, [[ID, 1]] * 257, [[ID]], [[ID, 1, 1]], [[ID, -1]], [[1, ID]], [[ID, 2**63]]),
    *([ID] * 256, [ID] * 257, [[ID, True]], [["a" * 16, 1]], [[ID, bytes(1)]], [[ID, 1], ID], [{0: ID, 1: 1}]),
    *("app/1.0", "two words", "a" * 65, ["edit"], ["edit"] * 257, [[]] * 2, ["é" * 17], [["a", 1]], [["a", 1]] * 257),
    *([["a", -1]], [["a", 2**32]], [["a"]], [["a", 1, 1]], [[1, "a"]], [["", 1]], [["a" * 65, 1]], [["a", True]]),
    *({}, {0: 128}, {0: 130}, {0: 1, 1: 7}, {16: ID}, {"a": 1}),
    *(as_map(full(struct)) for struct in RECORDS),
    *([as_map(full(struct))] for struct in RECORDS),
    *([as_map(full(struct))] * 101 for struct in (Message, Tombstone, Conversation)),
    *([as_map(full(Participant))] * count for count in (1000, 1001)),
    *([as_map(full(Stay))] * count for count in (100, 101)),
    *([as_map(full(Ticket))] * count for count in (20, 21)),
    *([as_map(full(DownloadTicket))] * count for count in (200, 201)),
    *([as_map(full(ListedDevice))] * count for count in (256, 257)),
    *(bytes(size) for size in (4096, 4097)),
    *FILES,
    *PART_REQUESTS,
    *KEYS,
    *ENVELOPES,
    *([ID] * count for count in (10, 11)),
]


@pytest.mark.parametrize("struct", [*REQUESTS, *REPLIES, *PUSHES])
def test_grammar_and_codec_agree_on_what_may_be_in_a_field(struct: type[Frame]) -> None:
    """The exception is null in an optional field: the codec reads it as absent, and the grammar does not allow it.

    The other optional fields are absent, and long lists are tried where a list of their first item is read: the
    validator takes 4 ms for a conversation with all its fields, and 40 ms for a thousand participants.
    """
    direction, decode = (
        ("from_client", decode_from_client) if struct in REQUESTS else ("from_server", decode_from_server)
    )
    frame = as_map(bare(struct))
    for field in struct.__struct_fields__:

        def message(value: Any, key: int = int(Key[field.upper()])) -> bytes:
            return cbor2.dumps(frame | {key: value})

        for value in VALUES:
            if isinstance(value, list) and len(value) > 2 and not is_read(decode, message(value[:1])):
                continue
            is_absent = value is None and field in optional_fields(struct)
            agreed = (fits(direction, message(value)) or is_absent) == is_read(decode, message(value))
            assert agreed, (field, value)


def is_read(decode: Callable[[bytes], Iterable[Any]], message: bytes) -> bool:
    try:
        return not any(isinstance(frame, RequestError) for frame in decode(message))
    except RemoteProtocolError:
        return False
