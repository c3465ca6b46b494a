"""The life of an upload on each kind of object store, and on those that fail, lie, or do not answer."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from client.http import Credentials
from jobs.tasks import batches
from jobs.tasks.orphans import Orphans
from protocol.limits import ATTACHMENT_PART_BYTES, MAX_PART_REQUESTS
from store import attachments
from store import transfers as transfers_module
from store.errors import (
    AttachmentIncomplete,
    AttachmentUsed,
    BadUpload,
    NoObjectStore,
    ObjectDiffers,
    ObjectMissing,
    ObjectStoreRefused,
    QuotaExceeded,
    Unavailable,
    UnknownAttachment,
)
from store.objects.direct import FileStore, ObjectState, Part, PresignedRequest
from store.objects.quotas import Quotas
from store.objects.s3_copied_parts import CopyingS3
from store.participants import remove
from store.postgres.driver import uuids
from store.postgres.pool import Pool
from store.revisions import delete_for_everyone
from store.transfers import DOWNLOAD_TICKET_S, Transfers, UploadTicket
from tests.jobs.jobs_world import a_job, send_message
from tests.people import new_group
from tests.s3_server import s3_server
from tests.store.attachment_world import Faulty, Put, a_file, attach, declared, put_parts, some_bytes, usage_of
from tests.store.objects.transfer_world import KINDS, open_store
from tests.uploads import new_upload
from tests.waiting import DEADLINE_S

SMALL = some_bytes(100)
LARGE = some_bytes(2 * ATTACHMENT_PART_BYTES + 5)
"""Three parts."""


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSE_S", 0.0)


@pytest.fixture(params=KINDS)
async def store(
    request: pytest.FixtureRequest, pool: Pool, redis_url: str, tmp_path: Path, s3_url: str
) -> AsyncGenerator[FileStore, None]:
    """An empty object store of each kind."""
    async with open_store(request.param, pool, redis_url, tmp_path / "objects", s3_url) as objects:
        yield objects


@pytest.fixture
async def put() -> AsyncGenerator[Put, None]:
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as client:

        async def send(request: PresignedRequest, data: bytes) -> int:
            # The length is that of the bytes: a client that says another one does not get so far.
            headers = {name: value for name, value in request.headers.items() if name != "content-length"}
            return (await client.request(request.method, request.url, headers=headers, content=data)).status_code

        yield send


@pytest.fixture
async def faulty(store: FileStore) -> Faulty:
    return Faulty(store)


@pytest.fixture
async def transfers(pool: Pool, faulty: Faulty) -> Transfers:
    return Transfers(pool, faulty, Quotas())  # type: ignore[arg-type]


async def is_complete(pool: Pool, *ids: bytes) -> bool:
    [(count,)] = await pool.fetch(
        "select count(*) from attachments where id = any(%(ids)s::uuid[]) and completed is not null",
        {"ids": uuids(ids)},
    )
    return bool(count == len(ids))


async def objects_of(store: FileStore) -> list[str]:
    return [each.key for each in await store.list("attachments/")]


async def uploaded(transfers: Transfers, put: Put, user: Credentials, data: bytes) -> UploadTicket:
    [ticket] = await transfers.upload(user.user, [declared(data)])
    await put_parts(put, ticket.requests, data)
    return ticket


async def test_file_with_a_thumbnail_is_uploaded_and_completed(
    pool: Pool, store: FileStore, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    data, small = some_bytes(1000), some_bytes(10)
    one, other = await transfers.upload(alice.user, [declared(data, small)])
    assert (one.thumbnail_of, other.thumbnail_of) == (None, one.attachment)
    await put_parts(put, one.requests, data)
    await put_parts(put, other.requests, small)
    await transfers.complete(alice.user, [one.attachment])
    assert await is_complete(pool, one.attachment, other.attachment)
    assert len(await objects_of(store)) == 2


async def test_large_file_is_uploaded_in_parts_in_any_order_and_joined(
    pool: Pool, store: FileStore, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    [ticket] = await transfers.upload(alice.user, [declared(LARGE)])
    assert [each.number for each in ticket.requests] == [1, 2, 3]
    for each in reversed(ticket.requests):
        await put_parts(put, [each], LARGE)
    await transfers.complete(alice.user, [ticket.attachment])
    assert await is_complete(pool, ticket.attachment)
    [key] = await objects_of(store)
    assert await store.get(key) == LARGE


async def test_thumbnail_that_is_missing_is_told_and_its_file_is_noted(
    pool: Pool, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    small = some_bytes(10)
    one, other = await transfers.upload(alice.user, [declared(SMALL, small)])
    await put_parts(put, one.requests, SMALL)
    with pytest.raises(AttachmentIncomplete):
        await transfers.complete(alice.user, [one.attachment])
    assert await is_complete(pool, one.attachment)
    assert not await is_complete(pool, other.attachment)
    await put_parts(put, other.requests, small)
    await transfers.complete(alice.user, [one.attachment])
    assert await is_complete(pool, other.attachment)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one part", "three parts"])
async def test_parts_tell_what_is_missing_at_each_step(
    transfers: Transfers, put: Put, alice: Credentials, data: bytes
) -> None:
    [ticket] = await transfers.upload(alice.user, [declared(data)])
    count = len(ticket.requests)
    for stored in range(count):
        missing = await transfers.parts(alice.user, ticket.attachment)
        assert missing.stored == stored
        assert [each.number for each in missing.requests] == list(range(stored + 1, count + 1))
        await put_parts(put, missing.requests[:1], data)
    for _ in range(2):
        done = await transfers.parts(alice.user, ticket.attachment)
        assert (done.stored, done.requests, done.more) == (count, [], False)
        await transfers.complete(alice.user, [ticket.attachment])


async def test_requests_of_an_upload_are_few_and_each_file_gets_its_first(
    transfers: Transfers, alice: Credentials
) -> None:
    """Whatever the size of the files; `parts` has the rest, page by page."""
    large = a_file(41 * ATTACHMENT_PART_BYTES)
    tickets = await transfers.upload(alice.user, [declared(SMALL, b"small"), large, large])
    assert [len(each.requests) for each in tickets] == [1, 1, MAX_PART_REQUESTS - 3, 1]
    [*_, last] = tickets
    pages = [await transfers.parts(alice.user, last.attachment, after) for after in (1, 33)]
    assert [[each.number for each in page.requests] for page in pages] == [list(range(2, 34)), list(range(34, 42))]
    assert [page.more for page in pages] == [True, False]


async def test_completing_again_changes_nothing_and_asks_the_object_store_nothing(
    pool: Pool, faulty: Faulty, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    ticket = await uploaded(transfers, put, alice, LARGE)
    await transfers.complete(alice.user, [ticket.attachment])
    faulty.calls.clear()
    await transfers.complete(alice.user, [ticket.attachment])
    assert faulty.calls == []


async def test_two_requests_complete_an_upload_at_once(
    pool: Pool, faulty: Faulty, store: FileStore, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    """The second one has compared the parts when the first one joins them."""
    ticket = await uploaded(transfers, put, alice, LARGE)
    both = trio.Event()
    listed = 0

    async def list_parts(key: str, upload: str) -> list[Part]:
        nonlocal listed
        found = await store.list_parts(key, upload)
        listed += 1
        if listed == 2:
            both.set()
        await both.wait()
        return found

    faulty.instead("list_parts", list_parts)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(transfers.complete, alice.user, [ticket.attachment])
    assert await is_complete(pool, ticket.attachment)
    assert [
        value for (value,) in await pool.fetch("select value from analytics where metric = 'attachments_uploaded'")
    ] == [1]


async def test_completing_goes_on_after_a_crash_between_joining_and_noting(
    pool: Pool, store: FileStore, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    """Also `parts` says that everything is there."""
    ticket = await uploaded(transfers, put, alice, LARGE)
    [(key, upload)] = await pool.fetch("select object_key, upload from attachments")
    [row] = await attachments.uploads(pool, alice.user, [ticket.attachment])
    await store.complete_multipart(key, upload, row.parts())
    missing = await transfers.parts(alice.user, ticket.attachment)
    assert (missing.stored, missing.requests) == (3, [])
    await transfers.complete(alice.user, [ticket.attachment])
    assert await is_complete(pool, ticket.attachment)


async def test_upload_whose_parts_the_store_has_dropped_begins_anew(
    pool: Pool, store: FileStore, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    """As a rule of the bucket may do it. The old tickets are void, and lead nowhere."""
    ticket = await uploaded(transfers, put, alice, LARGE)
    [(key, upload)] = await pool.fetch("select object_key, upload from attachments")
    await store.abort_multipart(key, upload)
    with pytest.raises(AttachmentIncomplete):
        await transfers.complete(alice.user, [ticket.attachment])
    missing = await transfers.parts(alice.user, ticket.attachment)
    assert (missing.stored, len(missing.requests)) == (0, 3)
    is_taken = await put(ticket.requests[0].request, LARGE[:ATTACHMENT_PART_BYTES]) < 400
    assert is_taken == isinstance(store, CopyingS3)
    await put_parts(put, missing.requests, LARGE)
    await transfers.complete(alice.user, [ticket.attachment])
    assert await is_complete(pool, ticket.attachment)


async def test_other_bytes_are_refused_by_the_store_and_never_complete(
    pool: Pool, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    [ticket] = await transfers.upload(alice.user, [declared(SMALL)])
    for wrong in (SMALL[:-1], SMALL + b"x", bytes(100)):
        assert await put(ticket.requests[0].request, wrong) >= 400
        with pytest.raises(AttachmentIncomplete):
            await transfers.complete(alice.user, [ticket.attachment])
    assert not await is_complete(pool, ticket.attachment)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["one part", "three parts"])
async def test_upload_is_incomplete_without_bytes(
    pool: Pool, transfers: Transfers, alice: Credentials, data: bytes
) -> None:
    [ticket] = await transfers.upload(alice.user, [declared(data)])
    with pytest.raises(AttachmentIncomplete):
        await transfers.complete(alice.user, [ticket.attachment])
    assert not await is_complete(pool, ticket.attachment)


async def _nothing(*_: Any) -> None:
    """Says success and does nothing."""


def _says(value: Any) -> Callable[..., Any]:
    async def say(*_: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    return say


LIES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "joins nothing": (LARGE, {"complete_multipart": _nothing}),
    "has fewer bytes": (SMALL, {"stat": _says(ObjectState(99, sha256(SMALL).digest()))}),
    "has other bytes": (SMALL, {"stat": _says(ObjectState(100, bytes(32)))}),
    "has other bytes of a joined file": (LARGE, {"stat": _says(ObjectState(len(LARGE), sha256(LARGE).digest()))}),
    "has lost it": (SMALL, {"stat": _says(ObjectMissing("attachments/x"))}),
    "keeps no digest, and has other bytes": (
        SMALL,
        {"stat": _says(ObjectState(100, None)), "get": lambda *_, **__: _says(bytes(100))()},
    ),
    "has other parts": (LARGE, {"list_parts": _says([Part(1, ATTACHMENT_PART_BYTES, bytes(32))])}),
    "has more parts": (LARGE, {"list_parts": _says([Part(n, 1, bytes(32)) for n in range(1, 5)])}),
}


@pytest.mark.parametrize("name", LIES)
async def test_store_that_lies_completes_nothing(
    pool: Pool, faulty: Faulty, transfers: Transfers, put: Put, alice: Credentials, name: str
) -> None:
    data, calls = LIES[name]
    ticket = await uploaded(transfers, put, alice, data)
    for call, instead in calls.items():
        faulty.instead(call, instead)
    with pytest.raises(AttachmentIncomplete):
        await transfers.complete(alice.user, [ticket.attachment])
    assert not await is_complete(pool, ticket.attachment)
    for call in calls:
        faulty.instead(call, None)
    await transfers.complete(alice.user, [ticket.attachment])
    assert await is_complete(pool, ticket.attachment)


async def test_store_without_digests_is_read_to_compare(
    pool: Pool, faulty: Faulty, store: FileStore, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    """A file that was joined is too large for that: a folder has compared its parts, a service is asked for the digest,
    and without it nothing is complete, however often a client asks."""

    async def stat(key: str) -> ObjectState:
        return ObjectState((await store.stat(key)).size_bytes, None)

    faulty.instead("stat", stat)
    small = await uploaded(transfers, put, alice, SMALL)
    await transfers.complete(alice.user, [small.attachment])
    assert await is_complete(pool, small.attachment)
    large = await uploaded(transfers, put, alice, LARGE)
    if store.joined_have_digests:
        for _ in range(2):
            with capture_logs() as logs, pytest.raises(Unavailable, match="it refuses"):
                await transfers.complete(alice.user, [large.attachment])
            assert "it keeps no SHA-256 of objects" in str(logs)
        assert not await is_complete(pool, large.attachment)
        faulty.instead("stat", None)
    await transfers.complete(alice.user, [large.attachment])
    assert await is_complete(pool, large.attachment)


async def test_store_that_lies_to_one_of_two_requests_takes_nothing_from_the_other(
    pool: Pool, faulty: Faulty, store: FileStore, transfers: Transfers, put: Put, alice: Credentials, direct: bytes
) -> None:
    """Both complete the upload at once. A message has the file when the second one is told of another digest."""
    ticket = await uploaded(transfers, put, alice, LARGE)

    async def complete_multipart(key: str, upload: str, parts: list[Part]) -> None:
        faulty.instead("complete_multipart", None)
        await transfers.complete(alice.user, [ticket.attachment])
        await attach(pool, direct, await send_message(pool, direct, alice.user, b"1"), ticket.attachment)
        raise ObjectDiffers(key)

    faulty.instead("complete_multipart", complete_multipart)
    with capture_logs() as logs, pytest.raises(AttachmentIncomplete):
        await transfers.complete(alice.user, [ticket.attachment])
    assert "object_differs" in [line["event"] for line in logs]
    [key] = await objects_of(store)
    assert await store.get(key) == LARGE


async def test_size_that_another_service_did_not_know_is_asked_of_the_store_once(
    pool: Pool, faulty: Faulty, store: FileStore, transfers: Transfers, alice: Credentials, direct: bytes
) -> None:
    """Files of an import, one of which is not there. Without an answer the ticket has the size that is known; the
    counts of bytes follow the size."""
    seq = await send_message(pool, direct, alice.user, b"1")
    files = {n: await new_upload(pool, alice.user, key=f"old/{n}", message=(direct, seq)) for n in (3, 300, 0)}
    await pool.fetch("update attachments set digest = null, is_sized = false")
    await pool.fetch(
        "insert into analytics (day, metric, value)"
        " values ((now() at time zone 'UTC')::date, 'attachment_bytes_uploaded', 30)"
    )
    for n in (3, 300):
        await store.put(f"old/{n}", bytes(n), "application/octet-stream")

    async def sizes() -> dict[bytes, int]:
        found = await transfers.download(alice.user, list(files.values()))
        assert {each.of.digest for each in found} == {None}
        return {each.of.id: each.of.size_bytes for each in found}

    faulty.fail(Unavailable("the object store", "x", "refused"), "stat")
    assert await sizes() == {files[n]: 10 for n in files}
    faulty.instead("stat", None)
    faulty.calls.clear()
    for _ in range(2):
        assert await sizes() == {files[3]: 3, files[300]: 300, files[0]: 10}
    assert faulty.calls == ["stat"] * 4, "the missing one is asked for again"
    assert await usage_of(pool, alice.user) == (313, 0)
    assert await pool.fetch("select stored_bytes from attachment_total") == [(313,)]
    figures = dict(
        await pool.fetch("select metric, value from analytics where starts_with(metric, 'attachment_bytes')")
    )
    assert figures == {"attachment_bytes_uploaded": 30 + 290, "attachment_bytes_removed": 7}


ERRORS = {
    "it is down": Unavailable("the object store", "x", "refused"),
    "it answers 500": Unavailable("the object store", "x", "status 500"),
    "it is full": ObjectStoreRefused("x", "status 507 InsufficientStorage"),
    "it refuses the key": ObjectStoreRefused("x", "status 403 AccessDenied"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_failure_of_the_store_is_retryable_and_completes_nothing(
    pool: Pool, faulty: Faulty, transfers: Transfers, put: Put, alice: Credentials, name: str
) -> None:
    ticket = await uploaded(transfers, put, alice, LARGE)
    for call in ("list_parts", "complete_multipart", "stat"):
        faulty.fail(ERRORS[name], call)
        with pytest.raises(Unavailable):
            await transfers.complete(alice.user, [ticket.attachment])
        assert not await is_complete(pool, ticket.attachment)
        faulty.instead(call, None)
    faulty.fail(ERRORS[name], "list_parts")
    with pytest.raises(Unavailable):
        await transfers.parts(alice.user, ticket.attachment)
    faulty.instead("list_parts", None)
    await transfers.complete(alice.user, [ticket.attachment])
    assert await is_complete(pool, ticket.attachment)


@pytest.mark.parametrize("name", ERRORS)
async def test_upload_that_the_store_cannot_begin_is_given_up(
    pool: Pool, faulty: Faulty, transfers: Transfers, alice: Credentials, name: str
) -> None:
    """The client hears of no id: all rows of its request are orphaned, for a job to remove."""
    faulty.fail(ERRORS[name], "begin_multipart")
    with pytest.raises(Unavailable):
        await transfers.upload(alice.user, [declared(SMALL), declared(LARGE)])
    assert await pool.fetch("select orphaned is not null from attachments") == [(True,)] * 2


async def test_store_that_does_not_answer_holds_no_request_longer_than_the_deadline(
    pool: Pool, faulty: Faulty, transfers: Transfers, put: Put, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await uploaded(transfers, put, alice, LARGE)
    monkeypatch.setattr(transfers_module, "DEADLINE_S", 0.05)

    async def silence(*_: Any) -> None:
        await trio.sleep_forever()

    for call in ("list_parts", "complete_multipart", "stat", "begin_multipart", "abort_multipart"):
        faulty.instead(call, silence)
    with trio.fail_after(DEADLINE_S):
        for request in (
            lambda: transfers.complete(alice.user, [ticket.attachment]),
            lambda: transfers.parts(alice.user, ticket.attachment),
            lambda: transfers.upload(alice.user, [declared(LARGE)]),
        ):
            with pytest.raises(Unavailable, match=r"no answer within 0\.05 s"):
                await request()
        await transfers.abort(alice.user, [ticket.attachment])
    assert await pool.fetch("select orphaned is not null from attachments") == [(True,)] * 2


async def test_aborted_upload_is_gone_with_its_bytes(
    pool: Pool, store: FileStore, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    """The tickets of its parts are void."""
    large = await uploaded(transfers, put, alice, LARGE)
    small, thumbnail = await transfers.upload(alice.user, [declared(SMALL, b"small")])
    await put_parts(put, small.requests, SMALL)
    await put_parts(put, thumbnail.requests, b"small")
    await transfers.complete(alice.user, [small.attachment])
    await transfers.abort(alice.user, [large.attachment, small.attachment])
    assert await pool.fetch("select count(*) from attachments") == [(0,)]
    assert await objects_of(store) == await store.list_multiparts("attachments/") == []
    assert (await usage_of(pool, alice.user))[0] == 0
    is_taken = await put(large.requests[0].request, LARGE[:ATTACHMENT_PART_BYTES]) < 400
    assert is_taken == isinstance(store, CopyingS3), "there the daily clean-up finds the part"
    for request in (
        transfers.abort(alice.user, [small.attachment]),
        transfers.complete(alice.user, [small.attachment]),
        transfers.parts(alice.user, large.attachment),
    ):
        with pytest.raises(UnknownAttachment):
            await request


async def test_abort_is_noted_although_the_store_is_down(
    pool: Pool, faulty: Faulty, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    ticket = await uploaded(transfers, put, alice, SMALL)
    faulty.fail(Unavailable("the object store", "x", "refused"), "delete", "abort_multipart")
    await transfers.abort(alice.user, [ticket.attachment])
    with pytest.raises(UnknownAttachment):
        await transfers.complete(alice.user, [ticket.attachment])
    assert (await usage_of(pool, alice.user))[0] == 100, "until the object is gone"


async def test_upload_that_is_given_up_while_it_is_completed_stays_given_up(
    pool: Pool, faulty: Faulty, store: FileStore, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    ticket = await uploaded(transfers, put, alice, SMALL)

    async def stat(key: str) -> ObjectState:
        found = await store.stat(key)
        await transfers.abort(alice.user, [ticket.attachment])
        return found

    faulty.instead("stat", stat)
    with pytest.raises(UnknownAttachment):
        await transfers.complete(alice.user, [ticket.attachment])
    assert await pool.fetch("select count(*) from attachments") == [(0,)]


async def test_upload_that_is_given_up_while_its_parts_are_joined_is_unknown_and_leaves_nothing(
    pool: Pool, faulty: Faulty, store: FileStore, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    ticket = await uploaded(transfers, put, alice, LARGE)

    async def complete_multipart(key: str, upload: str, parts: list[Part]) -> None:
        faulty.instead("complete_multipart", None)
        await transfers.abort(alice.user, [ticket.attachment])
        await store.complete_multipart(key, upload, parts)

    faulty.instead("complete_multipart", complete_multipart)
    with pytest.raises(UnknownAttachment):
        await transfers.complete(alice.user, [ticket.attachment])
    assert await pool.fetch("select count(*) from attachments") == [(0,)]
    assert await store.list("") == await store.list_multiparts("") == []
    assert (await usage_of(pool, alice.user))[0] == 0


async def test_upload_is_incomplete_while_a_part_is_on_its_way_and_complete_after_it(
    pool: Pool, transfers: Transfers, put: Put, alice: Credentials
) -> None:
    """The part that is being written disturbs nothing, and is not disturbed."""
    [ticket] = await transfers.upload(alice.user, [declared(LARGE)])
    *first, last = ticket.requests
    await put_parts(put, first, LARGE)
    request, data = last.request, LARGE[2 * ATTACHMENT_PART_BYTES :]
    url = urlsplit(request.url)
    head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nhost: {url.netloc}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    async with await trio.open_tcp_stream(url.hostname or "", url.port or 80) as stream:
        await stream.send_all(head.encode() + b"\r\n" + data[:2])
        for _ in range(2):
            with pytest.raises(AttachmentIncomplete):
                await transfers.complete(alice.user, [ticket.attachment])
        await stream.send_all(data[2:])
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
    await transfers.complete(alice.user, [ticket.attachment])
    assert await is_complete(pool, ticket.attachment)


async def test_ticket_from_before_serves_a_removed_participant_and_no_user_once_the_message_is_deleted(
    pool: Pool,
    store: FileStore,
    transfers: Transfers,
    put: Put,
    alice: Credentials,
    bob: Credentials,
) -> None:
    """For 15 minutes; new tickets there are none."""
    group = await new_group(pool, alice, bob)
    ticket = await uploaded(transfers, put, alice, SMALL)
    await transfers.complete(alice.user, [ticket.attachment])
    seq = await send_message(pool, group, alice.user, b"1")
    await attach(pool, group, seq, ticket.attachment)
    [found] = await transfers.download(bob.user, [ticket.attachment])
    assert found.expires - time.time_ns() // 1000 <= DOWNLOAD_TICKET_S * 1_000_000
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as client:
        await remove(pool, alice.user, group, bob.user)
        assert await transfers.download(bob.user, [ticket.attachment]) == []
        assert (await client.get(found.url)).content == SMALL
        await delete_for_everyone(pool, alice.user, group, seq)
        assert await transfers.download(alice.user, [ticket.attachment]) == []
        await Orphans(pool, store).orphaned_attachments(a_job("clean-up"))
        answer = await client.get(found.url)
        assert answer.status_code == 404
        assert SMALL not in answer.content


async def test_uploads_of_others_look_like_unknown_ones(
    pool: Pool, transfers: Transfers, put: Put, alice: Credentials, bob: Credentials
) -> None:
    ticket = await uploaded(transfers, put, alice, SMALL)
    for id_ in (ticket.attachment, uuid4().bytes):
        with pytest.raises(UnknownAttachment):
            await transfers.complete(bob.user, [id_])
        with pytest.raises(UnknownAttachment):
            await transfers.parts(bob.user, id_)
        with pytest.raises(UnknownAttachment):
            await transfers.abort(bob.user, [id_])
        assert await transfers.download(bob.user, [id_]) == []
    await transfers.complete(alice.user, [ticket.attachment])
    assert await is_complete(pool, ticket.attachment)


async def test_attachment_of_a_message_is_not_aborted_and_participants_download_it(
    pool: Pool, store: FileStore, transfers: Transfers, put: Put, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    ticket = await uploaded(transfers, put, alice, SMALL)
    await transfers.complete(alice.user, [ticket.attachment])
    assert await transfers.download(alice.user, [ticket.attachment]) == [], "no message has it"
    await attach(pool, direct, await send_message(pool, direct, alice.user, b"1"), ticket.attachment)
    with pytest.raises(AttachmentUsed):
        await transfers.abort(alice.user, [ticket.attachment])
    await transfers.complete(alice.user, [ticket.attachment])
    for user in (alice, bob):
        [found] = await transfers.download(user.user, [ticket.attachment, uuid4().bytes])
        assert (found.of.id, found.of.size_bytes, found.of.digest) == (ticket.attachment, 100, sha256(SMALL).digest())
        assert found.of.key in found.url
    assert await objects_of(store) == [found.of.key]


async def test_bad_declarations_and_quotas_reach_no_object_store(
    pool: Pool, faulty: Faulty, alice: Credentials
) -> None:
    transfers = Transfers(pool, faulty, Quotas(open_uploads_per_user=1))  # type: ignore[arg-type]
    with pytest.raises(BadUpload):
        await transfers.upload(alice.user, [declared(LARGE), declared(b"")])
    with pytest.raises(QuotaExceeded):
        await transfers.upload(alice.user, [declared(LARGE), declared(LARGE)])
    assert faulty.calls == []
    assert await pool.fetch("select count(*) from attachments") == [(0,)]


async def test_upload_beyond_the_open_ones_is_refused_by_name_however_often(
    pool: Pool, faulty: Faulty, transfers: Transfers, alice: Credentials
) -> None:
    """10,000 wanted: 100 are open, and all others are refused."""
    for _ in range(10):
        await transfers.upload(alice.user, [declared(SMALL)] * 10)
    for _ in range(99):
        with pytest.raises(QuotaExceeded) as refused:
            await transfers.upload(alice.user, [declared(SMALL)])
        assert (refused.value.quota, refused.value.value) == ("open_uploads_per_user", 100)
    [(rows,)] = await pool.fetch("select count(*) from attachments")
    assert rows == 100


async def test_without_an_object_store_all_requests_are_refused_by_name(pool: Pool, alice: Credentials) -> None:
    none = Transfers(pool, None, Quotas())
    id_ = uuid4().bytes
    for request in (
        none.upload(alice.user, [declared(SMALL)]),
        none.parts(alice.user, id_),
        none.complete(alice.user, [id_]),
        none.download(alice.user, [id_]),
        none.abort(alice.user, [id_]),
    ):
        with pytest.raises(NoObjectStore):
            await request
    assert not none.is_offered
