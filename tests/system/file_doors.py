"""The two doors to attachments, HTTP and the WebSocket, of processes that may be killed at any moment."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Final, Protocol
from uuid import UUID

import httpx

from client.connection import connect
from client.errors import RequestRefused
from client.http import Credentials
from store.attachments import File
from tests.processes import Cluster, Process
from tests.waiting import DEADLINE_S

Parts = list[tuple[int, str, dict[str, str]]]
"""Number, URL and headers of presigned requests."""


class FileDoor(Protocol):
    """The requests of one user about files. An error is the code of the server's answer; "" is success."""

    async def declare(self, file: File) -> tuple[str, bytes]:
        """The error, and the id of the attachment."""

    async def missing(self, attachment: bytes) -> tuple[str, Parts]:
        """The error, and the requests of the parts that are missing."""

    async def complete(self, attachment: bytes) -> str:
        """The error."""

    async def abort(self, attachment: bytes) -> str:
        """The error."""


class HttpDoor:
    """`web`."""

    name: Final = "web"

    def __init__(self, cluster: Cluster, user: Credentials) -> None:
        self._cluster = cluster
        self._user = user

    async def start(self) -> Process:
        return await self._cluster.start_web()

    async def declare(self, file: File) -> tuple[str, bytes]:
        declared = {
            "size_bytes": file.size_bytes,
            "media_type": file.media_type,
            "part_digests": b64encode(file.part_digests).decode(),
        }
        code, body = await self._ask("POST", "", {"files": [declared]})
        return code, b"" if code else UUID(body["tickets"][0]["attachment"]).bytes

    async def missing(self, attachment: bytes) -> tuple[str, Parts]:
        code, body = await self._ask("GET", f"/{UUID(bytes=attachment)}/parts?after=0")
        requests = [] if code else body["part_requests"]
        return code, [(each["part"], each["url"], each["headers"]) for each in requests]

    async def complete(self, attachment: bytes) -> str:
        return (await self._ask("POST", f"/{UUID(bytes=attachment)}/complete"))[0]

    async def abort(self, attachment: bytes) -> str:
        return (await self._ask("DELETE", f"/{UUID(bytes=attachment)}"))[0]

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[str, Any]:
        headers = {"authorization": f"Bearer {self._user.token}"}
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S, headers=headers) as client:
            answer = await client.request(method, f"{self._cluster.http_url}/v1/attachments{path}", json=body)
        if answer.is_success:
            return "", answer.json() if answer.content else None
        return answer.json()["code"], None


class SocketDoor:
    """`socket`."""

    name: Final = "socket"

    def __init__(self, cluster: Cluster, user: Credentials) -> None:
        self._cluster = cluster
        self._user = user
        self.url = ""

    async def start(self) -> Process:
        process, self.url = await self._cluster.start_socket()
        return process

    async def declare(self, file: File) -> tuple[str, bytes]:
        async with connect(self.url, self._user.token) as connection:
            try:
                reply = await connection.upload(
                    [(file.size_bytes, file.media_type, file.part_digests, None)], timeout_s=DEADLINE_S
                )
            except RequestRefused as refused:
                return refused.code, b""
            return "", reply.tickets[0].attachment

    async def missing(self, attachment: bytes) -> tuple[str, Parts]:
        async with connect(self.url, self._user.token) as connection:
            try:
                reply = await connection.parts(attachment, timeout_s=DEADLINE_S)
            except RequestRefused as refused:
                return refused.code, []
            return "", [(number, url, dict(headers)) for number, url, headers in reply.part_requests]

    async def complete(self, attachment: bytes) -> str:
        async with connect(self.url, self._user.token) as connection:
            try:
                await connection.complete([attachment], timeout_s=DEADLINE_S)
            except RequestRefused as refused:
                return refused.code
            return ""

    async def abort(self, attachment: bytes) -> str:
        async with connect(self.url, self._user.token) as connection:
            try:
                await connection.abort([attachment], timeout_s=DEADLINE_S)
            except RequestRefused as refused:
                return refused.code
            return ""


DOORS: Final = (HttpDoor, SocketDoor)


async def put_part(url: str, headers: dict[str, str], data: bytes) -> int:
    """Send a presigned request; the status of the answer, 0 if there is none."""
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as client:
        try:
            return (await client.put(url, headers=headers, content=data)).status_code
        except httpx.TransportError:
            return 0
