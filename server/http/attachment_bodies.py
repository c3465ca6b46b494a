"""Bodies of requests about attachments, as those of `server.http.bodies`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from protocol import limits
from store.attachments import File, Thumbnail

Size = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Digest = Annotated[bytes, Meta(min_length=limits.DIGEST_BYTES, max_length=limits.DIGEST_BYTES)]


class NewThumbnail(Struct):
    """A thumbnail that is uploaded beside its file, in one part.

    :ivar digest: SHA-256 of its ciphertext.
    """

    size_bytes: Annotated[int, Meta(ge=1, le=limits.MAX_THUMBNAIL_FILE_BYTES)]
    digest: Digest


class NewFile(Struct):
    """A file that you are about to upload. All is about its ciphertext.

    :ivar part_digests: the SHA-256 of each part, joined. All parts but the last have 8,388,608 bytes.
    :ivar media_type: others see it; visible ASCII. The server makes nothing of it.
    """

    size_bytes: Size
    part_digests: Annotated[
        bytes, Meta(min_length=limits.DIGEST_BYTES, max_length=limits.MAX_PARTS * limits.DIGEST_BYTES)
    ]
    media_type: Annotated[str, Meta(min_length=1, max_length=limits.MAX_MEDIA_TYPE_BYTES, pattern="^[!-~]*$")] = (
        "application/octet-stream"
    )
    thumbnail: NewThumbnail | None = None


class NewAttachments(Struct):
    """Files that you are about to upload.

    :ivar is_avatar: they are avatars, for you or for a group: no message takes them.
    """

    files: Annotated[list[NewFile], Meta(min_length=1, max_length=limits.MAX_ATTACHMENTS)]
    is_avatar: bool = False


class WantedDownloads(Struct):
    """Attachments that you want to download."""

    attachments: Annotated[list[UUID], Meta(min_length=1, max_length=limits.MAX_WANTED)]


def files_of(body: NewAttachments) -> list[File]:
    return [
        File(
            each.size_bytes,
            each.media_type,
            each.part_digests,
            Thumbnail(each.thumbnail.size_bytes, each.thumbnail.digest) if each.thumbnail else None,
        )
        for each in body.files
    ]
