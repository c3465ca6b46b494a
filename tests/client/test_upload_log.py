from __future__ import annotations

import os
from pathlib import Path

import pytest

from client.file_parts import read_parts
from client.upload_log import UploadLog
from client.uploads import OpenUpload

UPLOAD = OpenUpload(b"u" * 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "letter").write_bytes(b"Dear Bob")
    return tmp_path / "letter"


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "uploads"


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def test_another_program_finds_an_upload_by_its_file(
    path: Path, log_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await read_parts(path)
    assert UploadLog(log_path).find(path) is None
    UploadLog(log_path).add(file, UPLOAD)
    assert UploadLog(log_path).find(path) == (file, UPLOAD)
    monkeypatch.chdir(path.parent)
    found = UploadLog(log_path).find(Path(path.name))
    assert found is not None
    assert found[1] == UPLOAD
    assert os.stat(log_path).st_mode & 0o077 == 0
    assert os.listdir(log_path.parent) == [log_path.name]


async def test_a_file_that_has_changed_has_no_upload(path: Path, log_path: Path) -> None:
    file, log = await read_parts(path), UploadLog(log_path)
    log.add(file, UPLOAD)
    os.utime(path, ns=(1, 1))
    assert log.find(path) is None
    os.utime(path, ns=(1, file.modified_ns))
    assert log.find(path) is not None
    os.truncate(path, 7)
    os.utime(path, ns=(1, file.modified_ns))
    assert log.find(path) is None
    os.unlink(path)
    with pytest.raises(FileNotFoundError):
        log.find(path)


async def test_a_later_upload_replaces_one_and_a_sent_one_is_forgotten(path: Path, log_path: Path) -> None:
    file, log = await read_parts(path), UploadLog(log_path)
    other = path.with_name("other")
    other.write_bytes(b"x")
    log.add(await read_parts(other), OpenUpload(b"o" * 16))
    log.add(file, UPLOAD)
    log.add(file, OpenUpload(b"v" * 16))
    assert log.find(path) == (file, OpenUpload(b"v" * 16))
    log.remove(path)
    log.remove(path)
    assert log.find(path) is None
    assert log.find(other) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": {}}', b"\xff"])
async def test_a_log_that_cannot_be_read_has_no_uploads(path: Path, tmp_path: Path, content: bytes) -> None:
    log = UploadLog(write(tmp_path / "uploads", content))
    assert log.find(path) is None
    log.add(await read_parts(path), UPLOAD)
    assert log.find(path) is not None
