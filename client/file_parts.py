"""The parts of a file and their digests (`protocol/SPEC.md`, 18.2); no file is read into memory as a whole."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

import trio
from msgspec import Struct

from client.errors import FileChanged
from protocol.limits import ATTACHMENT_PART_BYTES

CHUNK_BYTES: Final = 256 * 1024

DIGEST_BYTES: Final = 32


class FileParts(Struct, frozen=True):
    """A file as it was when its digests were made.

    :ivar modified_ns: the time of its last change, in ns since 1970.
    :ivar digests: SHA-256 of each part, joined.
    """

    path: Path
    size_bytes: int
    modified_ns: int
    digests: bytes

    @property
    def count(self) -> int:
        """The number of parts."""
        return len(self.digests) // DIGEST_BYTES

    @property
    def digest(self) -> bytes:
        """The digest of the file: that of its one part, or SHA-256 of the digests of all."""
        return self.digests if self.count == 1 else sha256(self.digests).digest()

    def size_of(self, part: int) -> int:
        """The bytes of a part; the first one is 1."""
        return min(ATTACHMENT_PART_BYTES, self.size_bytes - (part - 1) * ATTACHMENT_PART_BYTES)


async def read_parts(path: Path) -> FileParts:
    """Read a file and make the digests of its parts, in a thread.

    :raises OSError: if it cannot be read.
    :raises FileChanged: if another program changes it meanwhile.
    """
    return await trio.to_thread.run_sync(_read_parts, path)


async def is_unchanged(file: FileParts) -> bool:
    """Whether size and time of the last change are still those of the digests."""
    try:
        status = await trio.to_thread.run_sync(os.stat, file.path)
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size_bytes, file.modified_ns)


async def read_part(file: FileParts, part: int, on_chunk: Callable[[int], object]) -> AsyncGenerator[bytes]:
    """The bytes of a part in chunks, each read in a thread.

    :param on_chunk: called with the length of each chunk when the next one is asked for.
    :raises FileChanged: if the file has become shorter, or is gone.
    """
    left = file.size_of(part)
    try:
        opening = await trio.open_file(file.path, "rb")
    except FileNotFoundError:
        raise FileChanged(file.path) from None
    async with opening as opened:
        await opened.seek((part - 1) * ATTACHMENT_PART_BYTES)
        while left:
            chunk = await opened.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise FileChanged(file.path)
            yield chunk
            left -= len(chunk)
            on_chunk(len(chunk))


def _read_parts(path: Path) -> FileParts:
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        digests = b"".join(_digests(file))
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FileChanged(path)
    return FileParts(path, after.st_size, after.st_mtime_ns, digests)


def _digests(file: BinaryIO) -> list[bytes]:
    found: list[bytes] = []
    while True:
        digest, left = sha256(), ATTACHMENT_PART_BYTES
        while left and (chunk := file.read(min(CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
        if left == ATTACHMENT_PART_BYTES:
            return found
        found.append(digest.digest())
