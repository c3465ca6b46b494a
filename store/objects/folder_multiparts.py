"""Multipart uploads of a folder. Blocking calls, for threads.

An upload has a folder, `.uploads/KEY/.UPLOAD`:

| file | |
|---|---|
| `data` | the object to be; each part is written at its place. The upload exists as long as this file does |
| `N-SIZE-DIGEST` | empty: part N is in `data`, and on the disk |
| `N.lock` | empty: locked (`flock`) while part N is written |

A marker is made after the data is on the disk, and removed before other data is written, so a crash at any point leaves
no marker of a part that is not there. A part that is written also holds a shared lock of `data`; the lock of `complete`
is exclusive. So no part is written into a file that has got its key.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from time import time
from typing import Final

from protocol.limits import ATTACHMENT_PART_BYTES
from store.errors import BadKey, ObjectDiffers, ObjectMissing, PartBusy
from store.objects.direct import OpenMultipart, Part, check_part
from store.objects.folder_files import may_lead, missing, set_digest
from store.objects.tree import Tree, open_file

UPLOADS: Final = ".uploads"
"""The folder of all multipart uploads. No part of a key begins with a dot."""

DATA: Final = "data"

_UPLOAD: Final = re.compile("[0-9a-f]{32}")
_MARKER: Final = re.compile(r"(\d{5})-(\d{1,8})-([0-9a-f]{64})")

_ATTEMPTS: Final = 10
"""To make or remove a folder that others remove or fill at the same time."""


class Multiparts:
    """The multipart uploads below a folder."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def begin(self, key: str) -> str:
        """The name of a new upload of this key, which sorts by the time of its beginning."""
        upload = f"{round(time() * 1_000_000):016x}{secrets.token_hex(8)}"
        for _ in range(_ATTEMPTS):
            # Another upload of the key may end, and its `abort` remove the folder of the key before this one is in it.
            with suppress(FileNotFoundError), self._tree.folder(_folder_of(key, upload), make=True) as folder:
                os.close(open_file(folder, DATA, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.fsync(folder)
                return upload
        raise PartBusy(key)

    def open_part(self, key: str, upload: str, part: Part) -> MultipartSink:
        """
        :raises ObjectMissing: if the upload is unknown, complete or aborted.
        :raises PartBusy: if the part is being written, or the upload is being completed.
        """
        check_part(part)
        with missing(key), self._tree.folder(_folder_of(key, upload)) as folder:
            return MultipartSink(key, part, os.dup(folder))

    def parts(self, key: str, upload: str) -> list[Part]:
        """The parts that are there, by number.

        :raises ObjectMissing: if the upload is unknown, complete or aborted.
        """
        with missing(key), self._tree.folder(_folder_of(key, upload)) as folder:
            os.stat(DATA, dir_fd=folder, follow_symlinks=False)
            return _parts_in(folder)

    def complete(self, key: str, upload: str, parts: Sequence[Part]) -> None:
        """As `DirectTransfers.complete_multipart`; nothing is copied.

        :raises PartBusy: if a part is being written.
        """
        source = _folder_of(key, upload)
        with missing(key), self._tree.folder(source) as folder:
            data = open_file(folder, DATA, os.O_RDWR)
            try:
                _lock(data, fcntl.LOCK_EX, key)
                os.stat(DATA, dir_fd=folder, follow_symlinks=False)  # another call may have completed it
                _check_whole(key, parts, _parts_in(folder))
                set_digest(data, sha256(b"".join(part.digest for part in parts)).digest())
                _cut(key, data, sum(part.size_bytes for part in parts))
                with _bad_key(key):
                    self._tree.move(f"{source}/{DATA}", key)
            finally:
                os.close(data)
        self.abort(key, upload)

    def abort(self, key: str, upload: str) -> None:
        """As `DirectTransfers.abort_multipart`. A part that is being written does not count any more.

        `data` goes first, and the folder of the key last, if it is empty then.
        """
        with suppress(FileNotFoundError, ObjectMissing), self._tree.folder(f"{UPLOADS}/{key}") as keys:
            for _ in range(_ATTEMPTS):
                # A part that is written meanwhile may leave a marker.
                with self._tree.folder(_folder_of(key, upload)) as folder:
                    for name in sorted(os.listdir(folder), key=lambda name: name != DATA):
                        with suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=folder)
                with suppress(OSError):
                    os.rmdir(f".{upload}", dir_fd=keys)
                    break
        above, _, name = f"{UPLOADS}/{key}".rpartition("/")
        with suppress(OSError), self._tree.folder(above) as folder:
            os.rmdir(name, dir_fd=folder)

    def list(self, prefix: str, after: str, limit: int) -> list[OpenMultipart]:
        """As `DirectTransfers.list_multiparts`; a page ends with all uploads of a key, so it may be longer."""
        found: list[OpenMultipart] = []
        for key, upload in self._walk("", prefix, after):
            if len(found) >= limit and key != found[-1].key:
                break
            found.append(OpenMultipart(key, upload, int(upload[:16], 16)))
        return found

    def _walk(self, folder: str, prefix: str, after: str) -> Iterator[tuple[str, str]]:
        """Keys and uploads in the folder of keys that begin with this text, in order of the keys.

        :param folder: empty, or with a slash at its end.
        """
        names = [name for name in self._tree.names(f"{UPLOADS}/{folder}") if name[0] != "." and name[-1] == "/"]
        # `a-b` comes after the uploads of `a`, and before those of `a/b`.
        for name in sorted([*names, *(name[:-1] for name in names)]):
            key = folder + name
            if not may_lead(key, prefix, after):
                continue
            if name[-1] == "/":
                yield from self._walk(key, prefix, after)
                continue
            for below in self._tree.names(f"{UPLOADS}/{key}"):
                if below[0] == "." and _UPLOAD.fullmatch(below[1:-1]):
                    yield key, below[1:-1]


class MultipartSink:
    """A part that is being written; `store.objects.folder_files.Sink` describes it.

    :param folder: the descriptor of the upload's folder, which `close` closes.
    :raises FileNotFoundError: if the upload does not exist.
    :raises PartBusy: if the part is being written, or the upload is being completed.
    """

    def __init__(self, key: str, part: Part, folder: int) -> None:
        self._key = key
        self._part = part
        self._folder = folder
        self._opened = [folder]
        self.offset = (part.number - 1) * ATTACHMENT_PART_BYTES
        try:
            self.descriptor = self._open(DATA, os.O_WRONLY)
            self.is_there = self._has_marker()
            if not self.is_there:
                _lock(self._open(f"{part.number:05d}.lock", os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX, key)
                _lock(self.descriptor, fcntl.LOCK_SH, key)
                # While this waited for nothing, another request may have written the part or completed the upload.
                os.stat(DATA, dir_fd=folder, follow_symlinks=False)
                self.is_there = self._has_marker()
            if not self.is_there:
                self._remove_markers()
        except BaseException:
            self.close()
            raise

    def keep(self) -> None:
        os.fsync(self.descriptor)
        with missing(self._key):
            os.stat(DATA, dir_fd=self._folder, follow_symlinks=False)
            os.close(open_file(self._folder, _marker_of(self._part), os.O_CREAT | os.O_WRONLY))
            os.fsync(self._folder)

    def close(self) -> None:
        # The descriptors hold the locks.
        while self._opened:
            os.close(self._opened.pop())

    def _open(self, name: str, flags: int) -> int:
        descriptor = open_file(self._folder, name, flags)
        self._opened.append(descriptor)
        return descriptor

    def _has_marker(self) -> bool:
        with suppress(FileNotFoundError):
            os.stat(_marker_of(self._part), dir_fd=self._folder, follow_symlinks=False)
            return True
        return False

    def _remove_markers(self) -> None:
        """Remove the marker of other bytes of the part, before any of them is overwritten."""
        others = [name for name in os.listdir(self._folder) if name.startswith(f"{self._part.number:05d}-")]
        for name in others:
            os.unlink(name, dir_fd=self._folder)
        if others:
            os.fsync(self._folder)


def _folder_of(key: str, upload: str) -> str:
    """
    :raises ObjectMissing: if no upload can have that name.
    """
    if not _UPLOAD.fullmatch(upload):
        raise ObjectMissing(key)
    return f"{UPLOADS}/{key}/.{upload}"


def _marker_of(part: Part) -> str:
    return f"{part.number:05d}-{part.size_bytes}-{part.digest.hex()}"


def _parts_in(folder: int) -> list[Part]:
    found = (_MARKER.fullmatch(name) for name in sorted(os.listdir(folder)))
    return [Part(int(each[1]), int(each[2]), bytes.fromhex(each[3])) for each in found if each]


def _check_whole(key: str, parts: Sequence[Part], there: Sequence[Part]) -> None:
    """
    :raises ObjectDiffers: unless these are all there, numbered without gaps, and all but the last of the full size.
    """
    numbers = [part.number for part in parts]
    sizes = {part.size_bytes for part in parts[:-1]} - {ATTACHMENT_PART_BYTES}
    if not parts or numbers != list(range(1, len(parts) + 1)) or sizes or not set(parts) <= set(there):
        raise ObjectDiffers(key)


def _cut(key: str, data: int, size_bytes: int) -> None:
    """Cut off what a longer last part has left, whose place another one took.

    :raises ObjectDiffers: if the file is shorter.
    """
    if os.fstat(data).st_size < size_bytes:
        raise ObjectDiffers(key)
    os.ftruncate(data, size_bytes)
    os.fsync(data)


def _lock(descriptor: int, kind: int, key: str) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PartBusy(key) from None


@contextmanager
def _bad_key(key: str) -> Iterator[None]:
    try:
        yield
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        raise BadKey(key) from None
