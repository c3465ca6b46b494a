"""Quotas: how much users may upload. A deployment sets them (`runtime.config`); `store.attachments` checks them."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from protocol import limits


class Quotas(Struct, frozen=True):
    """The quotas of a deployment, by their names on the wire. 0 is none, but for
    `attachment_bytes` and `avatar_bytes`.

    :ivar attachment_bytes: the most bytes of a file.
    :ivar open_uploads_per_user: files of a user that neither a message nor an avatar has. Thumbnails do not count.
    :ivar attachment_bytes_per_day: declared by a user within a day (UTC). What is given up stays counted.
    :ivar attachment_bytes_per_user: declared by a user, until the objects are gone.
    :ivar attachment_bytes_total: declared by all users together, until the objects are gone.
    :ivar avatar_bytes: the most bytes of an avatar, at most `limits.ATTACHMENT_PART_BYTES`.
    """

    attachment_bytes: int = limits.MAX_ATTACHMENT_BYTES
    open_uploads_per_user: int = limits.MAX_OPEN_UPLOADS
    attachment_bytes_per_day: int = limits.MAX_ATTACHMENT_BYTES_PER_DAY
    attachment_bytes_per_user: int = limits.MAX_ATTACHMENT_BYTES_PER_USER
    attachment_bytes_total: int = 0
    avatar_bytes: int = limits.MAX_AVATAR_BYTES


QUOTAS: Final = Quotas()
"""Those of a deployment that sets none."""
