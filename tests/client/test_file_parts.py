from __future__ import annotations

import os
import tracemalloc
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import pytest

from client.errors import FileChanged
from client.file_parts import CHUNK_BYTES, FileParts, is_unchanged, read_part, read_parts
from protocol.limits import ATTACHMENT_PART_BYTES
from tests.client.files_world import digest_of, write_parts


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [1],
        [ATTACHMENT_PART_BYTES - 1],
        [ATTACHMENT_PART_BYTES],
        [ATTACHMENT_PART_BYTES, 1],
        [ATTACHMENT_PART_BYTES, ATTACHMENT_PART_BYTES, 300_000],
    ],
    ids=str,
)
async def test_a_file_has_parts_of_one_size_and_a_digest_of_their_digests(tmp_path: Path, sizes: list[int]) -> None:
    path = write_parts(tmp_path / "file", sum(sizes))
    file = await read_parts(path)
    content = path.read_bytes()
    parts = [content[at : at + ATTACHMENT_PART_BYTES] for at in range(0, len(content), ATTACHMENT_PART_BYTES)]
    assert (file.path, file.size_bytes, file.count) == (path, sum(sizes), len(sizes))
    assert file.digests == b"".join(sha256(part).digest() for part in parts)
    assert [file.size_of(number) for number in range(1, file.count + 1)] == sizes
    assert file.digest == digest_of(parts)
    read = [await _read(file, number) for number in range(1, file.count + 1)]
    assert [b"".join(chunks) for chunks in read] == parts
    assert all(len(chunk) <= CHUNK_BYTES for chunks in read for chunk in chunks)


async def _read(file: FileParts, part: int) -> list[bytes]:
    lengths: list[int] = []
    async with aclosing(read_part(file, part, lengths.append)) as chunks:
        found = [chunk async for chunk in chunks]
    assert lengths == list(map(len, found))
    return found


async def test_a_large_file_is_not_read_into_memory(tmp_path: Path) -> None:
    path = write_parts(tmp_path / "large", 3 * ATTACHMENT_PART_BYTES)
    tracemalloc.start()
    try:
        file = await read_parts(path)
        async with aclosing(read_part(file, 2, range)) as chunks:
            async for _ in chunks:
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * CHUNK_BYTES


async def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parts(tmp_path / "file", 1000)
    opened = Path.open

    class Growing:
        """Another program writes when the first bytes have been read."""

        def __init__(self, file: BinaryIO) -> None:
            self._file = file

        def __enter__(self) -> Growing:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def fileno(self) -> int:
            return self._file.fileno()

        def read(self, most: int) -> bytes:
            found = self._file.read(most)
            os.truncate(path, 2000)
            return found

    monkeypatch.setattr(Path, "open", lambda self, mode: Growing(opened(self, "rb")))
    with pytest.raises(FileChanged):
        await read_parts(path)


async def test_whether_a_file_is_still_that_of_its_digests(tmp_path: Path) -> None:
    path = write_parts(tmp_path / "file", 1000)
    file = await read_parts(path)
    assert await is_unchanged(file)
    os.utime(path, ns=(1, 1))
    assert not await is_unchanged(file)
    os.utime(path, ns=(1, file.modified_ns))
    assert await is_unchanged(file)
    os.truncate(path, 999)
    os.utime(path, ns=(1, file.modified_ns))
    assert not await is_unchanged(file)
    path.unlink()
    assert not await is_unchanged(file)


async def test_a_file_that_is_too_short_or_gone_is_an_error(tmp_path: Path) -> None:
    path = write_parts(tmp_path / "file", 1000)
    file = await read_parts(path)
    os.truncate(path, 999)
    with pytest.raises(FileChanged):
        await _read(file, 1)
    path.unlink()
    with pytest.raises(FileChanged):
        await _read(file, 1)
    with pytest.raises(FileNotFoundError):
        await read_parts(path)
