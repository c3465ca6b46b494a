"""The features of the server double."""

from __future__ import annotations

from typing import Final

LATER: Final = "x_later"
"""A feature and a limit that no client knows: each `welcome` has them (SPEC 11.1)."""

OFFERED: Final = frozenset(
    {
        "actors",
        "control",
        "delete",
        "device_sets",
        "devices",
        "edit",
        "envelopes",
        "groups",
        "identities",
        "large_groups",
        "lifetime",
        "move",
        "one_time_keys",
        "own_settings",
        "pages",
        "presence",
        "profiles",
        "quiet",
        "receipt_counts",
        "reply_to",
        "requests",
        "resume",
        "self",
        "status",
        "stays",
        "temp_id",
        "typing",
        "unread",
    }
)
"""The features that the double lists, unless a scenario lists others. It has no object store."""
