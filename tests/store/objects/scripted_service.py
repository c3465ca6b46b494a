"""A service that gives the answers of a script, true or not."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from urllib.parse import parse_qsl, urlsplit

import trio
from msgspec import Struct

from store.objects.s3 import S3
from store.objects.url import open_objects


class ServiceRequest(Struct, frozen=True):
    """A request that the service got.

    :ivar headers: names in lower case.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class ServiceReply(Struct, frozen=True):
    """An answer.

    :ivar ahead_s: how far the clock that its date comes from is ahead of this machine's.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = {}
    ahead_s: float = 0


@asynccontextmanager
async def scripted(
    script: Callable[[ServiceRequest], ServiceReply], public_url: str = "", more: str = ""
) -> AsyncGenerator[S3, None]:
    """An object store whose service answers by the script.

    :param more: options of OBJECT_STORE_URL.
    """

    async def serve(stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += await stream.receive_some()
        method, target, _ = first.split()
        url = urlsplit(target)
        asked = ServiceRequest(method, url.path, dict(parse_qsl(url.query, keep_blank_values=True)), headers, body)
        told = script(asked)
        length = {"content-length": str(len(told.body))}
        sent = {**length, "date": formatdate(time.time() + told.ahead_s, usegmt=True), **told.headers}
        answer = f"HTTP/1.1 {told.status} X\r\nconnection: close\r\n"
        answer += "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        await stream.send_all(answer.encode() + b"\r\n" + (b"" if method == "HEAD" else told.body))

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        url = f"s3://key:planted-secret@127.0.0.1:{port}/bucket?tls=false{more}"
        async with open_objects(url, public_url) as objects:
            assert isinstance(objects, S3)
            yield objects
        nursery.cancel_scope.cancel()
