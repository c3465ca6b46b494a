"""Errors of bodies: they name the wrong field, in the words of JSON and CBOR."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import msgspec
import pytest

from protocol.codes import ErrorCode
from protocol.errors import RequestError
from server.gateway.replies import error_reply
from server.http import bodies, encoding
from server.http.encoding import InvalidBody, decode
from server.http.problems import REFUSALS
from tests.sentences import fault_of

STRUCTS = [
    struct
    for struct in vars(bodies).values()
    if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and struct.__module__ == bodies.__name__
]
VALUES: list[Any] = [None, True, 7, -1, 2**70, 1.5, "x", "x" * 2000, "é\0", [], [1], ["x"], {}, {"x": 1}]
CBOR_ALONE: list[Any] = [b"x", bytes(16), cbor2.CBORSimpleValue(99), cbor2.undefined, cbor2.CBORTag(6000, 1)]


def said_of(data: bytes, content_type: str, type_: Any) -> str | None:
    try:
        decode(data, content_type, type_)
    except InvalidBody as invalid:
        return str(invalid)
    return None


def check(said: str | None) -> None:
    assert said is None or fault_of(said) is None, (said, fault_of(said or ""))
    assert len(said or "") < 300, "the error does not repeat the body"


@pytest.mark.parametrize("struct", [*STRUCTS, bodies.NEW_CONVERSATION], ids=str)
def test_each_field_with_each_kind_of_value(struct: Any) -> None:
    names = {name for each in STRUCTS for name in each.__struct_fields__} | {"kind"}
    refused = 0
    for name in names:
        for value in VALUES:
            for body in ({name: value}, {"kind": "group", name: value}, value, [value]):
                said = said_of(json.dumps(body).encode(), encoding.JSON, struct)
                refused += said is not None
                check(said)
        for value in (*VALUES, *CBOR_ALONE):
            check(said_of(cbor2.dumps({name: value}), encoding.CBOR, struct))
    assert refused


@pytest.mark.parametrize(
    ("data", "content_type", "said"),
    [
        (b"", encoding.JSON, None),
        (b"{", encoding.JSON, None),
        (b'{"username": "\xff"}', encoding.JSON, None),
        (b"[" * 100_000, encoding.JSON, None),
        (b"", encoding.CBOR, None),
        (b"\xa1", encoding.CBOR, "the body: it is not well-formed CBOR"),
        (b"\xa1\x61\xff\x01", encoding.CBOR, "the body: a text must be UTF-8"),
        (b"\x81" * 100, encoding.CBOR, "the body: it has more levels than are allowed"),
        (b"\xa1\x80\x01", encoding.CBOR, None),
        (b"\xc1\x61x", encoding.CBOR, None),
        (b'{"username": 5}', encoding.JSON, "Expected a text, got an integer - at `$.username`"),
        (b'{"role": "king"}', encoding.JSON, "This value is not allowed - at `$.role`"),
    ],
)
def test_errors_of_bodies_that_cannot_be_read(data: bytes, content_type: str, said: str | None) -> None:
    type_ = bodies.PatchParticipant if b"role" in data else bodies.Register
    found = said_of(data, content_type, type_)
    assert found is not None
    assert said in (None, found)
    check(found)


def test_the_detail_of_each_error_is_a_sentence_without_python() -> None:
    for _, _, detail in REFUSALS.values():
        check(detail)
    for code in ErrorCode:
        check(error_reply(RequestError(1, code, "")).detail)
