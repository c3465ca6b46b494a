"""The codec: a frame survives encoding and decoding, and bytes of any peer do no harm."""

from __future__ import annotations

import gc
import operator
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import items, limits
from protocol.codec import decode_from_client, decode_from_server, encode, encode_fields, encode_request
from protocol.codes import CloseCode, ErrorCode
from protocol.encoded import head_of, is_push, with_envelope, with_fields, with_temp_id
from protocol.errors import LocalProtocolError, RemoteProtocolError, RequestError
from protocol.fields import OPTIONAL, OPTIONAL_IN
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Conversation,
    Conversations,
    Done,
    Error,
    Frame,
    Hello,
    Key,
    MarkDelivered,
    Message,
    Messages,
    Ping,
    Request,
    Send,
    Tombstone,
    Type,
    Welcome,
)
from tests.protocol.strategies import (
    RECORDS,
    as_map,
    bare,
    cbor_items,
    frame_like,
    frames,
    from_server,
    full,
    head,
    ids,
    mutated,
    optional_fields,
    records,
    reference,
    reference_frame,
    requests,
    requests_numbers,
)
from tests.protocol.wrong_frames import WRONG
from tests.rows import checked_rows, each_row

HELLO = Hello(1, "token", 1)
SEND = Send(7, b"c" * 16, "text", b"content", None, None, b"t" * 16)

FIXED = ("features", "limits")


@given(records(Welcome))
def test_fields_that_are_encoded_apart_make_the_same_frame(welcome: Welcome) -> None:
    bare = replace(welcome, **dict.fromkeys(FIXED))
    assert with_fields(encode(bare), encode_fields(welcome, FIXED)) == encode(welcome)


Decode = Callable[[bytes], Iterator[Any]]


def read(decode: Decode, data: bytes) -> list[Any]:
    """The frames and errors that `decode` reads in `data`; fails on any error that is not the protocol's own."""
    frames, read = decode(data), []
    while True:
        try:
            read.append(next(frames))
        except StopIteration:
            return read
        except RemoteProtocolError as error:
            return [*read, error]


def check_answerable(data: bytes) -> None:
    """Read the data as either side: each error has an answer that the other side can read."""
    for each in read(decode_from_server, data) + read(decode_from_client, data):
        if isinstance(each, RemoteProtocolError):
            assert isinstance(each.close_code, CloseCode)
            assert each.detail.encode(), "the error fits in the reason of a close frame"
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
    """Each byte equals that of an encoder by the letter of RFC 8949, section 4.2.1: shortest heads, sorted keys."""
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
    """This holds for damage, and for the bytes of a peer of a later version."""
    assert read(decode_from_client, b"".join(map(encode, sent)) + rest)[: len(sent)] == sent


@given(frames, st.data())
def test_a_frame_that_is_cut_short_is_named(frame: Frame, data: st.DataObject) -> None:
    decode = decode_from_client if isinstance(frame, REQUESTS) else decode_from_server
    whole = encode(frame)
    cut = data.draw(st.integers(1, len(whole) - 1))
    [error] = read(decode, whole[:cut])
    assert isinstance(error, RemoteProtocolError)
    assert error.close_code is CloseCode.BAD_FRAME


@each_row(
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
        (b"\xa2\x00\x18\x3f\x01\x20", "request number"),
        (b"\xa2\x00\x18\x3f\x01\xf5", "request number"),
        (b"\xa2\x00\x18\x3f\x01\x1b\x00\x00\x00\x01\x00\x00\x00\x00", "request number"),
        (b"\xa2\x00\x02\x00\x02", "twice"),
        (b"\xa2\x00\x02\x61a\x02", "must be integers"),
        (b"\xa2\x00\x02\x82\x01\x02\x02", "must be integers"),
        (b"\xb8\x02\x00\x02\x01\x05", "map of at most"),
        (b"\xb8\x18" + b"".join(bytes([0x18, n, 0]) for n in range(24, 48)), "map of at most"),
        (b"\xac" + b"\x00\x02" * 12, "twice"),
        (b"\xc1\xa2\x00\x02\x01\x05", "map"),
        (b"\xa3\x00\x0d\x01\x07\x18\xf0\xc1\x00", "tags are not used"),
        (b"\xa3\x00\x0d\x01\x07\x18\xf0\x61\xff", "must be UTF-8"),
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
def test_bytes_that_are_not_a_frame_end_the_connection_with_bad_frame(data: bytes, says: str) -> None:
    error = read(decode_from_client, data)[-1]
    assert isinstance(error, RemoteProtocolError)
    assert error.close_code is CloseCode.BAD_FRAME
    assert says in error.detail


@pytest.mark.parametrize("key", [b"\xf4", b"\xf9\x00\x00", b"\xfb\x00\x00\x00\x00\x00\x00\x00\x00"])
def test_a_key_that_only_equals_an_integer_is_not_that_key(key: bytes) -> None:
    """False and 0.0 equal 0 in Python, but not in other languages: two implementations would read different frames."""
    data = encode(SEND)
    [error] = read(decode_from_client, data[:1] + key + data[2:])
    assert isinstance(error, RemoteProtocolError)


unknown_keys = st.integers(0, 2**64 - 1).filter(lambda key: key not in list(Key))
unknown_values = (
    st.none() | st.booleans() | st.floats() | st.binary(max_size=9) | st.text() | st.lists(st.integers(0, 9))
)


@given(requests, st.dictionaries(unknown_keys, unknown_values, max_size=6))
def test_unknown_keys_are_ignored(frame: Request, unknown: dict[int, Any]) -> None:
    """A peer of a later version may send more keys; up to MAX_FIELDS in all."""
    assert list(decode_from_client(cbor2.dumps(as_map(frame) | unknown))) == [frame]


@given(requests_numbers, st.integers(-(2**64), 2**64 - 1).filter(lambda type_: type_ not in list(Type)))
def test_an_unknown_frame_is_answered_under_its_request_number(request_number: int, type_: int) -> None:
    [error] = decode_from_client(cbor2.dumps({0: type_, 1: request_number}))
    assert isinstance(error, RequestError)
    assert (error.request, error.code) == (request_number, ErrorCode.UNKNOWN_FRAME)


@given(st.integers(0, 2**64 - 1).filter(lambda type_: type_ not in list(Type)))
def test_a_client_leaves_out_pushes_that_it_does_not_know(type_: int) -> None:
    """A push of a later server has no request number, and must not cost an old client its connection."""
    known = encode(Done(7))
    assert list(decode_from_server(cbor2.dumps({0: type_, 2: bytes(16)}) + known)) == [Done(7)]


@each_row("type_", [None, "2", b"\x02", [2], True, 2.0])
def test_a_type_that_is_no_integer_is_an_unknown_frame(type_: Any) -> None:
    """`True == 1` and `2.0 == 2` in Python; on the wire they differ."""
    [error] = decode_from_client(cbor2.dumps({0: type_, 1: 5}))
    assert isinstance(error, RequestError)
    assert (error.request, error.code) == (5, ErrorCode.UNKNOWN_FRAME)


def test_a_frame_of_the_other_direction_is_unexpected() -> None:
    with checked_rows() as rows:
        for struct in (*REPLIES, *PUSHES):
            with rows.row(struct):
                [error] = decode_from_client(cbor2.dumps({0: int(struct.TYPE), 1: 5}))
                assert isinstance(error, RequestError)
                assert (error.request, error.code) == (5, ErrorCode.UNEXPECTED_FRAME)


def refusal(struct: type[Frame], item: dict[int, Any]) -> str:
    """The detail of the error for a frame with a wrong field; checks that the receiver reads the frame before it."""
    data = cbor2.dumps(item)
    if struct in REQUESTS:
        before, error, after = decode_from_client(encode(SEND) + data + encode(SEND))
        assert before == after == SEND, "the other frames of the message are served all the same"
        assert isinstance(error, RequestError)
        assert (error.request, error.code) == (item[1], ErrorCode.INVALID_FRAME)
        return error.detail
    [before, fault] = read(decode_from_server, encode(Done(1)) + data)
    assert before == Done(1)
    assert isinstance(fault, RemoteProtocolError)
    assert fault.close_code is CloseCode.BAD_FRAME
    return fault.detail


FIELDS = [(struct, name) for struct in (*REQUESTS, *REPLIES, *PUSHES) for name in struct.__struct_fields__]


def test_a_field_out_of_bounds_is_named() -> None:
    with checked_rows() as rows:
        for struct, name in FIELDS:
            key = Key[name.upper()]
            for value in WRONG[key]:
                with rows.row((struct, name, value)):
                    assert f"{name} (key {int(key)})" in refusal(struct, as_map(full(struct)) | {int(key): value})


def test_a_missing_field_is_named_unless_it_is_optional() -> None:
    """Absent and null mean the same; a field may be absent if the annotation of its struct allows None."""
    with checked_rows() as rows:
        for struct, name in FIELDS:
            with rows.row((struct, name)):
                check_missing(struct, name)


def check_missing(struct: type[Frame], name: str) -> None:
    key = Key[name.upper()]
    fields = as_map(full(struct))
    without = {k: v for k, v in fields.items() if k != key}
    for item in (fields | {int(key): None}, without):
        if name in optional_fields(struct):
            decode = decode_from_client if struct in REQUESTS else decode_from_server
            assert list(decode(cbor2.dumps(item))) == [replace(full(struct), **{name: None})]
        elif struct in REQUESTS and key is Key.REQUEST:
            assert isinstance(read(decode_from_client, cbor2.dumps(item))[0], RemoteProtocolError)
        else:
            assert f"{name} (key {int(key)}) is missing" in refusal(struct, item)


def test_a_fault_in_a_frame_within_a_frame_is_named_with_its_way_there() -> None:
    item = as_map(full(Conversations))
    item[28][0][35][0][37] = -1
    where = "conversations (key 28): participants (key 35): joined_seq (key 37) must be an unsigned integer"
    assert where in refusal(Conversations, item)
    del item[28][0][40][3]
    item[28][0][35] = []
    assert "conversations (key 28): last_message (key 40): seq (key 3) is missing" in refusal(Conversations, item)


def test_fields_that_may_be_absent_are_absent_or_there() -> None:
    with checked_rows() as rows:
        for struct in (*REQUESTS, *REPLIES, *PUSHES):
            decode = decode_from_client if struct in REQUESTS else decode_from_server
            for kind in (bare, full):
                with rows.row((struct, kind)):
                    frame = kind(struct)
                    assert list(decode(reference_frame(frame))) == [frame]
                    assert encode(frame) == reference_frame(frame)


def test_the_tables_of_optional_fields_agree_with_the_annotations() -> None:
    for struct in RECORDS:
        optional = OPTIONAL | OPTIONAL_IN.get(struct, frozenset())
        listed = {name for name in struct.__struct_fields__ if Key[name.upper()] in optional}
        assert listed == optional_fields(struct), struct


@given(frames)
def test_head_of_finds_what_decoding_finds(frame: Frame) -> None:
    head = (frame.conversation, frame.seq) if isinstance(frame, Message | Tombstone) else None
    assert head_of(encode(frame)) == head


@pytest.mark.parametrize("struct", [Message, Tombstone])
def test_head_of_reads_a_seq_of_any_width(struct: type[Message | Tombstone]) -> None:
    for seq in (0, 1, 23, 24, 255, 256, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**53, limits.MAX_SEQ):
        for kind in (bare, full):
            assert head_of(encode(replace(kind(struct), seq=seq))) == (b"\x11" * 16, seq)


def test_is_push_says_what_the_type_says() -> None:
    with checked_rows() as rows:
        for struct in (*REQUESTS, *REPLIES, *PUSHES):
            for kind in (bare, full):
                with rows.row((struct, kind)):
                    data = encode(kind(struct))
                    assert is_push(data) == (struct in PUSHES)
                    assert (head_of(data) is None) == (struct not in (Message, Tombstone))


@each_row("fields", range(4, limits.MAX_FIELDS + 1))
def test_how_deep_a_frame_may_be_does_not_depend_on_its_length(fields: int) -> None:
    """An earlier decoder allowed one level more for a frame of 12 fields."""
    deep: Any = 0
    for _ in range(limits.MAX_NESTING - 1):
        deep = [deep]
    item = {0: 13, 1: 7} | dict.fromkeys(range(1000, 998 + fields), 0)
    assert list(decode_from_client(cbor2.dumps(item | {1000: deep}))) == [Ping(7)]
    assert list(decode_from_client(cbor2.dumps(item | {997 + fields: deep}))) == [Ping(7)]
    [error] = read(decode_from_client, cbor2.dumps(item | {1000: [deep]}))
    assert isinstance(error, RemoteProtocolError)
    assert "more levels" in error.detail


def test_frames_of_later_versions_are_left_out_within_frames_too() -> None:
    """So are keys of a later version in a map within a frame; an unknown frame in `last_message` is read as None."""
    page = as_map(full(Messages))
    page[27].insert(1, {0: 255, 1: {2: "three"}})
    page[27][0][240] = {1: 2}
    assert list(decode_from_server(cbor2.dumps(page))) == [full(Messages)]
    item = as_map(full(Conversation)) | {40: {0: 255, 2: b"c"}}
    item[35][0] |= {0: 255, 240: "later"}
    assert list(decode_from_server(cbor2.dumps(item))) == [replace(full(Conversation), last_message=None)]


@given(ids)
def test_none_and_absent_are_the_same_for_an_optional_field(conversation: bytes) -> None:
    frame = replace(SEND, conversation=conversation)
    assert list(decode_from_client(cbor2.dumps(as_map(frame) | {9: None, 10: None}))) == [frame]


@each_row(
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
def test_a_frame_that_the_server_would_refuse_is_refused_before_it_is_sent(frame: Request) -> None:
    with pytest.raises(LocalProtocolError):
        encode_request(frame)


@cache
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


def _collisions(size: int) -> bytes:
    keys = _colliding_pairs(17_000)[: size // 15]
    return head(5, len(keys), 4) + b"".join(cbor2.dumps(list(key)) + b"\x00" for key in keys)


def _integer_keys(size: int) -> bytes:
    count = size // 6
    return b"\xba" + count.to_bytes(4, "big") + b"".join(head(0, n, 4) + b"\x00" for n in range(count))


WORST: dict[str, Callable[[int], bytes]] = {
    "keys that hash alike": _collisions,
    "keys that hash alike in a field": lambda size: b"\xa3\x00\x02\x01\x05\x18\xf0" + _collisions(size),
    "keys that hash alike in an array": lambda size: b"\xa3\x00\x02\x01\x05\x18\xf0\x81" + _collisions(size),
    "integer keys": _integer_keys,
    "a field of integer keys": lambda size: b"\xa3\x00\x02\x01\x05\x18\xf0" + _integer_keys(size),
    "a field of text keys": lambda size: (
        b"\xa3\x00\x02\x01\x05\x18\xf0\xb9\xff\xff" + b"".join(b"\x64%04x" % n for n in range(size // 6))
    ),
    "the smallest frames": lambda size: b"\xa2\x00\x18\x3f\x01\x00" * (size // 6),
    "empty maps": lambda size: b"\xa0" * size,
    "an unknown field of arrays": lambda size: (
        b"\xa3\x00\x0d\x01\x00\x18\xf0\x9a" + (size // 2).to_bytes(4, "big") + b"\x81\xf6" * (size // 2)
    ),
    "unknown fields of bytes": lambda size: (
        (b"\xa3\x00\x0d\x01\x00\x18\xf0\x59\x0f\xff" + bytes(4095)) * (size // 4105)
    ),
    "frames in frames": lambda size: (
        b"\xa4\x00\x18\x46\x01\x00\x17\xf4\x18\x1b\x9a"
        + (size // 4).to_bytes(4, "big")
        + b"\xa1\x00\x18\xff" * (size // 4)
    ),
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
    "frames of the greatest length": lambda size: encode(replace(SEND, content=bytes(65536))) * (size // 65536),
}


@settings(max_examples=300)
@given(
    st.binary(max_size=60)
    | mutated()
    | frame_like()
    | st.builds(operator.add, frames.map(encode), st.binary(max_size=12) | cbor_items | frames.map(encode))
)
@example(encode(Ping(1)))
@example(encode(Ping(1)) * 2)
@example(encode(Ping(1))[:-1])
@example(encode(Ping(1)) + items.END_ITEM[:1])
@example(b"\xa2\x00\x0d\x01\x49")
@example(b"\xa1\x00")
@example(b"\xa2\x00\x01\x00\x01")
@example(b"\xa1\x61a\x01")
@example(b"\xa1\xf4\x01")
def test_the_short_way_for_one_frame_reads_what_the_long_one_reads(data: bytes) -> None:
    for options in (items.FROM_CLIENT, items.FROM_SERVER):
        item = items.only_item(data, options)
        if item is not None:
            [long] = items.each_item(data, options)
            assert repr(item) == repr(long), "types and the order of keys count, and NaN equals NaN"


@given(frames)
def test_the_short_way_is_taken_for_every_single_frame(frame: Frame) -> None:
    assert items.only_item(encode(frame), items.FROM_SERVER) == cbor2.loads(encode(frame))


def cpu_s(decode: Decode, data: bytes) -> float:
    """The shortest of three reads, without the garbage collector, which walks over the whole process."""
    times = []
    gc.disable()
    try:
        for _ in range(3):
            before = time.thread_time()
            read(decode, data)
            times.append(time.thread_time() - before)
    finally:
        gc.enable()
    return min(times)


CASES = [(decode_from_client, kind) for kind in WORST] + [
    (decode_from_server, kind) for kind in WORST if "hash alike in" not in kind
]


@pytest.mark.parametrize(("decode", "kind"), CASES)
def test_eight_times_as_much_of_the_worst_takes_about_eight_times_as_long(decode: Decode, kind: str) -> None:
    """One message must not hold up all other connections: with keys of equal hash it once took 13 s, before any hello.

    Quadratic work takes 64 times as long. A client does not check keys in fields: its server's frames have them, and
    a hostile server has simpler ways to do harm.
    """
    most = limits.MAX_WEBSOCKET_MESSAGE_BYTES
    less, more = (cpu_s(decode, WORST[kind](size)[:size]) for size in (most // 8, most))
    assert more < 8 * 5 * less + 0.02


def test_the_reference_encoder_agrees_with_a_library() -> None:
    value = {0: 2, 1: 2**32, 2: b"x" * 300, 7: "é", 19: [[b"", 0], [b"a", 2**63 - 1]]}
    assert cbor2.loads(reference(value)) == value


def test_a_message_of_too_many_frames_is_refused() -> None:
    """A quarter of a megabyte of the smallest frames would cost more to refuse than a thousand sends to serve."""
    smallest = cbor2.dumps({0: 63, 1: 1})
    with pytest.raises(RemoteProtocolError, match=f"more than {limits.MAX_FRAMES} frames"):
        list(decode_from_client(smallest * (limits.MAX_FRAMES + 1)))
    assert len(list(decode_from_client(smallest * limits.MAX_FRAMES))) == limits.MAX_FRAMES


@given(records(Message), ids)
def test_a_temp_id_is_put_into_an_encoded_message(message: Message, temp_id: bytes) -> None:
    """The bytes equal those of the message encoded with its temp_id, for any other fields."""
    assert with_temp_id(encode(replace(message, temp_id=None)), temp_id) == encode(replace(message, temp_id=temp_id))


@given(records(Message), records(Message))
def test_an_envelope_is_put_behind_an_encoded_message(message: Message, other: Message) -> None:
    """The bytes before it are those of the message for all other devices, but for the number of the fields."""
    envelope = other.envelope or b"e"
    told, shared = encode(replace(message, envelope=envelope)), encode(replace(message, envelope=None))
    assert with_envelope(shared, envelope) == told
    assert told[1:].startswith(shared[1:])


@each_row("size", [1, 23, 24, 255, 256, 65_535, 65_536])
def test_an_envelope_of_any_length_is_encoded_in_the_shortest_way(size: int) -> None:
    message = replace(full(Message), envelope=None)
    assert with_envelope(encode(message), bytes(size)) == reference_frame(replace(message, envelope=bytes(size)))


@pytest.mark.parametrize("data", ["a10107f5", "a20018a500f5", "a1", "a10101a10101a1", "a10101a10101a10101"])
def test_a_message_that_is_cut_off_leaves_nothing_that_the_garbage_collector_trips_over(
    monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    """CPython 3.12.1 crashed on a buffer in a cycle, and other versions report unraisable errors: for an error that the
    caller kept, and for frames that the caller did not read to the end."""
    unraisable: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)
    gc.freeze()  # else each round walks over all objects of pytest
    for decode in (decode_from_client, decode_from_server):
        for count in range(4):
            iterator = decode(bytes.fromhex(data))
            try:
                for _ in range(count):
                    next(iterator)
            except RemoteProtocolError as error:
                error.itself = error  # type: ignore[attr-defined]  # a cycle that is younger than its objects
            except StopIteration:
                pass
            kept: list[Any] = [iterator]
            kept.append(kept)
            del iterator, kept
            gc.collect()
    gc.unfreeze()
    assert unraisable == []
