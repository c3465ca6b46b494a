"""The calls of an object store; tests that take `objects` run for a folder and for a service."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from embedded.ports import free_port
from runtime.config import Config
from store.errors import BadKey, ObjectMissing, ObjectStoreRefused, ObjectTooLarge, StoreError, Unavailable
from store.objects import folder as folder_module
from store.objects import interface as objects_module
from store.objects import s3_requests
from store.objects.bucket import Bucket
from store.objects.folder import Folder
from store.objects.interface import Objects, Usage, usage, walk
from store.objects.s3 import S3
from store.objects.sigv4 import SigningKey
from store.objects.url import open_objects, parse_objects_url
from tests.s3_server import s3_server
from tests.store.store_world import silent_server
from tests.waiting import DEADLINE_S

SERVICE = "s3://key:the-secret@127.0.0.1:{port}/bucket?tls=false"


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["a folder", "a service"])
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Objects, None]:
    """An empty object store of either kind."""
    is_folder = request.param == "a folder"
    url = (tmp_path / "some objects").as_uri() if is_folder else request.getfixturevalue("s3_url")
    async with open_objects(url) as objects:
        assert objects is not None
        yield objects
        await objects.delete([entry.key for entry in await objects.list("")])


@pytest.fixture
async def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    await folder.start()
    return folder


@asynccontextmanager
async def service(url: str) -> AsyncGenerator[S3, None]:
    async with open_objects(url) as objects:
        assert isinstance(objects, S3)
        yield objects


async def test_object_is_read_back_byte_for_byte(objects: Objects) -> None:
    everything = bytes(range(256)) * 5000
    await objects.put("attachments/one", everything, "application/octet-stream")
    await objects.put("attachments/empty", b"", "text/plain")
    assert await objects.get("attachments/one") == everything
    assert await objects.get("attachments/empty") == b""


async def test_putting_again_takes_the_place_of_what_was_there(objects: Objects) -> None:
    await objects.put("a/b", b"a longer first one", "text/plain")
    await objects.put("a/b", b"second", "text/plain")
    assert await objects.get("a/b") == b"second"
    assert [entry.size_bytes for entry in await objects.list("")] == [6]


async def test_one_of_two_concurrent_puts_is_stored_whole(objects: Objects) -> None:
    """A service may refuse some of them for a moment: they are sent again."""
    contents = [bytes([n]) * 300_000 for n in range(4)]

    async def put(content: bytes) -> None:
        while True:
            try:
                return await objects.put("a/b", content, "text/plain")
            except Unavailable:
                continue

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for content in contents:
                nursery.start_soon(put, content)
    assert await objects.get("a/b") in contents
    assert len(await objects.list("")) == 1


async def test_missing_object_is_named_by_its_key(objects: Objects) -> None:
    await objects.put("a/b", b"x", "text/plain")
    for key in ("a/c", "c", "a/b/c", "a"):
        with pytest.raises(ObjectMissing, match=f"no object {key}$"):
            await objects.get(key)


async def test_deleted_objects_are_gone_and_those_that_were_gone_are_no_error(objects: Objects) -> None:
    keys = [f"a/{n:02d}" for n in range(20)]
    for key in keys:
        await objects.put(key, b"x", "text/plain")
    await objects.delete([*keys[:15], "a/99", "never/was"])
    assert [entry.key for entry in await objects.list("a/")] == keys[15:]
    await objects.delete(keys)
    await objects.delete([])
    assert await objects.list("") == []
    with pytest.raises(ObjectMissing):
        await objects.get(keys[0])


async def test_list_is_in_order_of_keys_and_begins_after_one(objects: Objects) -> None:
    """A slash sorts behind a dash and a dot, and before digits and letters. SeaweedFS sorts folder by folder."""
    before = [] if isinstance(objects, S3) else ["a-b", "a.b"]
    keys = [*before, "a/b", "a/b.c/x", "a/bb/d-e", "a0", "aB/x", "b"]
    assert keys == sorted(keys)
    below = [key for key in keys if key.startswith("a/")]
    for key in reversed(keys):
        await objects.put(key, b"x", "text/plain")
    assert [entry.key for entry in await objects.list("")] == keys
    for n, key in enumerate(keys):
        assert [entry.key for entry in await objects.list("", key)] == keys[n + 1 :]
        assert [entry.key for entry in await objects.list("", key, 2)] == keys[n + 1 : n + 3]
    assert [entry.key for entry in await objects.list("a/")] == below
    assert [entry.key for entry in await objects.list("a/", below[0])] == below[1:]
    assert [entry.key for entry in await objects.list("a/b")] == below
    assert await objects.list("a/b", "a/c") == []
    assert await objects.list("none/") == []


async def test_entries_say_how_large_objects_are_and_when_they_were_written(objects: Objects) -> None:
    began = time.time()
    await objects.put("a/b", b"12345", "text/plain")
    [entry] = await objects.list("")
    assert entry.size_bytes == 5
    assert began - 2 < entry.modified / 1_000_000 < time.time() + 2, "S3 has seconds"


async def test_walk_reads_page_after_page(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_module, "MAX_PAGE", 3)
    for n in range(7):
        await objects.put(f"a/{n}", bytes(n), "text/plain")
    assert [entry.key async for entry in walk(objects, "a/", "a/0")] == [f"a/{n}" for n in range(1, 7)]
    assert await usage(objects, "a/") == Usage(7, 21)
    assert await usage(objects, "b/") == Usage(0, 0)


async def test_more_than_the_reader_takes_is_refused(objects: Objects) -> None:
    await objects.put("a/b", b"12345", "text/plain")
    assert await objects.get("a/b", max_bytes=5) == b"12345"
    with pytest.raises(ObjectTooLarge, match="a/b has more than 4 bytes"):
        await objects.get("a/b", max_bytes=4)


NO_KEYS = [
    *("", "/a", "a/", "a//b", ".", "..", "../a", "a/../../b", "a/.hidden", ".new/x", "a b", "a\\b", "a\0b", "a\n"),
    *("ä", "a%2fb", "a?b", "a#b", "a" * 201, "/".join(["a" * 100] * 6)),
]


async def test_invalid_key_is_refused_before_anything_is_done(objects: Objects, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("outside")
    await objects.put("good", b"x", "text/plain")
    for key in NO_KEYS:
        with pytest.raises(BadKey):
            await objects.put(key, b"x", "text/plain")
        with pytest.raises(BadKey):
            await objects.get(key)
        with pytest.raises(BadKey):
            await objects.delete(["good", key])
    assert [entry.key for entry in await objects.list("")] == ["good"]
    assert (tmp_path / "a").read_text() == "outside"


async def test_prefix_of_no_key_is_refused(objects: Objects) -> None:
    for prefix in ("../", "/", "a//", ".", "a b"):
        with pytest.raises(BadKey):
            await objects.list(prefix)


async def test_folder_that_does_not_answer_is_unavailable_in_time(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "TIMEOUT_S", 0.1)
    answers = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: answers.wait())
    with pytest.raises(Unavailable, match=r"no answer within 0\.1 s"):
        await folder.put("stuck", b"x", "text/plain")
    answers.set()  # ends the thread


async def test_file_is_on_the_disk_before_it_has_its_name(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of the folders that lead to it are durable, too: each is synced."""
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).relative_to(tmp_path)}")
        fsync(descriptor)

    def note_rename(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        done.append(f"rename to {target}")
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    await folder.put("a/b/c", b"x", "text/plain")
    written, *rest = done
    assert written.startswith("sync .new/")
    assert rest == ["sync .", "sync a", "rename to c", "sync a/b"]


async def test_failed_put_leaves_the_former_object_and_no_other_file(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await folder.put("a", b"before", "text/plain")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ObjectStoreRefused, match="No space left on device"):
        await folder.put("a", b"after", "text/plain")
    assert await folder.get("a") == b"before"
    assert list((tmp_path / ".new").iterdir()) == []


async def test_half_written_file_is_not_an_object_and_is_removed_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / ".new" / "old", tmp_path / ".new" / "young"
    old.parent.mkdir()
    old.write_bytes(b"half")
    young.write_bytes(b"hal")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    folder = Folder(tmp_path)
    await folder.start()
    assert await folder.list("") == []
    assert list((tmp_path / ".new").iterdir()) == [young]


async def test_folder_that_cannot_be_made_is_the_operators_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ObjectStoreRefused, match="see OBJECT_STORE_URL"):
        async with open_objects((tmp_path / "file" / "below").as_uri()):
            pass


async def test_key_below_another_key_is_refused_in_a_folder(folder: Folder) -> None:
    await folder.put("a", b"x", "text/plain")
    with pytest.raises(BadKey):
        await folder.put("a/b", b"x", "text/plain")
    await folder.put("c/d", b"x", "text/plain")
    with pytest.raises(BadKey):
        await folder.put("c", b"x", "text/plain")
    await folder.delete(["a/b"])
    assert [entry.key for entry in await folder.list("")] == ["a", "c/d"]


async def all_calls(objects: Objects, expected: type[StoreError], match: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: objects.put("a", b"x", "text/plain"),
        lambda: objects.get("a"),
        lambda: objects.delete(["a", "b"]),
        lambda: objects.list(""),
    ]
    for call in calls:
        with pytest.raises(expected, match=match) as caught:
            await call()  # type: ignore[misc]
        assert "the-secret" not in f"{caught.value!r} {caught.value} {objects} {objects!r}"


async def test_service_that_is_not_there_is_unavailable() -> None:
    async with service(SERVICE.format(port=free_port())) as objects:
        await all_calls(objects, Unavailable, r"the object store at 127\.0\.0\.1:\d+/bucket: ConnectError")


async def test_service_that_does_not_answer_is_unavailable_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_requests, "TIMEOUT_S", 0.1)
    async with silent_server() as server, service(SERVICE.format(port=server.port)) as objects:
        await all_calls(objects, Unavailable, r"no answer within 0\.1 s")


@asynccontextmanager
async def answering(status: str, body: bytes = b"") -> AsyncGenerator[S3, None]:
    """A service that gives every request the same answer."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        await stream.send_all(head.encode() + body)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        async with service(SERVICE.format(port=listeners[0].socket.getsockname()[1])) as objects:
            yield objects
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", ["503 Slow Down", "500 Internal Server Error", "429 Too Many Requests"])
async def test_service_at_its_limits_is_unavailable(status: str) -> None:
    async with answering(status, b"<Error><Code>SlowDown</Code></Error>") as objects:
        await all_calls(objects, Unavailable, f"status {status[:3]} SlowDown")


@pytest.mark.parametrize("status", ["403 Forbidden", "400 Bad Request", "301 Moved Permanently"])
async def test_service_that_refuses_is_the_operators_to_look_at(status: str) -> None:
    async with answering(status, b"<html>who knows") as objects:
        await all_calls(objects, ObjectStoreRefused, f"status {status[:3]}; see OBJECT_STORE_URL")


@pytest.mark.parametrize("body", [b"", b"not XML", b"<L><Contents><Key>a</Key></Contents></L>"])
async def test_invalid_list_is_not_taken_for_an_empty_one(body: bytes) -> None:
    async with answering("200 OK", body) as objects:
        with pytest.raises(ObjectStoreRefused, match="its list cannot be read"):
            await objects.list("")


async def test_wrong_secret_is_refused_and_not_shown(s3_url: str) -> None:
    """The server checks signatures: with the right one all the tests above pass."""
    bucket = parse_objects_url(s3_url)
    assert isinstance(bucket, Bucket)
    assert bucket.credentials.secret_key not in f"{bucket} {bucket!r}"
    assert "the-secret" not in repr(Config(object_store_url=SERVICE))
    wrong = s3_url.replace("@", "-the-secret@")
    async with service(wrong) as objects:
        await all_calls(objects, ObjectStoreRefused, "status 403 SignatureDoesNotMatch")


async def test_bucket_that_is_not_there_is_the_operators_to_look_at(s3_url: str) -> None:
    async with service(s3_url.replace("/chat-files", "/other-files")) as objects:
        with pytest.raises(ObjectStoreRefused, match="status 404 NoSuchBucket"):
            await objects.get("a")
        with pytest.raises(ObjectStoreRefused, match="status 404 NoSuchBucket"):
            await objects.put("a", b"x", "text/plain")


async def test_without_a_url_there_is_no_object_store() -> None:
    async with open_objects("") as objects:
        assert objects is None


def test_parts_of_a_url_are_what_it_says() -> None:
    assert parse_objects_url("s3://k%2Fey:s%40%3Acret@[::1]:9000/some.bucket?region=eu-1&tls=false") == Bucket(
        "[::1]:9000", "some.bucket", SigningKey("k/ey", "s@:cret", "eu-1"), tls=False
    )
    assert parse_objects_url("s3://a:b@1.r2.cloudflarestorage.com/files") == Bucket(
        "1.r2.cloudflarestorage.com", "files", SigningKey("a", "b", "auto"), part_checksums=False
    )
    bucket = parse_objects_url("s3://a:b@h/files", "https://files.example/")
    assert isinstance(bucket, Bucket)
    assert (bucket.url, bucket.clients_url) == ("https://h", "https://files.example")
    assert parse_objects_url("file:///var/some%20objects") == Path("/var/some objects")
