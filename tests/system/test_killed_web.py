"""`web` is killed in the middle of uploads and downloads: what counted stays, what did not can be sent again."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from bench.memory import resident_bytes
from protocol.limits import ATTACHMENT_PART_BYTES
from store.errors import ObjectMissing
from store.objects.direct import Part
from store.objects.folder import Folder
from tests.processes import Cluster, Process, open_cluster
from tests.waiting import DEADLINE_S, wait_until

KEY = "attachments/7f/file"
CONTENTS = [bytes([n]) * ATTACHMENT_PART_BYTES for n in range(1, 4)] + [b"the rest"]
PARTS = [Part(n, len(data), sha256(data).digest()) for n, data in enumerate(CONTENTS, 1)]


async def start(cluster: Cluster, path: Path) -> tuple[Process, Folder, httpx.AsyncClient]:
    web = await cluster.start_web(OBJECT_STORE_URL=path.as_uri())
    folder = Folder(path, cluster.http_url)
    await folder.start()
    return web, folder, httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S)


async def begin_put(url: str, size_bytes: int, body: bytes) -> trio.SocketStream:
    """A connection on which a PUT has begun."""
    parts = urlsplit(url)
    stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
    head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nhost: test\r\ncontent-length: {size_bytes}\r\n\r\n"
    await stream.send_all(head.encode() + body)
    return stream


async def begin_get(url: str) -> trio.SocketStream:
    """A connection on which a GET was sent."""
    parts = urlsplit(url)
    stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
    await stream.send_all(f"GET {parts.path}?{parts.query} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
    return stream


async def test_an_upload_in_parts_survives_web_that_is_killed_again_and_again(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with open_cluster(database_url, redis_url) as cluster:
        upload, path = "", tmp_path / "objects"
        for n in range(3):
            web, folder, client = await start(cluster, path)
            async with client:
                upload = upload or await folder.begin_multipart(KEY)
                assert await folder.list_parts(KEY, upload) == PARTS[:n], "what was answered is there"
                part = PARTS[n]
                url = folder.presign_part(KEY, upload, part, expires_s=600).url
                assert (await client.put(url, content=CONTENTS[n])).status_code == 200
                following = folder.presign_part(KEY, upload, PARTS[n + 1], expires_s=600).url
                half = CONTENTS[n + 1][: PARTS[n + 1].size_bytes // 2]
                async with await begin_put(following, PARTS[n + 1].size_bytes, half):
                    lock = path / ".uploads" / KEY / f".{upload}" / f"{n + 2:05d}.lock"
                    await wait_until(lambda file=lock: file.exists(), "the next part is being written")
                    web.kill()
                    await web.wait()
        web, folder, client = await start(cluster, path)
        async with client:
            assert await folder.list_parts(KEY, upload) == PARTS[:3]
            with pytest.raises(ObjectMissing):
                await folder.stat(KEY)
            url = folder.presign_part(KEY, upload, PARTS[3], expires_s=600).url
            assert (await client.put(url, content=CONTENTS[3])).status_code == 200
            await folder.complete_multipart(KEY, upload, PARTS)
            whole = b"".join(CONTENTS)
            # A client that was cut goes on where it was.
            answer = bytearray()
            async with await begin_get(folder.presign_get(KEY, expires_s=600).url) as stream:
                while len(answer) < 10_000_000:
                    answer += await stream.receive_some()
                web.kill()
                await web.wait()
            head, _, got = bytes(answer).partition(b"\r\n\r\n")
            [tag] = re.findall(r'etag: (".*")', head.decode())
        web, folder, client = await start(cluster, path)
        async with client:
            url = folder.presign_get(KEY, expires_s=600).url
            rest = await client.get(url, headers={"range": f"bytes={len(got)}-", "if-range": tag})
            assert rest.status_code == 206
            assert got + rest.content == whole


async def test_transfers_whose_clients_have_stopped_take_little_memory(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """16 uploads and 16 downloads together: at most 256 KiB each, with the buffers of all threads."""
    async with AsyncExitStack() as streams, open_cluster(database_url, redis_url) as cluster:
        web, folder, client = await start(cluster, tmp_path / "objects")
        await folder.put(KEY, bytes(32 * 1024 * 1024), "")
        async with client:
            assert (await client.get(f"{cluster.http_url}/healthz")).status_code == 200
        before = resident_bytes(web.pid)
        for n in range(16):
            part = Part(1, ATTACHMENT_PART_BYTES, bytes(32))
            put = folder.presign_put(f"attachments/00/{n}", part, expires_s=600).url
            await streams.enter_async_context(await begin_put(put, part.size_bytes, bytes(part.size_bytes // 2)))
            stream = await streams.enter_async_context(await begin_get(folder.presign_get(KEY, expires_s=600).url))
            assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 200")
        new = tmp_path / "objects" / ".new"
        await wait_until(
            lambda: [file.stat().st_size for file in new.iterdir()] == [ATTACHMENT_PART_BYTES // 2] * 16,
            "the halves are written",
            timeout_s=60,
        )
        assert resident_bytes(web.pid) - before <= 32 * 256 * 1024
