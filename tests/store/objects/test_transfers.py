"""Direct transfers: what each object store has to do with requests that it has signed, and with uploads in parts.

Clients in these tests send what they were given, or something else; the object store takes nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import trio

from store.errors import BadKey, ObjectDiffers, ObjectMissing, Unavailable
from store.objects import s3_copied_parts, s3_transfers
from store.objects.direct import SHOWN_TYPES, ObjectState, Part, PresignedRequest, missing_parts
from store.objects.folder import Folder
from store.objects.service_clock import ServiceClock
from store.postgres.pool import Pool
from tests.s3_server import s3_server
from tests.store.objects.transfer_world import (
    KINDS,
    PART_BYTES,
    TransferWorld,
    altered,
    open_store,
    part_of,
)
from tests.waiting import DEADLINE_S

KEY = "attachments/ab/0123456789ab"
DATA = bytes(range(256)) * 40
OTHER = DATA[:-1] + b"?"
EXPIRES_S = 60


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=KINDS)
async def world(
    request: pytest.FixtureRequest, pool: Pool, redis_url: str, tmp_path: Path, s3_url: str
) -> AsyncGenerator[TransferWorld, None]:
    """An empty object store of each kind."""
    async with (
        httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as client,
        open_store(request.param, pool, redis_url, tmp_path / "some objects", s3_url) as objects,
    ):
        clock = objects.signer if isinstance(objects, Folder) else ServiceClock
        yield TransferWorld(objects, client, signed_earlier(clock))


@contextmanager
def signed_earlier(clock: object) -> Iterator[None]:
    """So that the request has expired.

    :param clock: its method `now` gives the time of signatures.
    """
    now: Callable[..., float] = clock.now  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda *clocks: now(*clocks) - EXPIRES_S - 60)
        yield


def put_request(world: TransferWorld) -> PresignedRequest:
    return world.objects.presign_put(KEY, part_of(DATA), expires_s=EXPIRES_S)


async def is_there(world: TransferWorld, key: str = KEY) -> bool:
    try:
        await world.objects.stat(key)
    except ObjectMissing:
        return False
    return True


async def refused(world: TransferWorld, request: PresignedRequest, body: bytes) -> bool:
    """Whether the object store refuses a request. An HTTP library may refuse to send one that contradicts itself."""
    length = request.headers.get("content-length")
    if length is not None and int(length) != len(body):
        answer = await world.send_part_of(request, body)
        return not answer or answer.split()[1][:1] == b"4"
    return 400 <= (await world.send(request, body)).status_code < 500


async def test_client_uploads_an_object_and_downloads_it(world: TransferWorld) -> None:
    await world.put(KEY, DATA)
    assert await world.objects.stat(KEY) == ObjectState(len(DATA), part_of(DATA).digest)
    assert await world.objects.get(KEY) == DATA
    assert await world.get(KEY) == DATA


async def test_download_is_never_rendered_and_may_be_resumed(world: TransferWorld) -> None:
    await world.put(KEY, DATA)
    request = world.objects.presign_get(KEY, expires_s=EXPIRES_S)
    answer = await world.send(request)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment"
    etag = answer.headers["etag"]
    rest = await world.client.get(request.url, headers={"range": "bytes=100-", "if-range": etag})
    assert (rest.status_code, rest.content) == (206, DATA[100:])
    assert rest.headers["content-range"] == f"bytes 100-{len(DATA) - 1}/{len(DATA)}"
    assert rest.headers["etag"] == etag


@pytest.mark.parametrize("media_type", SHOWN_TYPES)
async def test_picture_is_answered_as_its_media_type_and_as_no_other(world: TransferWorld, media_type: str) -> None:
    await world.put(KEY, DATA)
    request = world.objects.presign_get(KEY, expires_s=EXPIRES_S, shown_as=media_type)
    answer = await world.send(request)
    assert (answer.headers["content-type"], answer.headers["content-disposition"]) == (media_type, "inline")
    assert answer.content == DATA
    for written in (media_type, quote(media_type, safe="")):
        for other in ("text/html", "text%2Fhtml", "image/svg%2Bxml"):
            if written in request.url:
                wrong = PresignedRequest("GET", request.url.replace(written, other), {})
                assert await refused(world, wrong, b"")


async def test_upload_of_other_bytes_is_refused_and_stores_nothing(world: TransferWorld) -> None:
    for body in (OTHER, DATA[:-1], b"", DATA[::-1]):
        assert await refused(world, put_request(world), body), len(body)
        assert not await is_there(world)


async def test_upload_of_other_bytes_with_their_true_length_is_refused(world: TransferWorld) -> None:
    request = put_request(world)
    for body in (DATA[:-1], DATA + b"?", b""):
        honest = {**request.headers, "content-length": str(len(body))}
        assert await refused(world, PresignedRequest(request.method, request.url, honest), body), len(body)
        assert not await is_there(world)


async def test_upload_without_a_length_is_refused(world: TransferWorld) -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield DATA

    request = put_request(world)
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    answer = await world.client.put(request.url, headers=headers, content=pieces())
    assert 400 <= answer.status_code < 500
    assert not await is_there(world)


async def test_interrupted_upload_stores_nothing_and_may_be_sent_again(world: TransferWorld) -> None:
    request = put_request(world)
    await world.send_part_of(request, DATA[:5000])
    assert not await is_there(world)
    assert (await world.send(request, DATA)).is_success
    assert await world.objects.get(KEY) == DATA


async def test_altered_upload_is_refused(world: TransferWorld) -> None:
    request = put_request(world)
    for what, wrong in altered(request):
        assert await refused(world, wrong, DATA if wrong.method in ("PUT", "POST") else b""), what
    assert await world.objects.list("") == []
    assert (await world.send(request, DATA)).is_success, "the request itself is good"


async def test_altered_download_is_refused(world: TransferWorld) -> None:
    await world.put(KEY, DATA)
    await world.put(f"{KEY}2", OTHER)
    request = world.objects.presign_get(KEY, expires_s=EXPIRES_S)
    for what, wrong in altered(request):
        assert await refused(world, wrong, DATA if wrong.method in ("PUT", "POST") else b""), what
    assert await world.get(KEY) == DATA
    assert await world.get(f"{KEY}2") == OTHER


async def test_expired_request_is_refused(world: TransferWorld) -> None:
    upload = await world.objects.begin_multipart(KEY)
    await world.put(f"{KEY}2", DATA)
    with world.late:
        put = put_request(world)
        part = world.objects.presign_part(KEY, upload, part_of(DATA), expires_s=EXPIRES_S)
        get = world.objects.presign_get(f"{KEY}2", expires_s=EXPIRES_S)
    assert await refused(world, put, DATA)
    assert await refused(world, part, DATA)
    assert await refused(world, get, b"")
    assert not await is_there(world)
    assert await world.objects.list_parts(KEY, upload) == []


async def test_upload_may_be_sent_again_and_never_changes_the_object(world: TransferWorld) -> None:
    await world.put(KEY, DATA)
    await world.put(KEY, DATA)
    assert await refused(world, put_request(world), OTHER)
    assert await world.get(KEY) == DATA


def file_of(count: int) -> list[bytes]:
    """The parts of a file, the last shorter."""
    return [bytes([n]) * (PART_BYTES if n < count else 1000) for n in range(1, count + 1)]


async def test_parts_may_come_at_once_and_in_any_order(world: TransferWorld) -> None:
    file = file_of(3)
    declared = [part_of(data, number) for number, data in enumerate(file, 1)]
    upload = await world.objects.begin_multipart(KEY)
    assert await world.objects.list_parts(KEY, upload) == []
    await world.put_part(KEY, upload, file[2], 3)
    there = await world.objects.list_parts(KEY, upload)
    assert [(part.number, part.size_bytes) for part in there] == [(3, 1000)]
    assert missing_parts(declared, there) == declared[:2]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.put_part, KEY, upload, file[1], 2)
        nursery.start_soon(world.put_part, KEY, upload, file[0], 1)
    there = await world.objects.list_parts(KEY, upload)
    assert [part.number for part in there] == [1, 2, 3]
    assert missing_parts(declared, there) == []
    assert not await is_there(world), "no part is an object"
    await world.objects.complete_multipart(KEY, upload, declared)
    await world.check_stored(KEY, 2 * PART_BYTES + 1000, declared)
    assert await world.get(KEY) == b"".join(file)
    assert await world.objects.list_multiparts("") == []


async def test_altered_or_wrong_part_is_refused(world: TransferWorld) -> None:
    upload = await world.objects.begin_multipart(KEY)
    request = world.objects.presign_part(KEY, upload, part_of(DATA), expires_s=EXPIRES_S)
    for what, wrong in altered(request):
        assert await refused(world, wrong, DATA if wrong.method in ("PUT", "POST") else b""), what
    for body in (OTHER, DATA[:-1], b""):
        assert await refused(world, request, body), len(body)
    assert await world.objects.list_parts(KEY, upload) == []
    assert await world.objects.list("") == []


async def test_interrupted_part_is_not_there_and_may_be_sent_again(world: TransferWorld) -> None:
    upload = await world.objects.begin_multipart(KEY)
    part = part_of(DATA)
    await world.send_part_of(world.objects.presign_part(KEY, upload, part, expires_s=EXPIRES_S), DATA[:5000])
    assert await world.objects.list_parts(KEY, upload) == []
    await world.put_part(KEY, upload, DATA, 1)
    await world.objects.complete_multipart(KEY, upload, [part])
    assert await world.get(KEY) == DATA


async def test_writers_of_one_part_at_once_leave_the_right_bytes(world: TransferWorld) -> None:
    upload = await world.objects.begin_multipart(KEY)
    part = part_of(DATA)
    request = world.objects.presign_part(KEY, upload, part, expires_s=EXPIRES_S)
    wrong: list[bool] = []

    async def write_wrong() -> None:
        wrong.append(await refused(world, request, OTHER))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(world.put_part, KEY, upload, DATA, 1)
            nursery.start_soon(write_wrong)
    assert all(wrong)
    assert missing_parts([part], await world.objects.list_parts(KEY, upload)) == []
    await world.objects.complete_multipart(KEY, upload, [part])
    await world.check_stored(KEY, len(DATA), [part])
    assert await world.get(KEY) == DATA


async def test_join_without_all_parts_is_refused_and_leaves_those_that_are_there(world: TransferWorld) -> None:
    file = file_of(2)
    declared = [part_of(data, number) for number, data in enumerate(file, 1)]
    upload = await world.objects.begin_multipart(KEY)
    with pytest.raises(ObjectDiffers, match=KEY):
        await world.objects.complete_multipart(KEY, upload, declared)
    await world.put_part(KEY, upload, file[0], 1)
    with pytest.raises(ObjectDiffers, match=KEY):
        await world.objects.complete_multipart(KEY, upload, declared)
    other_size = [declared[0], Part(2, 999, declared[1].digest)]
    await world.put_part(KEY, upload, file[1], 2)
    with pytest.raises(ObjectDiffers, match=KEY):
        await world.objects.complete_multipart(KEY, upload, other_size)
    assert not await is_there(world)
    await world.objects.complete_multipart(KEY, upload, declared)
    assert await world.get(KEY) == b"".join(file)


async def test_object_with_other_bytes_than_declared_is_not_there_after_the_join(world: TransferWorld) -> None:
    """The signature of each part prevents it; here the object store was asked to sign something else."""
    upload = await world.objects.begin_multipart(KEY)
    await world.put_part(KEY, upload, OTHER, 1)
    with pytest.raises(ObjectDiffers, match=KEY):
        await world.objects.complete_multipart(KEY, upload, [part_of(DATA)])
    assert not await is_there(world)


async def test_second_join_finds_no_upload_and_changes_nothing(world: TransferWorld) -> None:
    upload = await world.objects.begin_multipart(KEY)
    part = await world.put_part(KEY, upload, DATA, 1)
    await world.objects.complete_multipart(KEY, upload, [part])
    before = await world.objects.stat(KEY)
    with pytest.raises(ObjectMissing, match=KEY):
        await world.objects.complete_multipart(KEY, upload, [part])
    with pytest.raises(ObjectMissing, match=KEY):
        await world.objects.list_parts(KEY, upload)
    assert await world.objects.stat(KEY) == before


async def test_joins_at_once_make_one_whole_object(world: TransferWorld) -> None:
    upload = await world.objects.begin_multipart(KEY)
    part = await world.put_part(KEY, upload, DATA, 1)
    joined: list[bool] = []

    async def join() -> None:
        try:
            await world.objects.complete_multipart(KEY, upload, [part])
        except (ObjectMissing, Unavailable):
            joined.append(False)
        else:
            joined.append(True)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(join)
    assert any(joined)
    await world.check_stored(KEY, len(DATA), [part])
    assert await world.get(KEY) == DATA


async def test_aborted_upload_takes_no_more_parts(world: TransferWorld) -> None:
    upload = await world.objects.begin_multipart(KEY)
    part = await world.put_part(KEY, upload, DATA, 1)
    request = world.objects.presign_part(KEY, upload, part, expires_s=EXPIRES_S)
    await world.objects.abort_multipart(KEY, upload)
    await world.objects.abort_multipart(KEY, upload)
    if world.takes_late_parts:
        assert (await world.send(request, DATA)).is_success
        [late] = await world.objects.list_multiparts("attachments/")
        assert late.key == KEY
        await world.objects.abort_multipart(late.key, late.upload)
        assert await world.objects.list("") == []
    else:
        assert await refused(world, request, DATA)
    with pytest.raises(ObjectMissing, match=KEY):
        await world.objects.list_parts(KEY, upload)
    with pytest.raises(ObjectMissing, match=KEY):
        await world.objects.complete_multipart(KEY, upload, [part])
    assert await world.objects.list_multiparts("") == []
    assert not await is_there(world)


async def test_upload_may_begin_again_after_an_abort(world: TransferWorld) -> None:
    first = await world.objects.begin_multipart(KEY)
    await world.put_part(KEY, first, OTHER, 1)
    await world.objects.abort_multipart(KEY, first)
    second = await world.objects.begin_multipart(KEY)
    assert second != first
    assert await world.objects.list_parts(KEY, second) == []
    part = await world.put_part(KEY, second, DATA, 1)
    await world.objects.complete_multipart(KEY, second, [part])
    assert await world.get(KEY) == DATA


async def test_unknown_upload_has_no_parts_and_cannot_be_joined(world: TransferWorld) -> None:
    known = await world.objects.begin_multipart(KEY)
    part = await world.put_part(KEY, known, DATA, 1)
    unknown = known[:-1] + ("0" if known[-1] != "0" else "1")
    with pytest.raises(ObjectMissing, match=KEY):
        await world.objects.list_parts(KEY, unknown)
    with pytest.raises(ObjectMissing, match=KEY):
        await world.objects.complete_multipart(KEY, unknown, [part])
    await world.objects.abort_multipart(KEY, unknown)
    for upload in () if world.takes_late_parts else (unknown, "x" * len(known), "../../etc"):
        assert await refused(world, world.objects.presign_part(KEY, upload, part, expires_s=EXPIRES_S), DATA)
    with pytest.raises(ObjectMissing):
        await world.objects.list_parts(f"{KEY}2", known)
    assert [part.number for part in await world.objects.list_parts(KEY, known)] == [1]


async def test_open_uploads_are_listed_by_key_page_after_page(world: TransferWorld) -> None:
    keys = [f"attachments/{n:02d}/x" for n in range(5)]
    uploads = {key: await world.objects.begin_multipart(key) for key in reversed(keys)}
    await world.objects.begin_multipart("other/x")
    listed = await world.objects.list_multiparts("attachments/")
    assert [(each.key, each.upload) for each in listed] == [(key, uploads[key]) for key in keys]
    page = await world.objects.list_multiparts("attachments/", "", 2)
    assert [each.key for each in page] == keys[:2]
    page = await world.objects.list_multiparts("attachments/", page[-1].key, 2)
    assert [each.key for each in page] == keys[2:4]
    page = await world.objects.list_multiparts("attachments/", page[-1].key, 2)
    assert [each.key for each in page] == keys[4:]
    assert await world.objects.list_multiparts("attachments/", keys[-1]) == []


async def test_uploads_of_one_key_are_on_one_page(world: TransferWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_transfers, "MAX_PAGE", 2)
    uploads = {await world.objects.begin_multipart(KEY) for _ in range(3)}
    await world.objects.begin_multipart(f"{KEY}2")
    page = await world.objects.list_multiparts("attachments/", "", 2)
    assert {each.upload for each in page} == uploads
    assert {each.key for each in page} == {KEY}
    assert [each.key for each in await world.objects.list_multiparts("attachments/", KEY)] == [f"{KEY}2"]


async def test_parts_are_listed_page_after_page(world: TransferWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (s3_transfers, s3_copied_parts):
        monkeypatch.setattr(module, "MAX_PAGE", 2)
    upload = await world.objects.begin_multipart(KEY)
    for number in (5, 1, 4, 2, 3):
        await world.put_part(KEY, upload, DATA, number)
    assert [part.number for part in await world.objects.list_parts(KEY, upload)] == [1, 2, 3, 4, 5]


async def test_missing_object_has_no_state(world: TransferWorld) -> None:
    with pytest.raises(ObjectMissing, match=KEY):
        await world.objects.stat(KEY)
    assert await refused(world, world.objects.presign_get(KEY, expires_s=EXPIRES_S), b"")


async def test_invalid_key_is_refused_before_anything_is_signed(world: TransferWorld) -> None:
    part = part_of(DATA)
    for key in ("", "/a", "../a", "a/../b", "a//b", "a b", "a?b", ".new/x"):
        with pytest.raises(BadKey):
            world.objects.presign_get(key, expires_s=EXPIRES_S)
        with pytest.raises(BadKey):
            world.objects.presign_put(key, part, expires_s=EXPIRES_S)
        with pytest.raises(BadKey):
            world.objects.presign_part(key, "x", part, expires_s=EXPIRES_S)
        with pytest.raises(BadKey):
            await world.objects.begin_multipart(key)
        with pytest.raises(BadKey):
            await world.objects.list_parts(key, "x")
        with pytest.raises(BadKey):
            await world.objects.complete_multipart(key, "x", [part])
        with pytest.raises(BadKey):
            await world.objects.abort_multipart(key, "x")
        with pytest.raises(BadKey):
            await world.objects.stat(key)


async def test_presigned_request_does_not_show_its_signature(world: TransferWorld) -> None:
    """A bearer of the URL may send it, so no log may have it."""
    request = put_request(world)
    secret = [value for _, value in httpx.URL(request.url).params.multi_items() if len(value) >= 32]
    assert secret
    assert not [value for value in secret if value in repr(request) or value in f"{request}"]
