"""The generator's WebSocket client against frames written down by hand (RFC 6455, section 5.7) and cut anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.websocket import MessageReader, Opcode, ServerFault, encode, handshake, handshake_end

HELLO = bytes.fromhex("810548656c6c6f")
HELLO_IN_TWO = bytes.fromhex("010348656c80026c6f")
PING = bytes.fromhex("890548656c6c6f")


def server_frame(opcode: int, payload: bytes) -> bytes:
    """A frame of `encode` as a server sends it, without the mask."""
    frame = encode(opcode, payload)
    head = len(frame) - len(payload) - 4
    return bytes([frame[0], frame[1] & 0x7F]) + frame[2:head] + payload


def test_a_whole_message_is_read() -> None:
    assert MessageReader().feed(HELLO) == [(Opcode.TEXT, b"Hello")]


def test_fragments_are_joined_around_a_ping() -> None:
    first, second = HELLO_IN_TWO[:5], HELLO_IN_TWO[5:]
    assert MessageReader().feed(first + PING + second) == [(Opcode.PING, b"Hello"), (Opcode.TEXT, b"Hello")]


@given(
    payloads=st.lists(st.integers(0, 70_000).map(bytes), max_size=4),
    cuts=st.lists(st.integers(0, 300_000), max_size=6),
)
def test_messages_come_out_the_same_wherever_the_bytes_are_cut(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(server_frame(Opcode.BINARY, payload) for payload in payloads)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    reader = MessageReader()
    read = [m for start, end in pairwise(edges) for m in reader.feed(data[start:end])]
    assert read == [(Opcode.BINARY, payload) for payload in payloads]


@pytest.mark.parametrize(("size", "head"), [(125, "82fd"), (126, "82fe007e"), (65536, "82ff0000000000010000")])
def test_lengths_take_the_fewest_bytes_and_the_mask_is_zero(size: int, head: str) -> None:
    assert encode(Opcode.BINARY, bytes(size)) == bytes.fromhex(head) + bytes(4) + bytes(size)


@pytest.mark.parametrize("frame", ["818548656c6c6f00000000", "c10548656c6c6f"])
def test_masked_and_compressed_frames_of_a_server_are_refused(frame: str) -> None:
    with pytest.raises(ServerFault, match="masked or uses an extension"):
        MessageReader().feed(bytes.fromhex(frame))


def test_the_handshake_asks_for_the_subprotocol() -> None:
    assert b"\r\nSec-WebSocket-Protocol: alo.v1\r\n" in handshake("localhost:1", "/v1/socket", "alo.v1")


def test_frames_begin_after_the_answer_to_the_handshake() -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    assert handshake_end(answer[:-1]) is None
    assert handshake_end(answer + HELLO) == len(answer)
    with pytest.raises(ServerFault, match="503"):
        handshake_end(answer.replace(b"101 Switching Protocols", b"503 Busy"))
