"""JSON and CBOR obey the same rules: each is a row here, with a body in both."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.parsing import MAX_LEVELS, Unreadable, parse_cbor, parse_json
from tests.rows import each_row

CBOR = cbor2.dumps
TEXT, DEEP, TWICE = "a text must be UTF-8", "it has more levels than are allowed", "a map has a key twice"
LARGE, FINITE = "an integer must be -2^63 to 2^63 - 1", "a number must be finite"

RULES: dict[str, tuple[bytes, bytes, Any]] = {
    "null": (b"null", CBOR(None), None),
    "a boolean": (b"true", CBOR(True), True),
    "a map": (b'{"a": [1, "b"]}', CBOR({"a": [1, "b"]}), {"a": [1, "b"]}),
    "a fraction": (b"1.5", CBOR(1.5), 1.5),
    "an integer that is written as a fraction stays one": (b"1.0", CBOR(1.0), 1.0),
    "the largest integer": (b"9223372036854775807", CBOR(2**63 - 1), 2**63 - 1),
    "the least integer": (b"-9223372036854775808", CBOR(-(2**63)), -(2**63)),
    "a character beyond the first plane": (b'"\\ud83d\\ude00"', CBOR("😀"), "😀"),
    "the most levels": (b"[" * MAX_LEVELS + b"]" * MAX_LEVELS, b"\x81" * (MAX_LEVELS - 1) + b"\x80", ...),
    "an empty body": (b"", b"", Unreadable("it is empty")),
    "half a body": (b'{"a": ', b"\xa1\x61a", Unreadable("it is not well-formed")),
    "bytes of neither": (b"\x1c", b"\x1c", Unreadable("it is not well-formed")),
    "a second value": (b"1 2", b"\x01\x02", Unreadable("it goes on after the first value")),
    "a byte behind": (b"{}x", b"\xa0x", Unreadable("it goes on after the first value")),
    "a key twice": (b'{"a": 1, "a": 1}', b"\xa2\x61a\x01\x61a\x01", Unreadable(TWICE)),
    "a key twice, written differently": (b'{"a": 1, "\\u0061": 2}', b"\xa2\x61a\x01\x78\x01a\x02", Unreadable(TWICE)),
    "a key twice within a field": (
        b'{"x": [{"a": 1, "a": 2}]}',
        b"\xa1\x61x\x81\xa2\x61a\x01\x61a\x02",
        Unreadable(TWICE),
    ),
    "a level too many": (b"[" * 9 + b"]" * 9, b"\x81" * 8 + b"\x80", Unreadable(DEEP)),
    "a map too deep": (b'{"a":' * 9 + b"1" + b"}" * 9, b"\xa1\x61a" * 9 + b"\x01", Unreadable(DEEP)),
    "many levels": (b"[" * 60_000, b"\x81" * 60_000, Unreadable(DEEP)),
    "NaN": (b"NaN", CBOR(math.nan), Unreadable(FINITE)),
    "infinity": (b"-Infinity", CBOR(-math.inf), Unreadable(FINITE)),
    "infinity within": (b'{"a": [1e999]}', CBOR({"a": [math.inf]}), Unreadable(FINITE)),
    "an integer of 65 bits": (b"9223372036854775808", CBOR(2**63), Unreadable(LARGE)),
    "a negative integer of 65 bits": (b"-9223372036854775809", CBOR(-(2**63) - 1), Unreadable(LARGE)),
    "an integer of many digits": (b"1" * 9999, b"\xc2\x59\x27\x0f" + b"1" * 9999, Unreadable("integer|tags")),
    "a text that is not UTF-8": (b'"\xff"', b"\x61\xff", Unreadable(TEXT)),
    "half a surrogate pair in bytes": (b'"\xed\xa0\x80"', b"\x63\xed\xa0\x80", Unreadable(TEXT)),
    "a key that is not UTF-8": (b'{"\xff": 1}', b"\xa1\x61\xff\x01", Unreadable(TEXT)),
    "an overlong NUL": (b'"\xc0\x80"', b"\x62\xc0\x80", Unreadable(TEXT)),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("encoding", ["json", "cbor"])
def test_a_rule_holds_in_both_encodings(rule: str, encoding: str) -> None:
    in_json, in_cbor, expected = RULES[rule]
    parse, data = (parse_json, in_json) if encoding == "json" else (parse_cbor, in_cbor)
    if isinstance(expected, Unreadable):
        with pytest.raises(Unreadable, match=str(expected).replace("^", r"\^")):
            parse(data)
    else:
        found = parse(data)
        assert expected is ... or (found == expected and type(found) is type(expected))


ALONE = {
    "half of a surrogate pair as an escape": (parse_json, b'"\\ud800"', TEXT),
    "half of a surrogate pair in a key": (parse_json, b'{"\\udfff": 1}', TEXT),
    "a byte order mark": (parse_json, b"\xef\xbb\xbf1", "well-formed"),
    "UTF-16": (parse_json, '{"a": 1}'.encode("utf-16"), "UTF-8"),
    "a comma behind the last element": (parse_json, b"[1,]", "well-formed"),
    "a key without quotes": (parse_json, b"{a: 1}", "well-formed"),
    "a comment": (parse_json, b"1 // one", "goes on"),
    "a control character": (parse_json, b'"a\nb"', "well-formed"),
    "a date": (parse_cbor, b"\xc0\x74" + b"2026-01-31T00:00:00Z", "tags"),
    "a shared value that holds itself": (parse_cbor, b"\xd8\x1c\x81\xd8\x1d\x00", "tags"),
    "a bignum": (parse_cbor, CBOR(2**70), "tags"),
    "an array without a length": (parse_cbor, b"\x9f\xff", "indefinite"),
    "a text without a length": (parse_cbor, b"\x7f\x61a\xff", "indefinite"),
    "undefined": (parse_cbor, b"\xf7", "simple value"),
    "a simple value": (parse_cbor, b"\xf8\x63", "simple value"),
    "a number as a key": (parse_cbor, b"\xa1\x01\x01", "keys of a map"),
    "bytes as a key": (parse_cbor, b"\xa1\x41a\x01", "keys of a map"),
}
"""Bodies that only one of the encodings can write."""


@each_row("name", ALONE)
def test_a_body_that_one_encoding_alone_could_write_is_refused(name: str) -> None:
    parse, data, said = ALONE[name]
    with pytest.raises(Unreadable, match=said):
        parse(data)


def test_bytes_are_values_of_cbor() -> None:
    assert parse_cbor(b"\xa1\x61u\x50" + b"u" * 16) == {"u": b"u" * 16}


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(_values)
def test_any_value_of_few_levels_is_the_same_in_both(value: Any) -> None:
    def levels(of: Any) -> int:
        inner = of.values() if isinstance(of, dict) else of if isinstance(of, list) else None
        return 0 if inner is None else 1 + max(map(levels, inner), default=0)

    if levels(value) > MAX_LEVELS:
        return
    assert parse_json(json.dumps(value).encode()) == value == parse_cbor(CBOR(value))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_unreadable(data: bytes) -> None:
    for parse in (parse_json, parse_cbor):
        with suppress(Unreadable):
            parse(data)
