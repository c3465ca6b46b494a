"""Values and patterns of scenario files."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.codec import decode_from_server, encode
from protocol.conformance.values import encode_fields, fields_of, id_of, matches, read_value, show
from protocol.frames import Conversation, Done, Message, Participant, Participants, Send, Tombstone
from tests.rows import each_row

TALK, BOB = id_of("talk"), id_of("bob")
FRAMES = [
    Done(1),
    Message(TALK, 300, b"m" * 16, 2**40, BOB, "text/plain", b"", None, b"k", reply_to=3, attachments=[b"a" * 16]),
    Participants(TALK, [Participant(BOB, 1, "bob", 0, 0, 0, True, "Bob", actor=BOB)], 2, quiet_counts=[(1, 0)]),
    Conversation(TALK, 1, "direct", None, 1, 1, 0, 1, [], Tombstone(TALK, 1, b"m" * 16, 1, BOB), 1, lifetime_s=60),
]
KEPT = {"first": {"temp_id": b"t" * 16}}


def test_texts_with_a_sign_stand_for_bytes() -> None:
    given = ["@bob", "text:one", "hex:00ff", "$first.temp_id", "$first.nonce", "plain", 3, None, {"a": ["@me"]}]
    bob, me = b"bob" + b"." * 13, b"me" + b"." * 14
    expected = [bob, b"one", b"\x00\xff", b"t" * 16, None, "plain", 3, None, {"a": [me]}]
    assert read_value(given, KEPT) == expected
    with pytest.raises(ValueError, match="no earlier step has kept a frame as 'second'"):
        read_value("$second.seq", KEPT)


@pytest.mark.parametrize("frame", FRAMES, ids=repr)
def test_fields_are_encoded_as_the_codec_encodes_the_frame(frame: Any) -> None:
    def fields(record: Any) -> Any:
        if isinstance(record, list):
            return [fields(each) for each in record]
        if not hasattr(record, "__struct_fields__"):
            return record
        type_ = {"type": type(record).TYPE.name.lower()} if hasattr(record, "TYPE") else {}
        return {**type_, **{name: fields(getattr(record, name)) for name in record.__struct_fields__}}

    assert encode_fields(fields(frame)) == encode(frame)


def test_fields_of_later_versions_are_their_numbers() -> None:
    data = encode_fields({"type": 252, "250": {"251": 1}}) + encode_fields({"type": "done", "request": 1, "250": 2})
    assert list(decode_from_server(data)) == [Done(1)]


@pytest.mark.parametrize("fields", [{"type": "nonsense"}, {"type": "done", "nonsense": 1}])
def test_a_misspelt_name_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'nonsense' is not a"):
        encode_fields(fields)


FRAME = fields_of(Send(3, id_of("talk"), "text/plain", b"one", None, None, b"t" * 16))


@each_row(
    ("pattern", "is_match"),
    [
        ({}, True),
        ({"type": "send"}, True),
        ({"type": "sync"}, False),
        ({"nonce": None}, True),
        ({"content": None}, False),
        ({"content": "*", "conversation": "@talk"}, True),
        ({"nonce": "*"}, False),
        ({"temp_id": "$first.temp_id"}, True),
        ({"temp_id": {"not": "$first.temp_id"}}, False),
        ({"request": {"least": 3}}, True),
        ({"request": {"least": 4}}, False),
        ({"request": {"most": 2}}, False),
        ({"nonce": {"least": 0}}, False),
        ({"any": [{"type": "sync"}, {"type": "send", "request": 3}]}, True),
        ({"any": [{"type": "sync"}]}, False),
    ],
)
def test_a_frame_matches_a_pattern_in_all_fields_that_it_names(pattern: dict[str, Any], is_match: bool) -> None:
    assert matches(pattern, FRAME, KEPT) is is_match


@each_row(
    ("pattern", "is_match"),
    [
        ([["@talk", 3], "*"], True),
        ([["@talk", 3]], False),
        ({"has": ["@talk", 3]}, True),
        ({"has": ["@talk", {"least": 4}]}, False),
        ({"has": ["@talk", None]}, False),
        ("*", True),
        (None, False),
    ],
)
def test_a_list_matches_element_by_element_or_has_one_that_does(pattern: Any, is_match: bool) -> None:
    assert matches(pattern, [(id_of("talk"), 3), (id_of("other"), 1)], {}) is is_match


def test_a_state_has_ids_in_hex_as_keys() -> None:
    assert matches({"@talk": "*", "@other": None}, {id_of("talk").hex(): {}}, {})


def test_values_are_shown_as_scenario_files_write_them() -> None:
    shown = show({"a": [id_of("bob"), b"one", b"\x00", None, True, ("x", 1)]})
    assert shown == "{a: [@bob, text:one, hex:00, absent, true, [x, 1]]}"
    assert len(show(b"x" * 1000)) < 500


def test_a_participant_is_a_map_without_a_type() -> None:
    told = Participant(id_of("bob"), None, "bob", 0, 0, 0)
    fields = {"user": "@bob", "username": "bob", "joined_seq": 0, "delivered_seq": 0, "read_seq": 0}
    raw = {"type": "participants", "conversation": "@talk", "participants": [fields], "participants_version": 2}
    assert list(decode_from_server(encode_fields(read_value(raw, {})))) == [Participants(id_of("talk"), [told], 2)]
