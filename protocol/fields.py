"""The fields of frames: the check of each key, and the fields that may be absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

from protocol import limits
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Conversation,
    Conversations,
    Devices,
    DownloadTicket,
    Edit,
    Error,
    Frame,
    HeldKeys,
    Hello,
    Key,
    List,
    ListedDevice,
    Message,
    Messages,
    Participant,
    PutKeys,
    Receipts,
    Send,
    Sent,
    Stay,
    Sync,
    Ticket,
    Tombstone,
    Type,
    Undecryptable,
    name_of,
)

Record: TypeAlias = Frame | Participant | Stay | Ticket | DownloadTicket | ListedDevice
Check: TypeAlias = Callable[[Any], Any]
"""Takes a decoded value, returns the field's value. Raises ValueError, which says what is allowed."""

_R = TypeVar("_R", bound=Record)


class FieldError(ValueError):
    """A whole sentence about a field that is missing or wrong: within another field it needs no "must be"."""


def _uint(most: int, *, least: int = 0) -> Check:
    def check(value: Any) -> int:
        if type(value) is int and least <= value <= most:
            return value
        raise ValueError(f"an unsigned integer from {least} to {most}")

    return check


def _bytes(least: int, most: int) -> Check:
    expected = f"{least} bytes" if least == most else f"{least} to {most} bytes"

    def check(value: Any) -> bytes:
        if type(value) is bytes and least <= len(value) <= most:
            return value
        raise ValueError(expected)

    return check


def _text(most: int) -> Check:
    def check(value: Any) -> str:
        # The decoder has checked UTF-8. Postgres takes no NUL, and one would fail the whole batch.
        if type(value) is str and 0 < len(value.encode()) <= most and "\0" not in value:
            return value
        raise ValueError(f"a text of 1 to {most} bytes of UTF-8 without NUL")

    return check


def _visible(most: int) -> Check:
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
TYPES: Final = frozenset(map(int, Type))
_time: Final = _uint(2**63 - 1)


def _bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise ValueError("true or false")


def _array(most: int, check: Check, *, least: int = 0) -> Check:
    def check_all(value: Any) -> list[Any]:
        if type(value) is not list or not least <= len(value) <= most:
            raise ValueError(f"an array of {least} to {most} elements")
        try:
            return [check(element) for element in value]
        except FieldError:
            raise
        except ValueError as error:
            raise ValueError(f"an array of {least} to {most} elements, each {error}") from None

    return check_all


def _row(shown: str, *checks: Check) -> Check:
    """An array with one element for each of these checks, as a tuple."""

    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(checks):
            raise ValueError(shown)
        try:
            return tuple([take(element) for take, element in zip(checks, value, strict=True)])
        except ValueError as error:
            raise ValueError(f"{shown} with {error}") from None

    return check


def _or_null(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


_mark: Final = _row("[conversation, seq]", _id, _seq)
_receipt: Final = _row("[user, delivered_seq, read_seq]", _id, _seq, _seq)
_quiet_hours: Final = _row("[from_minute, until_minute, zone]", _uint(1439), _uint(1439), _text(limits.MAX_ZONE_BYTES))
_count: Final = _row("[seq, delivered, read, recipients]", _seq, _seq, _seq, _seq)
_quiet_count: Final = _row("[seq, quiet_count]", _seq, _seq)
_limit: Final = _row("[limit, limit_value]", _text(64), _uint(2**63 - 1))
_digest: Final = _bytes(limits.DIGEST_BYTES, limits.DIGEST_BYTES)
_size: Final = _uint(2**63 - 1, least=1)
_media_type: Final = _visible(limits.MAX_MEDIA_TYPE_BYTES)
_avatar: Final = _row("[attachment, size_bytes, digest]", _id, _size, _digest)
_kind: Final = _visible(limits.MAX_KEY_KIND_BYTES)
_one_time_key: Final = _row(
    "[kind, number, key]", _kind, _uint(limits.MAX_SEQ, least=1), _bytes(1, limits.MAX_ONE_TIME_KEY_BYTES)
)
_reason: Final = _visible(limits.MAX_REASON_BYTES)
_envelope: Final = _row("[device, envelope]", _id, _bytes(1, limits.MAX_ENVELOPE_BYTES))
_file: Final = _row(
    "[size_bytes, media_type, part_digests, thumbnail]",
    _size,
    _media_type,
    _bytes(limits.DIGEST_BYTES, limits.MAX_PARTS * limits.DIGEST_BYTES),
    _or_null(_row("[size_bytes, digest] or null", _uint(limits.MAX_THUMBNAIL_FILE_BYTES, least=1), _digest)),
)
_pool: Final = _row(
    "[kind, count, first, highest, digest, last_resort, is_given]",
    _kind,
    _uint(limits.MAX_POOL_KEYS),
    _seq,
    _seq,
    _digest,
    _seq,
    _bool,
)
_header: Final = _row("[name, value]", _visible(limits.MAX_HEADER_BYTES), _text(limits.MAX_HEADER_BYTES))
_part_request: Final = _row(
    "[part, url, headers]",
    _uint(limits.MAX_PARTS, least=1),
    _visible(limits.MAX_URL_BYTES),
    _array(limits.MAX_HEADERS, _header),
)


def _nested(*structs: type[Frame]) -> Check:
    """One of these frames, within a frame; None for a frame of a later version."""
    types = {int(struct.TYPE): struct for struct in structs}
    expected = f"a map: {' or '.join(map(name_of, structs))}"

    def check(value: Any) -> Frame | None:
        if _is_map(value):
            type_ = value.get(0)
            if type(type_) is int:
                if struct := types.get(type_):
                    return read_record(value, struct, RECORDS[struct][1])
                if type_ not in TYPES:
                    return None
        raise ValueError(expected)

    return check


def _known(check: Check) -> Check:
    """The elements of an array without the None of frames of later versions."""
    return lambda value: [element for element in check(value) if element is not None]


def _participant(value: Any) -> Participant:
    if _is_map(value):
        return read_record(value, Participant, RECORDS[Participant][1])
    raise ValueError("a map: participant")


def _stay(value: Any) -> Stay:
    if _is_map(value):
        return read_record(value, Stay, RECORDS[Stay][1])
    raise ValueError("a map: stay")


def _ticket(value: Any) -> Ticket:
    if _is_map(value):
        return read_record(value, Ticket, RECORDS[Ticket][1])
    raise ValueError("a map: ticket")


def _download(value: Any) -> DownloadTicket:
    if _is_map(value):
        return read_record(value, DownloadTicket, RECORDS[DownloadTicket][1])
    raise ValueError("a map: download ticket")


def _device(value: Any) -> ListedDevice:
    if _is_map(value):
        return read_record(value, ListedDevice, RECORDS[ListedDevice][1])
    raise ValueError("a map: device")


def _is_map(value: Any) -> bool:
    # False and 0.0 find the key 0 of a dict; on the wire they are other keys.
    return type(value) is dict and set(map(type, value)) <= {int}


_slow_envelopes: Final = _array(limits.MAX_ENVELOPES, _envelope, least=1)


def _envelopes(value: Any) -> list[tuple[bytes, bytes]]:
    """As `_slow_envelopes`, in a fifth of its time if nothing is wrong: a send has one for each device."""
    if type(value) is list and 1 <= len(value) <= limits.MAX_ENVELOPES:
        most = limits.MAX_ENVELOPE_BYTES
        for row in value:
            if type(row) is not list or len(row) != 2:
                break
            device, envelope = row
            if type(device) is not bytes or len(device) != 16 or type(envelope) is not bytes:
                break
            if not 1 <= len(envelope) <= most:
                break
        else:
            return [(device, envelope) for device, envelope in value]
    return _slow_envelopes(value)  # type: ignore[no-any-return]  # it raises


CHECKS: Final[dict[Key, Check]] = {
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
    Key.LIMIT_VALUE: _uint(2**63 - 1),
    Key.REPLY_TO: _seq,
    Key.PARTICIPANTS_VERSION: _seq,
    Key.IS_ADMIN: _bool,
    Key.DISPLAY_NAME: _text(limits.MAX_DISPLAY_NAME_BYTES),
    Key.JOINERS_SEE_ALL: _bool,
    Key.RECEIPTS: _array(limits.MAX_PARTICIPANTS, _receipt),
    Key.COUNTS: _array(limits.MAX_COUNT, _count),
    Key.LAST_SEEN: _time,
    Key.LIFETIME_S: _uint(2**32 - 1),
    Key.ATTACHMENTS: _array(limits.MAX_ATTACHMENTS, _id, least=1),
    Key.THUMBNAIL: _bytes(1, limits.MAX_THUMBNAIL_BYTES),
    Key.ATTACHMENT: _id,
    Key.THUMBNAIL_OF: _id,
    Key.FILES: _array(limits.MAX_ATTACHMENTS, _file, least=1),
    Key.TICKETS: _array(2 * limits.MAX_ATTACHMENTS, _ticket),
    Key.PART_REQUESTS: _array(limits.MAX_PART_REQUESTS, _part_request),
    Key.STORED_PARTS: _uint(limits.MAX_PARTS),
    Key.WANTED: _array(limits.MAX_WANTED, _id, least=1),
    Key.DOWNLOADS: _array(2 * limits.MAX_WANTED, _download),
    Key.WANTS_DOWNLOADS: _bool,
    Key.SIZE_BYTES: _size,
    Key.MEDIA_TYPE: _media_type,
    Key.DIGEST: _digest,
    Key.URL: _visible(limits.MAX_URL_BYTES),
    Key.IS_QUIET: _bool,
    Key.DEVICES_VERSION: _seq,
    Key.ENVELOPES: _envelopes,
    Key.HAS_ENVELOPES: _bool,
    Key.FOLLOWS: _seq,
    Key.CONTROL_SEQ: _seq,
    Key.IDENTITY: _bytes(1, limits.MAX_IDENTITY_BYTES),
    Key.IDENTITY_REVISION: _uint(2**31 - 1),
    Key.ONE_TIME_KEYS: _array(limits.MAX_POOL_KEYS, _one_time_key, least=1),
    Key.LAST_RESORT_KEYS: _array(limits.MAX_KEY_KINDS, _one_time_key, least=1),
    Key.IS_ANEW: _bool,
    Key.KINDS: _array(limits.MAX_KEY_KINDS, _kind, least=1),
    Key.DEVICES: _array(limits.MAX_LISTED_DEVICES, _device),
    Key.KEY_HISTORY: _bytes(1, limits.MAX_KEY_HISTORY_BYTES),
    Key.POOLS: _array(limits.MAX_KEY_KINDS, _pool),
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
    Key.AVATAR: _avatar,
    Key.IS_AVATAR: _bool,
    Key.QUIET_COUNT: _seq,
    Key.QUIET_COUNTS: _array(2, _quiet_count, least=1),
    Key.CHANGED_USERS: _array(limits.MAX_PARTICIPANTS, _id),
    Key.WANTS_DEVICES: _bool,
    Key.UNKNOWN_DEVICES: _array(limits.MAX_ENVELOPES, _id),
    Key.CHANGED_SINCE: _seq,
    Key.REASON: _reason,
    Key.ENVELOPE: _bytes(1, limits.MAX_ENVELOPE_BYTES),
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
        Key.THUMBNAIL,
        Key.THUMBNAIL_OF,
        Key.WANTS_DOWNLOADS,
        Key.AVATAR,
        Key.IS_AVATAR,
        Key.ONE_TIME_KEYS,
        Key.LAST_RESORT_KEYS,
        Key.IS_ANEW,
        Key.IS_QUIET,
        Key.QUIET_COUNT,
        Key.QUIET_COUNTS,
        Key.WANTS_DEVICES,
        Key.HAS_ENVELOPES,
        Key.FOLLOWS,
        Key.CONTROL_SEQ,
        Key.UNKNOWN_DEVICES,
        Key.CHANGED_SINCE,
        Key.ENVELOPE,
    }
)
"""Fields that a frame may leave out; absent and None mean the same."""

OPTIONAL_IN: Final[dict[type[Record], frozenset[Key]]] = {
    Hello: frozenset({Key.CURSOR}),
    Sync: frozenset({Key.CURSOR}),
    List: frozenset({Key.CURSOR}),
    Conversations: frozenset({Key.CURSOR}),
    Error: frozenset({Key.RETRY_AFTER_MS, Key.MORE, Key.DEVICES_VERSION, Key.DEVICES, Key.CHANGED_USERS}),
    Messages: frozenset({Key.FIRST_SEQ, Key.DOWNLOADS}),
    Message: frozenset({Key.TEMP_ID, Key.DEVICE, Key.REVISION, Key.EDITED, Key.ATTACHMENTS}),
    Send: frozenset({Key.ATTACHMENTS, Key.DEVICES_VERSION, Key.ENVELOPES, Key.KINDS}),
    Edit: frozenset({Key.ATTACHMENTS, Key.DEVICES_VERSION, Key.ENVELOPES, Key.KINDS}),
    Sent: frozenset({Key.DEVICE}),
    Receipts: frozenset({Key.DEVICE}),
    Conversation: frozenset({Key.PARTICIPANTS, Key.DEVICES_VERSION}),
    Participant: frozenset({Key.REVISION, Key.DELIVERED_SEQ, Key.READ_SEQ, Key.SINCE_SEQ}),
    Stay: frozenset({Key.DELIVERED_SEQ, Key.READ_SEQ}),
    DownloadTicket: frozenset({Key.DIGEST}),
    PutKeys: frozenset({Key.IDENTITY, Key.KEY_HISTORY}),
    HeldKeys: frozenset({Key.IDENTITY}),
    Devices: frozenset({Key.DEVICE, Key.KINDS}),
    Undecryptable: frozenset({Key.REVISION}),
}
"""Fields that only these frames may leave out."""

Field: TypeAlias = tuple[int, str, Check, bool]


def fields_of(struct: type[Record]) -> tuple[Field, ...]:
    keys = [Key[name.upper()] for name in struct.__struct_fields__]
    assert keys == sorted(keys), f"{struct.__name__}: fields must be in the order of their keys"
    optional = OPTIONAL | OPTIONAL_IN.get(struct, frozenset())
    return tuple((int(key), key.name.lower(), CHECKS[key], key in optional) for key in keys)


def _type_of(struct: type[Record]) -> int | None:
    return getattr(struct, "TYPE", None)


RECORDS: Final[dict[type[Record], tuple[int | None, tuple[Field, ...]]]] = {
    struct: (_type_of(struct), fields_of(struct))
    for struct in (*REQUESTS, *REPLIES, *PUSHES, Participant, Stay, Ticket, DownloadTicket, ListedDevice)
}
"""Struct -> type and fields."""


def read_record(item: dict[int, Any], struct: type[_R], fields: tuple[Field, ...]) -> _R:
    """
    :raises FieldError: about the field that is missing or wrong.
    """
    get = item.get
    values: list[Any] = []
    for key, name, check, optional in fields:
        value = get(key)
        if value is None:
            if not optional:
                raise FieldError(f"{name} (key {key}) is missing")
            values.append(None)
            continue
        try:
            values.append(check(value))
        except FieldError as error:
            raise FieldError(f"{name} (key {key}): {error}") from None
        except ValueError as error:
            raise FieldError(f"{name} (key {key}) must be {error}") from None
    return struct(*values)
