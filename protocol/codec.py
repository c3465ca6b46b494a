"""CBOR sequences (RFC 8742) to frames and back.

Encoding: `encode` gives one frame's bytes; a WebSocket message is any number of them, joined.
Decoding: `decode` turns the bytes of one WebSocket message into frames. It raises nothing but
`RemoteProtocolError` (the bytes cannot be read) and yields `RequestError` in place of a frame that could be read
but not served, so that one bad request does not take its neighbours with it.

What the decoder refuses before it can cost anything: tags (shared references build cycles), keys of which a client can
choose many that hash alike (bignums, arrays, integers; a message of them takes 13 s), indefinite lengths, duplicate
keys, nesting beyond `limits.MAX_NESTING`. What takes time is linear in the length of the message.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

import cbor2

from protocol import limits
from protocol.codes import CloseCode, ErrorCode
from protocol.errors import LocalProtocolError, RemoteProtocolError, RequestError
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Conversation,
    Conversations,
    Error,
    Frame,
    Hello,
    Key,
    List,
    Message,
    Messages,
    Participant,
    Push,
    Reply,
    Request,
    Stay,
    Sync,
    Tombstone,
    Type,
    name_of,
)

_F = TypeVar("_F", bound=Frame | Participant | Stay)
_Record: TypeAlias = Frame | Participant | Stay
_Check = Callable[[Any], Any]
"""Takes a decoded value, returns the field's value, raises ValueError with what was expected."""


class _FieldError(ValueError):
    """A whole sentence about a field that is missing or wrong: inside another field it needs no "must be"."""


def _uint(most: int, *, least: int = 0) -> _Check:
    def check(value: Any) -> int:
        if type(value) is int and least <= value <= most:
            return value
        raise ValueError(f"an unsigned integer from {least} to {most}")

    return check


def _bytes(least: int, most: int) -> _Check:
    expected = f"{least} bytes" if least == most else f"{least} to {most} bytes"

    def check(value: Any) -> bytes:
        if type(value) is bytes and least <= len(value) <= most:
            return value
        raise ValueError(expected)

    return check


def _text(most: int) -> _Check:
    def check(value: Any) -> str:
        # UTF-8 was checked by the decoder; Postgres takes no NUL, and one in a batch would fail the whole batch.
        if type(value) is str and 0 < len(value.encode()) <= most and "\0" not in value:
            return value
        raise ValueError(f"a text of 1 to {most} bytes of UTF-8 without NUL")

    return check


def _visible(most: int) -> _Check:
    def check(value: Any) -> str:
        if (
            type(value) is str
            and 0 < len(value) <= most
            and value.isascii()
            and min(value) > " "
            and max(value) < "\x7f"
        ):
            return value
        raise ValueError(f"a text of 1 to {most} visible ASCII characters")

    return check


_id: Final = _bytes(limits.ID_BYTES, limits.ID_BYTES)
_seq: Final = _uint(limits.MAX_SEQ)
_TYPES: Final = frozenset(map(int, Type))
_time: Final = _uint(2**63 - 1)


def _bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise ValueError("true or false")


def _array(most: int, check: _Check, *, least: int = 0) -> _Check:
    def check_all(value: Any) -> list[Any]:
        if type(value) is not list or not least <= len(value) <= most:
            raise ValueError(f"an array of {least} to {most} elements")
        try:
            return [check(element) for element in value]
        except _FieldError:
            raise
        except ValueError as error:
            raise ValueError(f"an array of {least} to {most} elements, each {error}") from None

    return check_all


def _row(shown: str, *checks: _Check) -> _Check:
    """An array with one element for each of these checks, as a tuple."""

    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError(shown)
        try:
            return tuple([take(element) for take, element in zip(checks, value, strict=True)])
        except ValueError as error:
            raise ValueError(f"{shown} with {error}") from None

    return check


_mark: Final = _row("[conversation, seq]", _id, _seq)
_receipt: Final = _row("[user, delivered_seq, read_seq]", _id, _seq, _seq)
_quiet_hours: Final = _row("[from_minute, until_minute, zone]", _uint(1439), _uint(1439), _text(limits.MAX_ZONE_BYTES))
_count: Final = _row("[seq, delivered, read, recipients]", _seq, _seq, _seq, _seq)
_limit: Final = _row("[limit, limit_value]", _text(64), _uint(2**32 - 1))


def _nested(*structs: type[Frame]) -> _Check:
    """One of these frames, inside another one; None for a frame of a later version."""
    types = {int(struct.TYPE): struct for struct in structs}
    expected = f"a map: {' or '.join(map(name_of, structs))}"

    def check(value: Any) -> Frame | None:
        if _is_map(value):
            type_ = value.get(0)
            if type(type_) is int:
                if struct := types.get(type_):
                    return _read(value, struct, _RECORDS[struct][1])
                if type_ not in _TYPES:
                    return None
        raise ValueError(expected)

    return check


def _known(check: _Check) -> _Check:
    """The elements that a check of an array took for something: what a later version has there is left out."""
    return lambda value: [element for element in check(value) if element is not None]


def _participant(value: Any) -> Participant:
    if _is_map(value):
        return _read(value, Participant, _RECORDS[Participant][1])
    raise ValueError("a map: participant")


def _stay(value: Any) -> Stay:
    if _is_map(value):
        return _read(value, Stay, _RECORDS[Stay][1])
    raise ValueError("a map: stay")


def _is_map(value: Any) -> bool:
    # False and 0.0 find the key 0 in a dict; on the wire they are other keys.
    return type(value) is dict and set(map(type, value)) <= {int}


_CHECKS: Final[dict[Key, _Check]] = {
    Key.REQUEST: _uint(limits.MAX_REQUEST),
    Key.CONVERSATION: _id,
    Key.SEQ: _seq,
    Key.MESSAGE: _id,
    Key.CREATED: _time,
    Key.SENDER: _id,
    Key.CONTENT_TYPE: _text(limits.MAX_CONTENT_TYPE_BYTES),
    Key.CONTENT: _bytes(0, limits.MAX_CONTENT_BYTES),
    Key.NONCE: _bytes(0, limits.MAX_NONCE_BYTES),
    Key.EPHEMERAL_PUBLIC_KEY: _bytes(0, limits.MAX_PUBLIC_KEY_BYTES),
    Key.TEMP_ID: _id,
    Key.CODE: _text(64),
    Key.DETAIL: _text(1024),
    Key.RETRY_AFTER_MS: _uint(2**32 - 1),
    Key.TOKEN: _text(limits.MAX_TOKEN_BYTES),
    Key.USER: _id,
    Key.DEVICE: _id,
    Key.VERSION: _uint(2**16 - 1),
    Key.MARKS: _array(limits.MAX_MARKS, _mark, least=1),
    Key.REVISION: _uint(2**31 - 1),
    Key.EDITED: _time,
    Key.CURSOR: _bytes(1, limits.MAX_CURSOR_BYTES),
    Key.MORE: _bool,
    Key.PAGES: _uint(limits.MAX_PAGES, least=1),
    Key.COUNT: _uint(limits.MAX_COUNT, least=1),
    Key.BEFORE: _seq,
    Key.AFTER: _seq,
    Key.MESSAGES: _known(_array(limits.MAX_COUNT, _nested(Message, Tombstone))),
    Key.CONVERSATIONS: _known(_array(limits.MAX_COUNT, _nested(Conversation))),
    Key.KIND: _text(16),
    Key.NAME: _text(512),
    Key.FIRST_SEQ: _seq,
    Key.LAST_SEQ: _seq,
    Key.UNREAD_COUNT: _seq,
    Key.ACTIVE_AT: _time,
    Key.PARTICIPANTS: _array(limits.MAX_PARTICIPANTS, _participant),
    Key.USERNAME: _text(limits.MAX_USERNAME_BYTES),
    Key.JOINED_SEQ: _seq,
    Key.DELIVERED_SEQ: _seq,
    Key.READ_SEQ: _seq,
    Key.LAST_MESSAGE: _nested(Message, Tombstone),
    Key.USERS: _array(limits.MAX_WATCHED, _id),
    Key.IS_ONLINE: _bool,
    Key.IS_TYPING: _bool,
    Key.FOR_EVERYONE: _bool,
    Key.HEADS: _array(limits.MAX_HEADS, _mark),
    Key.EXPIRES: _time,
    Key.KEEP_ALIVE_MS: _uint(2**32 - 1),
    Key.LIMIT: _text(64),
    Key.LIMIT_VALUE: _uint(2**32 - 1),
    Key.REPLY_TO: _seq,
    Key.PARTICIPANTS_VERSION: _seq,
    Key.IS_ADMIN: _bool,
    Key.DISPLAY_NAME: _text(limits.MAX_DISPLAY_NAME_BYTES),
    Key.JOINERS_SEE_ALL: _bool,
    Key.RECEIPTS: _array(limits.MAX_PARTICIPANTS, _receipt),
    Key.COUNTS: _array(limits.MAX_COUNT, _count),
    Key.LAST_SEEN: _time,
    Key.LIFETIME_S: _uint(2**32 - 1),
    Key.GIVES_RECEIPTS: _bool,
    Key.SHOWS_PRESENCE: _bool,
    Key.QUIET_HOURS: _quiet_hours,
    Key.CONTACTS_REVISION: _uint(2**31 - 1),
    Key.IS_CONTACT: _bool,
    Key.IS_BLOCKED: _bool,
    Key.MUTED_UNTIL: _time,
    Key.OWN_REVISION: _uint(2**31 - 1),
    Key.PARTICIPANT_COUNT: _uint(2**32 - 1),
    Key.IS_REQUEST: _bool,
    Key.ASKED_BY: _id,
    Key.MESSAGES_FROM: _text(16),
    Key.GROUPS_FROM: _text(16),
    Key.CLIENT: _visible(limits.MAX_CLIENT_BYTES),
    Key.FEATURES: _array(limits.MAX_FEATURES, _text(limits.MAX_FEATURE_BYTES)),
    Key.LIMITS: _array(limits.MAX_LIMITS, _limit),
    Key.SINCE_SEQ: _seq,
    Key.UNCOUNTED_SEQS: _array(limits.MAX_UNCOUNTED, _seq),
    Key.ACTOR: _id,
    Key.FORMER: _array(limits.MAX_FORMER, _stay),
    Key.LEFT_SEQ: _seq,
}

OPTIONAL: Final = frozenset(
    {
        Key.NONCE,
        Key.EPHEMERAL_PUBLIC_KEY,
        Key.LIMIT,
        Key.LIMIT_VALUE,
        Key.COUNT,
        Key.BEFORE,
        Key.AFTER,
        Key.NAME,
        Key.LAST_MESSAGE,
        Key.REPLY_TO,
        Key.IS_ADMIN,
        Key.DISPLAY_NAME,
        Key.JOINERS_SEE_ALL,
        Key.LAST_SEEN,
        Key.LIFETIME_S,
        Key.PARTICIPANT_COUNT,
        Key.IS_REQUEST,
        Key.ASKED_BY,
        Key.PAGES,
        Key.QUIET_HOURS,
        Key.MUTED_UNTIL,
        Key.OWN_REVISION,
        Key.CLIENT,
        Key.FEATURES,
        Key.LIMITS,
        Key.UNCOUNTED_SEQS,
        Key.ACTOR,
        Key.FORMER,
    }
)
"""Fields that a frame may leave out; absent and None are the same."""

OPTIONAL_IN: Final[dict[type[_Record], frozenset[Key]]] = {
    Hello: frozenset({Key.CURSOR}),
    Sync: frozenset({Key.CURSOR}),
    List: frozenset({Key.CURSOR}),
    Conversations: frozenset({Key.CURSOR}),
    Error: frozenset({Key.RETRY_AFTER_MS}),
    Messages: frozenset({Key.FIRST_SEQ}),
    Message: frozenset({Key.TEMP_ID, Key.REVISION, Key.EDITED}),
    Conversation: frozenset({Key.PARTICIPANTS}),
    Participant: frozenset({Key.REVISION, Key.DELIVERED_SEQ, Key.READ_SEQ, Key.SINCE_SEQ}),
    Stay: frozenset({Key.DELIVERED_SEQ, Key.READ_SEQ}),
}
"""Fields that only these frames may leave out."""

_Field: TypeAlias = tuple[int, str, _Check, bool]


def _fields(struct: type[_Record]) -> tuple[_Field, ...]:
    keys = [Key[name.upper()] for name in struct.__struct_fields__]
    assert keys == sorted(keys), f"{struct.__name__}: fields must be in the order of their keys"
    optional = OPTIONAL | OPTIONAL_IN.get(struct, frozenset())
    return tuple((int(key), key.name.lower(), _CHECKS[key], key in optional) for key in keys)


def _type_of(struct: type[_Record]) -> int | None:
    return getattr(struct, "TYPE", None)


_RECORDS: Final[dict[type[_Record], tuple[int | None, tuple[_Field, ...]]]] = {
    struct: (_type_of(struct), _fields(struct)) for struct in (*REQUESTS, *REPLIES, *PUSHES, Participant, Stay)
}
"""Struct -> type and fields."""

_NESTING_KEYS: Final = frozenset({Key.MESSAGES, Key.CONVERSATIONS, Key.PARTICIPANTS, Key.LAST_MESSAGE, Key.FORMER})
"""Fields whose values are frames, or arrays of them."""

_ENCODE: Final = {
    struct: (type_, tuple((key, name) for key, name, _, _ in fields), any(key in _NESTING_KEYS for key, *_ in fields))
    for struct, (type_, fields) in _RECORDS.items()
}
_DECODE_FROM_CLIENT: Final[dict[int, tuple[type[Request], tuple[_Field, ...]]]] = {
    int(struct.TYPE): (struct, _RECORDS[struct][1]) for struct in REQUESTS
}
_DECODE_FROM_SERVER: Final[dict[int, tuple[type[Reply | Push], tuple[_Field, ...]]]] = {
    int(struct.TYPE): (struct, _RECORDS[struct][1]) for struct in (*REPLIES, *PUSHES)
}


def encode(frame: Frame) -> bytes:
    """One frame's bytes, in core deterministic encoding. Checks nothing: what a caller builds is of those types."""
    return cbor2.dumps(_item(frame))


def encode_fields(frame: Frame, fields: Sequence[str]) -> tuple[int, bytes]:
    """How many of these fields of a frame are there, and their keys and values: what `with_fields` takes."""
    item = {int(Key[name.upper()]): getattr(frame, name) for name in fields if getattr(frame, name) is not None}
    return len(item), cbor2.dumps(item)[1:]


def with_fields(frame: bytes, fields: tuple[int, bytes]) -> bytes:
    """An encoded frame with more fields, of greater keys than those that it has: what is the same in many frames is
    encoded once."""
    count, data = fields
    return bytes((frame[0] + count,)) + frame[1:] + data


def _item(record: _Record) -> dict[int, Any]:
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


def head_of(frame: bytes) -> tuple[bytes, int] | None:
    """Conversation and seq of an encoded `Message` or `Tombstone`, without decoding it; None for any other frame.

    For frames that this process or another node made with `encode`: their first four keys are where they always are.
    """
    if frame[2:4] not in _HEADS:
        return None
    width = frame[23] - 0x17 if frame[23] > 0x17 else 0
    seq = int.from_bytes(frame[24 : 24 + (1 << width - 1)], "big") if width else frame[23]
    return frame[6:22], seq


def is_push(frame: bytes) -> bool:
    """Whether an encoded frame from a server is a push; all other frames are requests and replies."""
    return frame[2] == 0x18 and frame[3] >= 128


_HEADS: Final = (bytes((0x18, Type.MESSAGE)), bytes((0x18, Type.TOMBSTONE)))
"""Where the value of key 0 stands in an encoded frame."""


def with_temp_id(frame: bytes, temp_id: bytes) -> bytes:
    """An encoded `Message` that has none, with this `temp_id`; without decoding it, as `head_of`."""
    at = 1
    while at < len(frame) and frame[at] < Key.TEMP_ID:
        at = _end_of(frame, at + 1)
    return b"".join((bytes((frame[0] + 1,)), frame[1:at], b"\x0b\x50", temp_id, frame[at:]))


def _end_of(frame: bytes, at: int) -> int:
    """Where a number, a text or a byte string ends that begins here."""
    kind, short = frame[at] >> 5, frame[at] & 0x1F
    width = 0 if short < 24 else 1 << short - 24
    number = int.from_bytes(frame[at + 1 : at + 1 + width]) if width else short
    return at + 1 + width + (number if kind in (2, 3) else 0)


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
    for count, item in enumerate(_items(data, _FROM_CLIENT), 1):
        if count > limits.MAX_FRAMES:
            raise RemoteProtocolError(CloseCode.BAD_FRAME, f"a message holds more than {limits.MAX_FRAMES} frames")
        yield _request(item)


def decode_from_server(data: bytes) -> Iterator[Reply | Push]:
    """The replies and pushes in one WebSocket message from a server; frames of unknown types are left out.

    :raises RemoteProtocolError: while iterating, also for a field that is missing or out of bounds.
    """
    for item in _items(data, _FROM_SERVER):
        type_ = item.get(0)
        known = _DECODE_FROM_SERVER.get(type_) if type(type_) is int else None
        if known is None:
            if type(type_) is int and type_ not in _TYPES:
                continue  # Of a later server; a push, it may be, without a request number to answer to.
            raise RemoteProtocolError(CloseCode.BAD_FRAME, f"{_show(type_)}, and it came from a server")
        try:
            frame = _read(item, *known)
        except ValueError as error:
            raise RemoteProtocolError(CloseCode.BAD_FRAME, f"{name_of(known[0])}: {error}") from None
        yield frame


def _refuse_tag(*_: Any) -> NoReturn:
    raise ValueError("tags are not used in this protocol")


_BUILT_IN_TAGS: Final = (
    *range(6),
    *(25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799),
)
_DECODER_OPTIONS: Final[dict[str, Any]] = {
    "tag_hook": _refuse_tag,
    "semantic_decoders": dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag),
    "allow_indefinite": False,
    "allow_duplicate_keys": False,
}
_FROM_CLIENT: Final = {
    **_DECODER_OPTIONS,
    "max_depth": limits.MAX_NESTING,
    # Keys of maps in fields: texts and bytes alone, whose hashes nobody outside can choose.
    "strict_hashable_types": True,
}
_FROM_SERVER: Final = {**_DECODER_OPTIONS, "max_depth": limits.MAX_SERVER_NESTING}
"""A server's frames hold frames, whose keys are integers. So one that means ill can keep its own clients busy."""
_MAP: Final = 0xA0
_ARRAY: Final = 0x80
"""CBOR heads of an empty map and an empty array; up to 23 pairs or elements are added to it."""
_LONG_ARRAY: Final = 0x98
"""CBOR head of an array whose length is in the byte that follows."""
_END: Final = secrets.token_bytes(8)
"""Nobody outside knows it: if it is read as the last item, nothing has come behind the items that were asked for."""
_END_ITEM: Final = cbor2.dumps(_END)
_HEADS_WITH_END: Final = tuple(
    cbor2.dumps([0] * (2 * count + 1))[: -2 * count - 1] for count in range(limits.MAX_FIELDS + 1)
)
"""Number of a frame's fields -> head of an array of its keys, its values and `_END`."""


def _items(data: bytes, options: Mapping[str, Any]) -> Iterator[dict[int, Any]]:
    only = _only_item(data, options)
    return _each_item(data, options) if only is None else iter((only,))


def _only_item(data: bytes, options: Mapping[str, Any]) -> dict[int, Any] | None:
    """The item of a message that is one frame and good, as most are; None for any other message, whatever is wrong.

    It takes 60 % of the time of `_each_item`, and 5 us in vain before that for a message of several frames.
    """
    count = data[0] - _MAP if data else -1
    if not 0 <= count <= limits.MAX_FIELDS:
        return None
    try:
        flat = cbor2.loads(_HEADS_WITH_END[count] + data[1:] + _END_ITEM, **options)
    except cbor2.CBORDecodeError:
        return None
    keys = flat[:-1:2]
    if flat[-1] != _END or not set(map(type, keys)) <= {int}:
        return None
    item = dict(zip(keys, flat[1::2], strict=True))
    return item if len(item) == count else None


def _each_item(data: bytes, options: Mapping[str, Any]) -> Iterator[dict[int, Any]]:
    size = len(data)
    if not size:
        raise RemoteProtocolError(CloseCode.BAD_FRAME, "an empty WebSocket message holds no frame")
    stream = BytesIO(b"\0" + data)  # The head of a long array takes a byte more than that of a map.
    decoder = cbor2.CBORDecoder(stream, **options)
    stream.seek(1)
    # Given back however this ends: a buffer that the garbage collector finds crashes CPython 3.12.1 (its issue 111049).
    with stream.getbuffer() as heads:
        while (start := stream.tell() - 1) < size:
            count = heads[start + 1] - _MAP
            if not 0 <= count <= limits.MAX_FIELDS:
                detail = f"the item at byte {start} is not a map of at most {limits.MAX_FIELDS} fields"
                raise RemoteProtocolError(CloseCode.BAD_FRAME, detail)
            # Read as an array of keys and values: the keys are in no dict before they were looked at.
            if 2 * count <= 23:
                heads[start + 1] = _ARRAY + 2 * count
            else:
                heads[start : start + 2] = bytes((_LONG_ARRAY, 2 * count))
                stream.seek(start)
            try:
                flat = decoder.decode()
            except cbor2.CBORDecodeEOF:
                raise RemoteProtocolError(CloseCode.BAD_FRAME, f"the item at byte {start} is cut short") from None
            except cbor2.CBORDecodeError as error:
                detail = f"the item at byte {start}: {why_not_read(error)}"
                raise RemoteProtocolError(CloseCode.BAD_FRAME, detail) from None
            keys = flat[::2]
            if not set(map(type, keys)) <= {int}:
                raise RemoteProtocolError(CloseCode.BAD_FRAME, f"the item at byte {start} has a key that is no integer")
            item = dict(zip(keys, flat[1::2], strict=True))
            if len(item) != count:
                raise RemoteProtocolError(CloseCode.BAD_FRAME, f"the item at byte {start} has a key twice")
            yield item


def why_not_read(error: Exception) -> str:
    """What is wrong with some CBOR: cbor2 says it with the names of Python's types, and repeats what was sent."""
    said = f"{error} {error.__cause__}"
    return next((reason for part, reason in _UNREADABLE if part in said), "it is not well-formed CBOR")


_UNREADABLE: Final = (
    ("indefinite length", "indefinite lengths are not used in this protocol"),
    ("semantic tag", "tags are not used in this protocol"),
    ("Duplicate map key", "a map has a key twice"),
    ("map key must be", "the keys of a map within a field must be texts or byte strings"),
    ("nesting depth", "it has more levels than are allowed"),
    ("codec can't decode", "a text must be UTF-8"),
    ("simple value", "a simple value is not one of RFC 8949"),
)


def _request(item: dict[int, Any]) -> Request | RequestError:
    type_ = item.get(0)
    # bool is an int in Python, and 1.0 == 1 finds a dict's key: only the exact type counts.
    known = _DECODE_FROM_CLIENT.get(type_) if type(type_) is int else None
    if known is None:
        if type(type_) is int and type_ in _TYPES:
            detail = f"{_show(type_)} comes from servers alone"
            return RequestError(_request_of(item), ErrorCode.UNEXPECTED_FRAME, detail)
        return RequestError(_request_of(item), ErrorCode.UNKNOWN_FRAME, _show(type_))
    try:
        return _read(item, *known)
    except ValueError as error:
        return RequestError(_request_of(item), ErrorCode.INVALID_FRAME, str(error))


def _read(item: dict[int, Any], struct: type[_F], fields: tuple[_Field, ...]) -> _F:
    """
    :raises _FieldError: about the field that is missing or wrong.
    """
    get = item.get
    values: list[Any] = []
    for key, name, check, optional in fields:
        value = get(key)
        if value is None:
            if not optional:
                raise _FieldError(f"{name} (key {key}) is missing")
            values.append(None)
            continue
        try:
            values.append(check(value))
        except _FieldError as error:
            raise _FieldError(f"{name} (key {key}): {error}") from None
        except ValueError as error:
            raise _FieldError(f"{name} (key {key}) must be {error}") from None
    return struct(*values)


def _request_of(item: dict[int, Any]) -> int:
    """The number to answer a frame that cannot be served with.

    :raises RemoteProtocolError: if it has none: then nobody would know what the error is about.
    """
    request = item.get(1)
    if type(request) is int and 0 <= request <= limits.MAX_REQUEST:
        return request
    raise RemoteProtocolError(CloseCode.BAD_FRAME, "a frame that is not understood has no request number (key 1)")


def _show(type_: Any) -> str:
    if type_ is None:
        return "type (key 0) is missing"
    if type(type_) is not int:
        # Not what it is: to show something nested or huge would be work done for an attacker.
        return "type (key 0) must be an integer"
    return f"frame type {type_} ({Type(type_).name.lower()})" if type_ in _TYPES else f"frame type {type_} is unknown"
