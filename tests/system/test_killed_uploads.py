"""`web` and `socket` are killed while they complete an upload: before and after each call of the object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from client.connection import connect
from client.errors import ClientFailure
from client.http import Credentials
from jobs.tasks import batches
from jobs.tasks.orphans import Orphans
from protocol.limits import ATTACHMENT_PART_BYTES
from store import orphans
from store.objects.direct import FileStore
from store.objects.url import open_objects
from store.postgres.pool import Pool
from store.revisions import delete_for_everyone
from tests.jobs.jobs_world import a_job
from tests.processes import Process, open_cluster
from tests.s3_proxy import S3Proxy, open_s3_proxy
from tests.s3_server import s3_server
from tests.store.attachment_world import declared, parts_of, some_bytes
from tests.system.file_doors import DOORS, FileDoor, HttpDoor, SocketDoor, put_part
from tests.system.test_killed_transfers import held
from tests.waiting import DEADLINE_S

LARGE: Final = some_bytes(ATTACHMENT_PART_BYTES + 5)
"""Two parts."""

CALLS: Final = {"list parts": 2, "join": 1, "stat": 2}
"""The calls of the object store that `complete` causes, and how often: for the parts before and in the join, and for
the object after the join and before it is noted."""

POINTS: Final = [(name, nth, passes) for name in CALLS for nth in range(1, CALLS[name] + 1) for passes in (False, True)]


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSE_S", 0.0)


async def upload(door: FileDoor) -> bytes:
    """Upload a file; the attachment is not complete."""
    code, attachment = await door.declare(declared(LARGE))
    assert not code
    _, missing = await door.missing(attachment)
    for number, url, headers in missing:
        assert await put_part(url, headers, parts_of(LARGE)[number - 1]) == 200
    return attachment


async def complete_in_vain(door: FileDoor, attachment: bytes) -> None:
    """The process dies meanwhile."""
    try:
        code = await door.complete(attachment)
    except (ClientFailure, httpx.TransportError):
        return
    raise AssertionError(f"it was answered: {code!r}")


async def kill_at(
    proxy: S3Proxy, door: FileDoor, process: Process, attachment: bytes, point: tuple[str, int, bool]
) -> None:
    name, nth, passes = point
    is_held = proxy.hold(name, nth, passes=passes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(complete_in_vain, door, attachment)
        with trio.fail_after(DEADLINE_S):
            await is_held.wait()
        process.kill()
        await process.wait()
    proxy.heal()


async def clean_up(pool: Pool, store: FileStore) -> None:
    """A day passes, and the tasks run."""
    await pool.fetch("update attachments set created = created - interval '25 hours'")
    with pytest.MonkeyPatch.context() as patch:
        tasks = Orphans(pool, store)
        await tasks.orphaned_attachments(a_job("clean-up"))
        patch.setattr(orphans, "UNUSED_S", 0.0)
        await tasks.orphaned_objects(a_job("clean-up"))
        await tasks.abandoned_multiparts(a_job("clean-up"))


@pytest.mark.long
@pytest.mark.parametrize("door_type", DOORS, ids=lambda door: door.name)
async def test_an_upload_whose_process_is_killed_is_completed_or_cleaned_up(
    pool: Pool, redis_url: str, s3_url: str, alice: Credentials, direct: bytes, door_type: Callable[..., HttpDoor]
) -> None:
    """The client repeats `complete` and sends, at each second time; else it never comes back."""
    async with (
        open_s3_proxy(s3_url) as proxy,
        open_objects(s3_url) as store,
        open_cluster(pool.url, redis_url, OBJECT_STORE_URL=proxy.url) as cluster,
    ):
        assert store is not None
        door = door_type(cluster, alice)
        process, gateway = await door.start(), SocketDoor(cluster, alice)
        if not isinstance(door, SocketDoor):
            await gateway.start()
        used = []

        async def send(attachment: bytes) -> None:
            assert await door.complete(attachment) == ""
            url = door.url if isinstance(door, SocketDoor) else gateway.url
            async with connect(url, alice.token) as connection:
                await connection.send(direct, b"x", temp_id=uuid4().bytes, attachments=[attachment])
            used.append(attachment)

        for point in POINTS:
            for is_repeated in (True, False):
                attachment = await upload(door)
                await kill_at(proxy, door, process, attachment, point)
                process = await door.start()
                if is_repeated:
                    await send(attachment)
        # In the transaction that notes it, too.
        attachment = await upload(door)
        lock = f"select from attachments where id = '{UUID(bytes=attachment)}' for update"
        async with held(pool, lock, "complete_attachments", process):
            await complete_in_vain(door, attachment)
        process = await door.start()
        await send(attachment)

        await clean_up(pool, store)
        keys = [key for (key,) in await pool.fetch("select object_key from attachments order by object_key")]
        assert len(keys) == len(used) == len(POINTS) + 1
        assert [each.key for each in await store.list("")] == keys
        assert await store.list_multiparts("") == []
        for key in keys:
            assert await store.get(key) == LARGE
        for seq in range(1, len(used) + 1):
            await delete_for_everyone(pool, alice.user, direct, seq)
        await clean_up(pool, store)
        assert await store.list("") == []
        assert await pool.fetch("select stored_bytes from attachment_total") == [(0,)]
