"""`web` meets the kernel's own refusal to write more (`RLIMIT_FSIZE`: EFBIG), as on a full disk, and stores nothing."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from protocol.limits import ATTACHMENT_PART_BYTES
from store.errors import ObjectMissing
from store.objects.direct import Part, PresignedRequest
from store.objects.folder import Folder
from tests.processes import Process, open_cluster
from tests.waiting import DEADLINE_S

MOST_BYTES = 1 << 20
"""Of a file, while the disk is full."""

KEY = "attachments/7f/file"
PARTS = [bytes([n]) * ATTACHMENT_PART_BYTES for n in (1, 2)]
SMALL = b"ciphertext"


@contextmanager
def full_disk(process: Process) -> Iterator[None]:
    """The process can write no file beyond `MOST_BYTES`."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


def files_below(path: Path) -> set[Path]:
    return {file for file in path.rglob("*") if file.is_file()}


async def test_file_that_the_kernel_does_not_take_is_refused_by_name_and_nothing_of_it_stays(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """A whole object, and a part of a multipart upload that has another. What fits is taken meanwhile, and read."""
    path = tmp_path / "objects"
    async with open_cluster(database_url, redis_url) as cluster, httpx.AsyncClient(timeout=DEADLINE_S) as client:
        web = await cluster.start_web(OBJECT_STORE_URL=path.as_uri())
        folder = Folder(path, cluster.http_url)
        await folder.start()

        async def send(request: PresignedRequest, data: bytes) -> httpx.Response:
            return await client.put(request.url, headers=dict(request.headers), content=data)

        declared = [Part(n, len(data), sha256(data).digest()) for n, data in enumerate(PARTS, 1)]
        upload = await folder.begin_multipart(KEY)
        parts = [folder.presign_part(KEY, upload, part, expires_s=60) for part in declared]
        whole = folder.presign_put(f"{KEY}2", declared[0], expires_s=60)
        assert (await send(parts[0], PARTS[0])).status_code == 200
        before = files_below(path)
        with full_disk(web):
            for request, data in ((whole, PARTS[0]), (parts[1], PARTS[1])):
                refused = await send(request, data)
                assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
                assert int(refused.headers["retry-after"]) > 0
            assert {file for file in files_below(path) - before if file.stat().st_size} == set()
            assert await folder.list_parts(KEY, upload) == declared[:1]
            small = Part(1, len(SMALL), sha256(SMALL).digest())
            assert (await send(folder.presign_put(f"{KEY}3", small, expires_s=60), SMALL)).status_code == 200
            read = await client.get(folder.presign_get(f"{KEY}3", expires_s=60).url)
            assert read.content == SMALL
        assert "object_store_full" in [line["event"] for line in web.log]
        with pytest.raises(ObjectMissing):
            await folder.stat(f"{KEY}2")
        for request, data in ((whole, PARTS[0]), (parts[1], PARTS[1])):
            assert (await send(request, data)).status_code == 200
        await folder.complete_multipart(KEY, upload, declared)
        assert await folder.get(KEY) == b"".join(PARTS)
