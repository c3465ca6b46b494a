from __future__ import annotations

import os
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from client.downloads import Downloader
from client.errors import AttachmentGone, ClientFailure, RequestExpired, TransferFailed, Unreachable, WrongDigest
from client.session import open_session
from client.uploads import ATTEMPTS
from protocol.frames import Download
from protocol.limits import ATTACHMENT_PART_BYTES
from tests.client.client_world import CREDENTIALS, GATEWAY, ClientWorld
from tests.client.files_world import FilesWorld, StoreFault, lose, status

FILE = b"f" * 16
CONTENT = bytes(range(256)) * 2000
SIZE = len(CONTENT)


@pytest.fixture
def files(world: ClientWorld) -> FilesWorld:
    made = FilesWorld(world)
    made.publish(FILE, CONTENT)
    return made


@pytest.fixture
async def downloader(files: FilesWorld, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Downloader]:
    monkeypatch.setattr("client.backoff.uniform", lambda *_: 0.0)
    async with open_session([GATEWAY], CREDENTIALS) as session, files.store() as store:
        yield session.downloader(store)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "saved"


def partial_of(path: Path) -> Path:
    return path.with_name(f".{FILE.hex()}.part")


def read(path: Path) -> bytes:
    return path.read_bytes()


def exists(path: Path) -> bool:
    return path.exists()


def size_of(path: Path) -> int:
    return path.stat().st_size


def write_mine(path: Path) -> None:
    path.write_bytes(b"mine")


async def test_a_file_gets_its_name_once_it_is_whole(files: FilesWorld, downloader: Downloader, path: Path) -> None:
    told: list[tuple[int, int]] = []

    def look(done: int, total: int) -> None:
        assert not exists(path)
        told.append((done, total))

    await downloader.save(FILE, path, look)
    assert read(path) == CONTENT
    assert told == sorted(set(told))
    assert told[-1] == (SIZE, SIZE)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    [headers] = files.gets
    assert "range" not in headers


async def test_memory_does_not_grow_with_the_file(files: FilesWorld, downloader: Downloader, path: Path) -> None:
    files.publish(FILE, bytes(3 * ATTACHMENT_PART_BYTES + 7))
    tracemalloc.start()
    try:
        await downloader.save(FILE, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < ATTACHMENT_PART_BYTES * 4, "the store in this process has the rest of the file in memory itself"
    assert size_of(path) == 3 * ATTACHMENT_PART_BYTES + 7


async def test_a_download_that_loses_its_connection_asks_for_the_rest_of_the_same_bytes(
    files: FilesWorld, downloader: Downloader, path: Path
) -> None:
    files.get_faults += [
        lambda request: files.bytes_for(request, 100_000, httpx.ReadError("reset")),
        lambda request: files.bytes_for(request, 50_000),  # it ends early, without an error
        None,
    ]
    told: list[int] = []
    await downloader.save(FILE, path, lambda done, _: told.append(done))
    assert [headers.get("range") for headers in files.gets] == [None, "bytes=100000-", "bytes=150000-"]
    assert [headers.get("if-range") for headers in files.gets] == [None, '"tag"', '"tag"']
    assert read(path) == CONTENT
    assert told == sorted(set(told))
    assert told[-1] == SIZE


async def test_a_cancelled_download_goes_on_in_another_program(
    files: FilesWorld, downloader: Downloader, path: Path
) -> None:
    with trio.CancelScope() as scope:
        await downloader.save(FILE, path, lambda done, _: done >= 200_000 and scope.cancel())
    assert scope.cancelled_caught
    assert not exists(path)
    had = size_of(partial_of(path))
    assert had >= 200_000
    await downloader.save(FILE, path)
    assert files.gets[-1]["range"] == f"bytes={had}-"
    assert read(path) == CONTENT


async def test_a_whole_partial_file_is_not_fetched_again(files: FilesWorld, downloader: Downloader, path: Path) -> None:
    partial_of(path).write_bytes(CONTENT)
    told: list[tuple[int, int]] = []
    await downloader.save(FILE, path, lambda *progress: told.append(progress))
    assert not files.gets
    assert told == [(SIZE, SIZE)]
    assert read(path) == CONTENT


@pytest.mark.parametrize("had", [b"x" * 1000, b"x" * (SIZE + 1)], ids=["no ranges", "too long"])
async def test_an_answer_with_all_bytes_starts_anew(
    files: FilesWorld, downloader: Downloader, path: Path, had: bytes
) -> None:
    partial_of(path).write_bytes(had)

    def whole(request: httpx.Request) -> httpx.Response:
        request.headers.pop("range", None)
        return files.bytes_for(request)

    files.get_faults.append(whole)
    await downloader.save(FILE, path)
    assert read(path) == CONTENT


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "told",
    [f"bytes 0-{SIZE - 1}/{SIZE}", f"bytes 999-{SIZE - 1}/{SIZE}", f"bytes 1001-{SIZE - 1}/{SIZE}", "bytes */5", "x"],
)
async def test_a_range_that_was_not_asked_for_is_an_error_and_leaves_what_has_come(
    files: FilesWorld, downloader: Downloader, path: Path, told: str
) -> None:
    """The next call goes on from there."""
    partial_of(path).write_bytes(CONTENT[:1000])

    def lie(request: httpx.Request) -> httpx.Response:
        answer = files.bytes_for(request)
        answer.headers["content-range"] = told
        return answer

    files.get_faults.append(lie)
    with pytest.raises(TransferFailed, match="another range"):
        await downloader.save(FILE, path)
    assert not exists(path)
    assert read(partial_of(path)) == CONTENT[:1000]
    await downloader.save(FILE, path)
    assert files.gets[-1]["range"] == "bytes=1000-"
    assert read(path) == CONTENT


async def test_progress_never_goes_back_when_a_download_starts_anew(
    files: FilesWorld, downloader: Downloader, path: Path
) -> None:
    def whole(request: httpx.Request) -> httpx.Response:
        request.headers.pop("range", None)
        return files.bytes_for(request)

    files.get_faults += [lambda request: files.bytes_for(request, 300_000), whole]
    told: list[int] = []
    await downloader.save(FILE, path, lambda done, _: told.append(done))
    assert told == sorted(set(told))
    assert told[-1] == SIZE


# httpx leaves its own generators open when a program stops reading; their connection is closed all the same.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_more_bytes_than_the_file_has_are_an_error(files: FilesWorld, downloader: Downloader, path: Path) -> None:
    files.objects[FILE] += b"!"
    with pytest.raises(TransferFailed, match="gives more bytes than the file has"):
        await downloader.save(FILE, path)
    assert not exists(path)


@pytest.mark.parametrize(
    ("fault", "error", "tried"),
    [
        (status(503), Unreachable, ATTEMPTS),
        (status(429), Unreachable, ATTEMPTS),
        (lose, Unreachable, ATTEMPTS),
        (status(403), RequestExpired, ATTEMPTS),
        (status(404), AttachmentGone, 1),
        (status(410), AttachmentGone, 1),
        (status(302), TransferFailed, 1),
    ],
    ids=["busy", "too many", "lost", "expired", "not found", "gone", "redirect"],
)
async def test_an_object_store_that_gives_nothing_is_an_error_at_last(
    files: FilesWorld, downloader: Downloader, path: Path, fault: StoreFault, error: type[ClientFailure], tried: int
) -> None:
    files.get_faults += [fault] * 2 * ATTEMPTS
    with pytest.raises(error):
        await downloader.save(FILE, path)
    assert len(files.gets) == tried
    assert not exists(path)


async def test_an_answer_that_always_ends_early_is_an_error_that_tells_how_far_it_came(
    files: FilesWorld, downloader: Downloader, path: Path
) -> None:
    files.objects[FILE] = CONTENT[:-1]
    with pytest.raises(Unreachable, match=f"ended after {SIZE - 1} of {SIZE} bytes"):
        await downloader.save(FILE, path)
    assert not exists(path)


async def test_a_url_that_has_expired_is_signed_again(
    files: FilesWorld, world: ClientWorld, downloader: Downloader, path: Path
) -> None:
    files.get_faults += [status(403), status(500)]
    await downloader.save(FILE, path)
    assert read(path) == CONTENT
    assert sum(isinstance(frame, Download) for frame in world.requests) == 3


async def test_an_attachment_without_a_ticket_is_gone(files: FilesWorld, downloader: Downloader, path: Path) -> None:
    with pytest.raises(AttachmentGone):
        await downloader.save(b"g" * 16, path)
    assert not files.gets
    assert not [*path.parent.iterdir()]


async def test_bytes_with_another_digest_are_thrown_away(files: FilesWorld, downloader: Downloader, path: Path) -> None:
    files.objects[FILE] = CONTENT[::-1]
    with pytest.raises(WrongDigest):
        await downloader.save(FILE, path)
    assert not [*path.parent.iterdir()]


async def test_a_file_whose_digest_is_not_known_is_accepted(
    files: FilesWorld, downloader: Downloader, path: Path
) -> None:
    files.publish(FILE, CONTENT, is_known=False)
    await downloader.save(FILE, path)
    assert read(path) == CONTENT


async def test_a_file_that_exists_is_never_overwritten(files: FilesWorld, downloader: Downloader, path: Path) -> None:
    write_mine(path)
    with pytest.raises(FileExistsError):
        await downloader.save(FILE, path)
    assert not files.gets
    os.unlink(path)

    with pytest.raises(FileExistsError):
        await downloader.save(FILE, path, lambda *_: write_mine(path))
    assert read(path) == b"mine"
    other = path.with_name("other")
    gets = len(files.gets)
    await downloader.save(FILE, other)
    assert read(other) == CONTENT
    assert len(files.gets) == gets, "its bytes are there already"
