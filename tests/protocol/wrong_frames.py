"""Wrong values of each field: beyond its bounds or of other types; some equal valid values in Python."""

from __future__ import annotations

from typing import Any

import cbor2

from protocol.frames import (
    Conversation,
    DownloadTicket,
    Key,
    ListedDevice,
    Message,
    Participant,
    Stay,
    Ticket,
    Typing,
)
from tests.protocol.strategies import as_map, full

NO_ID: list[Any] = [b"c" * 15, b"c" * 17, "c" * 16, 5, b"", []]
NO_SEQ: list[Any] = [-1, 2**63, True, 1.0, "1", b"\x01", [1]]
NO_TIME = NO_SEQ
NO_MS: list[Any] = [-1, 2**32, True, 1.0, "1"]
NO_BOOL: list[Any] = [0, 1, "true", b"", [], cbor2.undefined]
NO_MARKS: list[Any] = [
    {},
    [[b"c" * 16, 1]] * 257,
    [[b"c" * 16]],
    [[b"c" * 16, 1, 1]],
    [[b"c" * 16, -1]],
    [[b"c" * 16, 2**63]],
    [[b"c" * 16, True]],
    [[b"c" * 15, 1]],
    [[1, b"c" * 16]],
    [b"c" * 16, 1],
    [None],
]


NO_RECEIPT: list[Any] = [
    *([b"u" * 16, 1], [b"u" * 16, 1, 1, 1], [b"u" * 15, 1, 1], [b"u" * 16, -1, 1], [b"u" * 16, 1, 2**63]),
    *([b"u" * 16, 1, True], [1, 1, b"u" * 16], None, 5),
]
NO_COUNTS: list[Any] = [
    *([1, 1, 1], [1, 1, 1, 1, 1], [-1, 1, 1, 1], [1, True, 1, 1], [1, 1, 2**63, 1], [1, 1, 1, -1]),
    *([b"u" * 16, 1, 1, 1], None, 5),
]


FILE: list[Any] = [70_000, "image/png", bytes(32), [2000, bytes(32)]]
AVATAR: list[Any] = [b"a" * 16, 40_000, bytes(32)]
ENVELOPE: list[Any] = [b"d" * 16, b"e"]
POOL: list[Any] = ["otk", 84, 17, 100, bytes(32), 1, False]
PART_REQUEST: list[Any] = [1, "https://files.example.org/a", [["content-length", "70000"]]]


def no_bytes(least: int, most: int) -> list[Any]:
    return [bytes(most + 1), *([b""] * least), "text", 5, False, []]


def no_text(most: int) -> list[Any]:
    return ["", "a" * (most + 1), "é" * (most // 2 + 1), "a\0b", b"text", 5, True, []]


NO_KIND: list[Any] = ["", "a" * 33, b"otk", 5, True, [], "öl", "a b", "a\n", "a\x7f"]


def no_keys(most: int) -> list[Any]:
    """Wrong values for an array of [kind, number, key]."""
    key: list[Any] = ["otk", 1, b"k"]
    return [
        *(5, {}, [], key, [None], [key] * (most + 1), [key[:2]], [[*key, 1]]),
        *([[kind, 1, b"k"]] for kind in NO_KIND),
        *([["otk", number, b"k"]] for number in (0, -1, 2**63, True, 1.0)),
        *([["otk", 1, each]] for each in (b"", bytes(16_385), "k", 5)),
    ]


def no_frames(*others: type[Any]) -> list[Any]:
    """Wrong values for an array of frames."""
    wrong = [{}, {0: 2}, {0: True}, {0: 128.0}, {0: "message"}, {"a": 1}, {False: 128}, 5, None, []]
    return [5, {}, "text", *([each] for each in wrong), *([as_map(full(struct))] for struct in others)]


WRONG: dict[Key, list[Any]] = {
    Key.REQUEST: [],
    Key.CONVERSATION: NO_ID,
    Key.SEQ: NO_SEQ,
    Key.MESSAGE: NO_ID,
    Key.CREATED: NO_TIME,
    Key.SENDER: NO_ID,
    Key.CONTENT_TYPE: no_text(64),
    Key.CONTENT: no_bytes(0, 65536),
    Key.NONCE: no_bytes(0, 64),
    Key.EPHEMERAL_PUBLIC_KEY: no_bytes(0, 2048),
    Key.TEMP_ID: NO_ID,
    Key.CODE: no_text(64),
    Key.DETAIL: no_text(1024),
    Key.RETRY_AFTER_MS: NO_MS,
    Key.TOKEN: no_text(256),
    Key.USER: NO_ID,
    Key.DEVICE: NO_ID,
    Key.VERSION: [-1, 2**16, True, 1.0, "1"],
    Key.MARKS: [[], *NO_MARKS],
    Key.REVISION: [-1, 2**31, True, 1.0],
    Key.EDITED: NO_TIME,
    Key.CURSOR: no_bytes(1, 1024),
    Key.MORE: NO_BOOL,
    Key.COUNT: [0, 101, -1, True, 1.0],
    Key.PAGES: [0, 65, -1, True, 1.0],
    Key.BEFORE: NO_SEQ,
    Key.AFTER: NO_SEQ,
    Key.MESSAGES: [*no_frames(Conversation, Typing), [as_map(full(Message))] * 101],
    Key.CONVERSATIONS: [*no_frames(Message), [as_map(full(Conversation))] * 101],
    Key.KIND: no_text(16),
    Key.NAME: no_text(512),
    Key.FIRST_SEQ: NO_SEQ,
    Key.LAST_SEQ: NO_SEQ,
    Key.UNREAD_COUNT: NO_SEQ,
    Key.ACTIVE_AT: NO_TIME,
    Key.PARTICIPANTS: [*no_frames(), [as_map(full(Participant))] * 1001],
    Key.USERNAME: no_text(128),
    Key.JOINED_SEQ: NO_SEQ,
    Key.DELIVERED_SEQ: NO_SEQ,
    Key.READ_SEQ: NO_SEQ,
    Key.LAST_MESSAGE: [5, [], {}, {0: 2}, {0: 128.0}, {False: 128}, as_map(full(Conversation))],
    Key.USERS: [{}, 5, [b"c" * 16] * 257, *([each] for each in NO_ID)],
    Key.IS_ONLINE: NO_BOOL,
    Key.IS_TYPING: NO_BOOL,
    Key.FOR_EVERYONE: NO_BOOL,
    Key.HEADS: NO_MARKS,
    Key.EXPIRES: NO_TIME,
    Key.KEEP_ALIVE_MS: NO_MS,
    Key.LIMIT: no_text(64),
    Key.LIMIT_VALUE: NO_TIME,
    Key.REPLY_TO: NO_SEQ,
    Key.PARTICIPANTS_VERSION: NO_SEQ,
    Key.IS_ADMIN: NO_BOOL,
    Key.DISPLAY_NAME: no_text(512),
    Key.JOINERS_SEE_ALL: NO_BOOL,
    Key.RECEIPTS: [5, {}, [[b"u" * 16, 1, 1]] * 1001, *([each] for each in NO_RECEIPT)],
    Key.COUNTS: [5, {}, [[1, 1, 1, 1]] * 101, *([each] for each in NO_COUNTS)],
    Key.LAST_SEEN: NO_TIME,
    Key.LIFETIME_S: NO_MS,
    Key.GIVES_RECEIPTS: NO_BOOL,
    Key.SHOWS_PRESENCE: NO_BOOL,
    Key.QUIET_HOURS: [5, {}, "UTC", [1, 2], [1, 2, "UTC", 3], [1440, 2, "UTC"], [1, -1, "UTC"], [1, 2, ""], [1, 2, 3]],
    Key.CONTACTS_REVISION: [-1, 2**31, True, 1.0],
    Key.IS_CONTACT: NO_BOOL,
    Key.IS_BLOCKED: NO_BOOL,
    Key.MUTED_UNTIL: NO_TIME,
    Key.OWN_REVISION: [-1, 2**31, True, 1.0],
    Key.PARTICIPANT_COUNT: NO_MS,
    Key.IS_REQUEST: NO_BOOL,
    Key.ASKED_BY: NO_ID,
    Key.MESSAGES_FROM: no_text(16),
    Key.GROUPS_FROM: no_text(16),
    Key.CLIENT: ["", "a" * 65, "two words", "tab\t", "del\x7f", "accént", b"text", 5, True, []],
    Key.FEATURES: [5, {}, "edit", ["edit"] * 257, *([each] for each in no_text(32)), [None]],
    Key.IS_QUIET: NO_BOOL,
    Key.QUIET_COUNT: NO_SEQ,
    Key.QUIET_COUNTS: [5, {}, [], [1, 1], [[1, 1]] * 3, [[1]], [[1, 1, 1]], [None], *([[1, each]] for each in NO_SEQ)],
    Key.LIMITS: [
        *(5, {}, [["a", 1]] * 257, [["a"]], [["a", 1, 1]], [[1, "a"]], [None], ["a", 1], [{"a": 1}]),
        *([["a", each]] for each in NO_TIME),
        *([[each, 1]] for each in no_text(64)),
    ],
    Key.SINCE_SEQ: NO_SEQ,
    Key.UNCOUNTED_SEQS: [5, {}, [1] * 257, *([each] for each in NO_SEQ)],
    Key.ACTOR: NO_ID,
    Key.FORMER: [*no_frames(), [as_map(full(Stay))] * 101],
    Key.LEFT_SEQ: NO_SEQ,
    Key.AVATAR: [
        *(5, {}, [], b"a" * 16, AVATAR[:2], [*AVATAR, 1], [None, *AVATAR[1:]], [*AVATAR[:2], bytes(31)]),
        *([AVATAR[0], size, AVATAR[2]] for size in (0, -1, 2**63, True, 1.0)),
    ],
    Key.IS_AVATAR: NO_BOOL,
    Key.ATTACHMENTS: [5, {}, [], [b"c" * 16] * 11, *([each] for each in NO_ID)],
    Key.THUMBNAIL: no_bytes(1, 16_384),
    Key.ATTACHMENT: NO_ID,
    Key.THUMBNAIL_OF: NO_ID,
    Key.FILES: [
        *(5, {}, [], FILE, [None], [FILE[:3]], [[*FILE, 1]], [FILE] * 11),
        *([[size, *FILE[1:]]] for size in (0, -1, 2**63, True, 1.0)),
        *([[1, each, *FILE[2:]]] for each in ("", "a" * 128, "two words", "é", b"a", None)),
        *([[1, "a", each, None]] for each in (b"", bytes(31), "a", None)),
        *(
            [[1, "a", bytes(32), each]]
            for each in ([], [1], [0, bytes(32)], [524_289, bytes(32)], [1, bytes(31)], True)
        ),
    ],
    Key.TICKETS: [*no_frames(), [as_map(full(Ticket))] * 21],
    Key.PART_REQUESTS: [
        *(5, {}, [None], PART_REQUEST, [PART_REQUEST] * 33, [PART_REQUEST[:2]], [[*PART_REQUEST, 1]]),
        *([[part, "a", []]] for part in (0, 2049, True, 1.0)),
        *([[1, each, []]] for each in ("", "a" * 1025, "two words", b"a", None)),
        *([[1, "a", each]] for each in (None, {}, ["a"], [["a"]], [["a", "b", "c"]], [["a", "b"]] * 9, [["", "b"]])),
        *([[1, "a", [each]]] for each in (["a", ""], ["a" * 257, "b"], ["a", "b" * 257], ["two words", "b"], ["a", 1])),
    ],
    Key.STORED_PARTS: [-1, 2049, True, 1.0],
    Key.WANTED: [5, {}, [], [b"c" * 16] * 101, *([each] for each in NO_ID)],
    Key.DOWNLOADS: [*no_frames(), [as_map(full(DownloadTicket))] * 201],
    Key.WANTS_DOWNLOADS: NO_BOOL,
    Key.SIZE_BYTES: [0, -1, 2**63, True, 1.0],
    Key.MEDIA_TYPE: ["", "a" * 128, "two words", "é", b"a", 5],
    Key.DIGEST: [bytes(31), bytes(33), "a" * 32, 5],
    Key.DEVICES_VERSION: NO_SEQ,
    Key.CHANGED_USERS: [{}, 5, [b"c" * 16] * 1001, *([each] for each in NO_ID)],
    Key.WANTS_DEVICES: NO_BOOL,
    Key.ENVELOPES: [
        *(5, {}, [], ENVELOPE, [None], [[b"d" * 16, b"e" * 8]] * 257, [ENVELOPE[:1]], [[*ENVELOPE, 1]]),
        *([[device, b"e"]] for device in NO_ID),
        *([[b"d" * 16, each]] for each in no_bytes(1, 65536)),
    ],
    Key.HAS_ENVELOPES: NO_BOOL,
    Key.FOLLOWS: NO_SEQ,
    Key.CONTROL_SEQ: NO_SEQ,
    Key.CHANGED_SINCE: NO_SEQ,
    Key.UNKNOWN_DEVICES: [{}, 5, [b"c" * 16] * 257, *([each] for each in NO_ID)],
    Key.REASON: NO_KIND,
    Key.ENVELOPE: no_bytes(1, 65536),
    Key.IDENTITY: no_bytes(1, 4096),
    Key.IDENTITY_REVISION: [-1, 2**31, True, 1.0],
    Key.ONE_TIME_KEYS: no_keys(200),
    Key.LAST_RESORT_KEYS: no_keys(8),
    Key.IS_ANEW: NO_BOOL,
    Key.KINDS: [5, {}, "otk", [], ["otk"] * 9, [None], *([each] for each in NO_KIND)],
    Key.KEY_HISTORY: no_bytes(1, 64),
    Key.POOLS: [
        *(5, {}, [None], POOL, [POOL] * 9, [POOL[:6]], [[*POOL, 1]]),
        *([[kind, *POOL[1:]]] for kind in NO_KIND),
        *([["otk", count, *POOL[2:]]] for count in (-1, 201, True, 1.0)),
        *([[*POOL[:at], number, *POOL[at + 1 :]]] for at in (2, 3, 5) for number in NO_SEQ),
        *([[*POOL[:4], digest, *POOL[5:]]] for digest in (bytes(31), "a" * 32)),
        *([[*POOL[:6], each]] for each in NO_BOOL),
    ],
    Key.DEVICES: [*no_frames(), [as_map(full(ListedDevice))] * 257],
    Key.URL: ["", "a" * 1025, "two words", "é", b"a", 5],
}
"""Field -> values that a receiver refuses. Request has none: a receiver cannot answer a frame with a wrong one."""
