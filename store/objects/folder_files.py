"""Files of a folder while they are read or written. Blocking calls, for threads.

A whole object is written below `NEW`, and gets its key once its digest was right and it is on the disk. Parts of a
multipart upload are written into one file, each at its place (`store.objects.folder_multiparts`).
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from store.errors import BadKey, ObjectMissing
from store.objects.tree import Tree, open_file

NEW: Final = ".new"
"""The folder for files that are being written, before they get their names. No part of a key begins with a dot."""

_DIGEST: Final = "user.alo.sha256"
"""The extended attribute with the digest of an object."""


class Sink(Protocol):
    """A file, or a part of one, that is being written. `close` is called once, whatever happened.

    :ivar descriptor: of the file.
    :ivar offset: where the first byte goes.
    :ivar is_there: these very bytes are there already: nothing is to be written, and `keep` not to be called.
    """

    descriptor: int
    offset: int
    is_there: bool

    def keep(self) -> None:
        """All bytes are written, and are the right ones: let them count. They are on the disk on return.

        :raises ObjectMissing: if the upload was completed or aborted meanwhile.
        """

    def close(self) -> None:
        """Release the file. What was not kept does not count."""


class NewObject:
    """A whole object that is being written; the file exists from here to `close`.

    :param digest: SHA-256 of the bytes that will be written, for `OpenObject`.
    """

    def __init__(self, tree: Tree, key: str, digest: bytes | None = None) -> None:
        self._tree = tree
        self._key = key
        self._digest = digest
        self._name = secrets.token_hex(16)
        self._is_kept = False
        self.offset = 0
        self.is_there = False
        with tree.folder(NEW, make=True) as folder:
            self.descriptor = open_file(folder, self._name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)

    def keep(self) -> None:
        """As in `Sink`; it takes the place of an object with the same key.

        :raises BadKey: if another key begins with this one and a slash, or the other way round.
        """
        if self._digest is not None:
            set_digest(self.descriptor, self._digest)
        os.fsync(self.descriptor)
        try:
            self._tree.move(f"{NEW}/{self._name}", self._key)
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            raise BadKey(self._key) from None
        self._is_kept = True

    def close(self) -> None:
        os.close(self.descriptor)
        if not self._is_kept:
            self._tree.remove(f"{NEW}/{self._name}")


class OpenObject:
    """An object that is being read.

    :ivar descriptor: of its file; `close` closes it.
    :ivar digest: as `set_digest` has set it; None if it has not, or the file system keeps no attributes.
    :ivar tag: an entity tag without its quotes: other bytes under the same key have another one.
    """

    def __init__(self, tree: Tree, key: str) -> None:
        with missing(key):
            self.descriptor = tree.open(key, os.O_RDONLY)
        status = os.fstat(self.descriptor)
        self.size_bytes = status.st_size
        self.digest = _digest_of(self.descriptor)
        # An object is renamed into its place and never written again, so a file's time and size name its bytes.
        self.tag = self.digest.hex() if self.digest else f"{status.st_mtime_ns:x}-{status.st_size:x}"

    def close(self) -> None:
        os.close(self.descriptor)


def set_digest(descriptor: int, digest: bytes) -> None:
    """Keep the digest of an object with its file, if the file system can."""
    if sys.platform == "linux":
        try:
            os.setxattr(descriptor, _DIGEST, digest)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise


def _digest_of(descriptor: int) -> bytes | None:
    if sys.platform == "linux":
        with suppress(OSError):
            return os.getxattr(descriptor, _DIGEST)
    return None


@contextmanager
def missing(key: str) -> Iterator[None]:
    """Takes a file that does not exist for an object that does not.

    :raises ObjectMissing:
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise ObjectMissing(key) from None


def remove_older(tree: Tree, before: float) -> None:
    """Remove the unfinished files that were last written before this time, in seconds since 1970."""
    for name in tree.names(NEW):
        with suppress(FileNotFoundError):
            status = tree.status(f"{NEW}/{name}")
            if stat.S_ISREG(status.st_mode) and status.st_mtime < before:
                tree.remove(f"{NEW}/{name}")


def may_lead(key: str, prefix: str, after: str) -> bool:
    """Whether this key, or one below it, can be on a page of keys.

    :param key: of a folder, if it ends with a slash.
    """
    if key.endswith("/"):
        return (key.startswith(prefix) or prefix.startswith(key)) and key >= after[: len(key)]
    return key.startswith(prefix) and key > after
