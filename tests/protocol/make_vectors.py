"""Writes `protocol/vectors/*.json`, when the protocol gets something new: `python -m tests.protocol.make_vectors`.

The vectors are golden: a version of the protocol never changes the vectors of frames that exist. So look at the
difference before you commit it. Bytes come from the reference encoder of the tests, never from the codec.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
from msgspec.structs import replace

from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Bye,
    Conversation,
    Conversations,
    Done,
    Error,
    Frame,
    Hello,
    History,
    Key,
    Lag,
    MarkDelivered,
    Message,
    Messages,
    Participant,
    Ping,
    Presence,
    Profile,
    ReceiptCounts,
    Send,
    Sent,
    Statuses,
    Sync,
    Tombstone,
    Typing,
    Watch,
    Welcome,
)
from protocol.numbers import (
    EXPERIMENTAL_PUSH_TYPES,
    EXPERIMENTAL_REPLY_TYPES,
    EXPERIMENTAL_REQUEST_TYPES,
    KEYS,
)
from tests.protocol.meaning import meaning
from tests.protocol.strategies import as_map, bare, full, head, optional_fields, reference, reference_frame
from tests.protocol.wrong_frames import WRONG

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
MAX_BYTES = 6000
"""The longest wrong value in a vector: values too long for the longest fields would make the file unreadable."""

BORDERS = [0, 23, 24, 2**8 - 1, 2**8, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**63 - 1]
FRAMES: dict[int, type[Frame]] = {int(struct.TYPE): struct for struct in (*REQUESTS, *REPLIES, *PUSHES)}
ID = b"\x11" * 16
SEND: Send = full(Send)
MESSAGE: Message = full(Message)

FIRST_UNKNOWN_KEY = min({*KEYS} - {*Key})
UNKNOWN_REQUEST = EXPERIMENTAL_REQUEST_TYPES[-1]
UNKNOWN_REPLY = EXPERIMENTAL_REPLY_TYPES[-1]
UNKNOWN_PUSH = EXPERIMENTAL_PUSH_TYPES[-1]
"""Later versions never use these numbers, so their vectors are those of this version and some more."""

Vector = dict[str, Any]


def name_of(struct: type[Frame]) -> str:
    return struct.TYPE.name.lower()


def direction_of(struct: type[Frame]) -> str:
    return "from_client" if struct in REQUESTS else "from_server"


def read_as(name: str, *frames: Frame, data: bytes | None = None, direction: str = "") -> Vector:
    """A message that means these frames."""
    data = b"".join(map(reference_frame, frames)) if data is None else data
    direction = direction or direction_of(type(frames[0]))
    return {"name": name, "direction": direction, "hex": data.hex(), "frames": [meaning(frame) for frame in frames]}


def valid() -> Iterator[Vector]:
    for struct in (*REQUESTS, *REPLIES, *PUSHES):
        name = name_of(struct)
        if optional := optional_fields(struct):
            yield read_as(f"{name} with all optional fields", full(struct))
            yield read_as(f"{name} without optional fields", bare(struct))
            if len(optional) > 1:
                for field in sorted(optional):
                    yield read_as(
                        f"{name} with {field} alone", replace(bare(struct), **{field: getattr(full(struct), field)})
                    )
        else:
            yield read_as(name, full(struct))
    yield from borders_of_numbers()
    yield from borders_of_lengths()
    yield read_as("a message of several requests", full(Sync), SEND, replace(SEND, request=8), full(Ping))
    yield read_as("a message of replies and pushes", full(Sent), MESSAGE, full(Tombstone), full(Typing), full(Done))


def borders_of_numbers() -> Iterator[Vector]:
    for number in BORDERS:
        if number < 2**32:
            yield read_as(f"request {number}", Ping(number))
        yield read_as(f"seq {number} in marks", MarkDelivered(7, [(ID, number)]))
        yield read_as(f"seq {number} of a message", replace(MESSAGE, seq=number))
        yield read_as(f"seq and created {number}", replace(full(Sent), seq=number, created=number))
    for version in (0, 2**16 - 1):
        yield read_as(f"version {version}", replace(full(Hello), version=version))
    for revision in (0, 2**31 - 1):
        yield read_as(f"revision {revision}", replace(MESSAGE, revision=revision))
    yield read_as("retry after 0 ms", replace(full(Error), retry_after_ms=0, limit_value=0))
    yield read_as("retry after the longest time", replace(full(Error), retry_after_ms=2**32 - 1, limit_value=2**32 - 1))
    yield read_as("the latest times", replace(full(Welcome), created=2**63 - 1, expires=2**63 - 1))


def borders_of_lengths() -> Iterator[Vector]:
    for length in (0, 1, 23, 24, 255, 256):
        yield read_as(f"content of {length} bytes", replace(SEND, content=b"\x07" * length))
    for length in (1, 23, 24, 64):
        yield read_as(f"content_type of {length} bytes", replace(SEND, content_type="a" * length))
    yield read_as("content_type of 64 bytes that is no ASCII", replace(SEND, content_type="é😀" * 10 + "éé"))
    yield read_as("nonce and key of 0 bytes", replace(SEND, nonce=b"", ephemeral_public_key=b""))
    yield read_as("nonce and key of the most bytes", replace(SEND, nonce=bytes(64), ephemeral_public_key=bytes(2048)))
    yield read_as("token of 1 byte", replace(full(Hello), token="t"))
    yield read_as("token of 256 bytes", replace(full(Hello), token="t" * 256))
    yield read_as("client of 1 byte", replace(full(Hello), client="!"))
    yield read_as("client of 64 bytes", replace(full(Hello), client="~" * 64))
    yield read_as("24 features and limits", told_24())
    yield read_as("neither features nor limits", replace(full(Welcome), features=[], limits=[]))
    yield read_as("cursor of 1 byte", Sync(7, b"\x00"))
    yield read_as("cursor of 1024 bytes", Sync(7, b"\x07" * 1024))
    yield read_as("the shortest texts of an error", replace(full(Error), code="c", detail="d", limit="l"))
    yield read_as(
        "the longest texts of an error", replace(full(Error), code="c" * 64, detail="d" * 1024, limit="l" * 64)
    )
    alice = replace(full(Participant), username="a" * 128)
    longest = replace(full(Conversation), kind="k" * 16, name="é" * 256, participants=[alice] * 24)
    yield read_as("the longest texts of a conversation", longest)
    for count in (1, 100):
        yield read_as(f"count {count}", replace(full(History), count=count))
    for count in (23, 24, 256):
        yield read_as(f"{count} marks", MarkDelivered(7, [(ID, 1)] * count))
    yield read_as("256 users are watched", Watch(7, [ID] * 256))
    yield read_as("nobody is watched", Watch(7, []))
    yield read_as("256 heads", Lag([(ID, 1)] * 256))
    yield read_as("no messages", Messages(7, False, []))
    yield read_as("no conversations", Conversations(7, None, []))
    yield read_as("no heads", Lag([]))
    yield read_as("24 receipts", replace(full(Statuses), receipts=[(ID, 1, 0)] * 24))
    yield read_as("no receipts", replace(full(Statuses), receipts=[]))
    yield read_as("100 counts", replace(full(ReceiptCounts), counts=[(1, 2, 1, 3)] * 100))
    yield read_as("256 seqs do not count", replace(full(Conversation), uncounted_seqs=[*range(1, 257)]))
    yield read_as("a display name of 512 bytes", replace(full(Profile), display_name="é" * 256))
    new = replace(bare(Conversation), last_seq=0, unread_count=0, first_seq=1)
    yield read_as("a conversation without messages", new)
    yield read_as("a conversation without participants", replace(full(Conversation), participants=[]))
    last = replace(full(Conversation), kind="direct", name=None, last_message=full(Tombstone))
    yield read_as("a conversation whose last message is a tombstone", last)
    yield read_as("three messages, newest first", Messages(7, True, [replace(MESSAGE, seq=seq) for seq in (9, 8, 7)]))


def told_24() -> Welcome:
    names = [f"{number:02}" for number in range(24)]
    return replace(full(Welcome), features=[*names[:-1], "z" * 32], limits=[(name, 2**32 - 1) for name in names])


def ignored() -> Iterator[Vector]:
    nested: list[Any] = [[b"\x01", "two", [3]], {"three": [4, None], b"\x05": -6}]
    for label, unknown in (
        ("the first unknown key", {FIRST_UNKNOWN_KEY: 1}),
        ("the largest unknown key", {2**64 - 1: 1}),
        ("unknown keys below 0", {-1: 1, -(2**64): 1}),
        ("unknown keys with nested values", {240: nested[0], 241: nested[1]}),
        (
            "unknown keys with null, booleans, floats",
            {240: None, 241: True, 242: False, 243: 1.5, 244: float("inf"), 245: -1},
        ),
        ("as many unknown keys as fit", dict.fromkeys(range(1000, 1021), 0)),
    ):
        for frame in (full(Ping), full(Done)):
            yield read_as(f"{label}: {name_of(type(frame))}", frame, data=cbor2.dumps(as_map(frame) | unknown))
    yield read_as("optional fields that are null", bare(Send), data=reference_nulls(bare(Send), 9, 10))
    yield read_as(
        "optional fields of a push that are null", bare(Message), data=reference_nulls(bare(Message), 9, 10, 20, 21)
    )
    yield read_as("keys in another order", full(Ping), data=b"\xa2\x01\x07\x00\x0d")
    longer = head(5, 2) + head(0, 0, 1) + head(0, 13, 2) + head(0, 1, 4) + head(0, 7, 8)
    yield read_as("numbers that are longer than need be", full(Ping), data=longer)
    later = reference({0: UNKNOWN_PUSH, 2: ID, 3: {1: [2]}})
    yield read_as("an unknown push alone", direction="from_server", data=later)
    yield read_as("an unknown reply alone", direction="from_server", data=reference({0: UNKNOWN_REPLY, 1: 7}))
    yield read_as("a type beyond all", direction="from_server", data=reference({0: 2**64 - 1}))
    mixed = reference_frame(full(Done)) + later + reference_frame(MESSAGE)
    yield read_as("an unknown push between known frames", full(Done), MESSAGE, data=mixed)
    page = as_map(full(Messages))
    page[27].insert(1, {0: UNKNOWN_PUSH, 2: ID})
    yield read_as("an unknown frame in messages", full(Messages), data=reference(page))
    item = as_map(full(Conversation)) | {40: {0: UNKNOWN_PUSH, 2: ID}}
    yield read_as(
        "an unknown frame as last_message", replace(full(Conversation), last_message=None), data=reference(item)
    )
    item = as_map(full(Conversation))
    item[35][0][240] = {1: [2]}
    yield read_as("an unknown key of a participant", full(Conversation), data=reference(item))
    item[40][240] = "later"
    yield read_as("an unknown key of a last_message", full(Conversation), data=reference(item))


def reference_nulls(frame: Frame, *keys: int) -> bytes:
    return cbor2.dumps(as_map(frame) | dict.fromkeys(keys))


def refused(name: str, data: bytes, outcome: dict[str, Any], **more: str) -> Vector:
    return {"name": name, "direction": "from_client", "hex": data.hex(), "outcome": outcome} | more


def refused_from_server(name: str, data: bytes) -> Vector:
    return {"name": name, "direction": "from_server", "hex": data.hex(), "outcome": {"close": 4500}}


def invalid() -> Iterator[Vector]:
    yield from bad_frames()
    yield from bad_messages()
    yield from bad_requests()
    yield from wrong_fields()
    yield from wrong_states()
    yield from wrong_fields_from_server()
    yield from bad_from_server()


def bad_frames() -> Iterator[Vector]:
    send = reference_frame(SEND)
    ping = reference_frame(full(Ping))
    unknown = b"\xa3\x00\x0d\x01\x07\x18\xf0"
    for name, data in {
        "no bytes": b"",
        "a number": b"\x01",
        "an array": b"\x82\x00\x0d",
        "a text": b"\x61a",
        "null": b"\xf6",
        "a break": b"\xff",
        "a head that is reserved": b"\x1c",
        "a number after a frame": ping + b"\x00",
        "24 fields": head(5, 24) + b"\x00\x0d\x01\x07" + b"".join(head(0, key) + b"\x00" for key in range(1000, 1022)),
        "a head of a frame that is longer than need be": b"\xb8\x02" + ping[1:],
        "a frame of indefinite length": b"\xbf" + ping[1:] + b"\xff",
        "an array of indefinite length in a field": unknown + b"\x9f\xff",
        "a map of indefinite length in a field": unknown + b"\xbf\xff",
        "bytes of indefinite length in a field": unknown + b"\x5f\x41\x00\xff",
        "a text of indefinite length in a field": unknown + b"\x7f\x61a\xff",
        "a tag before a frame": b"\xc1" + ping,
        "the tag of CBOR itself before a frame": b"\xd9\xd9\xf7" + ping,
        "a tag in a field": unknown + b"\xc1\x00",
        "an unknown tag in a field": unknown + b"\xda\xff\xff\xff\xff\x00",
        "a bignum as request": b"\xa2\x00\x0d\x01\xc2\x41\x07",
        "a negative bignum in a field": unknown + b"\xc3\x41\x07",
        "a reference to a shared value": unknown + b"\xd8\x1c\x81\xd8\x1d\x00",
        "a bignum as key": b"\xa2\xc2\x41\x00\x0d\x01\x07",
        "the type twice": b"\xa3\x00\x0d\x00\x0d\x01\x07",
        "the request twice": b"\xa3\x00\x0d\x01\x07\x01\x08",
        "an unknown key twice": b"\xa4\x00\x0d\x01\x07\x18\xf0\x00\x18\xf0\x00",
        "a key twice, once with a longer head": b"\xa3\x00\x0d\x01\x07\x18\x01\x07",
        "a key twice in a map within a field": unknown + b"\xa2\x61a\x00\x61a\x00",
        "a text as key": b"\xa3\x00\x0d\x01\x07\x61a\x00",
        "bytes as key": b"\xa3\x00\x0d\x01\x07\x41\x02\x00",
        "false in place of key 0": b"\xa2\xf4\x0d\x01\x07",
        "true in place of key 1": b"\xa2\x00\x0d\xf5\x07",
        "0.0 in place of key 0": b"\xa2\xf9\x00\x00\x0d\x01\x07",
        "null as key": b"\xa3\x00\x0d\x01\x07\xf6\x00",
        "an array as key": b"\xa3\x00\x0d\x01\x07\x80\x00",
        "5 levels": unknown + b"\x81\x81\x81\x81\x00",
        "5 levels in a frame of 12 fields": head(5, 12)
        + unknown[1:]
        + b"\x81\x81\x81\x81\x00"
        + b"".join(head(0, key) + b"\x00" for key in range(241, 250)),
        "a hundred levels": unknown + b"\x81" * 100 + b"\x00",
        "integer keys in a field": unknown + b"\xa1\x01\x02",
        "an array as key in a field": unknown + b"\xa1\x80\x02",
        "true as key in a field": unknown + b"\xa1\xf5\x02",
        "a text that is no UTF-8": send.replace(b"\x64text", b"\x64te\xfft"),
        "a text that is a lone surrogate": unknown + b"\x63\xed\xa0\x80",
        "a text of a longer encoding": unknown + b"\x62\xc0\x80",
        "a simple value of two bytes that has one": unknown + b"\xf8\x14",
        "cut in a head": send[:-17],
        "cut in a value": send[:-1],
        "cut after a key": b"\xa2\x00\x0d\x01",
        "cut after the first byte": b"\xa2",
        "a second frame that is cut": ping + b"\xa2\x00",
        "an array that promises 4294967295 elements": unknown + b"\x9a\xff\xff\xff\xff",
        "a map that promises as many as can be": unknown + b"\xbb" + b"\xff" * 8,
        "bytes that promise as many as can be": unknown + b"\x5b" + b"\xff" * 8,
        "a text that promises 2 GiB": unknown + b"\x7a\x80\x00\x00\x00",
        "an empty frame": b"\xa0",
        "no request": b"\xa1\x00\x0d",
        "no request in a frame of an unknown type": reference({0: UNKNOWN_REQUEST}),
        "a request that is -1": b"\xa2\x00\x0d\x01\x20",
        "a request that is 4294967296": b"\xa2\x00\x0d\x01" + head(0, 2**32),
        "a request that is true": b"\xa2\x00\x0d\x01\xf5",
        "a request that is 7.0": b"\xa2\x00\x0d\x01\xf9\x47\x00",
        "a request that is a text": b"\xa2\x00\x0d\x01\x617",
        "a request that is null": b"\xa2\x00\x0d\x01\xf6",
        "a request that is an array": b"\xa2\x00\x0d\x01\x81\x07",
    }.items():
        yield refused(name, data, {"close": 4500})


def bad_messages() -> Iterator[Vector]:
    """The server serves the frames before a fault, and also the frames behind a request that it refuses."""
    ping, watch = reference_frame(full(Ping)), reference({0: 8, 1: 8})
    yield refused("4097 frames", ping * 4097, {"close": 4500})
    yield refused("a second request without its fields", ping + watch + ping, {"error": "invalid_frame", "request": 8})
    yield refused("a second request without request", ping + b"\xa1\x00\x0d" + ping, {"close": 4500})
    unknown = reference({0: UNKNOWN_REQUEST, 1: 8})
    yield refused("a second request of an unknown type", ping + unknown, {"error": "unknown_frame", "request": 8})


def bad_requests() -> Iterator[Vector]:
    for name, item in {
        f"type {UNKNOWN_REQUEST}": {0: UNKNOWN_REQUEST, 1: 7},
        f"type {UNKNOWN_PUSH}": {0: UNKNOWN_PUSH, 1: 7},
        "the largest type": {0: 2**64 - 1, 1: 7},
        "type -1": {0: -1, 1: 7},
        "a type that is true": {0: True, 1: 7},
        "a type that is 13.0": {0: 13.0, 1: 7},
        "a type that is a text": {0: "ping", 1: 7},
        "a type that is null": {0: None, 1: 7},
        "a type that is an array": {0: [13], 1: 7},
        "no type": {1: 7},
    }.items():
        yield refused(name, cbor2.dumps(item), {"error": "unknown_frame", "request": 7})
    for struct in (*REPLIES, *PUSHES):
        item = {0: int(struct.TYPE), 1: 7}
        yield refused(f"{name_of(struct)} from a client", reference(item), {"error": "unexpected_frame", "request": 7})


def wrong_fields() -> Iterator[Vector]:
    """Each field missing from each frame, and each wrong value of each field once."""
    outcome = {"error": "invalid_frame", "request": 7}
    seen: set[Key] = {Key.REQUEST}
    for struct in REQUESTS:
        fields = as_map(full(struct))
        for field in struct.__struct_fields__[1:]:
            key = Key[field.upper()]
            if field not in optional_fields(struct):
                without = {k: value for k, value in fields.items() if k != key}
                yield refused(f"{name_of(struct)} without {field}", reference(without), outcome)
                yield refused(
                    f"{name_of(struct)} whose {field} is null", cbor2.dumps(fields | {int(key): None}), outcome
                )
            if key in seen:
                continue
            seen.add(key)
            for name, value in named(WRONG[key]):
                data = cbor2.dumps(fields | {int(key): value})
                yield refused(f"{name_of(struct)} whose {field} is {name}", data, outcome)


def named(values: list[Any]) -> Iterator[tuple[str, Any]]:
    """The descriptions and values of those up to MAX_BYTES."""
    for value in values:
        if len(cbor2.dumps(value)) <= MAX_BYTES:
            yield describe(value), value


def describe(value: Any) -> str:
    """The value in CBOR's diagnostic notation (RFC 8949, section 8), or its type and size if that would be long."""
    match value:
        case bytes():
            return f"{len(value)} bytes"
        case str() if "\0" in value:
            return "a text with NUL"
        case str() if len(value) > 16:
            return f"a text of {len(value.encode())} bytes"
        case list() if len(value) > 3 and len(set(map(describe, value))) == 1:
            return f"an array of {len(value)} times {describe(value[0])}"
        case list():
            return f"[{', '.join(map(describe, value))}]"
        case dict() if len(value) > 1 and 0 not in value:
            return "a map of a frame"
        case dict() if len(value) > 1:
            return f"a {name_of(FRAMES[value[0]])} frame"
        case dict():
            return f"{{{', '.join(f'{describe(key)}: {describe(each)}' for key, each in value.items())}}}"
    return "undefined" if value is cbor2.undefined else json.dumps(value)


def wrong_states() -> Iterator[Vector]:
    unexpected = {"error": "unexpected_frame", "request": 7}
    unavailable = {"error": "unavailable", "request": 7}
    of_states: dict[str, dict[str, Any]] = {
        "new": {"close": 4502},
        "greeting": unexpected,
        "leaving": unexpected,
        "draining": unavailable,
    }
    for state, outcome in of_states.items():
        for struct in REQUESTS:
            if (state, struct) != ("new", Hello):
                yield refused(f"{name_of(struct)} while {state}", reference_frame(full(struct)), outcome, state=state)
    hello = reference_frame(full(Hello))
    yield refused("hello while open", hello, unexpected, state="open")
    yield refused("hello twice", hello + hello, unexpected, state="new")
    yield refused("a request behind hello", hello + reference_frame(full(Sync)), unexpected, state="new")
    yield refused("a request behind bye", reference_frame(full(Bye)) + reference_frame(SEND), unexpected, state="open")
    without_token = reference({0: 1, 1: 7, 18: 1})
    yield refused("hello without token while new", without_token, {"error": "invalid_frame", "request": 7}, state="new")
    yield refused(
        "an unknown frame while new",
        reference({0: UNKNOWN_REQUEST, 1: 7}),
        {"error": "unknown_frame", "request": 7},
        state="new",
    )


def wrong_fields_from_server() -> Iterator[Vector]:
    seen: set[Key] = {Key.REQUEST}
    for struct in (*REPLIES, *PUSHES):
        fields = as_map(full(struct))
        for field in struct.__struct_fields__:
            key = Key[field.upper()]
            if field not in optional_fields(struct):
                without = {k: value for k, value in fields.items() if k != key}
                yield refused_from_server(f"{name_of(struct)} without {field}", reference(without))
            if key in seen:
                continue
            seen.add(key)
            for name, value in named(WRONG[key]):
                data = cbor2.dumps(fields | {int(key): value})
                yield refused_from_server(f"{name_of(struct)} whose {field} is {name}", data)


def bad_from_server() -> Iterator[Vector]:
    page = as_map(full(Messages))
    del page[27][1][3]
    yield refused_from_server("a tombstone without seq in messages", reference(page))
    for key in (Key.USER, Key.USERNAME, Key.JOINED_SEQ, Key.DELIVERED_SEQ, Key.READ_SEQ):
        item = as_map(full(Conversations))
        field = key.name.lower()
        good = item[28][0][35][0].pop(int(key))
        if field not in optional_fields(Participant):
            yield refused_from_server(f"a participant without {field} in conversations", reference(item))
        item[28][0][35][0][int(key)] = [good]
        yield refused_from_server(f"a participant whose {field} is an array in conversations", reference(item))
    done = reference_frame(full(Done))
    unknown = b"\xa3\x00\x18\x43\x01\x07\x18\xf0"
    for name, data in {
        "no bytes": b"",
        "a number": b"\x00",
        "a number after a frame": done + b"\x00",
        "a frame of indefinite length": b"\xbf" + done[1:] + b"\xff",
        "bytes of indefinite length in a field": unknown + b"\x5f\x41\x00\xff",
        "a tag before a frame": b"\xc1" + done,
        "a tag in a field": unknown + b"\xc1\x00",
        "the type twice": b"\xa3\x00\x18\x43\x00\x18\x43\x01\x07",
        "a text as key": b"\xa3\x00\x18\x43\x01\x07\x61a\x00",
        "false in place of key 0": b"\xa2\xf4\x18\x43\x01\x07",
        "9 levels": unknown + b"\x81" * 8 + b"\x00",
        "a text that is no UTF-8": unknown + b"\x61\xff",
        "a frame that is cut": reference_frame(full(Presence))[:-1],
        "a second frame that is cut": done + b"\xa2\x00",
        "hello": reference_frame(full(Hello)),
        "no type": reference({1: 7}),
        "a type that is true": cbor2.dumps({0: True, 1: 7}),
        "a type that is a text": reference({0: "done", 1: 7}),
    }.items():
        yield refused_from_server(f"{name} from a server", data)


FILES: dict[str, Callable[[], Iterator[Vector]]] = {"valid": valid, "ignored": ignored, "invalid": invalid}


def text_of(name: str) -> str:
    """A file's content, with one line for each vector, so that a difference shows which ones changed."""
    lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in FILES[name]())
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    for name in FILES:
        (VECTORS / f"{name}.json").write_text(text_of(name))
