"""Avatars of users and groups."""

from __future__ import annotations

from msgspec import Struct

from protocol.frames import Avatar
from server.http.encoding import IDENT, Encoding, Ident


class AvatarAnswer(Struct, frozen=True, gc=False):
    """The avatar of a user or a group; the route of downloads has its URL.

    :ivar digest: SHA-256 of its bytes.
    """

    attachment: Ident
    size_bytes: int
    digest: bytes


def avatar_or_none(avatar: Avatar | None, encoding: Encoding) -> AvatarAnswer | None:
    if avatar is None:
        return None
    attachment, size_bytes, digest = avatar
    return AvatarAnswer(IDENT[encoding](attachment), size_bytes, digest)
