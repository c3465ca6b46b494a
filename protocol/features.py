"""Features: names that a `welcome` lists of what a server can do beyond the basics, so that a client need not try.

The basics are sending, receiving, marks, resuming by `sync`, history, lists and tokens. Each later addition to the
protocol gets a name here; a client uses it where a server lists it.
"""

from __future__ import annotations

from typing import Final

FEATURES: Final[dict[str, str]] = {
    "delete": "`delete`, for oneself and for everyone; `tombstone`",
    "edit": "`edit`",
    "groups": "conversations of the kind `group`; `participants`, `departed`, `settings`",
    "large_groups": "`participant_count`: of more than 32 participants the user alone",
    "lifetime": "`lifetime_s`: messages that disappear",
    "move": "`move`, before a node stops",
    "own_settings": "`own_settings` with `gives_receipts`, `shows_presence`, `quiet_hours` and `contacts_revision`;"
    " `contact` with `is_contact` and `is_blocked`; `muted_until` and `own_revision` of `conversation`",
    "pages": "`count` and `pages` in `hello` and `sync`",
    "presence": "`watch`, `presence`",
    "profiles": "`display_name`, `profile`",
    "receipt_counts": "`receipt_counts`, where many take part",
    "reply_to": "`reply_to`",
    "requests": "`is_request` and `asked_by` in `conversation`, `is_request` in `list`; `messages_from` and `groups_from` in"
    " `own_settings`",
    "resume": "`cursor` in `hello`, and as a push",
    "status": "`status`",
    "temp_id": "`temp_id` in `message`",
    "typing": "`set_typing`, `typing`",
}
"""Name -> the frames and fields that it stands for."""

NAMES: Final = sorted(FEATURES)
"""As a `welcome` has them."""
