"""The WebSocket receiver: it reads valid frames whole, in pieces of any size; invalid frames do no harm."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from protocol import limits, websocket
from protocol.errors import LocalProtocolError
from protocol.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    XOR_BYTES,
    Close,
    Event,
    Ping,
    Pong,
    WebSocketError,
    WebSocketReceiver,
    binary_header,
    close_frame,
    ping_frame,
    pong_frame,
)
from tests.rows import each_row

MAX_BYTES = limits.MAX_WEBSOCKET_MESSAGE_BYTES
MAX_FRAGMENTS = 64
MASK = b"\x37\xfa\x21\x3d"

Outcome = list[Event | int]
"""Events in order; if the receiver raised an error, its close code comes last."""


def length(size: int, width: int | None = None) -> bytes:
    """The length of a masked frame, in `width` bytes beyond the first, or in the fewest possible."""
    if width is None:
        width = 0 if size < 126 else 2 if size < 65536 else 8
    return bytes([0x80 | {0: size, 2: 126, 8: 127}[width]]) + (size.to_bytes(width, "big") if width else b"")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = MASK) -> bytes:
    """A client's frame by the letter of RFC 6455, section 5.3: octet i is masked with octet i modulo 4."""
    masked = int.from_bytes(payload) ^ int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)])
    return bytes([fin << 7 | rsv << 4 | opcode]) + length(len(payload)) + mask + masked.to_bytes(len(payload))


def fragments(*parts: bytes, mask: bytes = MASK) -> list[bytes]:
    last = len(parts) - 1
    return [frame(BINARY if i == 0 else CONTINUATION, part, fin=i == last, mask=mask) for i, part in enumerate(parts)]


def alike(part: bytes, count: int) -> list[bytes]:
    """The same as `fragments` of `count` equal parts, but fast for a large `count`."""
    first, middle, last = fragments(part, part, part)
    return [first, *[middle] * (count - 2), last]


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def chop(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def receiver(max_fragments: int = MAX_FRAGMENTS) -> WebSocketReceiver:
    return WebSocketReceiver(MAX_BYTES, max_fragments)


def read(chunks: Iterable[bytes], to: WebSocketReceiver | None = None) -> Outcome:
    """The events of these chunks; feeds all chunks, and fails on an event after the end or on any other error."""
    to = to or receiver()
    read: list[Event | WebSocketError] = []
    for chunk in chunks:
        try:
            read.extend(to.receive(chunk))  # `extend` keeps the events before an error.
        except WebSocketError as error:
            read.append(error)
    assert not any(isinstance(each, Close | WebSocketError) for each in read[:-1]), "nothing comes after the end"
    return [check_reason(each) if isinstance(each, WebSocketError) else each for each in read]


def check_reason(error: WebSocketError) -> int:
    assert 0 < len(error.detail.encode()) <= 123, "the error fits in the reason of a close frame"
    return error.close_code


HELLO = b"Hello, world!"
BYTES = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
NO_UTF8 = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64"
PART1, PART2 = b"fragment1", b"fragment2"
SIZES = (0, 125, 126, 127, 128, 65535, 65536)
MI = 1 << 20

GREETING = frame(BINARY, HELLO)
PAYLOADS = [b"payload-%d" % i for i in range(10)]
FIVE = fragments(*(b"fragment%d" % i for i in range(1, 6)))
FIVE_JOINED = b"fragment1fragment2fragment3fragment4fragment5"
VALID_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
INVALID_CODES = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)

AUTOBAHN: dict[str, tuple[list[bytes], Outcome]] = {
    **{
        f"1.1.{i} 6.* 9.1.* 9.3.* 9.5.* 9.7.*: text of {n}": ([frame(TEXT, b"*" * n)], [1003])
        for i, n in enumerate(SIZES, 1)
    },
    **{f"1.2.{i}: {n} bytes": ([frame(BINARY, b"\xfe" * n)], [b"\xfe" * n]) for i, n in enumerate(SIZES, 1)},
    "1.2.8: 65536 bytes in chops of 997": ([*chop(frame(BINARY, b"\xfe" * 65536), 997)], [b"\xfe" * 65536]),
    "2.1: empty ping": ([frame(PING)], [Ping(b"")]),
    "2.2: ping with text": ([frame(PING, HELLO)], [Ping(HELLO)]),
    "2.3: ping with bytes": ([frame(PING, BYTES)], [Ping(BYTES)]),
    "2.4 2.6: ping of 125": ([frame(PING, b"\xfe" * 125)], [Ping(b"\xfe" * 125)]),
    "2.5: ping of 126": ([frame(PING, b"\xfe" * 126)], [1002]),
    "2.7: unsolicited pong": ([frame(PONG), close(1000)], [Pong(b""), Close(1000, "")]),
    "2.8: unsolicited pong with payload": ([frame(PONG, HELLO), close(1000)], [Pong(HELLO), Close(1000, "")]),
    "2.9: unsolicited pong, ping": ([frame(PONG, HELLO), frame(PING, BYTES)], [Pong(HELLO), Ping(BYTES)]),
    "2.10 2.11: ten pings": ([frame(PING, payload) for payload in PAYLOADS], [Ping(payload) for payload in PAYLOADS]),
    "3.1: RSV 1": ([frame(BINARY, HELLO, rsv=1)], [1002]),
    "3.2: RSV 2": ([GREETING, frame(BINARY, HELLO, rsv=2), frame(PING)], [HELLO, 1002]),
    "3.3: RSV 3": ([GREETING, frame(BINARY, HELLO, rsv=3), frame(PING)], [HELLO, 1002]),
    "3.4: RSV 4": ([GREETING, frame(BINARY, HELLO, rsv=4), frame(PING)], [HELLO, 1002]),
    "3.5: RSV 5": ([frame(BINARY, BYTES, rsv=5)], [1002]),
    "3.6: RSV 6 in a ping": ([frame(PING, HELLO, rsv=6)], [1002]),
    "3.7: RSV 7 in a close": ([frame(CLOSE, rsv=7)], [1002]),
    "4.1.1: opcode 3": ([frame(3)], [1002]),
    "4.1.2: opcode 4": ([frame(4, b"reserved opcode payload")], [1002]),
    "4.1.3: opcode 5": ([GREETING, frame(5), frame(PING)], [HELLO, 1002]),
    "4.1.4: opcode 6": ([GREETING, frame(6, HELLO), frame(PING)], [HELLO, 1002]),
    "4.1.5: opcode 7": ([GREETING, frame(7, HELLO), frame(PING)], [HELLO, 1002]),
    "4.2.1: opcode 11": ([frame(11)], [1002]),
    "4.2.2: opcode 12": ([frame(12, b"reserved opcode payload")], [1002]),
    "4.2.3: opcode 13": ([GREETING, frame(13), frame(PING)], [HELLO, 1002]),
    "4.2.4: opcode 14": ([GREETING, frame(14, HELLO), frame(PING)], [HELLO, 1002]),
    "4.2.5: opcode 15": ([GREETING, frame(15, HELLO), frame(PING)], [HELLO, 1002]),
    "5.1: ping in fragments": ([frame(PING, PART1, fin=False), frame(CONTINUATION, PART2)], [1002]),
    "5.2: pong in fragments": ([frame(PONG, PART1, fin=False), frame(CONTINUATION, PART2)], [1002]),
    "5.3 5.4 5.5: two fragments": (fragments(PART1, PART2), [PART1 + PART2]),
    "5.6 5.7 5.8: ping between fragments": (
        [frame(BINARY, PART1, fin=False), frame(PING, HELLO), frame(CONTINUATION, PART2)],
        [Ping(HELLO), PART1 + PART2],
    ),
    "5.9 5.10 5.11: final continuation of nothing": ([frame(CONTINUATION, HELLO), GREETING], [1002]),
    "5.12 5.13 5.14: continuation of nothing": ([frame(CONTINUATION, HELLO, fin=False), GREETING], [1002]),
    "5.15: continuation after the final fragment": (
        [*fragments(PART1, PART2), frame(CONTINUATION, PART1, fin=False), GREETING],
        [PART1 + PART2, 1002],
    ),
    "5.16: continuation of nothing, fragments": (
        [frame(CONTINUATION, PART1, fin=False), *fragments(PART1, PART2)] * 2,
        [1002],
    ),
    "5.17: final continuation of nothing, fragments": (
        [frame(CONTINUATION, PART1), *fragments(PART1, PART2)] * 2,
        [1002],
    ),
    "5.18: a message inside another": ([frame(BINARY, PART1, fin=False), frame(BINARY, PART2)], [1002]),
    "5.19 5.20: pings between five fragments": (
        [*FIVE[:2], frame(PING, b"pongme 1!"), *FIVE[2:4], frame(PING, b"pongme 2!"), *FIVE[4:]],
        [Ping(b"pongme 1!"), Ping(b"pongme 2!"), FIVE_JOINED],
    ),
    "7.1.1: message, close": ([GREETING, close(1000)], [HELLO, Close(1000, "")]),
    "7.1.2: two closes": ([close(1000), frame(CLOSE)], [Close(1000, "")]),
    "7.1.3: ping after close": ([close(1000), frame(PING)], [Close(1000, "")]),
    "7.1.4: message after close": ([close(1000), GREETING], [Close(1000, "")]),
    "7.1.5: close between fragments": (
        [frame(BINARY, PART1, fin=False), close(1000), frame(CONTINUATION, PART2)],
        [Close(1000, "")],
    ),
    "7.1.6: 256 KiB, message, close, ping": (
        [frame(BINARY, bytes(256 * 1024)), GREETING, close(1000), frame(PING)],
        [bytes(256 * 1024), HELLO, Close(1000, "")],
    ),
    "7.3.1: close without code": ([frame(CLOSE)], [Close(None, "")]),
    "7.3.2: close with 1 byte": ([frame(CLOSE, b"a")], [1002]),
    "7.3.3: close with code": ([close(1000)], [Close(1000, "")]),
    "7.3.4: close with reason": ([close(1000, HELLO)], [Close(1000, HELLO.decode())]),
    "7.3.5: close with reason of 123": ([close(1000, b"*" * 123)], [Close(1000, "*" * 123)]),
    "7.3.6: close with reason of 124": ([close(1000, b"*" * 124)], [1002]),
    "7.5.1: reason that is not UTF-8": ([close(1000, NO_UTF8)], [1007]),
    **{f"7.7.{i}: code {code}": ([close(code)], [Close(code, "")]) for i, code in enumerate(VALID_CODES, 1)},
    **{f"7.9.{i}: code {code}": ([close(code)], [1002]) for i, code in enumerate(INVALID_CODES, 1)},
    "7.13.1: code 5000": ([close(5000)], [1002]),
    "7.13.2: code 65535": ([close(65535)], [1002]),
    "9.2.1: 64 KiB": ([frame(BINARY, b"\xfa" * 65536)], [b"\xfa" * 65536]),
    "9.2.2 9.6.*: 256 KiB": ([frame(BINARY, b"\xfa" * MAX_BYTES)], [b"\xfa" * MAX_BYTES]),
    "9.2.3 9.2.4 9.2.5 9.2.6: 1 MiB and more": ([frame(BINARY, bytes(MI))], [1009]),
    **{
        f"9.4.{i}: 4 MiB in fragments of {n}": (fragments(*[bytes(n)] * min(MI // n, 100)), [1009])
        for i, n in enumerate((64, 256, 1024, 4096, 16384, 65536, MAX_BYTES, MI), 1)
    },
    **{
        f"9.8.{i}: messages of {n}": ([frame(BINARY, b"\xfe" * n)] * 100, [b"\xfe" * n] * 100)
        for i, n in enumerate((0, 16, 64, 256, 1024, 4096), 1)
    },
    "10.1.1: 65536 bytes in fragments of 1300": (fragments(*chop(b"*" * 65536, 1300)), [b"*" * 65536]),
}
"""Cases of the Autobahn test suite for servers -> frames, and the expected outcome.

These cases send binary messages instead of the suite's texts; only the first cases send text, and the server refuses
it. Messages of megabytes end where the server refuses them. 12.* and 13.* are left out, as they test compression and
the server does not offer it.
"""


@pytest.mark.parametrize(("frames", "outcome"), AUTOBAHN.values(), ids=AUTOBAHN)
def test_autobahn(frames: list[bytes], outcome: Outcome) -> None:
    """The outcome is the same in one piece, frame by frame and octet by octet."""
    data = b"".join(frames)
    assert read([data]) == outcome
    assert read(frames) == outcome
    assert read(chop(data, 1)) == outcome


TOO_LONG = (MAX_BYTES + 1).to_bytes(8, "big")


@each_row(
    ("before", "header", "code", "detail"),
    [
        ([], b"\x82\x05", 1002, "must mask"),
        ([], b"\x89\x00", 1002, "must mask"),
        ([], b"\xc2\x85", 1002, "reserved bits"),
        ([], b"\xa2\x85", 1002, "reserved bits"),
        ([], b"\x92\x85", 1002, "reserved bits"),
        ([], b"\x83\x85", 1002, "opcode 3 "),
        ([], b"\x8f\x85", 1002, "opcode 15 "),
        ([], b"\x81\xfe", 1003, "binary"),
        ([], b"\x01\xff", 1003, "binary"),
        ([frame(BINARY, fin=False)], b"\x81\xfe", 1003, "binary"),
        ([], b"\x09\x85", 1002, "fragmented"),
        ([], b"\x89\xfe", 1002, "125"),
        ([], b"\x88\xff", 1002, "125"),
        ([], b"\x80\x85", 1002, "no message was begun"),
        ([*fragments(b"a", b"b")], b"\x80\x85", 1002, "no message was begun"),
        ([frame(BINARY, fin=False)], b"\x82\x85", 1002, "under way"),
        ([frame(BINARY, fin=False)], b"\x02\x85", 1002, "under way"),
        ([], b"\x82\xff\x80" + bytes(7), 1002, "most significant bit"),
        ([], b"\x82\xfe\x00\x7d", 1002, "125 is written with 2"),
        ([], b"\x82\xff" + (65535).to_bytes(8, "big"), 1002, "65535 is written with 8"),
        ([], b"\x82\xff" + TOO_LONG, 1009, f"{MAX_BYTES} bytes"),
        ([], b"\x02\xff" + TOO_LONG, 1009, f"{MAX_BYTES} bytes"),
        ([], b"\x82\xff\x7f" + b"\xff" * 7, 1009, f"{MAX_BYTES} bytes"),
        ([frame(BINARY, bytes(MAX_BYTES), fin=False)], b"\x80\x81", 1009, f"{MAX_BYTES} bytes"),
        ([frame(BINARY, bytes(MAX_BYTES - 999), fin=False)], b"\x00\xfe\x03\xe8", 1009, f"{MAX_BYTES} bytes"),
        (fragments(*[b""] * MAX_FRAGMENTS, b"")[:-1], b"\x00\x80", 1009, f"{MAX_FRAGMENTS} fragments"),
        (fragments(*[b"a"] * MAX_FRAGMENTS, b"")[:-1], b"\x80\x81", 1009, f"{MAX_FRAGMENTS} fragments"),
    ],
)
def test_a_fault_is_named_as_soon_as_its_header_is_there(
    before: list[bytes], header: bytes, code: int, detail: str
) -> None:
    """The receiver raises at the byte of the header that shows the fault, and not a byte earlier."""
    to = receiver()
    read([*before, header[:-1]], to)
    with pytest.raises(WebSocketError, match=detail) as error:
        list(to.receive(header[-1:]))
    assert error.value.close_code == code


def test_a_message_may_have_as_many_bytes_and_fragments_as_the_bounds_say() -> None:
    whole = b"a" * MAX_BYTES
    parts = [*chop(whole, MAX_BYTES // MAX_FRAGMENTS)]
    assert len(parts) == MAX_FRAGMENTS
    assert read([*fragments(*parts), frame(BINARY, whole), *fragments(*parts)]) == [whole] * 3


def test_control_frames_have_bounds_of_their_own() -> None:
    """The receiver still reads a ping within a message that fills its bounds, even for the smallest bounds."""
    pinged = [frame(BINARY, b"a", fin=False), frame(PING, b"p" * 125), frame(CLOSE)]
    assert read(pinged, WebSocketReceiver(1, 1)) == [Ping(b"p" * 125), Close(None, "")]


def test_close_codes_are_those_that_are_registered() -> None:
    registered = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
    for code in range(990, 1025):
        assert read([close(code)]) == ([Close(code, "")] if code in registered else [1002]), code


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (frame(CLOSE, b"a"), "payload of 1 byte"),
        (close(1005), "code 1005 may not be sent"),
        (close(1000, NO_UTF8), "not UTF-8"),
    ],
)
def test_faults_of_close_frames_are_named(sent: bytes, detail: str) -> None:
    with pytest.raises(WebSocketError, match=detail):
        list(receiver().receive(sent))


# Four of the longest payloads make the longest message that the receiver allows.
payloads = st.binary(max_size=12) | st.sampled_from(
    [bytes(range(256)) * 200, *(b"\xa5" * n for n in (125, 126, 127, XOR_BYTES, XOR_BYTES + 1, 65535, 65536))]
).flatmap(lambda long: st.integers(0, 5).map(lambda less: long[less:]))
masks = st.binary(min_size=4, max_size=4)
controls = st.lists(st.builds(Ping, st.binary(max_size=125)) | st.builds(Pong, st.binary(max_size=125)), max_size=2)


def control(event: Ping | Pong, mask: bytes) -> bytes:
    return frame(PING if isinstance(event, Ping) else PONG, event.payload, mask=mask)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], Outcome]:
    """Frames of a correct client, and the events that a server must read in them."""
    frames: list[bytes] = []
    events: Outcome = []
    for parts in draw(st.lists(st.lists(payloads, min_size=1, max_size=4), max_size=4)):
        for part in fragments(*parts, mask=draw(masks)):
            between = draw(controls)
            frames += [*(control(each, draw(masks)) for each in between), part]
            events += between
        events.append(b"".join(parts))
    if draw(st.booleans()):
        reason = draw(st.text(max_size=30))
        frames += [close(1000, reason.encode()), draw(st.binary(max_size=20))]
        events.append(Close(1000, reason))
    return frames, events


@st.composite
def chopped(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces, empty ones among them; cut mostly near the beginning, where headers are."""
    places = st.integers(0, len(data)) | st.integers(0, min(len(data), 40))
    cuts = [0, *sorted(draw(st.lists(places, max_size=12))), len(data)]
    return [data[begin:end] for begin, end in pairwise(cuts)]


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Two to fourteen bytes that look like a frame's header, with faults in any part, and some payload."""
    first = draw(st.sampled_from([0x82, 0x02, 0x80, 0x00, 0x88, 0x89, 0x8A, 0x81])) ^ draw(
        st.sampled_from([0] * 12 + [0x80, 0x40, 0x20, 0x10, 0x04])
    )
    size = draw(st.integers(0, 9) | st.sampled_from([125, 126, 127, 65535, 65536, MAX_BYTES, MAX_BYTES + 1, 2**63]))
    widths = [width for width in (0, 2, 8) if size < (126, 65536, 2**64)[(0, 2, 8).index(width)]]
    second = bytearray(length(size, draw(st.sampled_from([widths[0], *widths]))))
    second[0] ^= draw(st.sampled_from([0] * 12 + [0x80]))
    return bytes([first]) + second + draw(masks) + draw(st.binary(max_size=9) | st.binary(min_size=size % 128))


closes = st.builds(
    close,
    st.integers(0, 65535) | st.integers(995, 1020) | st.sampled_from([2999, 3000, 4999, 5000]),
    st.binary(max_size=9),
)
anything: st.SearchStrategy[bytes] = st.lists(
    st.one_of(
        st.binary(max_size=20),
        headers(),
        closes,
        st.builds(frame, st.integers(0, 15), st.binary(max_size=9), fin=st.booleans(), mask=masks),
        conversations().map(lambda conversation: b"".join(conversation[0])[:300]),
    ),
    max_size=6,
).map(b"".join)
"""Bytes of a faulty client, of a client of another protocol, or of an attacker."""


@given(conversations(), st.data())
def test_messages_come_out_in_any_pieces(said: tuple[list[bytes], Outcome], data: st.DataObject) -> None:
    frames, events = said
    sent = b"".join(frames)
    assert read([sent]) == events
    assert read(data.draw(chopped(sent))) == events


@settings(max_examples=300)
@given(anything, st.data())
@example(b"\x81", None)
def test_any_bytes_give_events_or_one_error_however_chopped(sent: bytes, data: st.DataObject | None) -> None:
    outcome = read([sent])
    assert read(chop(sent, 1)) == outcome
    if data is not None:
        assert read(data.draw(chopped(sent))) == outcome


@given(st.binary(max_size=3000), masks, st.integers(0, 9))
def test_unmasking_is_the_same_for_what_came_at_once_and_what_was_kept(payload: bytes, mask: bytes, cut: int) -> None:
    """The receiver has four ways to unmask: for short and long payloads, kept or complete."""
    sent = frame(BINARY, payload, mask=mask)
    assert read([GREETING + sent]) == [HELLO, payload]
    assert read([sent[:cut], sent[cut:] + GREETING]) == [payload, HELLO]


def read_by_wsproto(data: bytes) -> tuple[Outcome, bool]:
    """The events that wsproto reads in the same bytes, and whether it raises an error."""
    protocol = FrameProtocol(client=False, extensions=[])
    outcome: Outcome = []
    parts = b""
    try:
        # Append zeros, since wsproto checks for some faults only when it has the whole header.
        for chunk in (data, bytes(200)):
            protocol.receive_bytes(chunk)
            for each in protocol.received_frames():
                payload: Any = each.payload
                if each.opcode is Opcode.BINARY:
                    parts += payload
                    if each.frame_finished and each.message_finished:
                        outcome.append(parts)
                        parts = b""
                elif each.opcode is Opcode.CLOSE:
                    code = None if payload[0] == 1005 else int(payload[0])
                    return [*outcome, Close(code, payload[1] or "")], False
                elif each.opcode is not Opcode.TEXT:
                    outcome.append(Ping(payload) if each.opcode is Opcode.PING else Pong(payload))
    except ParseFailed:
        return outcome, True
    return outcome, False


@given(anything)
def test_wsproto_reads_the_same(sent: bytes) -> None:
    """This holds up to the known differences: only ours refuses text and large messages, and only wsproto refuses the
    close code 1014."""

    ours = read([sent, bytes(200)])
    theirs, is_refused = read_by_wsproto(sent)
    match ours:
        case [*events, 1003 | 1009]:
            assert theirs[: len(events)] == events
        case [*events, Close(1014)]:
            assert (theirs, is_refused) == (events, True)
        case [*events, int()]:
            assert (theirs, is_refused) == (events, True)
        case events:
            assert (theirs, is_refused) == (events, False)


class Copies(bytearray):
    """A bytearray that counts the bytes which are copied into it."""

    count = 0

    def __init__(self, source: Any = b"") -> None:
        super().__init__(source)
        Copies.count += len(self)

    def __iadd__(self, other: Any) -> Copies:
        super().__iadd__(other)
        Copies.count += len(other)
        return self

    def __add__(self, other: Any) -> Copies:
        return Copies(super().__add__(other))


@pytest.mark.parametrize(
    ("frames", "chop_bytes"),
    [
        pytest.param([frame(BINARY, bytes(20000))], 1, id="a frame in bytes"),
        pytest.param(alike(b"a", 5000), 7, id="fragments of a byte"),
        pytest.param(alike(b"a", 5000), 1, id="fragments of a byte in bytes"),
        pytest.param([frame(BINARY, bytes(65536))] * 20, 3000, id="frames in pieces"),
        pytest.param([frame(BINARY, b"a" * 99)] * 5000, 65536, id="many frames at once"),
        pytest.param([frame(PING, b"a" * 99)] * 5000, 1000, id="pings in pieces"),
    ],
)
def test_every_byte_is_copied_a_few_times_at_most(
    frames: list[bytes], chop_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver takes linear time. Parsing or joining again for each piece would copy bytes thousands of times."""
    monkeypatch.setattr(websocket, "bytearray", Copies, raising=False)
    Copies.count = 0
    data = b"".join(frames)
    assert read(chop(data, chop_bytes), receiver(max_fragments=5000))
    assert Copies.count <= 3 * len(data)


def peak_bytes(chunks: Iterable[bytes], to: WebSocketReceiver) -> int:
    """The peak of memory while the receiver takes `chunks`, events included."""
    tracemalloc.start()
    try:
        for chunk in chunks:
            for _ in to.receive(chunk):
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("chunks", "max_fragments", "times"),
    [
        pytest.param(alike(b"a", MAX_BYTES), MAX_BYTES, 2.3, id="fragments of a byte"),
        pytest.param([*chop(frame(BINARY, bytes(MAX_BYTES)), 1)], 1, 2.3, id="a frame in bytes"),
        pytest.param([*chop(frame(BINARY, bytes(MAX_BYTES)), 4096)], 1, 2.3, id="a frame in pages"),
        # Here `receive` also holds the last fragment as it came, until it returns.
        pytest.param([*chop(b"".join(fragments(b"a", bytes(MAX_BYTES - 1))), 4096)], 2, 3.3, id="two fragments"),
    ],
)
def test_a_message_takes_twice_its_size_in_memory(chunks: list[bytes], max_fragments: int, times: float) -> None:
    """The receiver holds the parts, with the spare eighth of a growing bytearray, and in the end the whole message."""
    assert peak_bytes(chunks, receiver(max_fragments)) < times * MAX_BYTES


def test_headers_that_promise_much_take_no_memory() -> None:
    begun = b"\x02" + length(MAX_BYTES // 2) + MASK
    assert peak_bytes([begun], receiver()) < 2000


def test_empty_fragments_take_no_memory() -> None:
    first, *rest = alike(b"", 20_001)
    # Take the least of several tries: another thread of the test's process may allocate memory meanwhile.
    tries = (peak_bytes([first, *rest[:-1]], receiver(max_fragments=20_001)) for _ in range(3))
    assert min(tries) < 2000


def test_a_refused_or_closed_message_is_not_kept() -> None:
    begun = frame(BINARY, bytes(MAX_BYTES), fin=False)
    cut = begun[:-1]
    for last in (close(1000), frame(TEXT)):
        to = receiver()
        tracemalloc.start()
        try:
            assert len(read([begun, last, cut, begun], to)) == 1
            assert tracemalloc.get_traced_memory()[0] < 20_000
        finally:
            tracemalloc.stop()


def test_an_idle_receiver_takes_less_than_200_bytes() -> None:
    """It does so even after it has received frames, fragments and pieces."""
    kept = []
    chunks = [GREETING, *fragments(HELLO, HELLO), *chop(GREETING, 1)]
    tracemalloc.start()
    try:
        for _ in range(1000):
            to = receiver()
            for chunk in chunks:
                for _event in to.receive(chunk):
                    pass
            kept.append(to)
        size = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert size < 200


def read_by_client(data: bytes) -> list[tuple[Opcode, Any]]:
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(data)
    return [(each.opcode, each.payload) for each in protocol.received_frames()]


@each_row("size", [0, 1, 125, 126, 65535, 65536, MAX_BYTES])
def test_a_client_reads_what_a_server_sends(size: int) -> None:
    assert read_by_client(binary_header(size) + b"a" * size) == [(Opcode.BINARY, b"a" * size)]


@given(st.binary(max_size=125))
def test_a_client_reads_control_frames(payload: bytes) -> None:
    read = read_by_client(ping_frame() + ping_frame(payload) + pong_frame(payload))
    assert read == [(Opcode.PING, b""), (Opcode.PING, payload), (Opcode.PONG, payload)]


@given(st.sampled_from([1000, 1002, 4999]), st.text(max_size=200))
@example(1000, "é" * 62)
@example(1000, "a" * 124)
def test_a_close_frame_has_as_much_of_its_reason_as_fits(code: int, reason: str) -> None:
    [(opcode, (read_code, read_reason))] = read_by_client(close_frame(code, reason))
    assert (opcode, read_code) == (Opcode.CLOSE, code)
    assert reason.startswith(read_reason)
    if read_reason != reason:
        assert len(read_reason.encode()) + len(reason[len(read_reason)].encode()) > 123


@pytest.mark.parametrize("build", [ping_frame, pong_frame])
def test_a_control_frame_of_more_than_125_bytes_is_not_built(build: Any) -> None:
    with pytest.raises(LocalProtocolError, match="125"):
        build(b"a" * 126)
