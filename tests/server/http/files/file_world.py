"""A folder whose files are served on a real socket, in this process, and requests by its tickets."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from embedded.ports import free_port
from store.objects.direct import Part, PresignedRequest
from store.objects.folder import Folder
from store.postgres.pool import Pool
from tests.server.http.socket_world import HttpServer, RawAnswer, open_server, request

KEY = "attachments/7f/0123456789abcdef0123456789ab7f"
CONTENT = bytes(range(256)) * 1000


def part_of(data: bytes, number: int = 1) -> Part:
    return Part(number, len(data), hashlib.sha256(data).digest())


@asynccontextmanager
async def open_files(
    pool: Pool, redis_url: str, path: Path, **settings: Any
) -> AsyncGenerator[tuple[Folder, HttpServer], None]:
    """
    :param settings: of `services_of`.
    """
    port = free_port()
    folder = Folder(path, f"http://127.0.0.1:{port}")
    await folder.start()
    async with open_server(pool, redis_url, port=port, objects=folder, **settings) as server:
        yield folder, server


def sent(
    presigned: PresignedRequest, headers: Mapping[str, str] | None = None, body: bytes = b"", *, method: str = ""
) -> bytes:
    """The bytes of a presigned request.

    :param headers: over those of the ticket; one with an empty value is left out.
    :param method: instead of the ticket's.
    """
    shown = {name: value for name, value in {**presigned.headers, **(headers or {})}.items() if value}
    return request(method or presigned.method, target_of(presigned), shown, body)


def target_of(presigned: PresignedRequest) -> str:
    parts = urlsplit(presigned.url)
    return f"{parts.path}?{parts.query}"


def code_of(answer: RawAnswer) -> str:
    """The code of a problem; empty if the answer is none."""
    if answer.headers.get("content-type") != "application/problem+json":
        return ""
    return str(msgspec.json.decode(answer.body)["code"])


async def put(folder: Folder, server: HttpServer, data: bytes = CONTENT, key: str = KEY) -> RawAnswer:
    """Upload an object in one part."""
    return await server.exchange(sent(folder.presign_put(key, part_of(data), expires_s=60), body=data))


async def get(
    folder: Folder, server: HttpServer, headers: Mapping[str, str] | None = None, key: str = KEY, method: str = "GET"
) -> RawAnswer:
    return await server.exchange(sent(folder.presign_get(key, expires_s=60), headers, method=method))
