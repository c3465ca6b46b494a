"""What a server can do beyond the least: names that a `welcome` lists, so that a client need not try.

The least is what nobody can do without: sending, receiving, marks, resuming by `sync`, history, lists, tokens. What is
added to the protocol later gets a name here, and a client uses it where it is listed.
"""

from __future__ import annotations

from typing import Final

FEATURES: Final[dict[str, str]] = {
    "delete": "`delete`, for oneself and for everyone; `tombstone`",
    "edit": "`edit`",
    "groups": "conversations of the kind `group`; `participants`, `departed`, `settings`",
    "lifetime": "`lifetime_s`: messages that disappear",
    "move": "`move`, before a node stops",
    "own_settings": "`own_settings`, `contact`; `muted_until` and `own_revision` of `conversation`",
    "presence": "`watch`, `presence`",
    "profiles": "`display_name`, `profile`",
    "receipt_counts": "`receipt_counts`, where many take part",
    "reply_to": "`reply_to`",
    "resume": "`cursor` in `hello`, and as a push",
    "status": "`status`",
    "typing": "`set_typing`, `typing`",
}
"""Name -> the frames and fields that it stands for."""

NAMES: Final = sorted(FEATURES)
"""As a `welcome` has them."""
