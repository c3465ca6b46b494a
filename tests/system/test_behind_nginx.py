"""The processes behind Debian's nginx, which keeps connections to `web` for the requests of many clients."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from client.session import open_session
from protocol.limits import ATTACHMENT_PART_BYTES, MAX_GROUP_STATE_BYTES
from server.http.app import MAX_BODY_BYTES
from store.messages import send as send_messages
from store.objects.direct import Part
from store.objects.folder import Folder
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.nginx_server import running_nginx
from tests.people import new_direct, new_group, new_user
from tests.processes import open_cluster
from tests.server.http_world import say
from tests.store.store_world import a_message
from tests.waiting import wait_until

pytestmark = pytest.mark.nginx

ROUNDS = 60
CLIENTS = 6
ANSWERED_S = 60.0
MOST_CONNECTIONS = 2 * CLIENTS
"""Each client has one request at a time, and nginx may give up a connection early."""

both_ways = pytest.mark.parametrize("more", ["", "proxy_request_buffering off;"], ids=["buffering", "streaming"])


@asynccontextmanager
async def behind_nginx(pool: Pool, redis_url: str, folder: Path, more: str = "") -> AsyncGenerator[tuple[str, int]]:
    """The URL of nginx, and the port of `web` behind it."""
    async with open_cluster(pool.url, redis_url) as cluster:
        await cluster.start_web()
        port = urlsplit(cluster.http_url).port
        assert port is not None
        async with running_nginx(folder, {"web": [f"127.0.0.1:{port}"]}, more) as url:
            yield url, port


@asynccontextmanager
async def files_behind_nginx(pool: Pool, redis_url: str, folder: Path) -> AsyncGenerator[Folder, None]:
    """The folder of a `web` behind nginx, whose tickets name nginx."""
    path = folder / "objects"
    async with open_cluster(pool.url, redis_url, OBJECT_STORE_URL=path.as_uri()) as cluster:
        await cluster.start_web()
        async with running_nginx(folder, {"web": [urlsplit(cluster.http_url).netloc]}) as url:
            files = Folder(path, url)
            await files.start()
            yield files


def connections_to(port: int) -> int:
    """The connections to a port of this machine that are open, or have ended in the last minute."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = {row[1] for row in rows if row[2].endswith(f":{port:04X}")}
    ended = {row[2] for row in rows if row[1].endswith(f":{port:04X}") and row[3] != "0A"}
    return len(local | ended)


async def in_chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def requests(token: str) -> list[tuple[int, str, str, dict[str, Any]]]:
    """Status, method, path and the rest of each kind of request."""
    mine, body = {"Authorization": f"Bearer {token}"}, b'{"from_minute":1,"until_minute":2,"zone":"UTC"}'
    json = {"Content-Type": "application/json"}
    large = b" " * (MAX_BODY_BYTES + 1)
    return [
        (200, "GET", "/healthz", {}),
        (401, "PUT", "/v1/quiet-hours", {"content": body, "headers": json}),
        (401, "PUT", "/v1/quiet-hours", {"content": large, "headers": json}),
        (401, "PATCH", "/v1/profile", {"data": large, "headers": json}),
        (200, "GET", "/v1/conversations", {"headers": mine}),
        (404, "POST", "/v1/nothing", {"content": large}),
        (404, "POST", "/v1/nothing", {"data": large}),
        (405, "POST", "/healthz", {"content": body}),
        (200, "GET", "/v1/profile", {"headers": mine}),
        (413, "POST", "/v1/users", {"content": large, "headers": json}),
        (413, "POST", "/v1/users", {"data": large, "headers": json}),
        (204, "PUT", "/v1/quiet-hours", {"content": body, "headers": mine | json}),
        (204, "PUT", "/v1/quiet-hours", {"data": body, "headers": mine | json}),
        (201, "POST", "/v1/tokens", {"content": large[:-1], "headers": mine}),
        (200, "HEAD", "/v1/conversations", {"headers": mine}),
        (404, "GET", f"/v1/conversations/{uuid4()}/messages", {"headers": mine}),
        (401, "GET", "/v1/conversations", {}),
    ]


async def send(client: httpx.AsyncClient, method: str, path: str, what: dict[str, Any]) -> httpx.Response:
    """`data` instead of `content` is sent in chunks, without a length."""
    what = dict(what)
    if "data" in what:
        what["content"] = in_chunks(what.pop("data"))
    return await client.request(method, path, **what)


@both_ways
async def test_early_answers_leave_the_pool_of_connections_good(
    pool: Pool, redis_url: str, tmp_path: Path, more: str
) -> None:
    """Anonymous, wrong and good requests of several clients, with bodies that `web` reads or does not."""
    alice = await new_user(pool, "alice")
    kinds, found = requests(alice.token), Counter[tuple[str, int, int]]()

    async def ask(url: str, first: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            for number in range(ROUNDS):
                status, method, path, what = kinds[(first + 5 * number) % len(kinds)]
                answer = await send(client, method, path, what)
                found[f"{method} {path}", status, answer.status_code] += 1
                assert (answer.content == b"") == (method == "HEAD" or answer.status_code == 204)

    async with behind_nginx(pool, redis_url, tmp_path, more) as (url, port):
        with trio.fail_after(ANSWERED_S):
            async with trio.open_nursery() as nursery:
                for number in range(CLIENTS):
                    nursery.start_soon(ask, url, number)
        made = connections_to(port)
    assert [each for each in found if each[1] != each[2]] == []
    assert found.total() == ROUNDS * CLIENTS
    assert (tmp_path / "error.log").read_text() == "", "web closes no connection that nginx counts on"
    if not more:
        assert made <= MOST_CONNECTIONS


async def test_a_request_is_answered_before_its_body_has_come(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    """nginx passes the head on at once. The client sees 401, sends the rest, and the pool serves other clients."""
    head = b"PUT /v1/quiet-hours HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n"
    async with behind_nginx(pool, redis_url, tmp_path, "proxy_request_buffering off;") as (url, _):
        port = urlsplit(url).port
        assert port is not None
        for _ in range(20):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(head)
                with trio.fail_after(10):
                    assert b" 401 " in await stream.receive_some(4096)
                await stream.send_all(b"{}")
            async with httpx.AsyncClient(base_url=url, timeout=10) as client:
                assert (await client.get("/healthz")).status_code == 200


@both_ways
async def test_the_state_of_a_group_comes_through(pool: Pool, redis_url: str, tmp_path: Path, more: str) -> None:
    """It is larger than the bodies that nginx takes by itself."""
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    group = await new_group(pool, alice, bob)
    await send_messages(pool, ParticipantsCache(), [a_message(group, alice.user, follows=0)])
    path, state = f"/v1/conversations/{UUID(bytes=group)}/state", bytes(MAX_GROUP_STATE_BYTES)
    body = {"control_seq": 1, "state": b64encode(state).decode()}
    async with behind_nginx(pool, redis_url, tmp_path, more) as (url, _), httpx.AsyncClient(base_url=url) as client:
        put = await client.put(path, headers={"Authorization": f"Bearer {alice.token}"}, json=body)
        assert put.status_code == 204
        found = await client.get(path, headers={"Authorization": f"Bearer {bob.token}"})
        assert b64decode(found.json()["state"]) == state


async def test_reads_of_many_clients_share_the_connections_of_the_pool(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    alice = await new_user(pool, "alice")
    headers = {"Authorization": f"Bearer {alice.token}"}
    async with behind_nginx(pool, redis_url, tmp_path) as (url, port):
        for _ in range(50):
            async with httpx.AsyncClient(base_url=url, timeout=10) as client:
                assert (await client.get("/v1/conversations", headers=headers)).status_code == 200
        assert connections_to(port) <= 3


async def test_a_head_has_the_headers_of_the_page_and_no_body(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    conversation = await new_direct(pool, alice, bob)
    headers = {"Authorization": f"Bearer {alice.token}", "X-Request-ID": "of-the-client"}
    async with behind_nginx(pool, redis_url, tmp_path) as (url, _), httpx.AsyncClient(base_url=url) as client:
        for path in ("/v1/conversations", f"/v1/conversations/{UUID(bytes=conversation)}", "/healthz"):
            page = await client.get(path, headers=headers)
            head = await client.head(path, headers=headers)
            assert head.content == b""
            varying = ("date", "x-request-id")
            assert len({page.headers["x-request-id"], head.headers["x-request-id"]}) == 2, "nginx names each request"
            assert "of-the-client" not in page.headers["x-request-id"]
            assert [each for each in page.headers.items() if each[0] not in varying] == [
                each for each in head.headers.items() if each[0] not in varying
            ]
            assert int(head.headers["content-length"]) == len(page.content) > 0


async def test_compressed_pages_and_pages_that_have_not_changed_pass(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    """Through the connections of the pool, mixed with pages that have changed; the last answers have no body."""
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    conversation = await new_direct(pool, alice, bob)
    await say(pool, conversation, bob.user, *(bytes([number]) * 8 for number in range(30)))
    mine = {"Authorization": f"Bearer {alice.token}"}
    path = f"/v1/conversations/{UUID(bytes=conversation)}/messages"
    async with behind_nginx(pool, redis_url, tmp_path) as (url, port), httpx.AsyncClient(base_url=url) as client:
        plain = await client.get(path, headers=mine | {"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        for _ in range(10):
            for coding in ("gzip", "br"):
                page = await client.get(path, headers=mine | {"Accept-Encoding": coding})
                assert (page.status_code, page.headers["content-encoding"]) == (200, coding)
                assert int(page.headers["content-length"]) < len(plain.content)
                assert coding != "gzip" or page.content == plain.content
                known = mine | {"Accept-Encoding": coding, "If-None-Match": page.headers["etag"]}
                same = await client.get(path, headers=known)
                assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", page.headers["etag"])
        assert connections_to(port) <= 3
        assert (tmp_path / "error.log").read_text() == ""


async def test_a_session_goes_through_nginx(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    alice = await new_user(pool, "alice")
    async with open_cluster(pool.url, redis_url, TRUSTED_PROXIES="127.0.0.1") as cluster:
        _, socket_url = await cluster.start_socket()
        servers = {"socket": [urlsplit(socket_url).netloc]}
        async with (
            running_nginx(tmp_path, servers) as url,
            open_session([url.replace("http:", "ws:")], alice) as session,
        ):
            with trio.fail_after(15):
                await session.wait_caught_up()


FILE_KEY = "attachments/7f/file"


async def test_parts_of_files_pass_both_ways_without_a_copy_on_the_disk_of_nginx(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    """Parts of the full size, several at once; then the file, whole and in ranges."""
    contents = [bytes([n]) * ATTACHMENT_PART_BYTES for n in range(1, 4)] + [b"the rest"]
    parts = [Part(n, len(data), sha256(data).digest()) for n, data in enumerate(contents, 1)]
    async with files_behind_nginx(pool, redis_url, tmp_path) as folder, httpx.AsyncClient(timeout=30) as client:
        upload = await folder.begin_multipart(FILE_KEY)
        answers: list[int] = []

        async def put(part: Part) -> None:
            request = folder.presign_part(FILE_KEY, upload, part, expires_s=60)
            answer = await client.put(request.url, headers=dict(request.headers), content=contents[part.number - 1])
            answers.append(answer.status_code)

        async with trio.open_nursery() as nursery:
            for part in parts:
                nursery.start_soon(put, part)
        assert answers == [200] * 4
        await folder.complete_multipart(FILE_KEY, upload, parts)
        url, whole = folder.presign_get(FILE_KEY, expires_s=60).url, b"".join(contents)
        answer = await client.get(url)
        assert (answer.status_code, answer.content) == (200, whole)
        shown = {
            name: answer.headers[name] for name in ("content-type", "content-disposition", "x-content-type-options")
        }
        assert [*shown.values()] == ["application/octet-stream", "attachment", "nosniff"]
        for first, last in (
            (0, 0),
            (ATTACHMENT_PART_BYTES - 1, ATTACHMENT_PART_BYTES),
            (len(whole) - 4, len(whole) - 1),
        ):
            headers = {"range": f"bytes={first}-{last}", "if-range": answer.headers["etag"]}
            piece = await client.get(url, headers=headers)
            assert (piece.status_code, piece.content) == (206, whole[first : last + 1])
            assert piece.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
        rest = await client.get(url, headers={"range": "bytes=100-", "if-range": '"another"'})
        assert (rest.status_code, len(rest.content)) == (200, len(whole))
        for name in ("body", "proxy"):
            assert not [file for file in (tmp_path / name).rglob("*") if file.is_file()]
    assert (tmp_path / "error.log").read_text() == ""


async def test_a_part_reaches_the_object_store_while_it_is_sent(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    """`proxy_request_buffering off`: a slow client costs nginx nothing, and what came goes if it leaves."""
    part = Part(1, len(contents := bytes(range(256)) * 4096), sha256(contents).digest())
    async with files_behind_nginx(pool, redis_url, tmp_path) as folder:
        url = urlsplit(folder.presign_put(FILE_KEY, part, expires_s=60).url)
        assert url.port is not None
        head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nhost: test\r\ncontent-length: {part.size_bytes}\r\n\r\n"

        def unfinished() -> list[int]:
            return [file.stat().st_size for file in (tmp_path / "objects" / ".new").iterdir()]

        async with await trio.open_tcp_stream("127.0.0.1", url.port) as stream:
            await stream.send_all(head.encode() + contents[: part.size_bytes // 2])
            await wait_until(lambda: any(unfinished()), "the first half is in the folder")
        await wait_until(lambda: not unfinished(), "web has removed it")
        assert await folder.list("") == []


async def test_wrong_parts_are_refused_by_name_behind_nginx(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    """By `web`, but for a body that no ticket allows, which nginx refuses. The pool of connections stays good."""
    data = b"ciphertext"
    part = Part(1, len(data), sha256(data).digest())
    async with files_behind_nginx(pool, redis_url, tmp_path) as folder, httpx.AsyncClient(timeout=30) as client:
        url = folder.presign_put(FILE_KEY, part, expires_s=60).url
        for body, status, code in (
            (data[::-1], 400, "wrong_digest"),
            (data + b"x", 400, "wrong_size"),
            (bytes(ATTACHMENT_PART_BYTES), 400, "wrong_size"),
        ):
            for _ in range(5):
                answer = await client.put(url, content=body)
                assert (answer.status_code, answer.json()["code"]) == (status, code)
        altered = await client.put(url.replace("expires=", "expires=1"), content=data)
        assert (altered.status_code, altered.json()["code"]) == (403, "ticket_invalid")
        too_large = await client.put(url, content=bytes(10 * 1024 * 1024))
        assert too_large.status_code == 413
        assert await folder.list("") == []
        assert (await client.put(url, content=data)).status_code == 200
