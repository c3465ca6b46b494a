"""The codec: what goes in comes out, what comes in from anybody does no harm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol_strategies import (
    cbor_items,
    frame_like,
    frames,
    from_server,
    head,
    ids,
    mutated,
    reference,
    reference_frame,
    requests,
    requests_numbers,
)

from protocol import limits
from protocol.codec import OPTIONAL, decode_from_client, decode_from_server, encode, encode_request
from protocol.codes import CloseCode, ErrorCode
from protocol.errors import LocalProtocolError, RemoteProtocolError, RequestError
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Done,
    Error,
    Frame,
    Hello,
    Key,
    MarkDelivered,
    Request,
    Send,
    Type,
)

MAX_CPU_S = 3.0
"""For a full WebSocket message of the worst kind; ordinary ones take a hundredth. Quadratic work takes ten and more."""

HELLO = Hello(1, "token", 1)
SEND = Send(7, b"c" * 16, "text", b"content", None, None, b"t" * 16)

Decode = Callable[[bytes], Iterator[Any]]
both_directions = pytest.mark.parametrize("decode", [decode_from_client, decode_from_server])


def as_map(frame: Frame) -> dict[int, Any]:
    fields = {int(Key[name.upper()]): getattr(frame, name) for name in frame.__struct_fields__}
    return {0: int(frame.TYPE)} | {key: value for key, value in fields.items() if value is not None}


def read(decode: Decode, data: bytes) -> list[Any]:
    """What can be read of `data`; fails on any error that is not the protocol's own."""
    frames, read = decode(data), []
    while True:
        try:
            read.append(next(frames))
        except StopIteration:
            return read
        except RemoteProtocolError as error:
            return [*read, error]


def check_answerable(data: bytes) -> None:
    """Read from either side, what cannot be served can be answered, in bytes that the other side can read."""
    for each in read(decode_from_server, data) + read(decode_from_client, data):
        if isinstance(each, RemoteProtocolError):
            assert isinstance(each.close_code, CloseCode)
            assert each.detail.encode(), "the reason of a close frame"
        if isinstance(each, RequestError):
            answer = Error(each.request, each.code.value, each.detail, None)
            assert list(decode_from_server(encode(answer))) == [answer]


@given(requests)
def test_every_request_comes_out_as_it_went_in(frame: Request) -> None:
    assert list(decode_from_client(encode(frame))) == [frame]
    assert encode_request(frame) == encode(frame)


@given(from_server)
def test_every_reply_and_push_comes_out_as_it_went_in(frame: Any) -> None:
    assert list(decode_from_server(encode(frame))) == [frame]


@given(st.lists(requests, min_size=1, max_size=5))
def test_a_message_of_several_frames_gives_them_in_order(sent: list[Request]) -> None:
    assert list(decode_from_client(b"".join(map(encode, sent)))) == sent


@given(frames)
def test_encoding_is_core_deterministic_and_as_small_as_cbor_allows(frame: Frame) -> None:
    """Byte for byte what an encoder by the letter of RFC 8949, section 4.2.1, makes: shortest heads, sorted keys."""
    assert encode(frame) == reference_frame(frame)


@given(data=st.binary(max_size=200))
def test_any_bytes_give_frames_or_a_remote_protocol_error(data: bytes) -> None:
    check_answerable(data)


@settings(max_examples=150)
@given(data=mutated())
def test_damaged_frames_give_frames_or_a_remote_protocol_error(data: bytes) -> None:
    check_answerable(data)


@given(data=st.lists(cbor_items | frame_like(), min_size=1, max_size=4).map(b"".join))
def test_any_cbor_gives_frames_or_a_remote_protocol_error(data: bytes) -> None:
    """Tags, bignums, floats as keys, duplicate keys, indefinite and impossible lengths, in maps that look like ours."""
    check_answerable(data)


@given(st.lists(requests, max_size=3), mutated() | st.binary(max_size=50))
def test_frames_before_the_fault_are_served(sent: list[Request], rest: bytes) -> None:
    """Also what a peer of a later version sends behind them takes nothing from them."""
    assert read(decode_from_client, b"".join(map(encode, sent)) + rest)[: len(sent)] == sent


@given(frames, st.data())
def test_a_frame_that_is_cut_short_is_named(frame: Frame, data: st.DataObject) -> None:
    decode = decode_from_client if isinstance(frame, REQUESTS) else decode_from_server
    whole = encode(frame)
    cut = data.draw(st.integers(1, len(whole) - 1))
    [error] = read(decode, whole[:cut])
    assert isinstance(error, RemoteProtocolError)
    assert error.close_code is CloseCode.BAD_FRAME


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\x01", "map"),
        (b"\x80", "map"),
        (b"\xf6", "map"),
        (b"\xff", ""),
        (b"\xbf\x00\x02\x01\x05\xff", ""),
        (b"\xa0", "request number"),
        (b"\xa1\x00\x02", "request number"),
        (b"\xa2\x00\x18\x63\x01\x20", "request number"),
        (b"\xa2\x00\x18\x63\x01\xf5", "request number"),
        (b"\xa2\x00\x18\x63\x01\x1b\x00\x00\x00\x01\x00\x00\x00\x00", "request number"),
        (b"\xa2\x00\x02\x00\x02", "twice"),
        (b"\xa2\x00\x02\x61a\x02", "no integer"),
        (b"\xa2\x00\x02\x82\x01\x02\x02", "no integer"),
        (b"\xb8\x02\x00\x02\x01\x05", "map of at most"),
        (b"\xb8\x18" + b"".join(bytes([0x18, n, 0]) for n in range(24, 48)), "map of at most"),
        (b"\xac" + b"\x00\x02" * 12, "twice"),
        (b"\xc1\xa2\x00\x02\x01\x05", ""),
        (b"\xd9\xd9\xf7" + encode(HELLO), ""),
        (b"\xa2\x00\x02\x01\xc2\x41\x05", ""),
        (encode(HELLO) + b"\x00", "map"),
        (b"\x9a\xff\xff\xff\xff", ""),
        (b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", ""),
        (b"\xa1\x00\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", ""),
        (b"\x81" * 2000, ""),
        (b"\xa1\x00" * 2000, ""),
        (b"\xa1\x02" + b"\x81" * (limits.MAX_NESTING + 1) + b"\x00", ""),
    ],
)
def test_what_is_no_frame_ends_the_connection_with_bad_frame(data: bytes, says: str) -> None:
    error = read(decode_from_client, data)[-1]
    assert isinstance(error, RemoteProtocolError)
    assert error.close_code is CloseCode.BAD_FRAME
    assert says in error.detail


@pytest.mark.parametrize("key", [b"\xf4", b"\xf9\x00\x00", b"\xfb\x00\x00\x00\x00\x00\x00\x00\x00"])
def test_a_key_that_only_equals_an_integer_is_not_that_key(key: bytes) -> None:
    """False and 0.0 equal 0 in Python and in no other language: two implementations would read two frames."""
    data = encode(SEND)
    [error] = read(decode_from_client, data[:1] + key + data[2:])
    assert isinstance(error, RemoteProtocolError)


unknown_values = (
    st.none() | st.booleans() | st.floats() | st.binary(max_size=9) | st.text() | st.lists(st.integers(0, 9))
)


@given(requests, st.dictionaries(st.integers(20, 2**64 - 1), unknown_values, max_size=15))
def test_unknown_keys_are_ignored(frame: Request, unknown: dict[int, Any]) -> None:
    """What a peer of a later version says beyond ours; up to MAX_FIELDS in all."""
    assert list(decode_from_client(cbor2.dumps(as_map(frame) | unknown))) == [frame]


@given(requests_numbers, st.integers(-(2**64), 2**64 - 1).filter(lambda type_: type_ not in list(Type)))
def test_an_unknown_frame_is_answered_under_its_request_number(request_number: int, type_: int) -> None:
    [error] = decode_from_client(cbor2.dumps({0: type_, 1: request_number}))
    assert isinstance(error, RequestError)
    assert (error.request, error.code) == (request_number, ErrorCode.UNKNOWN_FRAME)


@given(st.integers(0, 2**64 - 1).filter(lambda type_: type_ not in list(Type)))
def test_a_client_leaves_out_pushes_that_it_does_not_know(type_: int) -> None:
    """What a later server pushes has no request number, and must not cost an old client its connection."""
    known = encode(Done(7))
    assert list(decode_from_server(cbor2.dumps({0: type_, 2: bytes(16)}) + known)) == [Done(7)]


@pytest.mark.parametrize("type_", [None, "2", b"\x02", [2], True, 2.0])
def test_a_type_that_is_no_integer_is_an_unknown_frame(type_: Any) -> None:
    """`True == 1` and `2.0 == 2` in Python; on the wire they are not the same."""
    [error] = decode_from_client(cbor2.dumps({0: type_, 1: 5}))
    assert isinstance(error, RequestError)
    assert (error.request, error.code) == (5, ErrorCode.UNKNOWN_FRAME)


@pytest.mark.parametrize("struct", [*REPLIES, *PUSHES])
def test_a_frame_of_the_other_direction_is_unexpected(struct: type[Frame]) -> None:
    [error] = decode_from_client(cbor2.dumps({0: int(struct.TYPE), 1: 5}))
    assert isinstance(error, RequestError)
    assert (error.request, error.code) == (5, ErrorCode.UNEXPECTED_FRAME)


WRONG: dict[Key, list[Any]] = {
    Key.REQUEST: [],
    Key.CONVERSATION: [b"c" * 15, b"c" * 17, "c" * 16, 5, b""],
    Key.CONTENT_TYPE: ["", "a" * 65, "é" * 33, "a\0b", b"text", 5, True],
    Key.CONTENT: [bytes(limits.MAX_CONTENT_BYTES + 1), "text", 5, []],
    Key.NONCE: [bytes(limits.MAX_NONCE_BYTES + 1), "text", False],
    Key.EPHEMERAL_PUBLIC_KEY: [bytes(limits.MAX_PUBLIC_KEY_BYTES + 1), 0],
    Key.TEMP_ID: [b"t" * 15, b"t" * 17, None],
    Key.TOKEN: ["", "a" * 257, "a\0", b"token"],
    Key.VERSION: [-1, 2**16, True, 1.0, "1"],
    Key.MARKS: [
        [],
        {},
        [[b"c" * 16, 1]] * (limits.MAX_MARKS + 1),
        [[b"c" * 16]],
        [[b"c" * 16, 1, 1]],
        [[b"c" * 16, -1]],
        [[b"c" * 16, 2**63]],
        [[b"c" * 16, True]],
        [b"c" * 16, 1],
    ],
}
VALID: tuple[Request, ...] = (HELLO, SEND, MarkDelivered(3, [(b"c" * 16, 1)]))


@pytest.mark.parametrize(
    ("frame", "key", "value"),
    [
        (frame, Key[name.upper()], value)
        for frame in VALID
        for name in frame.__struct_fields__
        for value in WRONG[Key[name.upper()]]
    ],
)
def test_a_field_out_of_bounds_is_named(frame: Request, key: Key, value: Any) -> None:
    """The other frames of the message are served all the same."""
    data = cbor2.dumps(as_map(frame) | {int(key): value})
    before, error, after = decode_from_client(encode(SEND) + data + encode(SEND))
    assert before == after == SEND
    assert isinstance(error, RequestError)
    assert (error.request, error.code) == (frame.request, ErrorCode.INVALID_FRAME)
    assert f"{key.name.lower()} (key {int(key)})" in error.detail


@pytest.mark.parametrize("frame", VALID)
def test_a_missing_field_is_named_unless_it_is_optional(frame: Request) -> None:
    for name in frame.__struct_fields__:
        key = Key[name.upper()]
        fields = as_map(frame)
        if key is Key.REQUEST or key in OPTIONAL:
            continue
        for data in (fields | {int(key): None}, {k: v for k, v in fields.items() if k != key}):
            [error] = decode_from_client(cbor2.dumps(data))
            assert isinstance(error, RequestError)
            assert (error.request, error.code) == (frame.request, ErrorCode.INVALID_FRAME)
            assert f"{name} (key {int(key)}) is missing" in error.detail


@given(ids)
def test_none_and_absent_are_the_same_for_an_optional_field(conversation: bytes) -> None:
    frame = msgspec.structs.replace(SEND, conversation=conversation)
    assert list(decode_from_client(cbor2.dumps(as_map(frame) | {9: None, 10: None}))) == [frame]


@pytest.mark.parametrize(
    "frame",
    [
        Send(1, b"short", "text", b"", None, None, b"t" * 16),
        Send(-1, b"c" * 16, "text", b"", None, None, b"t" * 16),
        Send(2**70, b"c" * 16, "text", b"", None, None, b"t" * 16),
        Send(1, b"c" * 16, "a\ud800", b"", None, None, b"t" * 16),
        Hello(1, "", 1),
        MarkDelivered(1, []),
    ],
)
def test_what_the_server_would_refuse_is_refused_before_it_is_sent(frame: Request) -> None:
    with pytest.raises(LocalProtocolError):
        encode_request(frame)


def _colliding_pairs(count: int) -> list[tuple[int, int]]:
    """Pairs of integers that hash alike: the hash of a tuple can be solved for its second element."""
    p1, p2, p5, mask = 11400714785074694791, 14029467366897019727, 2870177450012600261, 2**64 - 1
    inverse1, inverse2 = pow(p1, -1, 2**64), pow(p2, -1, 2**64)
    target = (hash((1, 2)) - (2 ^ (p5 ^ 3527539))) * inverse1 & mask
    target = (target >> 31 | target << 33) & mask
    pairs: list[tuple[int, int]] = []
    first = 23
    while len(pairs) < count:
        first += 1
        lane = p5 + first * p2 & mask
        lane = (lane << 31 | lane >> 33) * p1 & mask
        second = (target - lane) * inverse2 & mask
        second -= 2**64 * (second >> 63)
        if -1 > second > -(2**61) or 0 <= second < 2**61 - 1:
            pairs.append((first, second))
    assert len({hash(pair) for pair in pairs}) == 1
    return pairs


def _collisions() -> bytes:
    keys = _colliding_pairs(17_000)
    return head(5, len(keys)) + b"".join(cbor2.dumps(list(key)) + b"\x00" for key in keys)


def _integer_keys(size: int) -> bytes:
    count = size // 6
    return b"\xba" + count.to_bytes(4, "big") + b"".join(head(0, n, 4) + b"\x00" for n in range(count))


WORST: dict[str, Callable[[int], bytes]] = {
    "keys that hash alike": lambda _: _collisions(),
    "a field of keys that hash alike": lambda _: b"\xa3\x00\x02\x01\x05\x18\x63" + _collisions(),
    "keys that hash alike in an array": lambda _: b"\xa3\x00\x02\x01\x05\x18\x63\x81" + _collisions(),
    "integer keys": _integer_keys,
    "a field of integer keys": lambda size: b"\xa3\x00\x02\x01\x05\x18\x63" + _integer_keys(size),
    "a field of text keys": lambda size: (
        b"\xa3\x00\x02\x01\x05\x18\x63\xb9\xff\xff" + b"".join(b"\x64%04x" % n for n in range(size // 6))
    ),
    "the smallest frames": lambda size: b"\xa2\x00\x18\x63\x01\x00" * (size // 6),
    "empty maps": lambda size: b"\xa0" * size,
    "one wide array": lambda size: b"\xa3\x00\x04\x01\x00\x13\x9a\x00\x03\xff\xf0" + b"\x00" * size,
    "marks without end": lambda size: b"\xa3\x00\x03\x01\x00\x13\x9a\x00\x01\xff\xf0" + b"\x81\x00" * (size // 2),
    "arrays in arrays": lambda size: b"\x81" * size,
    "maps in maps": lambda size: b"\xa1\x00" * (size // 2),
    "tags in tags": lambda size: b"\xc2" * size,
    "a bignum": lambda size: b"\xa1\x00\xc2\x5a" + size.to_bytes(4, "big") + b"\xff" * size,
    "an endless array": lambda size: b"\x9f" + b"\x00" * size,
    "a text of pieces": lambda size: b"\x7f" + b"\x61a" * (size // 2),
    "an array of 2**62": lambda size: b"\xa1\x00\x9b\x40" + b"\x00" * size,
    "bytes of 2**62": lambda size: b"\xa1\x00\x5b\x40" + b"\x00" * size,
    "a text of 2**31": lambda size: b"\xa1\x00\x7a\x80" + b"\x00" * size,
    "a map of 2**32": lambda size: b"\xba\xff\xff\xff\xff" + b"\x00" * size,
    "maps of 23": lambda size: (b"\xb7" + b"".join(bytes([n, 0]) for n in range(23))) * (size // 47),
    "frames of the greatest length": lambda size: (
        encode(msgspec.structs.replace(SEND, content=bytes(65536))) * (size // 65536)
    ),
}


@both_directions
@pytest.mark.parametrize("kind", WORST)
def test_a_full_message_of_the_worst_kind_is_read_in_bounded_time(decode: Decode, kind: str) -> None:
    """One message must not stop everybody else's: with keys that hash alike it once took 13 s, before any hello."""
    data = WORST[kind](limits.MAX_WEBSOCKET_MESSAGE_BYTES)[: limits.MAX_WEBSOCKET_MESSAGE_BYTES]
    before = time.thread_time()
    read(decode, data)
    assert time.thread_time() - before < MAX_CPU_S


def test_the_reference_encoder_agrees_with_a_library() -> None:
    value = {0: 2, 1: 2**32, 2: b"x" * 300, 7: "é", 19: [[b"", 0], [b"a", 2**63 - 1]]}
    assert cbor2.loads(reference(value)) == value


def test_a_message_of_too_many_frames_is_refused() -> None:
    """A quarter of a megabyte of the smallest frames would cost more to refuse than a thousand sends to serve."""
    smallest = cbor2.dumps({0: 99, 1: 1})
    with pytest.raises(RemoteProtocolError, match=f"more than {limits.MAX_FRAMES} frames"):
        list(decode_from_client(smallest * (limits.MAX_FRAMES + 1)))
    assert len(list(decode_from_client(smallest * limits.MAX_FRAMES))) == limits.MAX_FRAMES
