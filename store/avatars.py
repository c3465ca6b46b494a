"""Avatars: pictures of users and groups. Each is an attachment that was declared as one, and that no message has.

`store.profiles` sets that of a user, and `store.participants` that of a group. The stored functions do it in the
transaction of the change: the new one is shown from then on, the former one is orphaned.
"""

from __future__ import annotations

from typing import Final

from protocol.frames import Avatar
from protocol.limits import ID_BYTES

NO_AVATAR: Final = bytes(ID_BYTES)
"""Given as the new avatar, it removes the former one."""


def avatar_of(told: bytes | None) -> Avatar | None:
    """A value of the view `avatars`, as frames have it."""
    return None if told is None else (told[:16], int.from_bytes(told[16:24], "big"), told[24:])
