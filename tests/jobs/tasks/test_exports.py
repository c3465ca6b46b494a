"""The parts of an export, and when they are deleted."""

from __future__ import annotations

import gzip
import json
import os
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.tasks import exports as task_module
from jobs.tasks.exports import Exports
from store import exported, exports
from store.errors import ObjectStoreRefused, TooManyExports
from store.objects.folder import Folder
from store.objects.interface import usage
from store.postgres.pool import Pool
from store.replicas import Replicas
from tests.jobs.export_world import made_export, run_exports
from tests.jobs.jobs_world import a_job
from tests.people import new_group, new_user
from tests.server.http_world import say
from tests.store.attachment_world import Faulty


@pytest.fixture
async def objects(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "objects")
    await folder.start()
    return folder


async def test_a_long_conversation_goes_into_several_parts_that_are_one_file(
    pool: Pool, objects: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_module, "PART_BYTES", 2000)
    monkeypatch.setattr(exported, "SEQS", 7)
    monkeypatch.setattr(exported, "PAGE", 10)
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    group = await new_group(pool, alice, bob)
    contents = [b"%d" % n for n in range(50)]
    await say(pool, group, bob.user, *contents)
    lines = await made_export(pool, objects, alice.user)
    assert [b64decode(line["content"]) for line in lines if line["kind"] == "message"] == contents
    [found] = await exports.exports_of(pool, alice.user)
    assert found.parts is not None
    assert found.parts > 5
    for part in range(1, found.parts + 1):
        assert gzip.decompress(await objects.get(exports.key_of(found.export, part))).endswith(b"}\n")


async def test_no_part_has_more_than_a_mebibyte_though_contents_do_not_shrink() -> None:
    async def lines() -> AsyncGenerator[str, None]:
        for _ in range(40):
            yield json.dumps({"content": random_base64()})

    parts = [task_module.pack(each) async for each in task_module.batched(lines())]
    assert len(parts) > 2
    assert max(map(len, parts)) <= 1024 * 1024


def random_base64() -> str:
    return b64encode(os.urandom(65_536)).decode()


async def test_an_export_is_deleted_after_a_week(pool: Pool, objects: Folder) -> None:
    alice = await new_user(pool, "alice")
    await made_export(pool, objects, alice.user)
    task = Exports(pool, Replicas(pool), objects)
    await task.old_exports(a_job("old_exports"))
    assert (await usage(objects)).objects == 1
    await pool.fetch("update exports set expires = expires - interval '7 days'")
    assert await exports.exports_of(pool, alice.user) == []
    await task.old_exports(a_job("old_exports"))
    assert (await usage(objects)).objects == 0
    assert await pool.fetch("select 1 from exports") == []


async def test_an_export_that_cannot_be_deleted_stops_no_other(pool: Pool, objects: Folder) -> None:
    users = [await new_user(pool, name) for name in ("alice", "bob", "carol")]
    for user in users:
        await made_export(pool, objects, user.user)
    await pool.fetch("update exports set expires = expires - interval '7 days'")
    [(first,)] = await pool.fetch("select id from exports order by expires limit 1")
    faulty: Any = Faulty(objects)

    async def delete(keys: Sequence[str]) -> None:
        if keys[0].startswith(exports.prefix_of(first)):
            raise ObjectStoreRefused("x", "status 403 AccessDenied")
        await objects.delete(keys)

    faulty.instead("delete", delete)
    with pytest.raises(ObjectStoreRefused, match="AccessDenied"):
        await Exports(pool, Replicas(pool), faulty).old_exports(a_job("old_exports"))
    assert await pool.fetch("select id from exports") == [(first,)]
    assert (await usage(objects)).objects == 1


async def test_an_export_that_has_failed_does_not_count_and_goes(pool: Pool, objects: Folder) -> None:
    alice = await new_user(pool, "alice")
    export = await exports.ask(pool, alice.user)
    await objects.put(exports.key_of(export, 1), b"x", "application/gzip")
    with pytest.raises(TooManyExports):
        await exports.ask(pool, alice.user)
    await pool.fetch("update exports set asked = asked - interval '25 hours'")
    await exports.ask(pool, alice.user)
    await Exports(pool, Replicas(pool), objects).old_exports(a_job("old_exports"))
    assert (await usage(objects)).objects == 0
    assert await pool.fetch("select count(*) from exports") == [(1,)]


async def test_an_attempt_after_one_that_was_killed_writes_over_its_parts(pool: Pool, objects: Folder) -> None:
    alice = await new_user(pool, "alice")
    export = await exports.ask(pool, alice.user)
    for part in (1, 2):
        await objects.put(exports.key_of(export, part), b"half an attempt", "application/gzip")
    await run_exports(pool, objects)
    [found] = await exports.exports_of(pool, alice.user)
    assert found.parts == 1
    assert gzip.decompress(await objects.get(exports.key_of(export, 1))).startswith(b'{"')
