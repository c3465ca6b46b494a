"""Files below one folder, named by paths that lead through no symbolic link. Blocking calls.

A name is opened relative to the descriptor of its folder, and a symbolic link is an error (`ELOOP`): a link that
somebody plants below the folder leads nowhere. The folder itself may be one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
_NEVER_WAIT: Final = os.O_NONBLOCK
"""To open a pipe that somebody planted would otherwise wait for its other end."""


_libc: Final = ctypes.CDLL(None, use_errno=True)


class Tree:
    """Paths are names with slashes between them; the empty path is the folder itself. All calls raise `OSError`."""

    def __init__(self, root: Path) -> None:
        self.root: Final = root

    @contextmanager
    def folder(self, path: str, *, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder, for the block.

        :param make: create the folder and its parents, each of them durable: a file is lost with its folder's name.
        """
        descriptor = os.open(self.root, _FOLDER)
        try:
            for name in filter(None, path.split("/")):
                if make:
                    _make(descriptor, name)
                below = open_below(descriptor, name, _FOLDER)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def open(self, path: str, flags: int) -> int:
        """The descriptor of a regular file in a folder that exists."""
        parent, _, name = path.rpartition("/")
        with self.folder(parent) as folder:
            return open_file(folder, name, flags)

    def remove(self, path: str) -> None:
        """Remove a file, or a link itself; a file that does not exist is not an error.

        Without an fsync: a file that comes back after a power cut has no row, and the clean-up removes it.
        """
        parent, _, name = path.rpartition("/")
        with suppress(FileNotFoundError, NotADirectoryError), self.folder(parent) as folder:
            os.unlink(name, dir_fd=folder)

    def move(self, source: str, target: str) -> None:
        """Give a file another path, whose folders are created; durable on return."""
        from_folder, _, from_name = source.rpartition("/")
        to_folder, _, to_name = target.rpartition("/")
        with self.folder(to_folder, make=True) as target_folder, self.folder(from_folder) as source_folder:
            os.rename(from_name, to_name, src_dir_fd=source_folder, dst_dir_fd=target_folder)
            os.fsync(target_folder)

    def names(self, path: str) -> list[str]:
        """The names of regular files and folders in a folder, in order; those of folders end with a slash, as in keys,
        so that they sort like keys. There are none in a folder that does not exist."""
        try:
            with self.folder(path) as folder, os.scandir(folder) as found:
                return sorted(
                    each.name + "/" * each.is_dir(follow_symlinks=False)
                    for each in found
                    if each.is_dir(follow_symlinks=False) or each.is_file(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []

    def status(self, path: str) -> os.stat_result:
        """The status of a file, or of a link itself."""
        parent, _, name = path.rpartition("/")
        with self.folder(parent) as folder:
            return os.stat(name, dir_fd=folder, follow_symlinks=False)


def open_below(folder: int, name: str, flags: int) -> int:
    """The descriptor of a file or folder in a folder; new files may be read by others as the umask allows."""
    try:
        return os.open(name, flags | os.O_NOFOLLOW | _NEVER_WAIT, 0o666, dir_fd=folder)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "a symbolic link", name) from None
        raise


def open_file(folder: int, name: str, flags: int) -> int:
    """The descriptor of a regular file in a folder.

    :raises IsADirectoryError: if it is a folder.
    :raises OSError: `ELOOP` or `EINVAL` if it is a link, a pipe or a device.
    """
    descriptor = open_below(folder, name, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "a folder", name)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of the data at the descriptor's position."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_all_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of the data at an offset."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def write_out(descriptor: int, offset: int, size_bytes: int) -> None:
    """Have the kernel write these bytes to the disk, and wait until it has. Only an fsync makes them durable.

    So little waits to be written when the file is synced, and other programs that sync files at the same time, such as
    Postgres its log, do not wait for all of it.
    """
    if sys.platform != "linux":  # no other system has the call
        return
    everything = 7  # SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER
    if _libc.sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(size_bytes), everything):
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS, errno.ESPIPE):  # the file system cannot
            raise OSError(number, os.strerror(number))


def _make(folder: int, name: str) -> None:
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        return
    os.fsync(folder)
