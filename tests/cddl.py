"""The grammar `protocol/alo.cddl` as an independent validator reads it.

pycddl is the Rust crate `cddl`, which shares nothing with our codec. Version 0.6.4 differs from RFC 8610:

- `.size` and ranges accept any type that has a size, or is a byte long; `STRICTER` repeats the type.
- In an array within an array it accepts nearly every value; so this module turns marks into maps for it, and values
  that are not pairs into null.
- Given an array in place of a choice of maps, it checks the elements; so for it the choice is one of entries.
- Where a map has `* int => any`, it accepts keys of other types, too; `_check` checks them.
- It looks for a regular expression anywhere in a text, where RFC 8610 has it match the whole of it.
- It tries all the rules of a choice one after the other; so each type of frame is a schema of its own here.
- For each frame it walks over all rules of the text; so a schema has only those that its root needs. A message takes
  50 us, and with the whole text 370 us.
"""

from __future__ import annotations

import re
from collections import defaultdict
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
    (re.compile(r"quiet-upto = \[seq, seq\]"), "quiet-upto = {0: seq, 1: seq}"),
    (re.compile(r"allowed = \[limit, limit-value\]"), "allowed = {0: limit, 1: limit-value}"),
    (re.compile(r"avatar = \[id, size, digest\]"), "avatar = {0: id, 1: size, 2: digest}"),
    (re.compile(r"envelope = \[id, envelope-bytes\]"), "envelope = {0: id, 1: envelope-bytes}"),
    (
        re.compile(r"one-time-key = \[key-kind, key-number, key-bytes\]"),
        "one-time-key = {0: key-kind, 1: key-number, 2: key-bytes}",
    ),
    (
        re.compile(r"key-pool = \[key-kind, 0..200, seq, seq, digest, seq, bool\]"),
        "key-pool = {0: key-kind, 1: uint .and (0..200), 2: seq, 3: seq, 4: digest, 5: seq, 6: bool}",
    ),
    (re.compile(r"quiet-hours = \[minute, minute, zone\]"), "quiet-hours = {0: minute, 1: minute, 2: zone}"),
    (
        re.compile(r"file = \[size, media-type, part-digests, thumbnail-file / null\]"),
        "file = {0: size, 1: media-type, 2: part-digests, ? 3: thumbnail-file}",
    ),
    (re.compile(r"thumbnail-file = \[1..524288, digest\]"), "thumbnail-file = {0: uint .and (1..524288), 1: digest}"),
    (re.compile(r"part-request = \[part, url, (\[.*?\])\]"), r"part-request = {0: part, 1: url, 2: \1}"),
    (re.compile(r"header = \[header-name, (.*)\]"), r"header = {0: header-name, 1: \1}"),
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
    if not ROWS.keys().isdisjoint(item):
        item = _with_maps(item)
        frame = cbor2.dumps(item)
    _schema(root).validate_cbor(frame)


ROWS = {Key.MARKS: 2, Key.HEADS: 2, Key.RECEIPTS: 3, Key.COUNTS: 4, Key.LIMITS: 2, Key.FILES: 4, Key.PART_REQUESTS: 3}
ROWS |= {
    Key.QUIET_COUNTS: 2,
    Key.QUIET_HOURS: 3,
    Key.AVATAR: 3,
    Key.TICKETS: 0,
    Key.PARTICIPANTS: 0,
    Key.CONVERSATIONS: 0,
}
ROWS |= {Key.ENVELOPES: 2, Key.ONE_TIME_KEYS: 3, Key.LAST_RESORT_KEYS: 3, Key.POOLS: 7, Key.DEVICES: 0}
"""Field whose value is an array of arrays, or an array, or has such fields -> the number of elements of each array."""


def _with_maps(item: dict[int, Any]) -> dict[int, Any]:
    """A frame, or a map within one, in which maps stand for the arrays within arrays."""
    made = dict(item)
    for key in ROWS.keys() & item.keys():
        value = item[key]
        if not isinstance(value, list):
            continue
        match key:
            case Key.QUIET_HOURS | Key.AVATAR:
                made[key] = _row(value, ROWS[key])
            case Key.TICKETS | Key.PARTICIPANTS | Key.CONVERSATIONS | Key.DEVICES:
                made[key] = [_with_maps(each) if isinstance(each, dict) else each for each in value]
            case Key.FILES:
                made[key] = [_file(each) for each in value]
            case Key.PART_REQUESTS:
                made[key] = [_part_request(each) for each in value]
            case _:
                made[key] = [_row(each, ROWS[key]) for each in value]
    return made


def _row(value: Any, size: int) -> dict[int, Any] | None:
    return dict(enumerate(value)) if isinstance(value, list) and len(value) == size else None


def _file(value: Any) -> dict[int, Any] | None:
    file = _row(value, ROWS[Key.FILES])
    if file is None or file[3] is not None:
        return file and file | {3: _row(file[3], 2)}
    del file[3]
    return file


def _part_request(value: Any) -> dict[int, Any] | None:
    request = _row(value, ROWS[Key.PART_REQUESTS])
    if request is not None and isinstance(request[2], list):
        request[2] = [_row(each, 2) for each in request[2]]
    return request


@cache
def _schema(root: str) -> pycddl.Schema:
    """pycddl validates against the first rule of a text."""
    text = CDDL
    for pattern, stricter in STRICTER:
        text, count = pattern.subn(stricter, text)
        assert count, f"{pattern.pattern} is not in alo.cddl"
    return pycddl.Schema(f"root = {root}\n{_needed(root, text)}")


_COMMENT = re.compile(r"^;.*|\s;.*", re.MULTILINE)
_RULE = re.compile(r"^([a-z][\w-]*) /?/?=.*?(?=^[a-z][\w-]* /?/?=|\Z)", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"[a-z][\w-]*")


def _needed(root: str, text: str) -> str:
    """The rules that `root` names, or that those name, and so on."""
    rules: defaultdict[str, str] = defaultdict(str)
    for rule in _RULE.finditer(_COMMENT.sub("", text)):
        rules[rule[1]] += rule[0]
    waiting, needed = [root], set[str]()
    while waiting:
        name = waiting.pop()
        if name in rules and name not in needed:
            needed.add(name)
            waiting += _NAME.findall(rules[name])
    return "\n".join(rules[name] for name in sorted(needed))
