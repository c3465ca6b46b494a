"""What the avatars of a deployment are: ciphertext, or pictures that browsers show."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

from store.objects.direct import SHOWN_TYPES

AvatarMode: TypeAlias = Literal["encrypted", "public"]
"""Ciphertext, as all other attachments are, or pictures that every holder of their URL can see."""

AVATAR_MODES: Final = get_args(AvatarMode)

MEDIA_TYPES: Final[dict[AvatarMode, tuple[str, ...]]] = {
    "encrypted": ("application/octet-stream",),
    "public": SHOWN_TYPES,
}
"""The media types that an avatar may have. The object store serves public avatars with these, and no browser runs any
of them. The server does not look whether the bytes are such a picture."""
