"""Uploads and downloads of attachments: the rows of `store.attachments`, and the object store that clients use.

`socket` and `web` share this. The rows are written before anything happens in the object store, and an attachment is
complete only after the object store has shown the declared size and digest. Whatever an object store says, nothing else
leads there: a store that lies makes a request fail. Each call ends within `DEADLINE_S`; `docs/attachments.md` says what
a crash after each step leaves behind, and what removes it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from protocol import limits
from store import attachments, orphans
from store.attachments import DeclaredFile, File, Readable
from store.errors import (
    AttachmentIncomplete,
    NoObjectStore,
    ObjectDiffers,
    ObjectMissing,
    ObjectStoreRefused,
    StoreError,
    Unavailable,
    UnknownAttachment,
)
from store.objects.avatar_modes import MEDIA_TYPES, AvatarMode
from store.objects.concurrent_calls import at_once
from store.objects.deletions import Failures
from store.objects.direct import FileStore, Part, PresignedRequest, missing_parts
from store.objects.quotas import Quotas
from store.postgres.pool import Pool
from store.unknown_sizes import with_sizes

log = structlog.get_logger(__name__)

DEADLINE_S: Final = 10.0
"""For all calls of the object store that one request of a client causes. A good one takes a tenth of a second."""

JOIN_S: Final = 2.0
"""Until the object is there whose parts another request joins: a service takes the upload away before that."""

UPLOAD_TICKET_S: Final = 3600
"""8 MiB in an hour are 20 kbit/s; `parts` gives new tickets."""

DOWNLOAD_TICKET_S: Final = 900
"""Until a download begins; one that is under way goes on. A user who is removed from a conversation may download for
this time what the user could read before, and has probably read."""

PUBLIC_TICKET_S: Final = 86_400
"""The life of a ticket for a public avatar: a list of conversations shows avatars again and again, and a cache keeps
what has the same URL."""


class PartRequest(Struct, frozen=True):
    """A presigned upload of a part.

    :ivar number: of the part, from 1.
    """

    number: int
    request: PresignedRequest


class UploadTicket(Struct, frozen=True):
    """The permission to upload a file.

    :ivar expires: until when the requests are good, in microseconds since 1970.
    :ivar thumbnail_of: the attachment whose thumbnail this is, if it is one.
    :ivar requests: those of its first parts.
    """

    expires: int
    attachment: bytes
    thumbnail_of: bytes | None
    requests: list[PartRequest]


class MissingParts(Struct, frozen=True):
    """What the object store does not have of a file.

    :ivar more: further parts, with greater numbers, are missing, too.
    :ivar expires: until when the requests are good, in microseconds since 1970.
    :ivar requests: those of the first missing parts, by number.
    :ivar stored: the number of parts that are there.
    """

    more: bool
    expires: int
    requests: list[PartRequest]
    stored: int


class ReadTicket(Struct, frozen=True):
    """The permission to download an attachment, the thumbnail of one, or an avatar.

    :ivar expires: until when the URL is good, in microseconds since 1970.
    """

    expires: int
    of: Readable
    url: str


class Transfers:
    """The requests of clients about files.

    :ivar objects: the object store; None if the deployment has none, or the process has not opened it yet: then all
        raise `NoObjectStore`.
    :ivar avatars: what avatars are in this deployment.

    All raise `Unavailable` if Postgres or the object store does not answer, does not answer in time, or refuses what it
    should not: the same request may succeed later.
    """

    def __init__(
        self, pool: Pool, objects: FileStore | None, quotas: Quotas, avatars: AvatarMode = "encrypted"
    ) -> None:
        self._pool = pool
        self.objects = objects
        self.quotas = quotas
        self.avatars = avatars

    @property
    def is_offered(self) -> bool:
        """Whether the deployment has an object store."""
        return self.objects is not None

    async def upload(self, user: bytes, files: Sequence[File], *, is_avatar: bool = False) -> list[UploadTicket]:
        """Declare files, at most `limits.MAX_ATTACHMENTS`. The ticket of a thumbnail follows that of its file.

        :param is_avatar: they are avatars; no message takes them.

        :raises BadUpload, QuotaExceeded: of `attachments.declare`; then nothing is stored.
        """
        objects = self._store()
        avatars = self.avatars if is_avatar else None
        rows = await attachments.declare(self._pool, user, files, self.quotas, avatars=avatars)
        try:
            async with _asking(objects):
                begun = await at_once(lambda row: self._begin(objects, row), rows)
        except StoreError:
            # The client never hears of them. The object store fails, so a job deletes what is there.
            await attachments.give_up(self._pool, user, [row.id for row in rows])
            raise
        # Each file gets its first part, and the first files more of them.
        left = limits.MAX_PART_REQUESTS - len(begun)
        tickets = []
        for row in begun:
            parts = row.parts()[: left + 1]
            left -= len(parts) - 1
            tickets.append(
                UploadTicket(_until(UPLOAD_TICKET_S), row.id, row.thumbnail_of, _presigned(objects, row, parts))
            )
        return tickets

    async def parts(self, user: bytes, attachment: bytes, after: int = 0) -> MissingParts:
        """The parts beyond `after` that the object store does not have: after an interruption, or for the next tickets.

        :raises UnknownAttachment: if the user has no such upload.
        """
        objects = self._store()
        row = await self._upload_of(user, attachment)
        if row.is_complete:
            return MissingParts(False, _until(UPLOAD_TICKET_S), [], row.part_count)
        async with _asking(objects):
            row, missing = await self._missing(objects, row)
        wanted = [part for part in missing if part.number > after]
        now = wanted[: limits.MAX_PART_REQUESTS]
        return MissingParts(
            len(wanted) > len(now),
            _until(UPLOAD_TICKET_S),
            _presigned(objects, row, now),
            row.part_count - len(missing),
        )

    async def complete(self, user: bytes, ids: Sequence[bytes]) -> None:
        """Check that these uploads, and their thumbnails, are in the object store as declared, and note it. Doing it
        again changes nothing, also at the same time, and after a crash at any point.

        :raises UnknownAttachment: if the user has not all of these uploads.
        :raises AttachmentIncomplete: if one is not there as declared; others may be noted.
        """
        objects = self._store()
        rows = await attachments.uploads(self._pool, user, ids)
        if not {row.id for row in rows}.issuperset(ids):
            raise UnknownAttachment
        still_open = [row for row in rows if not row.is_complete]
        if not still_open:
            return
        async with _asking(objects):
            are_there = await at_once(lambda row: self._is_joined(objects, row), still_open)
        found = [row.id for row, is_there in zip(still_open, are_there, strict=True) if is_there]
        if not (await attachments.complete(self._pool, user, found)).issuperset(found):
            raise UnknownAttachment
        if not all(are_there):
            # Another request may have given one up meanwhile.
            left = await attachments.uploads(self._pool, user, ids)
            if not {row.id for row in left}.issuperset(ids):
                raise UnknownAttachment
            raise AttachmentIncomplete

    async def download(self, user: bytes, ids: Sequence[bytes]) -> list[ReadTicket]:
        """Tickets for those of these attachments that the user may read now, each followed by that of its thumbnail."""
        objects = self._store()
        found = await with_sizes(self._pool, objects, await attachments.readable(self._pool, user, ids))
        return [self._ticket(objects, each) for each in found]

    async def abort(self, user: bytes, ids: Sequence[bytes]) -> None:
        """Give up uploads that neither a message nor an avatar has, with their thumbnails: all, or none.

        :raises UnknownAttachment: if the user has not all of these uploads, or has given one up before.
        :raises AttachmentUsed: if a message has one of them, or a user or a group shows one as its avatar.
        """
        objects = self._store()
        given_up = await attachments.give_up(self._pool, user, ids)
        try:
            async with _asking(objects):
                cleared = await orphans.clear(objects, given_up, Failures())
            await orphans.remove(self._pool, cleared)
        except StoreError as error:
            # They are given up all the same: the task `orphaned_attachments` finds them.
            log.warning("objects_left", objects=len(given_up), error=str(error))

    def _store(self) -> FileStore:
        if self.objects is None:
            raise NoObjectStore
        return self.objects

    def _ticket(self, objects: FileStore, file: Readable) -> ReadTicket:
        # An avatar from before the operator made them private stays what it was, and is no longer shown by browsers.
        is_public = file.is_avatar and self.avatars == "public" and file.media_type in MEDIA_TYPES["public"]
        expires_s = PUBLIC_TICKET_S if is_public else DOWNLOAD_TICKET_S
        shown_as = file.media_type if is_public else None
        url = objects.presign_get(file.key, expires_s=expires_s, shown_as=shown_as).url
        return ReadTicket(_until(expires_s), file, url)

    async def _upload_of(self, user: bytes, attachment: bytes) -> DeclaredFile:
        for row in await attachments.uploads(self._pool, user, [attachment]):
            if row.id == attachment:
                return row
        raise UnknownAttachment

    async def _begin(self, objects: FileStore, row: DeclaredFile) -> DeclaredFile:
        """Begin the multipart upload of a file of several parts, instead of the one that it had.

        :returns: the row as it is now.
        """
        if row.part_count == 1:
            return row
        multipart = await objects.begin_multipart(row.key)
        if await attachments.note_multipart(self._pool, row, multipart):
            return replace(row, multipart=multipart)
        await objects.abort_multipart(row.key, multipart)
        raise Unavailable("the object store", str(objects), "another request has begun this upload at the same time")

    async def _missing(self, objects: FileStore, row: DeclaredFile) -> tuple[DeclaredFile, list[Part]]:
        """The parts that are missing, and the row with the multipart upload that takes them."""
        declared = row.parts()
        if row.part_count == 1:
            return row, [] if await _is_stored(objects, row) else declared
        if row.multipart is not None:
            try:
                stored = await objects.list_parts(row.key, row.multipart)
            except ObjectMissing:
                # A request has joined the parts and did not come to note it, or the store has dropped them.
                if await _is_stored(objects, row):
                    return row, []
            else:
                return row, missing_parts(declared, stored)
        return await self._begin(objects, row), declared

    async def _is_joined(self, objects: FileStore, row: DeclaredFile) -> bool:
        """Whether the object store has the file as declared; joins its parts if they are there."""
        if row.part_count > 1 and row.multipart is not None:
            try:
                stored = await objects.list_parts(row.key, row.multipart)
                if missing_parts(row.parts(), stored):
                    return False
            except ObjectMissing:
                # Another request has joined them, perhaps one that crashed: the object tells.
                return await _is_stored(objects, row)
            try:
                await objects.complete_multipart(row.key, row.multipart, row.parts())
            except ObjectMissing:
                # A moment ago all parts were there: another request joins them now.
                return await _will_be_stored(objects, row)
            except ObjectDiffers as error:
                # No client can bring this about: the parts were compared. Another request may see the right object.
                log.error("object_differs", error=str(error))
                return False
        return await _is_stored(objects, row)


async def _is_stored(objects: FileStore, row: DeclaredFile) -> bool:
    """Whether the object has the declared size and digest."""
    try:
        state = await objects.stat(row.key)
        if state.size_bytes != row.size_bytes:
            return False
        if state.digest is not None:
            return state.digest == row.digest
        if row.part_count == 1:
            return sha256(await objects.get(row.key, max_bytes=row.size_bytes)).digest() == row.digest
        if objects.joined_have_digests:
            raise ObjectStoreRefused(str(objects), "it keeps no SHA-256 of objects that are uploaded in parts")
        return True
    except ObjectMissing:
        return False


async def _will_be_stored(objects: FileStore, row: DeclaredFile) -> bool:
    """Whether the object has the declared size and digest within `JOIN_S`."""
    with trio.move_on_after(JOIN_S):
        while True:
            if await _is_stored(objects, row):
                return True
            await trio.sleep(JOIN_S / 20)
    return False


def _presigned(objects: FileStore, row: DeclaredFile, parts: Iterable[Part]) -> list[PartRequest]:
    def request(part: Part) -> PresignedRequest:
        if row.part_count == 1:
            return objects.presign_put(row.key, part, expires_s=UPLOAD_TICKET_S)
        assert row.multipart is not None
        return objects.presign_part(row.key, row.multipart, part, expires_s=UPLOAD_TICKET_S)

    return [PartRequest(part.number, request(part)) for part in parts]


def _until(seconds: int) -> int:
    # The time of this machine, which signs: the object store compares with its own clock.
    return time.time_ns() // 1000 + seconds * 1_000_000


@asynccontextmanager
async def _asking(objects: FileStore) -> AsyncGenerator[None, None]:
    """Calls of the object store for a client: bounded in time, and `Unavailable` if it does not answer, or refuses,
    which an operator has to mend."""
    try:
        with trio.fail_after(DEADLINE_S):
            yield
    except trio.TooSlowError:
        raise Unavailable("the object store", str(objects), f"no answer within {DEADLINE_S:g} s") from None
    except ObjectStoreRefused as error:
        log.error("object_store_refused", error=str(error))
        raise Unavailable("the object store", str(objects), "it refuses; see the log") from None
