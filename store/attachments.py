"""Attachments: files that clients upload into the object store, and the quotas of their users.

A file is declared first; its row is written before anything happens in the object store. It is complete once the server
has seen it there with the declared size and digest; then a message can take it (`store.messages`, `store.revisions`),
or a user or a group shows it, if it was declared as an avatar (`store.avatars`).
This module has the queries; `store.transfers` brings them together with the object store.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from msgspec import Struct

from protocol import ids, limits
from store import sql
from store.errors import AttachmentUsed, BadUpload, QuotaExceeded, TokenUnknown, UnknownAttachment
from store.objects.avatar_modes import MEDIA_TYPES, AvatarMode
from store.objects.direct import Part
from store.objects.interface import ATTACHMENTS
from store.objects.quotas import Quotas
from store.orphans import Orphan
from store.postgres.driver import bigints, byteas, texts, uuid, uuids
from store.postgres.pool import Pool

_sql = sql.load("attachments")


class Thumbnail(Struct, frozen=True):
    """A thumbnail that is uploaded beside its file, in one part.

    :ivar digest: SHA-256.
    """

    size_bytes: int
    digest: bytes


class File(Struct, frozen=True):
    """A file as its client declares it.

    :ivar part_digests: SHA-256 of each part of `limits.ATTACHMENT_PART_BYTES`, joined.
    """

    size_bytes: int
    media_type: str
    part_digests: bytes
    thumbnail: Thumbnail | None = None


class DeclaredFile(Struct, frozen=True):
    """The row of a file that is declared, and not given up.

    :ivar digest: of the file: SHA-256 of its only part, or of the joined digests of its parts.
    :ivar part_digests: as in `File`; None once it is complete.
    :ivar multipart: the object store's name of the multipart upload; None for a file of one part, for a complete one,
        and before the multipart upload has begun.
    :ivar thumbnail_of: the file whose thumbnail it is, if it is one.
    """

    id: bytes
    key: str
    size_bytes: int
    digest: bytes
    part_digests: bytes | None
    multipart: str | None
    thumbnail_of: bytes | None
    is_complete: bool

    @property
    def part_count(self) -> int:
        return -(-self.size_bytes // limits.ATTACHMENT_PART_BYTES)

    def parts(self) -> list[Part]:
        """The declared parts, by number, of an upload that is not complete."""
        assert self.part_digests is not None
        return [
            Part(
                number,
                min(limits.ATTACHMENT_PART_BYTES, self.size_bytes - (number - 1) * limits.ATTACHMENT_PART_BYTES),
                self.part_digests[(number - 1) * limits.DIGEST_BYTES : number * limits.DIGEST_BYTES],
            )
            for number in range(1, self.part_count + 1)
        ]


class Readable(Struct, frozen=True):
    """An attachment, or the thumbnail of one, whose message its reader may see; or an avatar.

    :ivar digest: as in `DeclaredFile`; None: the file comes from a service that kept none.
    :ivar thumbnail_of: as in `DeclaredFile`.
    :ivar is_sized: whether the size is known; otherwise it is what that service said.
    """

    id: bytes
    key: str
    size_bytes: int
    media_type: str
    digest: bytes | None
    thumbnail_of: bytes | None
    is_avatar: bool
    is_sized: bool


def key_of(attachment: bytes) -> str:
    """The key of the object. The last digits of an id are random: keys spread evenly over 256 folders."""
    digits = attachment.hex()
    return f"{ATTACHMENTS}{digits[-2:]}/{digits}"


THUMBNAIL_TYPE: Final = "application/octet-stream"
"""The media type of thumbnails: a client that has made one knows what it is."""


async def declare(
    pool: Pool, user: bytes, files: Sequence[File], quotas: Quotas, *, avatars: AvatarMode | None = None
) -> list[DeclaredFile]:
    """Write the rows of files that a user is about to upload: all, or none. Each file is followed by its thumbnail.

    :param avatars: the files are avatars, of this kind; None: they are for messages.
    :raises BadUpload: if a declaration contradicts itself, or is too large for any deployment; the text says which.
    :raises QuotaExceeded: if a quota would be exceeded.
    :raises TokenUnknown: if the account was deleted.
    """
    rows: list[DeclaredFile] = []
    media_types: list[str] = []
    for file, id_ in zip(files, _new_ids(len(files)), strict=True):
        _check(file, quotas)
        if avatars is not None:
            _check_avatar(file, quotas, avatars)
        # The length of the digests is checked: one part has one digest, which is that of the file.
        is_single = len(file.part_digests) == limits.DIGEST_BYTES
        digest = file.part_digests if is_single else sha256(file.part_digests).digest()
        rows.append(DeclaredFile(id_, key_of(id_), file.size_bytes, digest, file.part_digests, None, None, False))
        media_types.append(file.media_type)
        if small := file.thumbnail:
            [own_id] = _new_ids(1)
            rows.append(
                DeclaredFile(own_id, key_of(own_id), small.size_bytes, small.digest, small.digest, None, id_, False)
            )
            media_types.append(THUMBNAIL_TYPE)
    parameters = {
        "user": uuid(user),
        "ids": uuids([row.id for row in rows]),
        "keys": texts([row.key for row in rows]),
        "sizes": bigints([row.size_bytes for row in rows]),
        "media_types": texts(media_types),
        "digests": byteas([row.digest for row in rows]),
        "part_digests": byteas([row.part_digests for row in rows]),
        "thumbnail_of": uuids([row.thumbnail_of for row in rows]),
        "are_avatars": avatars is not None,
        "open_uploads_per_user": quotas.open_uploads_per_user,
        "attachment_bytes_per_day": quotas.attachment_bytes_per_day,
        "attachment_bytes_per_user": quotas.attachment_bytes_per_user,
        "attachment_bytes_total": quotas.attachment_bytes_total,
    }
    [(outcome,)] = await pool.fetch(_sql.declare, parameters)
    if outcome == "deleted":
        raise TokenUnknown
    if outcome != "declared":
        raise QuotaExceeded(outcome, getattr(quotas, outcome))
    return rows


async def uploads(pool: Pool, user: bytes, attachments: Sequence[bytes]) -> list[DeclaredFile]:
    """Those of these attachments that the user has declared and not given up, and their thumbnails, by id."""
    parameters = {"user": uuid(user), "ids": uuids(attachments)}
    return [DeclaredFile(*row) for row in await pool.fetch(_sql.uploads, parameters)]


async def note_multipart(pool: Pool, upload: DeclaredFile, multipart: str) -> bool:
    """Note the multipart upload that has begun for this upload; False if another request was quicker, or the upload is
    complete or given up: then the caller aborts the one that it has begun."""
    parameters = {"id": uuid(upload.id), "former": upload.multipart, "upload": multipart}
    return bool(await pool.fetch(_sql.note_multipart, parameters))


async def complete(pool: Pool, user: bytes, attachments: Sequence[bytes]) -> set[bytes]:
    """Note that these uploads are in the object store as declared. Doing it again changes nothing.

    :returns: those that are complete now; the others were given up.
    """
    parameters = {"user": uuid(user), "ids": uuids(attachments)}
    [(complete,)] = await pool.fetch(_sql.complete, parameters)
    return set(complete)


async def give_up(pool: Pool, user: bytes, attachments: Sequence[bytes]) -> list[Orphan]:
    """Give up uploads of a user, with their thumbnails: all, or none. No request can complete or attach them any
    longer; the caller deletes their objects (`store.orphans.clear`), or a job does.

    :raises UnknownAttachment: if the user has not all of these uploads.
    :raises AttachmentUsed: if a message has one of them, or a user or a group shows one as its avatar.
    """
    parameters = {"user": uuid(user), "ids": uuids(attachments)}
    [(outcome, ids_, keys, multiparts)] = await pool.fetch(_sql.give_up, parameters)
    if outcome == "unknown":
        raise UnknownAttachment
    if outcome == "used":
        raise AttachmentUsed
    return [Orphan(*row) for row in zip(ids_, keys, multiparts, strict=True)]


async def readable(pool: Pool, user: bytes, attachments: Sequence[bytes]) -> list[Readable]:
    """Those of these attachments whose messages the user may read now, and avatars that the user may see, in the given
    order, each followed by its thumbnail. Others are left out: unknown ones, and those that are not for this user, look
    alike."""
    rows = await pool.fetch(_sql.readable, {"user": uuid(user), "ids": uuids(attachments)})
    found = {row[0]: Readable(*row) for row in rows}
    thumbnails = {each.thumbnail_of: each for each in found.values() if each.thumbnail_of is not None}
    ordered: dict[bytes, Readable] = {}
    for id_ in attachments:
        if each := found.get(id_):
            ordered[id_] = each
            if small := thumbnails.get(id_):
                ordered[small.id] = small
    return list(ordered.values())


async def note_sizes(pool: Pool, sizes: Mapping[bytes, int]) -> None:
    """Note the sizes of files whose size was not known, as the object store has told them.

    :param sizes: attachment -> bytes.
    """
    await pool.fetch(_sql.note_sizes, {"ids": uuids(list(sizes)), "sizes": bigints(list(sizes.values()))})


def _check(file: File, quotas: Quotas) -> None:
    if file.size_bytes < 1:
        raise BadUpload("size_bytes must be at least 1")
    if file.size_bytes > quotas.attachment_bytes:
        raise QuotaExceeded("attachment_bytes", quotas.attachment_bytes)
    parts = -(-file.size_bytes // limits.ATTACHMENT_PART_BYTES)
    if len(file.part_digests) != parts * limits.DIGEST_BYTES:
        raise BadUpload(
            f"a file of {file.size_bytes} bytes has {parts} parts, so its digests have {parts * limits.DIGEST_BYTES}"
            f" bytes, not {len(file.part_digests)}"
        )
    if not (1 <= len(file.media_type) <= limits.MAX_MEDIA_TYPE_BYTES and _is_visible(file.media_type)):
        raise BadUpload(f"media_type must be 1 to {limits.MAX_MEDIA_TYPE_BYTES} characters of visible ASCII")
    if small := file.thumbnail:
        if not 1 <= small.size_bytes <= limits.MAX_THUMBNAIL_FILE_BYTES:
            raise BadUpload(f"a thumbnail must have 1 to {limits.MAX_THUMBNAIL_FILE_BYTES} bytes")
        if len(small.digest) != limits.DIGEST_BYTES:
            raise BadUpload(f"the digest of a thumbnail must have {limits.DIGEST_BYTES} bytes")


def _check_avatar(file: File, quotas: Quotas, mode: AvatarMode) -> None:
    if file.size_bytes > quotas.avatar_bytes:
        raise QuotaExceeded("avatar_bytes", quotas.avatar_bytes)
    allowed = " or ".join(MEDIA_TYPES[mode])
    if file.media_type not in MEDIA_TYPES[mode]:
        raise BadUpload(f"the media_type of an avatar must be {allowed}")
    if file.thumbnail is not None:
        raise BadUpload("an avatar has no thumbnail")


def _is_visible(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


def _new_ids(count: int) -> list[bytes]:
    size, ms = ids.NOISE_BYTES, time.time_ns() // 1_000_000
    noise = os.urandom(count * size)
    return [ids.uuid7(ms, noise[at : at + size]) for at in range(0, len(noise), size)]
