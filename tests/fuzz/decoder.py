"""`protocol.codec`: any bytes give frames, errors that can be answered, or an end; time grows with their size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from protocol.codec import decode_from_client, decode_from_server, encode, encode_request
from protocol.codes import CloseCode
from protocol.encoded import head_of, is_push
from protocol.errors import RemoteProtocolError, RequestError
from protocol.frames import PUSHES, REQUESTS, Error, Message, Tombstone
from protocol.websocket import close_frame

FIXED_S = 5e-3
PER_BYTE_S = 20e-6
"""CPU time that an input may take: ten times that of the costliest ordinary inputs under tracing."""

TRIES = 3
"""An input is too slow if all of these tries are: the machine has other work."""

Decode = Callable[[bytes], Iterator[Any]]


def check(data: bytes) -> None:
    """One WebSocket message, read as either side would."""
    for decode in (decode_from_client, decode_from_server):
        read, error = _read_in_time(decode, data)
        if error is not None:
            check_close(error.close_code, error.detail)
        for each in read:
            if isinstance(each, RequestError):
                _check_answer(each)
        frames = [each for each in read if not isinstance(each, RequestError)]
        if frames:
            _check_encoding(decode, frames)


def check_close(code: CloseCode, detail: str) -> None:
    """The error can be sent to the peer."""
    assert isinstance(code, CloseCode)
    assert detail
    assert len(close_frame(code.value, detail)) <= 2 + 125


def _read_in_time(decode: Decode, data: bytes) -> tuple[list[Any], RemoteProtocolError | None]:
    allowed_s = FIXED_S + PER_BYTE_S * len(data)
    took_s = []
    for _ in range(TRIES):
        start = time.thread_time()
        read = _read(decode, data)
        took_s.append(time.thread_time() - start)
        if took_s[-1] <= allowed_s:
            return read
    raise AssertionError(f"{decode.__name__} of {len(data)} bytes took {min(took_s):.4f} s, more than {allowed_s:.4f}")


def _read(decode: Decode, data: bytes) -> tuple[list[Any], RemoteProtocolError | None]:
    read = []
    try:
        for each in decode(data):
            read.append(each)  # noqa: PERF402  # what came before the error counts
    except RemoteProtocolError as error:
        return read, error
    return read, None


def _check_answer(error: RequestError) -> None:
    """The client can read the error that answers a request."""
    answer = Error(error.request, error.code.value, error.detail, None)
    assert list(decode_from_server(encode(answer))) == [answer]


def _check_encoding(decode: Decode, frames: Sequence[Any]) -> None:
    encoded = [encode(frame) for frame in frames]
    again = list(decode(b"".join(encoded)))
    assert again == frames, f"{frames} became {again}"
    for frame, data in zip(frames, encoded, strict=True):
        if isinstance(frame, REQUESTS):
            assert encode_request(frame) == data
        else:
            has_head = isinstance(frame, (Message, Tombstone))
            assert head_of(data) == ((frame.conversation, frame.seq) if has_head else None)
            assert is_push(data) == isinstance(frame, PUSHES)
