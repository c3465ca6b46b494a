"""Object stores for tests of attachments: stores that clients can reach, and stores that fail or lie."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import trio

from protocol.limits import ATTACHMENT_PART_BYTES
from store import attachments
from store.attachments import File, Thumbnail
from store.errors import ObjectMissing
from store.objects.avatar_modes import MEDIA_TYPES, AvatarMode
from store.objects.direct import FileStore, PresignedRequest
from store.objects.folder import Folder
from store.objects.quotas import Quotas
from store.objects.tree import write_all
from store.postgres.driver import uuid
from store.postgres.pool import Pool

Put = Callable[[PresignedRequest, bytes], Awaitable[int]]
"""Sends a presigned request with these bytes; returns the status of the answer."""


class Faulty:
    """An object store of which some calls behave as a test says.

    :ivar calls: the names of all asynchronous calls, in order.
    """

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._instead: dict[str, Callable[..., Awaitable[Any]]] = {}
        self.calls: list[str] = []

    def instead(self, name: str, call: Callable[..., Awaitable[Any]] | None) -> None:
        """From now on, this instead of the store's own call; None: the store's own again."""
        if call is None:
            self._instead.pop(name, None)
        else:
            self._instead[name] = call

    def fail(self, error: Exception, *names: str) -> None:
        """From now on these calls raise an error."""

        async def fail(*_: Any, **__: Any) -> None:
            raise error

        for name in names:
            self._instead[name] = fail

    def __str__(self) -> str:
        return str(self._store)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            return await self._instead.get(name, found)(*arguments, **named)

        return call


def some_bytes(size: int) -> bytes:
    return os.urandom(size)


def parts_of(data: bytes) -> list[bytes]:
    return [data[at : at + ATTACHMENT_PART_BYTES] for at in range(0, len(data), ATTACHMENT_PART_BYTES)]


def declared(data: bytes, thumbnail: bytes | None = None, media_type: str = "image/jpeg") -> File:
    """The declaration of these bytes."""
    digests = b"".join(sha256(part).digest() for part in parts_of(data))
    small = None if thumbnail is None else Thumbnail(len(thumbnail), sha256(thumbnail).digest())
    return File(len(data), media_type, digests, small)


async def put_parts(put: Put, requests: Sequence[Any], data: bytes) -> None:
    """Upload the parts of these requests."""
    parts = parts_of(data)
    for each in requests:
        assert await put(each.request, parts[each.number - 1]) in (200, 201, 204)


def a_file(size_bytes: int = 10, *, thumbnail: Thumbnail | None = None, media_type: str = "image/jpeg") -> File:
    parts = -(-size_bytes // ATTACHMENT_PART_BYTES)
    return File(size_bytes, media_type, b"".join(sha256(b"%d" % n).digest() for n in range(parts)), thumbnail)


async def usage_of(pool: Pool, user: bytes) -> tuple[int, int]:
    """The stored and the declared bytes."""
    rows = await pool.fetch(
        "select stored_bytes, declared_bytes from attachment_usage where user_id = %s", (uuid(user),)
    )
    return rows[0] if rows else (0, 0)


async def attach(pool: Pool, conversation: bytes, seq: int, *ids: bytes) -> None:
    """Give uploads to a message, as a send does."""
    for each in ids:
        await pool.fetch(
            "with done as (select size_bytes from attachments where id = %(id)s and completed is null), counted as ("
            "update attachment_total t set complete_files = t.complete_files + 1, complete_bytes = t.complete_bytes"
            " + d.size_bytes from done d) update attachments set conversation_id = %(conversation)s, seq = %(seq)s,"
            " completed = clock_timestamp(), part_digests = null where id = %(id)s",
            {"conversation": uuid(conversation), "seq": seq, "id": uuid(each)},
        )


async def new_attachment(
    pool: Pool, user: bytes, *, message: tuple[bytes, int] | None = None, avatars: AvatarMode | None = None
) -> bytes:
    """An attachment that is complete by its row; the object store knows nothing of it.

    :param message: conversation and seq of the message that has it; None: none.
    :param avatars: the file is an avatar, of this kind.
    """
    file = a_file(media_type=MEDIA_TYPES[avatars][0]) if avatars else a_file()
    [row] = await attachments.declare(pool, user, [file], Quotas(), avatars=avatars)
    await attachments.complete(pool, user, [row.id])
    if message is not None:
        await attach(pool, *message, row.id)
    return row.id


def put_into(folder: Folder) -> Put:
    """Uploads into a folder as `web` does it, without HTTP; the status is 204, or 404."""

    def write(request: PresignedRequest, data: bytes) -> int:
        url = urlsplit(request.url)
        try:
            with closing(folder.open_sink(folder.signer.check("PUT", url.path, url.query))) as sink:
                if not sink.is_there:
                    os.lseek(sink.descriptor, sink.offset, os.SEEK_SET)
                    write_all(sink.descriptor, data)
                    sink.keep()
        except ObjectMissing:
            return 404
        return 204

    async def put(request: PresignedRequest, data: bytes) -> int:
        return await trio.to_thread.run_sync(write, request, data)

    return put
