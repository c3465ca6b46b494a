"""Hypothesis strategies of the protocol tests: frames within their bounds, CBOR of every bad kind, and a reference
encoder that shares no line with the codec."""

from __future__ import annotations

import struct
from types import NoneType
from typing import Any, get_args, get_type_hints

from hypothesis import strategies as st
from msgspec.structs import replace

from protocol import limits
from protocol.frames import (
    PUSHES,
    REPLIES,
    REQUESTS,
    Conversation,
    DownloadTicket,
    Frame,
    Key,
    ListedDevice,
    Message,
    Participant,
    Push,
    Reply,
    Request,
    Stay,
    Ticket,
    Tombstone,
    Type,
)

Nested = Participant | Stay | Ticket | DownloadTicket | ListedDevice
Record = Frame | Nested
RECORDS: tuple[type[Record], ...] = (
    *REQUESTS,
    *REPLIES,
    *PUSHES,
    Participant,
    Stay,
    Ticket,
    DownloadTicket,
    ListedDevice,
)


def uints(most: int) -> st.SearchStrategy[int]:
    """0 to `most`, the borders of CBOR's argument sizes often among them."""
    borders = [0, 23, 24, 255, 256, 2**16 - 1, 2**16, 2**32 - 1, 2**32, most]
    return st.integers(0, most) | st.sampled_from([border for border in borders if border <= most])


def binaries(most: int) -> st.SearchStrategy[bytes]:
    """Empty to `most` bytes; long ones repeat one byte, or hypothesis would spend its time on them."""
    sizes = [0, 23, 24, 255, 256, 2**16 - 1, 2**16, most]
    return st.binary(max_size=min(most, 64)) | st.sampled_from([bytes([7]) * n for n in sizes if n <= most])


def texts(most: int) -> st.SearchStrategy[str]:
    """1 to `most` bytes of UTF-8 without NUL."""
    characters = st.characters(codec="utf-8", exclude_characters="\0")
    short = st.text(characters, min_size=1, max_size=most).filter(lambda text: len(text.encode()) <= most)
    return short | st.sampled_from(["a", "a" * most, "é" * (most // 2), "😀" * (most // 4)])


ids = st.binary(min_size=limits.ID_BYTES, max_size=limits.ID_BYTES)
requests_numbers = uints(limits.MAX_REQUEST)
seqs = uints(limits.MAX_SEQ)
microseconds = uints(2**63 - 1)
milliseconds = uints(2**32 - 1)


def arrays(elements: st.SearchStrategy[Any], least: int, most: int) -> st.SearchStrategy[list[Any]]:
    """A few different elements, or the largest number of copies of one."""
    return st.lists(elements, min_size=least, max_size=min(6, most)) | elements.map(lambda element: [element] * most)


digests = st.binary(min_size=32, max_size=32)
sizes = uints(2**63 - 1).filter(bool)
key_kinds = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=limits.MAX_KEY_KIND_BYTES
)
visible_texts = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)
files = st.tuples(
    sizes,
    visible_texts,
    st.sampled_from([b"\x07" * 32, b"\x07" * 32 * limits.MAX_PARTS]),
    st.none() | st.tuples(st.integers(1, limits.MAX_THUMBNAIL_FILE_BYTES), digests),
)
part_requests = st.tuples(
    st.integers(1, limits.MAX_PARTS), visible_texts, st.lists(st.tuples(visible_texts, texts(64)), max_size=2)
)
one_time_keys = st.tuples(key_kinds, uints(limits.MAX_SEQ).filter(bool), st.binary(min_size=1, max_size=64))
pools = st.tuples(key_kinds, st.integers(0, limits.MAX_POOL_KEYS), seqs, seqs, digests, seqs, st.booleans())
envelopes = st.tuples(ids, st.binary(min_size=1, max_size=64))
marks = arrays(st.tuples(ids, seqs), 1, limits.MAX_MARKS)
stored = st.deferred(lambda: records(Message) | records(Tombstone))

_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "request": requests_numbers,
    "conversation": ids,
    "seq": seqs,
    "message": ids,
    "created": microseconds,
    "sender": ids,
    "content_type": texts(limits.MAX_CONTENT_TYPE_BYTES),
    "content": binaries(limits.MAX_CONTENT_BYTES),
    "nonce": binaries(limits.MAX_NONCE_BYTES),
    "ephemeral_public_key": binaries(limits.MAX_PUBLIC_KEY_BYTES),
    "temp_id": ids,
    "code": texts(64),
    "detail": texts(1024),
    "retry_after_ms": milliseconds,
    "token": texts(limits.MAX_TOKEN_BYTES),
    "user": ids,
    "device": ids,
    "version": uints(2**16 - 1),
    "marks": marks,
    "revision": uints(2**31 - 1),
    "edited": microseconds,
    "cursor": binaries(limits.MAX_CURSOR_BYTES).filter(bool),
    "more": st.booleans(),
    "count": st.integers(1, limits.MAX_COUNT),
    "before": seqs,
    "after": seqs,
    "messages": st.lists(stored, max_size=3),
    "conversations": st.lists(st.deferred(lambda: records(Conversation)), max_size=2),
    "kind": texts(16),
    "name": texts(512),
    "first_seq": seqs,
    "last_seq": seqs,
    "unread_count": seqs,
    "active_at": microseconds,
    "participants": st.lists(st.deferred(lambda: records(Participant)), max_size=3),
    "username": texts(limits.MAX_USERNAME_BYTES),
    "joined_seq": seqs,
    "delivered_seq": seqs,
    "read_seq": seqs,
    "last_message": stored,
    "users": arrays(ids, 0, limits.MAX_WATCHED),
    "is_online": st.booleans(),
    "is_typing": st.booleans(),
    "for_everyone": st.booleans(),
    "heads": arrays(st.tuples(ids, seqs), 0, limits.MAX_HEADS),
    "expires": microseconds,
    "keep_alive_ms": milliseconds,
    "limit": texts(64),
    "limit_value": microseconds,
    "reply_to": seqs,
    "participants_version": seqs,
    "is_admin": st.booleans(),
    "display_name": texts(limits.MAX_DISPLAY_NAME_BYTES),
    "joiners_see_all": st.booleans(),
    "receipts": arrays(st.tuples(ids, seqs, seqs), 0, limits.MAX_PARTICIPANTS),
    "counts": arrays(st.tuples(seqs, seqs, seqs, seqs), 0, limits.MAX_COUNT),
    "last_seen": microseconds,
    "lifetime_s": milliseconds,
    "participant_count": milliseconds,
    "is_request": st.booleans(),
    "asked_by": ids,
    "messages_from": texts(16),
    "groups_from": texts(16),
    "pages": st.integers(1, limits.MAX_PAGES),
    "gives_receipts": st.booleans(),
    "shows_presence": st.booleans(),
    "quiet_hours": st.tuples(uints(1439), uints(1439), texts(limits.MAX_ZONE_BYTES)),
    "contacts_revision": uints(2**31 - 1),
    "is_contact": st.booleans(),
    "is_blocked": st.booleans(),
    "muted_until": microseconds,
    "own_revision": uints(2**31 - 1),
    "client": st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64),
    "features": arrays(texts(32), 0, limits.MAX_FEATURES),
    "limits": arrays(st.tuples(texts(64), microseconds), 0, limits.MAX_LIMITS),
    "since_seq": seqs,
    "uncounted_seqs": arrays(seqs, 0, limits.MAX_UNCOUNTED),
    "actor": ids,
    "former": st.lists(st.deferred(lambda: records(Stay)), max_size=3),
    "left_seq": seqs,
    "avatar": st.tuples(ids, sizes, digests),
    "is_avatar": st.booleans(),
    "attachments": arrays(ids, 1, limits.MAX_ATTACHMENTS),
    "thumbnail": binaries(limits.MAX_THUMBNAIL_BYTES).filter(bool),
    "attachment": ids,
    "thumbnail_of": ids,
    "files": arrays(files, 1, limits.MAX_ATTACHMENTS),
    "tickets": st.lists(st.deferred(lambda: records(Ticket)), max_size=2),
    "part_requests": arrays(part_requests, 0, limits.MAX_PART_REQUESTS),
    "stored_parts": uints(limits.MAX_PARTS),
    "wanted": arrays(ids, 1, limits.MAX_WANTED),
    "downloads": st.lists(st.deferred(lambda: records(DownloadTicket)), max_size=3),
    "wants_downloads": st.booleans(),
    "size_bytes": sizes,
    "media_type": visible_texts,
    "digest": digests,
    "url": visible_texts,
    "identity": binaries(limits.MAX_IDENTITY_BYTES).filter(bool),
    "identity_revision": uints(2**31 - 1),
    "devices": st.lists(st.deferred(lambda: records(ListedDevice)), max_size=3),
    "one_time_keys": arrays(one_time_keys, 1, limits.MAX_POOL_KEYS),
    "last_resort_keys": arrays(one_time_keys, 1, limits.MAX_KEY_KINDS),
    "is_anew": st.booleans(),
    "kinds": st.lists(key_kinds, min_size=1, max_size=limits.MAX_KEY_KINDS),
    "key_history": st.binary(min_size=1, max_size=limits.MAX_KEY_HISTORY_BYTES),
    "pools": arrays(pools, 0, limits.MAX_KEY_KINDS),
    "is_quiet": st.booleans(),
    "quiet_count": seqs,
    "quiet_counts": arrays(st.tuples(seqs, seqs), 1, 2),
    "devices_version": seqs,
    "changed_users": arrays(ids, 0, limits.MAX_PARTICIPANTS),
    "wants_devices": st.booleans(),
    "envelopes": arrays(envelopes, 1, limits.MAX_ENVELOPES),
    "has_envelopes": st.booleans(),
    "follows": seqs,
    "control_seq": seqs,
    "unknown_devices": arrays(ids, 0, limits.MAX_ENVELOPES),
    "changed_since": seqs,
    "reason": key_kinds,
    "envelope": binaries(limits.MAX_ENVELOPE_BYTES).filter(bool),
}


def optional_fields(struct_: type[Record]) -> set[str]:
    """The fields that may be None by their annotation."""
    return {name for name, hint in get_type_hints(struct_).items() if NoneType in get_args(hint)}


def records(struct_: type[Record]) -> st.SearchStrategy[Any]:
    """All valid frames of this kind."""
    optional = optional_fields(struct_)
    names = struct_.__struct_fields__
    return st.builds(
        struct_, **{name: st.none() | _FIELDS[name] if name in optional else _FIELDS[name] for name in names}
    )


requests: st.SearchStrategy[Request] = st.one_of(*map(records, REQUESTS))
from_server: st.SearchStrategy[Reply | Push] = st.one_of(*map(records, (*REPLIES, *PUSHES)))
frames: st.SearchStrategy[Frame] = requests | from_server


def full(struct_: type[Record]) -> Any:
    """One frame of this kind with all its fields."""
    samples: dict[str, Any] = {
        "request": 7,
        "content_type": "text",
        "content": b"\xde\xad",
        "nonce": b"\x01\x02",
        "ephemeral_public_key": b"\x03\x04",
        "code": "unavailable",
        "detail": "Try again.",
        "retry_after_ms": 500,
        "token": "tok",
        "version": 1,
        "marks": [(b"\x11" * 16, 7)],
        "revision": 1,
        "cursor": b"\xca\xfe",
        "more": True,
        "count": 50,
        "kind": "group",
        "name": "Climbing",
        "username": "alice",
        "users": [b"\x66" * 16],
        "is_online": True,
        "is_typing": False,
        "for_everyone": True,
        "heads": [(b"\x11" * 16, 9)],
        "keep_alive_ms": 30_000,
        "limit": "cost_per_user",
        "limit_value": 500,
        "reply_to": 5,
        "participants_version": 3,
        "is_admin": True,
        "display_name": "Alice",
        "joiners_see_all": True,
        "receipts": [(b"\x66" * 16, 7, 6)],
        "counts": [(7, 120, 45, 180)],
        "last_seen": 1_790_000_000_000_010,
        "lifetime_s": 86_400,
        "participant_count": 33,
        "is_request": True,
        "messages_from": "contacts",
        "groups_from": "nobody",
        "pages": 8,
        "gives_receipts": True,
        "shows_presence": False,
        "quiet_hours": (1320, 420, "Europe/Berlin"),
        "contacts_revision": 12,
        "is_contact": True,
        "is_blocked": False,
        "muted_until": 1_790_000_000_000_010,
        "own_revision": 2,
        "client": "app/1.0",
        "features": ["edit", "typing"],
        "limits": [("content_bytes", 65_536), ("participants", 1000)],
        "uncounted_seqs": [7],
        "attachments": [b"\x77" * 16],
        "thumbnail": b"\xfa\xce",
        "attachment": b"\x77" * 16,
        "thumbnail_of": b"\x88" * 16,
        "files": [(70_000, "application/octet-stream", b"\x07" * 32, (2_000, b"\x08" * 32))],
        "part_requests": [(1, "https://files.example.org/a?part=1", [("content-length", "70000")])],
        "stored_parts": 2,
        "wanted": [b"\x77" * 16],
        "wants_downloads": True,
        "size_bytes": 70_000,
        "media_type": "application/octet-stream",
        "digest": b"\x07" * 32,
        "url": "https://files.example.org/a",
        "avatar": (b"\x99" * 16, 40_000, b"\x07" * 32),
        "is_avatar": True,
        "is_quiet": True,
        "quiet_counts": [(6, 2), (7, 3)],
        "actor": b"\x66" * 16,
        "identity": b"\xfa\xca\xde",
        "identity_revision": 1,
        "one_time_keys": [("otk", 1, b"\x01\x01")],
        "last_resort_keys": [("otk", 1, b"\xff\xff")],
        "is_anew": True,
        "kinds": ["otk"],
        "key_history": b"\x0a\x0b\x0c\x0d",
        "pools": [("otk", 84, 17, 100, b"\x07" * 32, 1, False)],
        "devices_version": 4,
        "changed_users": [b"\x66" * 16],
        "wants_devices": True,
        "envelopes": [(b"\xaa" * 16, b"\xe1"), (b"\xbb" * 16, b"\xe2\xe2")],
        "has_envelopes": True,
        "follows": 5,
        "control_seq": 6,
        "unknown_devices": [b"\xbb" * 16],
        "changed_since": 3,
        "reason": "no_session",
        "envelope": b"\xe2\xe2",
    }
    samples |= {"quiet_count": 3}
    samples |= dict.fromkeys(("seq", "before", "after", "first_seq", "last_seq", "unread_count"), 7)
    samples |= dict.fromkeys(("joined_seq", "since_seq", "delivered_seq", "read_seq", "left_seq"), 6)
    samples |= dict.fromkeys(("created", "edited", "active_at", "expires"), 1_790_000_000_000_010)
    ids = {"conversation": 1, "temp_id": 2, "message": 3, "sender": 4, "user": 4, "device": 5, "asked_by": 6}
    samples |= {name: bytes([17 * digit]) * 16 for name, digit in ids.items()}
    nested = {
        "messages": lambda: [full(Message), full(Tombstone)],
        "conversations": lambda: [full(Conversation)],
        "participants": lambda: [full(Participant)],
        "last_message": lambda: full(Message),
        "former": lambda: [full(Stay)],
        "tickets": lambda: [full(Ticket)],
        "downloads": lambda: [full(DownloadTicket)],
        "devices": lambda: [full(ListedDevice)],
    }
    for name in nested.keys() & set(struct_.__struct_fields__):
        samples[name] = nested[name]()
    return struct_(**{name: samples[name] for name in struct_.__struct_fields__})


def bare(struct_: type[Record]) -> Any:
    """One frame of this kind without its optional fields."""
    return replace(full(struct_), **dict.fromkeys(optional_fields(struct_)))


def head(major: int, argument: int, width: int | None = None) -> bytes:
    """A CBOR head (RFC 8949, section 3); `width` of the argument's bytes, or the shortest."""
    if width is None:
        width = 0 if argument < 24 else next(n for n in (1, 2, 4, 8) if argument < 256**n)
    if width == 0:
        return bytes([major << 5 | argument])
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[width]]) + argument.to_bytes(width, "big")


def reference(value: Any) -> bytes:
    """Core deterministic encoding (RFC 8949, section 4.2.1) of what frames are made of, by the letter of the RFC."""
    match value:
        case None:
            return b"\xf6"
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return head(0, value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list() | tuple():
            return head(4, len(value)) + b"".join(map(reference, value))
        case dict():
            pairs = sorted((reference(key), reference(each)) for key, each in value.items())
            return head(5, len(pairs)) + b"".join(key + each for key, each in pairs)
    raise AssertionError(value)


def as_map(record: Record) -> dict[int, Any]:
    """A frame as a map for CBOR: its type and fields by their keys, and the same for the frames within it."""
    fields = {int(Key[name.upper()]): _as_item(getattr(record, name)) for name in record.__struct_fields__}
    type_ = {} if isinstance(record, Nested) else {0: int(record.TYPE)}
    return type_ | {key: value for key, value in fields.items() if value is not None}


def _as_item(value: Any) -> Any:
    if isinstance(value, RECORDS):
        return as_map(value)
    return [_as_item(each) for each in value] if isinstance(value, list) else value


def reference_frame(frame: Frame) -> bytes:
    return reference(as_map(frame))


@st.composite
def _wide_heads(draw: st.DrawFn, major: int, most: int) -> bytes:
    """A head whose argument may be written longer than needed."""
    width = draw(st.sampled_from([None, 1, 2, 4, 8]))
    argument = draw(uints(most if width is None else min(most, 256**width - 1)))
    return head(major, argument, width)


_leaves = st.one_of(
    st.builds(lambda n: head(0, n), uints(2**64 - 1)),
    st.builds(lambda n: head(1, n), uints(2**64 - 1)),
    _wide_heads(0, 2**64 - 1),
    st.builds(lambda data: head(2, len(data)) + data, st.binary(max_size=40)),
    # Declared lengths that the data does not have, up to what no memory holds.
    *(_wide_heads(major, 2**64 - 1) for major in (2, 3, 4, 5)),
    # Text with invalid UTF-8, text with NUL, surrogates.
    st.builds(lambda data: head(3, len(data)) + data, st.binary(max_size=40)),
    st.sampled_from([b"\x63\xed\xa0\x80", b"\x61\x00", b"\xf4", b"\xf5", b"\xf6", b"\xf7", b"\xe0", b"\xf8\x20"]),
    # Floats: half, single, double; NaN, infinities, and those that equal an integer.
    st.builds(lambda number: b"\xfb" + struct.pack(">d", number), st.floats()),
    st.sampled_from(
        [b"\xf9\x00\x00", b"\xf9\x3c\x00", b"\xf9\x7e\x00", b"\xfa\x7f\x80\x00\x00", b"\xfa\x40\x00\x00\x00"]
    ),
    # Reserved additional information, and a break without a beginning.
    st.sampled_from([b"\x1c", b"\x3d", b"\x5e", b"\xfc", b"\xff"]),
)


def _containers(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    lists = st.lists(inner, max_size=6)
    pairs = st.lists(st.tuples(inner, inner), max_size=6)
    tags = st.sampled_from(
        [0, 1, 2, 3, 4, 5, 24, 25, 28, 29, 30, 35, 36, 37, 55, 256, 258, 260, 1004, 55799, 2**64 - 1]
    )
    return st.one_of(
        st.builds(lambda items: head(4, len(items)) + b"".join(items), lists),
        st.builds(lambda items: b"\x9f" + b"".join(items) + b"\xff", lists),
        st.builds(lambda items: head(5, len(items)) + b"".join(key + each for key, each in items), pairs),
        st.builds(lambda items: b"\xbf" + b"".join(key + each for key, each in items) + b"\xff", pairs),
        st.builds(lambda tag, item: head(6, tag) + item, tags, inner),
        st.builds(lambda items: b"\x5f" + b"".join(items) + b"\xff", lists),
        st.builds(lambda items: b"\x7f" + b"".join(items) + b"\xff", lists),
    )


cbor_items: st.SearchStrategy[bytes] = st.recursive(_leaves, _containers, max_leaves=8)
"""One CBOR item, well-formed or not."""

_keys = st.sampled_from([head(0, key) for key in Key]) | cbor_items
"""The keys of a map that looks like a frame: mostly keys of the protocol."""


@st.composite
def frame_like(draw: st.DrawFn) -> bytes:
    """A map with a type and a request number more often than not, and anything else in it."""
    pairs = [
        draw(st.sampled_from([b"\x00", b"\xf4", b"\xf9\x00\x00"]))
        + draw(st.builds(reference, st.sampled_from(Type) | st.integers(0, 260)))
    ]
    pairs += draw(st.sampled_from([[], [b"\x01\x07"]]))
    pairs += draw(st.lists(st.builds(lambda key, item: key + item, _keys, cbor_items), max_size=8))
    return head(5, len(pairs)) + b"".join(pairs)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Valid frames after some damage: bytes changed, cut out, put in, repeated, or an end."""
    data = bytearray(b"".join(map(reference_frame, draw(st.lists(frames, min_size=1, max_size=3)))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "cut", "put", "end", "repeat"])):
            case "change" if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 9))]
            case "put":
                data[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "end":
                del data[at:]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)
