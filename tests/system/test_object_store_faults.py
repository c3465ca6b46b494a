"""An object store that is down, slow, full, answering 500 or lying, between real processes and a real service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from uuid import uuid4

import pytest
import trio

from client.connection import connect
from client.http import Credentials
from jobs.tasks import batches
from jobs.tasks.orphans import Orphans
from protocol.limits import ATTACHMENT_PART_BYTES
from store import orphans
from store.objects.direct import FileStore
from store.objects.url import open_objects
from store.postgres.pool import Pool
from store.transfers import DEADLINE_S as STORE_DEADLINE_S
from tests.jobs.jobs_world import a_job
from tests.processes import Cluster, open_cluster
from tests.rows import checked_rows
from tests.s3_proxy import Pass, ProxiedAnswer, ProxiedCall, S3Proxy, Treatment, open_s3_proxy
from tests.s3_server import s3_server
from tests.store.attachment_world import declared, parts_of, some_bytes
from tests.system.file_doors import HttpDoor, SocketDoor, put_part
from tests.waiting import let_pass, wait_until

LARGE: Final = some_bytes(ATTACHMENT_PART_BYTES + 5)
"""Two parts."""

SEND_S: Final = 5.0
"""For a message without files, whatever the object store does; half of what a request about files may take."""

WRITES: Final = ("begin", "put", "part", "join", "copy")
OF_THE_SERVER: Final = ("begin", "list parts", "join", "stat", "abort", "delete")


async def _breaks_off(call: ProxiedCall, pass_on: Pass) -> None:
    return None


async def _is_slow(call: ProxiedCall, pass_on: Pass) -> ProxiedAnswer | None:
    await let_pass(STORE_DEADLINE_S + 5, why="longer than a request may take")
    return await pass_on()


async def _answers_500(call: ProxiedCall, pass_on: Pass) -> ProxiedAnswer:
    return ProxiedAnswer(500, b"<Error><Code>InternalError</Code></Error>")


async def _is_full(call: ProxiedCall, pass_on: Pass) -> ProxiedAnswer:
    return ProxiedAnswer(507, b"<Error><Code>InsufficientStorage</Code></Error>")


async def _lies(call: ProxiedCall, pass_on: Pass) -> ProxiedAnswer:
    """Success; nothing was done."""
    if call.name in ("delete", "abort"):
        return ProxiedAnswer(204)
    joined = b"<CompleteMultipartUploadResult><Key>a</Key></CompleteMultipartUploadResult>"
    return ProxiedAnswer(200, joined if call.name == "join" else b"", (("etag", '"x"'),) if call.name == "part" else ())


class StoreFault(NamedTuple):
    """
    :ivar calls: of the object store that have it.
    :ivar declared, completed: the errors of these requests; "" is success.
    """

    treatment: Treatment
    calls: tuple[str, ...]
    declared: str
    completed: str


FAULTS: Final = {
    "down": StoreFault(_breaks_off, (), "unavailable", "unavailable"),
    "slow": StoreFault(_is_slow, OF_THE_SERVER, "unavailable", "unavailable"),
    "answering 500": StoreFault(_answers_500, (), "unavailable", "unavailable"),
    "full": StoreFault(_is_full, WRITES, "unavailable", "unavailable"),
    "lying of parts": StoreFault(_lies, ("part", "delete", "abort"), "", "attachment_incomplete"),
    "lying of joins": StoreFault(_lies, ("join", "delete", "abort"), "", "attachment_incomplete"),
}


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSE_S", 0.0)


class FaultyDeployment:
    """`web`, `socket` and a worker, with a proxy before their object store.

    :ivar used: the attachments that messages have.
    """

    def __init__(self, cluster: Cluster, proxy: S3Proxy, store: FileStore, alice: Credentials, talk: bytes) -> None:
        self.proxy = proxy
        self.store = store
        self.alice = alice
        self._talk = talk
        self.doors = (HttpDoor(cluster, alice), SocketDoor(cluster, alice))
        self.used: list[bytes] = []

    async def say(self, *attachments: bytes) -> None:
        with trio.fail_after(SEND_S):
            async with connect(self.doors[1].url, self.alice.token) as connection:
                files = list(attachments) or None
                await connection.send(self._talk, b"x", temp_id=uuid4().bytes, attachments=files)
        self.used += attachments

    async def put_missing(self, door: HttpDoor | SocketDoor, attachment: bytes) -> list[int]:
        """The status of each part that is uploaded now."""
        _, missing = await door.missing(attachment)
        return [await put_part(url, headers, parts_of(LARGE)[n - 1]) for n, url, headers in missing]

    async def put_last(self, door: HttpDoor | SocketDoor, attachment: bytes) -> int:
        """The status of the last part, which is small."""
        _, missing = await door.missing(attachment)
        number, url, headers = missing[-1]
        return await put_part(url, headers, parts_of(LARGE)[number - 1])


@asynccontextmanager
async def faulty_deployment(
    pool: Pool, redis_url: str, s3_url: str, alice: Credentials, talk: bytes
) -> AsyncGenerator[FaultyDeployment, None]:
    async with (
        open_s3_proxy(s3_url) as proxy,
        open_objects(s3_url) as store,
        open_cluster(pool.url, redis_url, OBJECT_STORE_URL=proxy.url) as cluster,
    ):
        assert store is not None
        world = FaultyDeployment(cluster, proxy, store, alice, talk)
        for door in world.doors:
            await door.start()
        await cluster.start_worker()
        yield world


async def is_removed(pool: Pool, attachment: bytes) -> bool:
    return not await pool.fetch("select 1 from attachments where id = %s::uuid", (attachment.hex(),))


async def test_object_store_that_fails_leads_to_the_documented_error_and_loses_nothing(
    pool: Pool, redis_url: str, s3_url: str, alice: Credentials, direct: bytes
) -> None:
    """Sends go on meanwhile. Once the object store is well again, the same requests succeed, and the clean-up leaves
    what messages have."""
    async with faulty_deployment(pool, redis_url, s3_url, alice, direct) as world:
        with checked_rows() as rows:
            for name, fault in FAULTS.items():
                with rows.row(name):
                    given_up = await _upload_through(world, name, fault)
                    # The first clean-up may have failed.
                    await pool.fetch("select enqueue('orphaned_attachments', '{}')")
                    for each in given_up:
                        await wait_until(lambda id_=each: is_removed(pool, id_), "the worker removes it", timeout_s=60)
        await _check_clean_up(pool, world)


async def _upload_through(world: FaultyDeployment, name: str, fault: StoreFault) -> list[bytes]:
    """At each door, begin two uploads before the fault, complete one of them and give the other up during it; send what
    was uploaded after it. Returns those that were given up."""
    begun: list[tuple[HttpDoor | SocketDoor, bytes, bytes]] = []
    for door in world.doors:
        code, whole = await door.declare(declared(LARGE))
        assert code == ""
        code, given_up = await door.declare(declared(LARGE))
        assert code == ""
        assert await world.put_last(door, given_up) == 200
        if "part" not in fault.calls:
            assert await world.put_missing(door, whole) == [200, 200]
        begun.append((door, whole, given_up))
    missing = {whole: (await door.missing(whole))[1] for door, whole, _ in begun if "part" in fault.calls}

    async def meet(door: HttpDoor | SocketDoor, whole: bytes, given_up: bytes) -> None:
        code, _ = await door.declare(declared(LARGE))
        assert code == fault.declared
        for number, url, headers in missing.get(whole, ()):
            status = await put_part(url, headers, parts_of(LARGE)[number - 1])
            assert status == (507 if name == "full" else 200)
        assert await door.complete(whole) == ("attachment_incomplete" if name == "full" else fault.completed)
        assert await door.abort(given_up) == "", "it is noted, and removed later"

    world.proxy.treat(fault.treatment, *fault.calls)
    async with trio.open_nursery() as nursery:
        for each in begun:
            nursery.start_soon(world.say)
            nursery.start_soon(meet, *each)
    await world.say()
    world.proxy.heal()
    for door, whole, _ in begun:
        assert set(await world.put_missing(door, whole)) <= {200}
        assert await door.complete(whole) == ""
        await world.say(whole)
    return [given_up for _, _, given_up in begun]


async def _check_clean_up(pool: Pool, world: FaultyDeployment) -> None:
    """It leaves what messages have, and nothing else."""
    await pool.fetch("update attachments set created = created - interval '25 hours'")
    tasks, job = Orphans(pool, world.store), a_job("clean-up")
    await tasks.orphaned_attachments(job)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orphans, "UNUSED_S", 0.0)
        await tasks.orphaned_objects(job)
        await tasks.abandoned_multiparts(job)
    rows = await pool.fetch("select id, object_key from attachments order by object_key")
    assert {id_ for id_, _ in rows} == {*world.used}
    assert [each.key for each in await world.store.list("")] == [key for _, key in rows]
    assert await world.store.list_multiparts("") == []
    for _, key in rows:
        assert await world.store.get(key) == LARGE
