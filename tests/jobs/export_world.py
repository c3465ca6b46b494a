"""Exports that are made in a test."""

from __future__ import annotations

import gzip
import json
from typing import Any
from uuid import UUID

import trio

from jobs.tasks.exports import Exports
from store import exports
from store.objects.folder import Folder
from store.postgres.pool import Pool
from store.replicas import Replicas
from tests.jobs.jobs_world import a_job


async def run_exports(pool: Pool, objects: Folder) -> None:
    """Run the jobs that wait."""
    rows = await pool.fetch(
        "delete from jobs where task = 'export' returning (payload ->> 'export')::uuid, (payload ->> 'user')::uuid"
    )
    with trio.fail_after(30):
        for export, user in rows:
            await Exports(pool, Replicas(pool), objects).export(a_job("export"), UUID(bytes=export), UUID(bytes=user))


async def made_export(pool: Pool, objects: Folder, user: bytes) -> list[dict[str, Any]]:
    """The lines of an export that the user asks for now."""
    export = await exports.ask(pool, user)
    await run_exports(pool, objects)
    [found] = [each for each in await exports.exports_of(pool, user) if each.export == export]
    assert found.parts is not None
    parts = [await objects.get(exports.key_of(export, part)) for part in range(1, found.parts + 1)]
    assert sum(map(len, parts)) == found.size_bytes
    return [json.loads(line) for line in gzip.decompress(b"".join(parts)).decode().splitlines()]
