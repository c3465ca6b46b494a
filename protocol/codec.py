"""CBOR sequences (RFC 8742) to frames and back.

Encoding: `encode` gives one frame's bytes; a WebSocket message is any number of them, joined.
Decoding: `decode_from_client` and `decode_from_server` turn the bytes of one WebSocket message into frames. They raise
only `RemoteProtocolError` (the bytes cannot be read). In place of a request that can be read but not served there is a
`RequestError`, so that one bad request does not take its neighbours with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import cbor2

from protocol import limits
from protocol.codes import CloseCode, ErrorCode
from protocol.errors import LocalProtocolError, RemoteProtocolError, RequestError
from protocol.fields import RECORDS, TYPES, Field, Record, read_record
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Frame,
    Key,
    Push,
    Reply,
    Request,
    Type,
    name_of,
)
from protocol.items import FROM_CLIENT, FROM_SERVER, items

_NESTING_KEYS: Final = frozenset(
    {
        Key.MESSAGES,
        Key.CONVERSATIONS,
        Key.PARTICIPANTS,
        Key.LAST_MESSAGE,
        Key.FORMER,
        Key.TICKETS,
        Key.DOWNLOADS,
        Key.DEVICES,
    }
)
"""Fields whose values are frames or other records, or arrays of them."""

_ENCODE: Final = {
    struct: (type_, tuple((key, name) for key, name, _, _ in fields), any(key in _NESTING_KEYS for key, *_ in fields))
    for struct, (type_, fields) in RECORDS.items()
}
_DECODE_FROM_CLIENT: Final[dict[int, tuple[type[Request], tuple[Field, ...]]]] = {
    int(struct.TYPE): (struct, RECORDS[struct][1]) for struct in REQUESTS
}
_DECODE_FROM_SERVER: Final[dict[int, tuple[type[Reply | Push], tuple[Field, ...]]]] = {
    int(struct.TYPE): (struct, RECORDS[struct][1]) for struct in (*REPLIES, *PUSHES)
}


def encode(frame: Frame) -> bytes:
    """One frame's bytes, in core deterministic encoding. Checks nothing: the type checker has checked the caller."""
    return cbor2.dumps(_item(frame))


def encode_fields(frame: Frame, fields: Sequence[str]) -> tuple[int, bytes]:
    """The number of these fields that a frame has, and their keys and values encoded: the argument of `with_fields`."""
    item = {int(Key[name.upper()]): getattr(frame, name) for name in fields if getattr(frame, name) is not None}
    return len(item), cbor2.dumps(item)[1:]


def _item(record: Record) -> dict[int, Any]:
    type_, keys, is_nesting = _ENCODE[type(record)]
    item: dict[int, Any] = {} if type_ is None else {0: type_}
    for key, name in keys:
        value = getattr(record, name)
        if value is not None:
            item[key] = value
    if is_nesting:
        for key in _NESTING_KEYS & item.keys():
            value = item[key]
            item[key] = [_item(each) for each in value] if type(value) is list else _item(value)
    return item


def encode_request(frame: Request) -> bytes:
    """`encode`, after the checks that the server will make.

    :raises LocalProtocolError: if the server would refuse the frame; says which field and why.
    """
    try:
        data = encode(frame)
    except UnicodeEncodeError:
        raise LocalProtocolError("a text has a lone surrogate, which UTF-8 has no bytes for") from None
    try:
        [decoded] = decode_from_client(data)
    except RemoteProtocolError as error:
        raise LocalProtocolError(error.detail) from None
    if isinstance(decoded, RequestError):
        raise LocalProtocolError(decoded.detail)
    return data


def decode_from_client(data: bytes) -> Iterator[Request | RequestError]:
    """The requests in one WebSocket message from a client.

    :raises RemoteProtocolError: while iterating, after what came before the fault has been yielded.
    """
    for count, item in enumerate(items(data, FROM_CLIENT), 1):
        if count > limits.MAX_FRAMES:
            raise RemoteProtocolError(CloseCode.BAD_FRAME, f"a message holds more than {limits.MAX_FRAMES} frames")
        yield _request(item)


def decode_from_server(data: bytes) -> Iterator[Reply | Push]:
    """The replies and pushes in one WebSocket message from a server; frames of unknown types are left out.

    :raises RemoteProtocolError: while iterating, also for a field that is missing or out of bounds.
    """
    for item in items(data, FROM_SERVER):
        type_ = item.get(0)
        known = _DECODE_FROM_SERVER.get(type_) if type(type_) is int else None
        if known is None:
            if type(type_) is int and type_ not in TYPES:
                continue  # A later server sent it; it may be a push, which has no request number.
            raise RemoteProtocolError(CloseCode.BAD_FRAME, f"{_show(type_)}, and it came from a server")
        try:
            frame = read_record(item, *known)
        except ValueError as error:
            raise RemoteProtocolError(CloseCode.BAD_FRAME, f"{name_of(known[0])}: {error}") from None
        yield frame


def _request(item: dict[int, Any]) -> Request | RequestError:
    type_ = item.get(0)
    # bool is an int in Python, and 1.0 finds the key 1 of a dict: only the exact type counts.
    known = _DECODE_FROM_CLIENT.get(type_) if type(type_) is int else None
    if known is None:
        if type(type_) is int and type_ in TYPES:
            detail = f"{_show(type_)} may be sent by servers only"
            return RequestError(_request_of(item), ErrorCode.UNEXPECTED_FRAME, detail)
        return RequestError(_request_of(item), ErrorCode.UNKNOWN_FRAME, _show(type_))
    try:
        return read_record(item, *known)
    except ValueError as error:
        return RequestError(_request_of(item), ErrorCode.INVALID_FRAME, str(error))


def _request_of(item: dict[int, Any]) -> int:
    """The request number of a frame that cannot be served.

    :raises RemoteProtocolError: if it has none: then the client could not match the error with a request.
    """
    request = item.get(1)
    if type(request) is int and 0 <= request <= limits.MAX_REQUEST:
        return request
    raise RemoteProtocolError(CloseCode.BAD_FRAME, "a frame that cannot be served must have a request number (key 1)")


def _show(type_: Any) -> str:
    if type_ is None:
        return "type (key 0) is missing"
    if type(type_) is not int:
        # The value is not shown: to show a nested or huge one would be work done for an attacker.
        return "type (key 0) must be an integer"
    return f"frame type {type_} ({Type(type_).name.lower()})" if type_ in TYPES else f"frame type {type_} is unknown"
