"""Features: a `welcome` lists by name what a server can do beyond the basics, so that a client need not try.

The basics are sending, receiving, marks, resuming by `sync`, history, lists and tokens. Each later addition to the
protocol gets a name here; a client uses the addition where a server lists the name.
"""

from __future__ import annotations

from typing import Final

FEATURES: Final[dict[str, str]] = {
    "actors": "`actor`: the user who changed a group, or deleted another user's message",
    "attachments": (
        "`upload`, `parts`, `complete`, `download`, `abort`, with `attachment`, `thumbnail_of`, `files`, `tickets`,"
        " `part_requests`, `stored_parts`, `wanted`, `downloads`, `size_bytes`, `media_type`, `digest`, `url`;"
        " `attachments` and `thumbnail` of messages; `wants_downloads` in `history`"
    ),
    "avatars": "`avatar` of users and groups; `is_avatar` in `upload`",
    "control": "`follows` in `send` and `message`, `control_seq`: a chain of control messages (19.15)",
    "delete": "`delete`, for oneself and for everyone; `tombstone`",
    "device_sets": (
        "`devices_version` in `send`, `edit` and `conversation`, with `wants_devices`; `devices_changed`, with"
        " `changed_users` and `changed_since` (section 19)"
    ),
    "devices": (
        "`device` in `message` and `sent`: the device that wrote it; in `receipts`: the user's own device that has read"
    ),
    "edit": "`edit`",
    "envelopes": (
        "`envelopes` in `send` and `edit`, `has_envelopes` and `envelope` in `message`, `unknown_devices`: bytes for"
        " each device (19.12)"
    ),
    "groups": "conversations of the kind `group`; `participants`, `departed`, `settings`",
    "identities": (
        "`put_keys` and `devices`, with `identity`, `identity_revision`, `devices`: what others need in order to"
        " encrypt for a device (section 19)"
    ),
    "large_groups": "`participant_count`: a conversation of more than 32 lists the user alone",
    "lifetime": "`lifetime_s`: messages that disappear",
    "move": "`move`, before a node stops",
    "one_time_keys": (
        "`one_time_keys`, `last_resort_keys`, `is_anew` and `key_history` in `put_keys`, `kinds` in `devices`,"
        " `key_status`, `keys_low`, `pools`: keys that are handed out once (19.5)"
    ),
    "own_settings": (
        "`own_settings` and `contact`, with `gives_receipts`, `shows_presence`, `quiet_hours`, `contacts_revision`,"
        " `is_contact`, `is_blocked`; `muted_until` and `own_revision` of `conversation`"
    ),
    "pages": "`count` and `pages` in `hello` and `sync`",
    "presence": "`watch`, `presence`",
    "profiles": "`display_name`, `profile`",
    "public_avatars": "avatars are pictures that every holder of their URL can see, not ciphertext (18.10)",
    "quiet": "`is_quiet` in `send`, `message` and `tombstone`; `quiet_count`, `quiet_counts`",
    "receipt_counts": "`receipt_counts`, where more than 32 users take part",
    "reply_to": "`reply_to`",
    "requests": "`is_request` and `asked_by` in `conversation`, `is_request` in `list`; `messages_from` and"
    " `groups_from` in `own_settings`",
    "resume": "`cursor` in `hello`, and as a push",
    "self": "conversations of the kind `self`: a user's own devices",
    "status": "`status`",
    "stays": "`since_seq`, `former`, `left_seq`: the recipients of a message",
    "temp_id": "`temp_id` in `message`",
    "typing": "`set_typing`, `typing`",
    "undecryptable": (
        "`add_envelopes`, `report_undecryptable`, `undecryptable`, `reason`: messages that heal in their place (19.17)"
    ),
    "unread": "`uncounted_seqs`: messages that do not count as unread",
}
"""Name -> its frames and fields."""

NAMES: Final = sorted(FEATURES)
"""In the order of a `welcome`."""
