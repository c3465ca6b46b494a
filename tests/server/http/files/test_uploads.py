"""Uploads: what is stored, what is refused by name, and that nothing is left of what is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from protocol.limits import ATTACHMENT_PART_BYTES
from server.http.files import progress, slices
from store.errors import ObjectMissing
from store.objects.direct import Part, PresignedRequest
from store.objects.folder import Folder
from store.objects.folder_multiparts import MultipartSink
from store.objects.tree import write_out
from store.postgres.pool import Pool
from tests.server.http.files.file_world import CONTENT, KEY, code_of, get, open_files, part_of, put, sent
from tests.server.http.socket_world import RawAnswer
from tests.waiting import DEADLINE_S

DATA = b"some ciphertext"
PART = part_of(DATA)


def files_below(path: Path) -> set[str]:
    """All files but the secret."""
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()} - {".secret"}


@dataclass
class Refusal:
    """A request that is refused.

    :ivar make: the bytes of the request.
    """

    make: Callable[[Folder], bytes]
    status: int
    code: str


def _altered(change: Callable[[str], str]) -> Callable[[Folder], bytes]:
    """A request whose URL is not the one that was signed."""

    def make(folder: Folder) -> bytes:
        presigned = folder.presign_put(KEY, PART, expires_s=60)
        url = change(presigned.url)
        assert url != presigned.url
        return sent(replace(presigned, url=url), body=DATA)

    return make


def _put(folder: Folder, part: Part = PART, expires_s: int = 60) -> PresignedRequest:
    return folder.presign_put(KEY, part, expires_s=expires_s)


def _without(name: str) -> Callable[[str], str]:
    return lambda url: "&".join(each for each in url.split("&") if not each.startswith(f"{name}="))


REFUSALS = {
    "an expired ticket": Refusal(lambda folder: sent(_put(folder, expires_s=-1), body=DATA), 410, "ticket_expired"),
    "a download ticket": Refusal(
        lambda folder: sent(folder.presign_get(KEY, expires_s=60), {"content-length": "15"}, DATA, method="PUT"),
        *(403, "ticket_invalid"),
    ),
    "an upload ticket for GET": Refusal(
        lambda folder: sent(_put(folder), {"content-length": ""}, method="GET"), 403, "ticket_invalid"
    ),
    "another key": Refusal(_altered(lambda url: url.replace("ab7f?", "ab80?")), 403, "ticket_invalid"),
    "another size": Refusal(_altered(lambda url: url.replace("size=15", "size=16")), 403, "ticket_invalid"),
    "another digest": Refusal(_altered(lambda url: url.replace("digest=", "digest=0", 1)), 403, "ticket_invalid"),
    "a later end": Refusal(_altered(lambda url: url.replace("expires=", "expires=9")), 403, "ticket_invalid"),
    "another signature": Refusal(_altered(lambda url: url[:-4] + "0000"), 403, "ticket_invalid"),
    "no signature": Refusal(_altered(_without("signature")), 403, "ticket_invalid"),
    "no size": Refusal(_altered(_without("size")), 403, "ticket_invalid"),
    "a parameter more": Refusal(_altered(lambda url: url + "&x=1"), 403, "ticket_invalid"),
    "a part of an upload that was not signed": Refusal(
        _altered(lambda url: url.replace("&signature", f"&upload={'0' * 32}&part=1&signature")),
        *(403, "ticket_invalid"),
    ),
    "a path out of the folder": Refusal(
        _altered(lambda url: url.replace("attachments/", "../../attachments/")), 403, "ticket_invalid"
    ),
    "an escaped path": Refusal(
        _altered(lambda url: url.replace("attachments/", "attachments%2f")), 403, "ticket_invalid"
    ),
    "the secret": Refusal(lambda _: b"GET /files/.secret HTTP/1.1\r\nhost: test\r\n\r\n", 403, "ticket_invalid"),
    "no key": Refusal(lambda _: b"GET /files/ HTTP/1.1\r\nhost: test\r\n\r\n", 403, "ticket_invalid"),
    "a shorter body by its length": Refusal(
        lambda folder: sent(_put(folder), {"content-length": "14"}, DATA[:14]), 400, "wrong_size"
    ),
    "a longer body by its length": Refusal(
        lambda folder: sent(_put(folder), {"content-length": "16"}, DATA + b"x"), 400, "wrong_size"
    ),
    "no body": Refusal(lambda folder: sent(_put(folder), {"content-length": ""}), 411, "length_required"),
    "zero bytes": Refusal(lambda folder: sent(_put(folder), {"content-length": "0"}), 400, "wrong_size"),
    "a chunked body": Refusal(
        lambda folder: sent(
            _put(folder), {"content-length": "", "transfer-encoding": "chunked"}, b"f\r\n" + DATA + b"\r\n0\r\n\r\n"
        ),
        *(411, "length_required"),
    ),
    "other bytes": Refusal(lambda folder: sent(_put(folder), body=DATA[::-1]), 400, "wrong_digest"),
    "a range": Refusal(
        lambda folder: sent(_put(folder), {"content-range": "bytes 0-14/100"}, DATA), 400, "no_content_range"
    ),
    "a part of an unknown upload": Refusal(
        lambda folder: sent(folder.presign_part(KEY, "0" * 32, PART, expires_s=60), body=DATA), 404, "unknown_upload"
    ),
    "another method": Refusal(lambda folder: sent(_put(folder), body=DATA, method="POST"), 405, "method_not_allowed"),
    "a deletion": Refusal(
        lambda folder: sent(folder.presign_get(KEY, expires_s=60), method="DELETE"), 405, "method_not_allowed"
    ),
    "a file that is not there": Refusal(
        lambda folder: sent(folder.presign_get(KEY, expires_s=60)), 404, "unknown_file"
    ),
}


async def test_an_upload_that_is_refused_is_named_and_leaves_nothing(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        for name, refusal in REFUSALS.items():
            answer = await server.exchange(refusal.make(folder))
            assert (answer.status, code_of(answer)) == (refusal.status, refusal.code), name
            assert files_below(tmp_path) == set(), name
        assert (await put(folder, server, DATA)).status == 200, "and disturbs no other"


async def multipart(folder: Folder, *contents: bytes) -> tuple[str, list[Part]]:
    """A multipart upload of these parts, none of which is there."""
    return await folder.begin_multipart(KEY), [part_of(data, number) for number, data in enumerate(contents, 1)]


async def put_part(folder: Folder, server: Any, upload: str, part: Part, data: bytes) -> RawAnswer:
    return await server.exchange(sent(folder.presign_part(KEY, upload, part, expires_s=60), body=data))  # type: ignore[no-any-return]


async def test_parts_that_are_uploaded_in_parallel_become_one_file(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    contents = [bytes([n]) * ATTACHMENT_PART_BYTES for n in range(1, 5)] + [b"the rest"]
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        upload, parts = await multipart(folder, *contents)
        answers: list[int] = []

        async def put_one(part: Part, data: bytes) -> None:
            answers.append((await put_part(folder, server, upload, part, data)).status)

        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                for part, data in zip(reversed(parts), reversed(contents), strict=True):
                    nursery.start_soon(put_one, part, data)
        assert answers == [200] * 5
        assert await folder.list_parts(KEY, upload) == parts
        assert await folder.list("") == [], "not before it is complete"
        await folder.complete_multipart(KEY, upload, parts)
        assert (await get(folder, server)).body == b"".join(contents)
        assert files_below(tmp_path) == {KEY}


async def test_a_part_that_is_there_is_answered_without_writing(
    pool: Pool, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server), server.connected() as connection:
        upload, [part] = await multipart(folder, DATA)
        ask = folder.presign_part(KEY, upload, part, expires_s=60)
        await connection.send(sent(ask, body=DATA))
        assert (await connection.answer(b"PUT")).status == 200
        monkeypatch.setattr(slices, "write_all_at", lambda *_: pytest.fail("it was written again"))
        await connection.send(sent(ask, body=DATA))
        assert (await connection.answer(b"PUT")).status == 200
        # A client that asks first does not send the body.
        await connection.send(sent(ask, {"expect": "100-continue"}))
        assert (await connection.answer(b"PUT")).status == 200
        assert await connection.closed() == b""


async def test_a_client_that_asks_first_is_told_to_go_on(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server), server.connected() as connection:
        await connection.send(sent(_put(folder), {"expect": "100-continue"}))
        told = await connection.stream.receive_some()
        assert told.startswith(b"HTTP/1.1 100 ")
        await connection.send(DATA)
        assert (await connection.answer(b"PUT")).status == 200
        assert await folder.get(KEY) == DATA


async def test_two_requests_do_not_write_one_part_at_a_time(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        upload, [part] = await multipart(folder, DATA)
        ask = folder.presign_part(KEY, upload, part, expires_s=60)
        async with server.connected() as first:
            await first.send(sent(ask, {"expect": "100-continue"}))
            assert (await first.stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            refused = await server.exchange(sent(ask, body=DATA))
            assert (refused.status, code_of(refused)) == (409, "part_busy")
            assert refused.headers["retry-after"] == "1"
            await first.send(DATA)
            assert (await first.answer(b"PUT")).status == 200
        assert (await server.exchange(sent(ask, body=DATA))).status == 200


async def test_a_client_that_leaves_in_the_middle_can_begin_again_at_once(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        upload, [part] = await multipart(folder, DATA)
        ask = folder.presign_part(KEY, upload, part, expires_s=60)
        async with server.connected() as first:
            await first.send(sent(ask, body=DATA[:5]))
            while not (tmp_path / ".uploads" / KEY / f".{upload}" / "00001.lock").exists():
                await trio.lowlevel.checkpoint()
        with trio.fail_after(DEADLINE_S):
            while (await server.exchange(sent(ask, body=DATA))).status == 409:
                pass
        assert await folder.list_parts(KEY, upload) == [part]


async def test_a_client_that_stalls_is_told_so_and_leaves_no_file(
    pool: Pool, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WINDOW_S", 0.2)
    async with open_files(pool, redis_url, tmp_path) as (folder, server), server.connected() as connection:
        await connection.send(sent(_put(folder), body=DATA[:5]))
        answer = await connection.answer(b"PUT")
        assert (answer.status, code_of(answer), answer.headers["connection"]) == (408, "request_timeout", "close")
        assert files_below(tmp_path) == set()


async def test_a_slow_client_that_goes_on_is_served(
    pool: Pool, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is one of progress: the whole body may take much longer."""
    monkeypatch.setattr(progress, "WINDOW_S", 0.5)
    monkeypatch.setattr(progress, "LEAST_BYTES", 1000)
    began = trio.current_time()
    async with open_files(pool, redis_url, tmp_path) as (folder, server), server.connected() as connection:
        await connection.send(sent(folder.presign_put(KEY, part_of(CONTENT), expires_s=60)))
        for start in range(0, len(CONTENT), 32_000):
            await connection.send(CONTENT[start : start + 32_000])
            with trio.move_on_after(0.15):
                await trio.sleep_forever()
        assert (await connection.answer(b"PUT")).status == 200
        assert trio.current_time() - began > 1.0


async def test_an_upload_goes_to_the_disk_step_by_step(
    pool: Pool, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the fsync at its end, and those of others meanwhile, wait for little. A part begins at its own place."""
    steps: list[tuple[int, int]] = []

    def note(descriptor: int, offset: int, size_bytes: int) -> None:
        steps.append((offset, size_bytes))
        write_out(descriptor, offset, size_bytes)

    monkeypatch.setattr(slices, "write_out", note)
    data = bytes(range(256)) * 10_000
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        upload = await folder.begin_multipart(KEY)
        for begin, part in ((0, None), (ATTACHMENT_PART_BYTES, part_of(data, 2))):
            if part is None:
                assert (await put(folder, server, data)).status == 200
            else:
                assert (await put_part(folder, server, upload, part, data)).status == 200
            ends = [offset + size for offset, size in steps]
            assert [offset for offset, _ in steps] == [begin, *ends[:-1]]
            assert all(size < slices.WRITE_OUT_BYTES + slices.BUFFER_BYTES for _, size in steps)
            assert begin + len(data) - ends[-1] < slices.WRITE_OUT_BYTES
            steps.clear()
        assert await folder.get(KEY) == data


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
async def test_a_full_disk_is_named_and_the_file_removed(
    pool: Pool,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    log_output: list[dict[str, object]],
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        with monkeypatch.context() as context:
            context.setattr(slices, "write_all_at", full)
            answer = await put(folder, server)
        assert (answer.status, code_of(answer), answer.headers["retry-after"]) == (507, "storage_full", "60")
        assert files_below(tmp_path) == set()
        assert "object_store_full" in [line["event"] for line in log_output]
        assert (await put(folder, server)).status == 200


async def test_a_part_of_an_upload_that_was_aborted_meanwhile_does_not_count(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server), server.connected() as connection:
        upload, [part] = await multipart(folder, DATA)
        await connection.send(sent(folder.presign_part(KEY, upload, part, expires_s=60), {"expect": "100-continue"}))
        assert (await connection.stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await folder.abort_multipart(KEY, upload)
        await connection.send(DATA)
        answer = await connection.answer(b"PUT")
        assert (answer.status, code_of(answer)) == (404, "unknown_upload")
        with pytest.raises(ObjectMissing):
            await folder.list_parts(KEY, upload)
        assert files_below(tmp_path) == set()


async def test_a_part_counts_once_it_is_on_the_disk(
    pool: Pool, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this order: the data, the marker, the folder that names the marker, the answer."""
    done: list[str] = []
    fsync, keep = os.fsync, MultipartSink.keep

    def note_fsync(descriptor: int) -> None:
        there = any(name.startswith("00001-") for name in os.listdir(below))
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}{', marked' * there}")
        fsync(descriptor)

    def note_keep(self: MultipartSink) -> None:
        keep(self)
        done.append("kept")

    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        upload, [part] = await multipart(folder, DATA)
        below = tmp_path / ".uploads" / KEY / f".{upload}"
        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(MultipartSink, "keep", note_keep)
        assert (await put_part(folder, server, upload, part, DATA)).status == 200
    assert done == ["sync data", f"sync .{upload}, marked", "kept"]
