"""The grammar `protocol/alo.cddl` as an independent validator reads it.

pycddl is the Rust crate `cddl`, which shares nothing with our codec. Version 0.6.4 differs from RFC 8610:

- `.size` and ranges accept any type that has a size, or is a byte long; `STRICTER` repeats the type.
- In an array within an array it accepts nearly every value; so this module turns marks into maps for it, and values
  that are not pairs into null.
- Given an array in place of a choice of maps, it checks the elements; so for it the choice is one of entries.
- Where a map has `* int => any`, it accepts keys of other types, too; `_check` checks them.
- It looks for a regular expression anywhere in a text, where RFC 8610 has it match the whole of it.
- It tries all the rules of a choice one after the other; so each type of frame is a schema of its own here. That takes
  60 us for the smallest frames, 100 us for a message, 500 us for a conversation.
"""

from __future__ import annotations

import re
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import cbor2

try:
    import pycddl
except ImportError:  # it has no wheel for this Python or platform (setup.cfg): only types and keys are checked
    pycddl = None

from protocol.frames import Key, Type
from protocol.numbers import PUSH_TYPES, REPLY_TYPES, REQUEST_TYPES

CDDL = (Path(__file__).parent.parent / "protocol" / "alo.cddl").read_text()

STRICTER = (
    (re.compile(r"\b([bt]str) (\.size (?:\d+|\(.*?\)))"), r"\1 .and (\1 \2)"),
    (re.compile(r"(= |: )(\d+\.\.\d+)"), r"\1uint .and (\2)"),
    (re.compile(r"mark = \[id, seq\]"), "mark = {0: id, 1: seq}"),
    (re.compile(r"receipt = \[id, seq, seq\]"), "receipt = {0: id, 1: seq, 2: seq}"),
    (re.compile(r"counted = \[seq, seq, seq, seq\]"), "counted = {0: seq, 1: seq, 2: seq, 3: seq}"),
    (re.compile(r"allowed = \[limit, limit-value\]"), "allowed = {0: limit, 1: limit-value}"),
    (re.compile(r"quiet-hours = \[minute, minute, zone\]"), "quiet-hours = {0: minute, 1: minute, 2: zone}"),
    (re.compile(r'\.regexp "(.*?)"'), r'.regexp "^\1$"'),
    (re.compile(r"40: message / tombstone"), "(40: message // 40: tombstone)"),
)


class InvalidFrame(Exception):
    """A frame that the grammar does not allow in this direction."""


def check_from_client(data: bytes) -> None:
    """
    :raises InvalidFrame: unless all frames of this WebSocket message are a client's, by the grammar.
    """
    _check(data, REQUEST_TYPES)


def check_from_server(data: bytes) -> None:
    """
    :raises InvalidFrame: unless all frames of this WebSocket message are a server's, by the grammar.
    """
    _check(data, range(REPLY_TYPES.start, PUSH_TYPES.stop))


def accepts(root: str, frame: bytes) -> bool:
    """Whether one frame is what this rule of the grammar describes."""
    try:
        _validate(root, frame, cbor2.loads(frame))
    except pycddl.ValidationError:
        return False
    return True


def rule_of(type_: Type) -> str:
    return type_.name.lower().replace("_", "-")


def _check(data: bytes, types: range) -> None:
    stream = BytesIO(data)
    while (start := stream.tell()) < len(data):
        item = cbor2.load(stream)
        type_ = item.get(0) if isinstance(item, dict) else None
        if type_ not in types or type_ not in list(Type):
            raise InvalidFrame(f"type {type_!r} in {data.hex()}")
        if not all(type(key) is int for key in item):
            raise InvalidFrame(f"keys {list(item)} in {data.hex()}")
        try:
            _validate(rule_of(Type(type_)), data[start : stream.tell()], item)
        except pycddl.ValidationError as error:
            raise InvalidFrame(f"{error} in {data.hex()}") from None


def _validate(root: str, frame: bytes, item: dict[int, Any]) -> None:
    if pycddl is None:
        return
    for key, size in ((Key.MARKS, 2), (Key.HEADS, 2), (Key.RECEIPTS, 3), (Key.COUNTS, 4), (Key.LIMITS, 2)):
        if isinstance(marks := item.get(key), list):
            maps = [dict(enumerate(mark)) if isinstance(mark, list) and len(mark) == size else None for mark in marks]
            frame = cbor2.dumps(item | {int(key): maps})
    if isinstance(quiet := item.get(Key.QUIET_HOURS), list):
        frame = cbor2.dumps(item | {int(Key.QUIET_HOURS): dict(enumerate(quiet)) if len(quiet) == 3 else None})
    _schema(root).validate_cbor(frame)


@cache
def _schema(root: str) -> pycddl.Schema:
    """pycddl validates against the first rule of a text."""
    text = CDDL
    for pattern, stricter in STRICTER:
        text, count = pattern.subn(stricter, text)
        assert count, f"{pattern.pattern} is not in alo.cddl"
    return pycddl.Schema(f"root = {root}\n{text}")
