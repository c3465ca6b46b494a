"""An object store in a folder of this machine: for `make run`, for tests, and for one machine with a good disk."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

import trio

from store.errors import BadKey, ObjectMissing, ObjectStoreRefused, ObjectTooLarge, Unavailable
from store.objects.interface import MAX_GET_BYTES, MAX_PAGE, TIMEOUT_S, Listing, StoredObject, check_key, check_prefix

THREADS: Final = 8
"""Calls at a time; more wait. A disk does not do more at once."""

NEW: Final = ".new"
"""The folder for files that are being written, before they get their names. No part of a key begins with a dot."""

ABANDONED_S: Final = 86400.0
"""A file in `NEW` that is older than this was abandoned by a process that crashed."""

_T = TypeVar("_T")


class Folder:
    """Objects as files below one folder, which `start` creates. `store.objects.interface` describes the calls.

    A call that takes too long continues in its thread: its effect is whole, or not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path / NEW
        self._threads = trio.CapacityLimiter(THREADS)

    def __str__(self) -> str:
        return str(self._path)

    async def start(self) -> None:
        """Create the folder, and remove the unfinished files of processes that crashed.

        :raises ObjectStoreRefused: if that fails.
        """
        await self._run(self._start)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """A folder keeps no content types."""
        check_key(key)
        await self._run(lambda: self._put(key, data))

    async def get(self, key: str, *, max_bytes: int = MAX_GET_BYTES) -> bytes:
        check_key(key)
        return await self._run(lambda: self._get(key, max_bytes))

    async def delete(self, keys: Sequence[str]) -> None:
        assert len(keys) <= MAX_PAGE
        paths = [self._path / check_key(key) for key in keys]
        await self._run(lambda: _delete(paths))

    async def list(self, prefix: str, after: str = "", limit: int = MAX_PAGE) -> Listing:
        check_prefix(prefix)
        return await self._run(lambda: list(islice(self._walk("", prefix, after), min(limit, MAX_PAGE))))

    async def _run(self, call: Callable[[], _T]) -> _T:
        try:
            with trio.fail_after(TIMEOUT_S):
                return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)
        except trio.TooSlowError:
            raise Unavailable("the object store", str(self), f"no answer within {TIMEOUT_S:g} s") from None
        except OSError as error:
            raise ObjectStoreRefused(str(self), f"{error.strerror}: {error.filename}") from None

    def _start(self) -> None:
        self._new.mkdir(parents=True, exist_ok=True)
        for file in self._new.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > ABANDONED_S:
                    file.unlink()

    def _put(self, key: str, data: bytes) -> None:
        target, new = self._path / key, self._new / secrets.token_hex(16)
        try:
            with new.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._make_folder(target.parent)
            new.replace(target)
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            raise BadKey(key) from None
        finally:
            new.unlink(missing_ok=True)
        _sync(target.parent)

    def _make_folder(self, folder: Path) -> None:
        """With its parents, each of them durable: a file is lost if the name of its folder is lost."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)

    def _get(self, key: str, max_bytes: int) -> bytes:
        try:
            with (self._path / key).open("rb") as file:
                data = file.read(max_bytes + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ObjectMissing(key) from None
        if len(data) > max_bytes:
            raise ObjectTooLarge(key, max_bytes)
        return data

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[StoredObject]:
        """The objects in a folder and below, in order of their keys.

        :param folder: empty, or with a slash at its end.
        """
        for name in self._names(folder):
            key = folder + name
            if not _may_lead(key, prefix, after):
                continue
            if name.endswith("/"):
                yield from self._walk(key, prefix, after)
            else:
                with suppress(FileNotFoundError):  # deleted in the meantime
                    status = (self._path / key).stat()
                    yield StoredObject(key, status.st_size, status.st_mtime_ns // 1000)

    def _names(self, folder: str) -> Sequence[str]:
        """The names in a folder; those of folders end with a slash, as in keys, so that they sort like keys."""
        try:
            with os.scandir(self._path / folder) as found:
                names = [each.name + "/" * each.is_dir() for each in found if not each.name.startswith(".")]
        except FileNotFoundError:
            return []
        return sorted(names)


def _may_lead(key: str, prefix: str, after: str) -> bool:
    """Whether an object, or one in a folder, can be on the page."""
    if key.endswith("/"):
        return (key.startswith(prefix) or prefix.startswith(key)) and key >= after[: len(key)]
    return key.startswith(prefix) and key > after


def _delete(paths: Sequence[Path]) -> None:
    # Without an fsync: a file that comes back after a power cut has no row, and the sweep removes it.
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
