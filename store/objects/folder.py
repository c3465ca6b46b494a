"""An object store in a folder of this machine: for `make run`, for tests, and for one machine with a good disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import trio

from store.errors import ObjectStoreRefused, ObjectTooLarge, PartBusy, Unavailable
from store.objects.calls import CallTimes
from store.objects.direct import ObjectState, OpenMultipart, Part, PresignedRequest, check_part
from store.objects.folder_files import NEW, NewObject, OpenObject, Sink, may_lead, remove_older
from store.objects.folder_multiparts import Multiparts
from store.objects.interface import MAX_GET_BYTES, MAX_PAGE, TIMEOUT_S, Listing, StoredObject, check_key, check_prefix
from store.objects.signed_urls import SignedUrl, UrlSigner, read_or_make_secret
from store.objects.tree import Tree, write_all

THREADS: Final = 8
"""Calls at a time; more wait. A disk does not do more at once."""

ABANDONED_S: Final = 86400.0
"""A file in `NEW` that is older than this was abandoned by a process that crashed."""

BUSY_S: Final = 2.0
"""How long a join waits for another one of the same upload, which syncs up to 2 GiB to the disk, or for a part that is
being written."""

BUSY_RETRY_S: Final = 0.02

_T = TypeVar("_T")

# In the class `list` is a method.
_Parts: TypeAlias = list[Part]
_Page: TypeAlias = list[OpenMultipart]


class Folder:
    """Objects as files below one folder, which `start` creates. `store.objects.interface` and `store.objects.direct`
    describe the calls.

    A call that takes too long continues in its thread: its effect is whole, or not there.

    :param files_url: the URL of `web` for clients, which serves the presigned requests.
    """

    joined_have_digests = False

    def __init__(self, path: Path, files_url: str = "") -> None:
        self._path = path
        self._files_url = files_url.rstrip("/")
        self._tree = Tree(path)
        self._multiparts = Multiparts(self._tree)
        self._threads = trio.CapacityLimiter(THREADS)
        self._signer: UrlSigner | None = None
        self.calls = CallTimes()

    def __str__(self) -> str:
        return str(self._path)

    async def start(self) -> None:
        """Create the folder with its secret, and remove the unfinished files of processes that crashed.

        :raises ObjectStoreRefused: if that fails.
        """
        self._signer = UrlSigner(await self._run(self._start), self._files_url)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """A folder keeps no content types."""
        check_key(key)
        await self._run(lambda: self._put(key, data))

    async def get(self, key: str, *, max_bytes: int = MAX_GET_BYTES) -> bytes:
        check_key(key)
        return await self._run(lambda: self._get(key, max_bytes))

    async def delete(self, keys: Sequence[str]) -> None:
        assert len(keys) <= MAX_PAGE
        for key in keys:
            check_key(key)
        await self._run(lambda: self._delete(keys))

    async def list(self, prefix: str, after: str = "", limit: int = MAX_PAGE) -> Listing:
        check_prefix(prefix)
        return await self._run(lambda: list(islice(self._walk("", prefix, after), min(limit, MAX_PAGE))))

    def presign_get(self, key: str, *, expires_s: int, shown_as: str | None = None) -> PresignedRequest:
        url = self.signer.url("GET", check_key(key), expires_s=expires_s, shown_as=shown_as)
        return PresignedRequest("GET", url, {})

    def presign_put(self, key: str, part: Part, *, expires_s: int) -> PresignedRequest:
        return self._presigned_put(key, part, None, expires_s)

    def presign_part(self, key: str, upload: str, part: Part, *, expires_s: int) -> PresignedRequest:
        return self._presigned_put(key, part, upload, expires_s)

    def _presigned_put(self, key: str, part: Part, upload: str | None, expires_s: int) -> PresignedRequest:
        check_part(part)
        url = self.signer.url("PUT", check_key(key), expires_s=expires_s, part=part, upload=upload)
        return PresignedRequest("PUT", url, {"content-length": str(part.size_bytes)})

    async def begin_multipart(self, key: str) -> str:
        check_key(key)
        return await self._run(lambda: self._multiparts.begin(key))

    async def list_parts(self, key: str, upload: str) -> _Parts:
        check_key(key)
        return await self._run(lambda: self._multiparts.parts(key, upload))

    async def complete_multipart(self, key: str, upload: str, parts: Sequence[Part]) -> None:
        """Waits a little for another call that completes the upload, which then finds it done."""
        check_key(key)
        ends_at = trio.current_time() + BUSY_S
        while True:
            try:
                with self.calls.measured("file"):
                    return await self._run_in_time(lambda: self._multiparts.complete(key, upload, parts))
            except PartBusy as error:
                if trio.current_time() >= ends_at:
                    raise Unavailable("the object store", str(self), str(error)) from None
            await trio.sleep(BUSY_RETRY_S)

    async def abort_multipart(self, key: str, upload: str) -> None:
        check_key(key)
        await self._run(lambda: self._multiparts.abort(key, upload))

    async def list_multiparts(self, prefix: str, after: str = "", limit: int = MAX_PAGE) -> _Page:
        check_prefix(prefix)
        return await self._run(lambda: self._multiparts.list(prefix, after, limit))

    async def remove_unfinished(self) -> None:
        await self._run(self._remove_unfinished)

    async def stat(self, key: str) -> ObjectState:
        """There is a digest of objects that clients have uploaded, if the file system keeps extended attributes."""
        check_key(key)
        return await self._run(lambda: self._stat(key))

    @property
    def signer(self) -> UrlSigner:
        """The tickets of this folder, after `start`."""
        assert self._signer is not None, "start() reads the secret"
        return self._signer

    def open_object(self, key: str) -> OpenObject:
        """An object to be read. Blocking.

        :raises ObjectMissing: if it does not exist.
        """
        return OpenObject(self._tree, check_key(key))

    def open_sink(self, ticket: SignedUrl) -> Sink:
        """The place for the bytes of an upload. Blocking.

        :raises ObjectMissing: if the multipart upload is unknown, complete or aborted.
        :raises PartBusy: if another request is writing the part.
        """
        assert ticket.part is not None
        if ticket.upload is None:
            return NewObject(self._tree, check_key(ticket.key), ticket.part.digest)
        return self._multiparts.open_part(check_key(ticket.key), ticket.upload, ticket.part)

    async def _run(self, call: Callable[[], _T]) -> _T:
        with self.calls.measured("file"):
            try:
                return await self._run_in_time(call)
            except PartBusy as error:
                raise Unavailable("the object store", str(self), str(error)) from None

    async def _run_in_time(self, call: Callable[[], _T]) -> _T:
        try:
            with trio.fail_after(TIMEOUT_S):
                return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)
        except trio.TooSlowError:
            raise Unavailable("the object store", str(self), f"no answer within {TIMEOUT_S:g} s") from None
        except OSError as error:
            raise ObjectStoreRefused(str(self), f"{error.strerror}: {error.filename}") from None
        except ValueError as error:
            raise ObjectStoreRefused(str(self), str(error)) from None

    def _start(self) -> bytes:
        self._path.mkdir(parents=True, exist_ok=True)
        with self._tree.folder(NEW, make=True):
            pass
        self._remove_unfinished()
        return read_or_make_secret(self._tree)

    def _remove_unfinished(self) -> None:
        remove_older(self._tree, time.time() - ABANDONED_S)

    def _put(self, key: str, data: bytes) -> None:
        with closing(NewObject(self._tree, key)) as new:
            write_all(new.descriptor, data)
            new.keep()

    def _delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._tree.remove(key)

    def _get(self, key: str, max_bytes: int) -> bytes:
        with closing(self.open_object(key)) as found, open(found.descriptor, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise ObjectTooLarge(key, max_bytes)
        return data

    def _stat(self, key: str) -> ObjectState:
        with closing(self.open_object(key)) as found:
            return ObjectState(found.size_bytes, found.digest)

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[StoredObject]:
        """The objects in a folder and below, in order of their keys.

        :param folder: empty, or with a slash at its end.
        """
        for name in self._tree.names(folder):
            key = folder + name
            if name.startswith(".") or not may_lead(key, prefix, after):
                continue
            if name.endswith("/"):
                yield from self._walk(key, prefix, after)
            else:
                with suppress(FileNotFoundError):  # deleted in the meantime
                    status = self._tree.status(key)
                    yield StoredObject(key, status.st_size, status.st_mtime_ns // 1000)
