"""Errors of bodies: they name the wrong field, in the words of JSON and CBOR."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2
import msgspec
import pytest
from msgspec import UNSET

from protocol.codes import ErrorCode
from protocol.errors import RequestError
from server.gateway.replies import error_reply
from server.http import bodies, notifiers
from server.http.decoding import InvalidBody, decode
from server.http.problems import REFUSALS, WrongField, problem_of
from tests.rows import each_row
from tests.sentences import fault_of

STRUCTS = [
    struct
    for struct in vars(bodies).values()
    if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and struct.__module__ == bodies.__name__
]
VALUES: list[Any] = [None, True, 7, -1, 2**70, 1.5, "x", "x" * 2000, "é\0", [], [1], ["x"], {}, {"x": 1}]
CBOR_ALONE: list[Any] = [b"x", bytes(16), cbor2.CBORSimpleValue(99), cbor2.undefined, cbor2.CBORTag(6000, 1)]


def said_of(data: bytes, encoding: str, type_: Any) -> str | None:
    try:
        decode(data, encoding, type_)
    except InvalidBody as invalid:
        return str(invalid)
    return None


def check(said: str | None) -> None:
    assert said is None or fault_of(said) is None, (said, fault_of(said or ""))
    assert len(said or "") < 300, "the error does not repeat the body"


@each_row("struct", [*STRUCTS, bodies.NEW_CONVERSATION], ids=str)
def test_each_field_with_each_kind_of_value(struct: Any) -> None:
    names = {name for each in STRUCTS for name in each.__struct_fields__} | {"kind"}
    refused = 0
    for name in names:
        for value in VALUES:
            for body in ({name: value}, {"kind": "group", name: value}, value, [value]):
                said = said_of(json.dumps(body).encode(), "json", struct)
                refused += said is not None
                check(said)
        for value in (*VALUES, *CBOR_ALONE):
            check(said_of(cbor2.dumps({name: value}), "cbor", struct))
    assert refused


@each_row("struct", [*STRUCTS, bodies.NEW_CONVERSATION], ids=str)
def test_a_body_that_is_good_or_wrong_in_one_encoding_is_so_in_the_other(struct: Any) -> None:
    names = {name for each in STRUCTS for name in each.__struct_fields__} | {"kind", "of a later version"}
    for name in names:
        for value in VALUES:
            for body in ({name: value}, {"kind": "group", name: value}, value, [value]):
                in_json = said_of(json.dumps(body).encode(), "json", struct)
                in_cbor = said_of(cbor2.dumps(body), "cbor", struct)
                assert (in_json is None) == (in_cbor is None), body
                assert in_json == in_cbor or value == 2**70


@pytest.mark.parametrize("encoding", ["json", "cbor"])
def test_a_field_that_the_server_does_not_know_is_ignored(encoding: str) -> None:
    body = {"role": "admin", "of a later version": [{"a": None}]}
    data = json.dumps(body).encode() if encoding == "json" else cbor2.dumps(body)
    assert decode(data, encoding, bodies.PatchParticipant) == bodies.PatchParticipant("admin")


@each_row(
    ("data", "encoding", "said"),
    [
        (b"", "json", None),
        (b"{", "json", None),
        (b'{"username": "\xff"}', "json", None),
        (b"[" * 100_000, "json", None),
        (b"", "cbor", None),
        (b"\xa1", "cbor", "the body: it is not well-formed CBOR"),
        (b"\xa1\x61\xff\x01", "cbor", "the body: a text must be UTF-8"),
        (b"\x81" * 100, "cbor", "the body: it has more levels than are allowed"),
        (b"\xa1\x80\x01", "cbor", None),
        (b"\xc1\x61x", "cbor", None),
        (b'{"username": 5}', "json", "Expected a text, got an integer - at `$.username`"),
        (b'{"role": "king"}', "json", "This value is not allowed - at `$.role`"),
    ],
)
def test_errors_of_bodies_that_cannot_be_read(data: bytes, encoding: str, said: str | None) -> None:
    type_ = bodies.PatchParticipant if b"role" in data else bodies.Register
    found = said_of(data, encoding, type_)
    assert found is not None
    assert said in (None, found)
    check(found)


@each_row(
    ("body", "struct", "pointer"),
    [
        ({"username": 5, "password": "correct horse"}, bodies.Register, "#/username"),
        ({"username": "carol"}, bodies.Register, "#/password"),
        ([], bodies.Register, None),
        ({"kind": "direct", "participants": ["me"]}, bodies.NEW_CONVERSATION, "#/participants/0"),
        ({"kind": "other"}, bodies.NEW_CONVERSATION, "#/kind"),
        ({}, bodies.NEW_CONVERSATION, "#/kind"),
        ({"kind": "web_push", "endpoint": "https://a", "keys": {}}, notifiers.NEW_NOTIFIER, "#/keys/p256dh"),
        ({"lifetime_s": 1}, bodies.PatchConversation, None),
    ],
)
def test_a_wrong_field_is_pointed_to(body: Any, struct: Any, pointer: str | None) -> None:
    for data, media_type in ((json.dumps(body).encode(), "json"), (cbor2.dumps(body), "cbor")):
        with pytest.raises(InvalidBody) as invalid:
            decode(data, media_type, struct)
        assert invalid.value.pointer == pointer
        problem = problem_of(invalid.value, "GET /v1/path").body("json")
        expected = UNSET if pointer is None else [WrongField(problem.detail, pointer)]
        assert problem.errors == expected


@pytest.mark.parametrize(
    ("check", "pointer"),
    [
        (lambda: bodies.address_in(bodies.PutEmail("nobody")), "#/address"),
        (lambda: bodies.quiet_hours_of(bodies.PutQuietHours(0, 1, "Mars/North")), "#/zone"),
        (lambda: bodies.quiet_hours_of(bodies.PutQuietHours(1, 1, "UTC")), "#/until_minute"),
        (lambda: notifiers.target_of(notifiers.NewWebhook("http://a")), "#/url"),
    ],
)
def test_a_field_that_a_later_check_refuses_is_pointed_to(check: Callable[[], Any], pointer: str) -> None:
    with pytest.raises(InvalidBody) as invalid:
        check()
    assert invalid.value.pointer == pointer


def test_the_detail_of_each_error_is_a_sentence_without_python() -> None:
    for _, detail in REFUSALS.values():
        check(detail)
    for code in ErrorCode:
        check(error_reply(RequestError(1, code, "")).detail)
