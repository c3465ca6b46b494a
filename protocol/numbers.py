"""The integers on the wire: the key of each field (`Key`) and the type of each frame (`Type`).

Numbers that are neither in a table here nor experimental are reserved for later versions (`SPEC.md`, 2.3).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

REQUEST_TYPES: Final = range(1, 64)
REPLY_TYPES: Final = range(64, 128)
PUSH_TYPES: Final = range(128, 256)
KEYS: Final = range(256)
"""The numbers of each kind. A number above 23 takes two bytes, one above 255 would take three."""

EXPERIMENTAL_REQUEST_TYPES: Final = range(60, 64)
EXPERIMENTAL_REPLY_TYPES: Final = range(124, 128)
EXPERIMENTAL_PUSH_TYPES: Final = range(252, 256)
EXPERIMENTAL_KEYS: Final = range(240, 256)
EXPERIMENTAL_CLOSE_CODES: Final = (*range(4400, 4500), *range(4900, 5000))
"""The numbers that no version of the protocol gives a meaning, for experiments and for tests of unknown numbers."""


class Key(IntEnum):
    """The integer keys of all fields."""

    TYPE = 0
    REQUEST = 1
    CONVERSATION = 2
    SEQ = 3
    MESSAGE = 4
    CREATED = 5
    SENDER = 6
    CONTENT_TYPE = 7
    CONTENT = 8
    NONCE = 9
    EPHEMERAL_PUBLIC_KEY = 10
    TEMP_ID = 11
    CODE = 12
    DETAIL = 13
    RETRY_AFTER_MS = 14
    TOKEN = 15
    USER = 16
    DEVICE = 17
    VERSION = 18
    MARKS = 19
    REVISION = 20
    EDITED = 21
    CURSOR = 22
    MORE = 23
    # From here on keys take two bytes. Frames that are sent for each message have only `reply_to`,
    # `attachments`, `thumbnail`, `is_quiet`, `has_envelopes`, `follows`, `quiet_count` and `envelope` among these.
    COUNT = 24
    BEFORE = 25
    AFTER = 26
    MESSAGES = 27
    CONVERSATIONS = 28
    KIND = 29
    NAME = 30
    FIRST_SEQ = 31
    LAST_SEQ = 32
    UNREAD_COUNT = 33
    ACTIVE_AT = 34
    PARTICIPANTS = 35
    USERNAME = 36
    JOINED_SEQ = 37
    DELIVERED_SEQ = 38
    READ_SEQ = 39
    LAST_MESSAGE = 40
    USERS = 41
    IS_ONLINE = 42
    IS_TYPING = 43
    FOR_EVERYONE = 44
    HEADS = 45
    EXPIRES = 46
    KEEP_ALIVE_MS = 47
    LIMIT = 48
    LIMIT_VALUE = 49
    REPLY_TO = 50
    PARTICIPANTS_VERSION = 51
    IS_ADMIN = 52
    DISPLAY_NAME = 53
    JOINERS_SEE_ALL = 54
    RECEIPTS = 55
    COUNTS = 56
    LAST_SEEN = 57
    LIFETIME_S = 58
    ATTACHMENTS = 59
    THUMBNAIL = 60
    ATTACHMENT = 61
    THUMBNAIL_OF = 62
    FILES = 63
    TICKETS = 64
    PART_REQUESTS = 65
    STORED_PARTS = 66
    WANTED = 67
    DOWNLOADS = 68
    WANTS_DOWNLOADS = 69
    SIZE_BYTES = 70
    MEDIA_TYPE = 71
    DIGEST = 72
    URL = 73
    IS_QUIET = 74
    DEVICES_VERSION = 75
    ENVELOPES = 76
    HAS_ENVELOPES = 77
    FOLLOWS = 78
    CONTROL_SEQ = 79
    PAGES = 80
    IDENTITY = 81
    IDENTITY_REVISION = 82
    ONE_TIME_KEYS = 83
    LAST_RESORT_KEYS = 84
    IS_ANEW = 85
    KINDS = 86
    DEVICES = 87
    KEY_HISTORY = 88
    POOLS = 89
    GIVES_RECEIPTS = 90
    SHOWS_PRESENCE = 91
    QUIET_HOURS = 92
    CONTACTS_REVISION = 93
    IS_CONTACT = 94
    IS_BLOCKED = 95
    MUTED_UNTIL = 96
    OWN_REVISION = 97
    PARTICIPANT_COUNT = 98
    IS_REQUEST = 99
    ASKED_BY = 100
    MESSAGES_FROM = 101
    GROUPS_FROM = 102
    CLIENT = 105
    FEATURES = 106
    LIMITS = 107
    SINCE_SEQ = 110
    UNCOUNTED_SEQS = 111
    ACTOR = 112
    FORMER = 113
    LEFT_SEQ = 114
    AVATAR = 115
    IS_AVATAR = 116
    QUIET_COUNT = 117
    QUIET_COUNTS = 118
    CHANGED_USERS = 136
    WANTS_DEVICES = 137
    UNKNOWN_DEVICES = 138
    CHANGED_SINCE = 139
    REASON = 140
    # The greatest key, so that it comes last: the bytes before it are the same for all devices.
    ENVELOPE = 239


class Type(IntEnum):
    """The value of key 0."""

    HELLO = 1
    SEND = 2
    MARK_DELIVERED = 3
    MARK_READ = 4
    EDIT = 5
    DELETE = 6
    SET_TYPING = 7
    WATCH = 8
    SYNC = 9
    HISTORY = 10
    LIST = 11
    REFRESH = 12
    PING = 13
    BYE = 14
    STATUS = 15
    UPLOAD = 20
    PARTS = 21
    COMPLETE = 22
    DOWNLOAD = 23
    ABORT = 24
    PUT_KEYS = 25
    DEVICES = 26
    KEY_STATUS = 27
    ADD_ENVELOPES = 28
    REPORT_UNDECRYPTABLE = 29
    ERROR = 64
    WELCOME = 65
    SENT = 66
    DONE = 67
    REVISED = 68
    SYNCED = 69
    MESSAGES = 70
    CONVERSATIONS = 71
    PONG = 72
    REFRESHED = 73
    STATUSES = 74
    TICKETS = 75
    PART_REQUESTS = 76
    DOWNLOADS = 77
    KEYS = 78
    DEVICE_LIST = 79
    MESSAGE = 128
    TOMBSTONE = 129
    CONVERSATION = 130
    TYPING = 131
    PRESENCE = 132
    LAG = 133
    RECEIPTS = 134
    CURSOR = 135
    MOVE = 136
    RECEIPT_COUNTS = 137
    PARTICIPANTS = 138
    DEPARTED = 139
    SETTINGS = 140
    PROFILE = 141
    KEYS_LOW = 142
    DEVICES_CHANGED = 143
    UNDECRYPTABLE = 144
    OWN_SETTINGS = 148
    CONTACT = 149
