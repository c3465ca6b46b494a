from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from client.errors import ClientFailure, FileChanged, RequestExpired, RequestRefused, TransferFailed, Unreachable
from client.file_parts import CHUNK_BYTES, read_parts
from client.object_store import CONNECTIONS
from client.session import open_session
from client.uploads import ATTEMPTS, LONGEST_PAUSE_S, OutgoingFile, Uploader
from protocol.frames import Complete, Upload
from protocol.limits import ATTACHMENT_PART_BYTES, MAX_PART_REQUESTS
from tests.client.client_world import CREDENTIALS, GATEWAY, ClientWorld, refuse
from tests.client.files_world import FilesWorld, StoreFault, lose, status, write_parts

SIZE = 4 * ATTACHMENT_PART_BYTES + 5
"""Of a file of five parts."""


@pytest.fixture
def files(world: ClientWorld) -> FilesWorld:
    return FilesWorld(world)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The longest time of each pause before another attempt; none is waited for."""
    found: list[float] = []

    def shortest(_: float, most: float) -> float:
        found.append(most)
        return 0.0

    monkeypatch.setattr("client.backoff.uniform", shortest)
    return found


@pytest.fixture
async def uploader(files: FilesWorld, pauses: list[float]) -> AsyncIterator[Uploader]:
    async with open_session([GATEWAY], CREDENTIALS) as session, files.store() as store:
        yield session.uploader(store)


@pytest.fixture
async def outgoing(tmp_path: Path) -> OutgoingFile:
    return OutgoingFile(await read_parts(write_parts(tmp_path / "five", SIZE)))


@pytest.fixture
async def small(tmp_path: Path) -> OutgoingFile:
    (tmp_path / "small").write_bytes(b"small")
    return OutgoingFile(await read_parts(tmp_path / "small"))


async def test_parts_are_stored_in_parallel_and_never_read_in_more_than_a_chunk(
    files: FilesWorld, uploader: Uploader, outgoing: OutgoingFile
) -> None:
    [upload] = await uploader.declare([outgoing])
    assert not files.puts, "declaring sends no byte"
    told: list[tuple[int, int]] = []
    await uploader.finish(upload, outgoing, lambda *progress: told.append(progress))
    assert files.is_whole(upload.attachment)
    assert sorted(files.puts) == [1, 2, 3, 4, 5]
    assert files.most_at_once == CONNECTIONS
    assert max(files.lengths) == CHUNK_BYTES == 256 * 1024
    assert told == sorted(set(told))
    assert told[-1] == (SIZE, SIZE)


async def test_on_resumption_only_missing_parts_are_stored(
    files: FilesWorld, uploader: Uploader, outgoing: OutgoingFile
) -> None:
    [upload] = await uploader.declare([outgoing])
    files.stored[upload.attachment] = {part: outgoing.file.digests[32 * part - 32 : 32 * part] for part in (1, 3, 5)}
    told: list[int] = []
    await uploader.finish(upload, outgoing, lambda done, _: told.append(done))
    assert sorted(files.puts) == [2, 4]
    assert files.is_whole(upload.attachment)
    assert told[0] > 0
    assert told[-1] == SIZE


async def test_a_cancelled_upload_goes_on(files: FilesWorld, uploader: Uploader, outgoing: OutgoingFile) -> None:
    [upload] = await uploader.declare([outgoing])
    with trio.CancelScope() as scope:

        def break_off(done: int, _: int) -> None:
            if len(files.puts) >= 2:
                scope.cancel()

        await uploader.finish(upload, outgoing, break_off)
    assert scope.cancelled_caught
    stored = set(files.stored[upload.attachment])
    assert stored
    files.puts.clear()
    await uploader.finish(upload, outgoing)
    assert not stored & set(files.puts)
    assert files.is_whole(upload.attachment)


async def test_more_parts_than_one_reply_has_are_asked_for_in_pages(
    files: FilesWorld, uploader: Uploader, tmp_path: Path
) -> None:
    count = MAX_PART_REQUESTS + 3
    size = (count - 1) * ATTACHMENT_PART_BYTES + 1
    large = OutgoingFile(await read_parts(write_parts(tmp_path / "large", size)))
    [upload] = await uploader.declare([large])
    digests = large.file.digests
    # The first page goes up to a part behind some that are there.
    files.stored[upload.attachment] = {part: digests[32 * part - 32 : 32 * part] for part in range(2, count - 1)}
    told: list[int] = []
    await uploader.finish(upload, large, lambda done, _: told.append(done))
    assert sorted(files.puts) == [1, count - 1, count]
    assert told[-1] == size


@pytest.mark.parametrize("fault", [lose, status(408), status(429), status(500), status(503)])
async def test_a_part_is_tried_again_with_growing_pauses(
    files: FilesWorld, uploader: Uploader, small: OutgoingFile, pauses: list[float], fault: StoreFault
) -> None:
    [upload] = await uploader.declare([small])
    pauses.clear()
    files.put_faults += [fault] * (ATTEMPTS - 1)
    await uploader.finish(upload, small)
    assert pauses == [0.5, 1, 2, 4, 8, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert files.asked_parts == 1, "the request is still good"
    assert files.is_whole(upload.attachment)


@pytest.mark.parametrize(
    ("fault", "error", "tried"),
    [
        (status(503), Unreachable, ATTEMPTS),
        (lose, Unreachable, ATTEMPTS),
        (status(403), RequestExpired, ATTEMPTS),
        (status(418), TransferFailed, 1),
        (status(302), TransferFailed, 1),
    ],
    ids=["busy", "lost", "expired", "no", "redirect"],
)
async def test_an_object_store_that_takes_nothing_is_an_error_at_last(
    files: FilesWorld,
    uploader: Uploader,
    small: OutgoingFile,
    fault: StoreFault,
    error: type[ClientFailure],
    tried: int,
) -> None:
    [upload] = await uploader.declare([small])
    files.put_faults += [fault] * 2 * ATTEMPTS
    with pytest.raises(error):
        await uploader.finish(upload, small)
    assert len(files.puts) == tried


async def test_a_request_that_has_expired_is_signed_again(
    files: FilesWorld, uploader: Uploader, outgoing: OutgoingFile
) -> None:
    [upload] = await uploader.declare([outgoing])
    files.put_faults += [None, status(403)]
    told: list[int] = []
    await uploader.finish(upload, outgoing, lambda done, _: told.append(done))
    assert files.asked_parts == 2
    assert files.is_whole(upload.attachment)
    assert told == sorted(told)
    assert told[-1] == SIZE


async def test_requests_may_expire_again_and_again_while_parts_are_stored(
    files: FilesWorld, uploader: Uploader, tmp_path: Path
) -> None:
    """A slow line stores few parts in the hour for which requests are good."""
    size = 3 * ATTEMPTS * ATTACHMENT_PART_BYTES
    large = OutgoingFile(await read_parts(write_parts(tmp_path / "large", size)))
    [upload] = await uploader.declare([large])
    # Of each round that begins with four parts at once, one part is stored.
    files.put_faults += [None, *[status(403)] * 4] * (ATTEMPTS + 1)
    await uploader.finish(upload, large)
    assert files.is_whole(upload.attachment)


async def test_a_store_that_has_lost_parts_gets_them_again(
    files: FilesWorld, uploader: Uploader, outgoing: OutgoingFile
) -> None:
    [upload] = await uploader.declare([outgoing])
    files.put_faults += [status(200)]  # it says that a part is stored
    told: list[int] = []
    await uploader.finish(upload, outgoing, lambda done, _: told.append(done))
    assert len(files.puts) == 6
    assert told == sorted(told)
    assert files.is_whole(upload.attachment)


async def test_a_file_that_never_gets_complete_is_an_error_at_last(
    files: FilesWorld, world: ClientWorld, uploader: Uploader, small: OutgoingFile, pauses: list[float]
) -> None:
    [upload] = await uploader.declare([small])
    pauses.clear()
    files.errors += ["attachment_incomplete"] * 2 * ATTEMPTS
    with pytest.raises(TransferFailed, match="lost parts of the file again and again"):
        await uploader.finish(upload, small)
    assert sum(isinstance(frame, Complete) for frame in world.requests) == ATTEMPTS
    assert pauses[:3] == [0.5, 1, 2]


async def test_a_refusal_is_passed_on(
    files: FilesWorld, world: ClientWorld, uploader: Uploader, small: OutgoingFile
) -> None:
    world.faults[Upload].append(refuse("quota_exceeded"))
    with pytest.raises(RequestRefused, match="quota_exceeded"):
        await uploader.declare([small])
    [upload] = await uploader.declare([small])
    files.errors.append("unknown_attachment")
    with pytest.raises(RequestRefused, match="unknown_attachment"):
        await uploader.finish(upload, small)


async def test_a_thumbnail_goes_with_its_file(
    files: FilesWorld, world: ClientWorld, uploader: Uploader, outgoing: OutgoingFile, small: OutgoingFile
) -> None:
    both = OutgoingFile(outgoing.file, small.file, "image/png")
    first, second = await uploader.declare([both, small])
    assert first.thumbnail == files.thumbnails[first.attachment]
    assert second.thumbnail is None
    assert [each[:2] for each in _declared(world)] == [(SIZE, "image/png"), (5, "application/octet-stream")]
    told: list[tuple[int, int]] = []
    await uploader.finish(first, both, lambda *progress: told.append(progress))
    assert files.is_whole(first.attachment)
    assert files.is_whole(first.thumbnail)
    assert {total for _, total in told} == {SIZE}


def _declared(world: ClientWorld) -> list[tuple[int, str, bytes, object]]:
    [frame] = [frame for frame in world.requests if isinstance(frame, Upload)]
    return [*frame.files]


def shorten(path: Path) -> None:
    os.truncate(path, 1)


def rewrite(path: Path) -> None:
    path.write_bytes(b"SMALL")
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [shorten, rewrite, Path.unlink])
async def test_a_file_that_another_program_changes_is_an_error(
    files: FilesWorld, uploader: Uploader, small: OutgoingFile, change: Callable[[Path], None]
) -> None:
    [upload] = await uploader.declare([small])
    change(small.file.path)
    with pytest.raises(FileChanged):
        await uploader.finish(upload, small)
    assert not files.stored[upload.attachment]
