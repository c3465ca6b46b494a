"""Links, pipes and folders that somebody plants below the folder: nothing is read or written through them.

And failures to write out."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from store.errors import BadKey, ObjectMissing, ObjectStoreRefused
from store.objects.direct import Part
from store.objects.folder import Folder
from store.objects.signed_urls import SignedUrl
from store.objects.tree import write_out

KEY = "a/b/c"
PART = Part(1, 1, sha256(b"x").digest())

CALLS: dict[str, Callable[[Folder], Awaitable[object]]] = {
    "get": lambda folder: folder.get(KEY),
    "stat": lambda folder: folder.stat(KEY),
    "put": lambda folder: folder.put(KEY, b"x", ""),
}


@pytest.fixture
async def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "objects")
    await folder.start()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder outside with a file, where links lead."""
    (tmp_path / "outside" / "b").mkdir(parents=True)
    (tmp_path / "outside" / "b" / "c").write_text("not ours")
    return tmp_path / "outside"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("planted", ["a", "a/b"])
async def test_a_folder_that_is_a_link_is_refused(
    folder: Folder, tmp_path: Path, outside: Path, planted: str, call: str
) -> None:
    link = tmp_path / "objects" / planted
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside if planted == "a" else outside / "b")
    with pytest.raises(ObjectStoreRefused, match="symbolic link"):
        await CALLS[call](folder)
    with pytest.raises(ObjectStoreRefused, match="symbolic link"):
        await folder.delete([KEY])
    assert (outside / "b" / "c").read_text() == "not ours"


@pytest.mark.parametrize("call", ["get", "stat"])
async def test_a_file_that_is_a_link_is_refused_and_removed_alone(
    folder: Folder, tmp_path: Path, outside: Path, call: str
) -> None:
    link = tmp_path / "objects" / KEY
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "b" / "c")
    with pytest.raises(ObjectStoreRefused, match="symbolic link"):
        await CALLS[call](folder)
    assert await folder.list("") == [], "it is no object"
    await folder.delete([KEY])
    assert not link.is_symlink()
    assert (outside / "b" / "c").read_text() == "not ours"


async def test_an_object_takes_the_place_of_a_link_and_not_of_the_file_behind_it(
    folder: Folder, tmp_path: Path, outside: Path
) -> None:
    link = tmp_path / "objects" / KEY
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "b" / "c")
    await folder.put(KEY, b"x", "")
    assert await folder.get(KEY) == b"x"
    assert (outside / "b" / "c").read_text() == "not ours"


@pytest.mark.parametrize("call", ["get", "stat"])
async def test_a_pipe_or_a_folder_is_no_object(folder: Folder, tmp_path: Path, call: str) -> None:
    (tmp_path / "objects" / "a" / "b").mkdir(parents=True)
    os.mkfifo(tmp_path / "objects" / KEY)
    with pytest.raises(ObjectStoreRefused, match="not a regular file"):
        await CALLS[call](folder)
    (tmp_path / "objects" / KEY).unlink()
    (tmp_path / "objects" / KEY).mkdir()
    with pytest.raises(ObjectMissing):
        await CALLS[call](folder)


async def test_a_link_among_the_files_of_an_upload_is_refused(folder: Folder, tmp_path: Path, outside: Path) -> None:
    upload = await folder.begin_multipart(KEY)
    data = tmp_path / "objects" / ".uploads" / KEY / f".{upload}" / "data"
    data.unlink()
    data.symlink_to(outside / "b" / "c")
    with pytest.raises(ObjectStoreRefused, match="symbolic link"):
        await folder.complete_multipart(KEY, upload, [PART])
    await folder.abort_multipart(KEY, upload)
    assert (outside / "b" / "c").read_text() == "not ours"
    assert await folder.list_multiparts("") == []


async def test_uploads_of_keys_below_one_another_are_listed_in_the_order_of_keys(folder: Folder) -> None:
    keys = ["a", "a-b", "a/b", "a/b/c", "a0"]
    for key in reversed(keys):
        await folder.begin_multipart(key)
    assert [each.key for each in await folder.list_multiparts("")] == keys == sorted(keys)
    assert [each.key for each in await folder.list_multiparts("a/")] == keys[2:4]


async def test_an_object_whose_key_is_a_folder_is_not_completed(folder: Folder) -> None:
    upload = await folder.begin_multipart("a/b")
    with closing(folder.open_sink(SignedUrl("a/b", PART, upload, 60.0))) as sink:
        os.write(sink.descriptor, b"x")
        sink.keep()
    await folder.put(KEY, b"x", "")
    with pytest.raises(BadKey):
        await folder.complete_multipart("a/b", upload, [PART])
    assert await folder.list_parts("a/b", upload) == [PART]


def test_a_failure_to_write_out_is_an_error_and_a_file_system_that_cannot_is_none(tmp_path: Path) -> None:
    """An error that is told here is not told by the fsync again."""
    with (tmp_path / "file").open("wb") as file:
        file.write(b"data")
        file.flush()
        write_out(file.fileno(), 0, 4)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        write_out(file_descriptor_that_is_closed(tmp_path), 0, 4)
    reader, writer = os.pipe()
    try:
        write_out(writer, 0, 4)
    finally:
        os.close(reader)
        os.close(writer)


def file_descriptor_that_is_closed(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    os.close(descriptor)
    return descriptor
