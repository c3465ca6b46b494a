"""The service as a whole: who is served, how many at a time, web pages, and deployments without a folder."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from client.http import Credentials
from server.http.files import progress, service
from server.http.request_classes import LIMITS, RequestClass
from server.transport.proxies import TrustedProxies
from store.objects.folder import Folder
from store.objects.folder_files import OpenObject
from store.postgres.pool import Pool
from tests.server.http.files.file_world import CONTENT, KEY, code_of, get, open_files, put, sent, target_of
from tests.server.http.socket_world import TRANSFERS, open_server, request, shrink_buffers
from tests.waiting import DEADLINE_S

PAGE = "https://chat.example"
ADDRESS = {"x-forwarded-for": "192.0.2.1"}
PROXIES = TrustedProxies.parse("127.0.0.1")


async def test_a_signed_url_alone_admits_its_bearer_and_no_token_does(
    pool: Pool, redis_url: str, tmp_path: Path, alice: Credentials
) -> None:
    """The row of `/files/` in the access matrix: tokens decide nothing."""
    async with open_files(pool, redis_url, tmp_path, ops_token="the operators' token") as (folder, server):
        await put(folder, server)
        url = target_of(folder.presign_get(KEY, expires_s=60))
        for token in ("", alice.token, "the operators' token", "wrong"):
            headers = {"authorization": f"Bearer {token}"} if token else {}
            assert (await server.exchange(request("GET", url, headers))).status == 200
            for unsigned in (urlsplit(url).path, url.replace("signature=", "signature=0"), url[:-1]):
                answer = await server.exchange(request("GET", unsigned, headers))
                assert (answer.status, code_of(answer)) == (403, "ticket_invalid")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
async def test_without_a_folder_there_are_no_files(pool: Pool, redis_url: str, tmp_path: Path, method: str) -> None:
    folder = Folder(tmp_path)
    await folder.start()
    async with open_server(pool, redis_url, objects=None) as server:
        answer = await server.exchange(sent(folder.presign_get(KEY, expires_s=60), method=method))
        assert answer.status == 404


async def test_pages_of_allowed_origins_upload_and_download(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_files(pool, redis_url, tmp_path, cors_origins=[PAGE]) as (folder, server):
        await put(folder, server)
        url = target_of(folder.presign_get(KEY, expires_s=60))
        asked = {"origin": PAGE, "access-control-request-method": "PUT"}
        answer = await server.exchange(request("OPTIONS", url, asked))
        assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS, PUT")
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS, PUT"
        assert {"Range", "If-Range"} <= set(answer.headers["access-control-allow-headers"].split(", "))
        answer = await get(folder, server, {"origin": PAGE, "range": "bytes=0-9"})
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "Content-Range" in answer.headers["access-control-expose-headers"]
        assert "origin" in answer.headers["vary"]
        answer = await get(folder, server, {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


async def test_requests_of_an_address_are_limited(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    allowance = LIMITS[RequestClass.FILE].address
    assert allowance is not None
    async with open_files(pool, redis_url, tmp_path, rate_limit_factor=2 / allowance.burst) as (folder, server):
        assert (await put(folder, server)).status == 200
        assert (await get(folder, server)).status == 200
        answer = await get(folder, server)
        assert (answer.status, code_of(answer)) == (429, "rate_limited")


async def test_more_transfers_than_there_is_room_for_are_refused(
    pool: Pool, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ADDRESS_SHARE", 1)
    await check_room(pool, redis_url, tmp_path, TRANSFERS)


async def test_one_address_takes_no_more_than_its_share_of_the_transfers(
    pool: Pool, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one ticket, whose bytes it takes slowly. Another address is served."""
    monkeypatch.setattr(service, "LEAST_OF_ADDRESS", 1)
    await check_room(pool, redis_url, tmp_path, TRANSFERS // service.ADDRESS_SHARE, serves_others=True)


async def check_room(pool: Pool, redis_url: str, path: Path, room: int, *, serves_others: bool = False) -> None:
    """That so many downloads of one address are served at a time, and further ones once one of them has ended."""
    async with open_files(pool, redis_url, path, proxies=PROXIES) as (folder, server):
        await put(folder, server, bytes(8_000_000))
        ask = sent(folder.presign_get(KEY, expires_s=60), ADDRESS)
        async with trio.open_nursery() as nursery:
            begun = 0
            for _ in range(room):
                connection = await nursery.start(_hold, server, ask)
                begun += connection
            refused = await get(folder, server, ADDRESS)
            assert (refused.status, code_of(refused)) == (503, "unavailable")
            other = await get(folder, server, {"x-forwarded-for": "192.0.2.2", "range": "bytes=0-9"})
            assert other.status == (206 if serves_others else 503)
            nursery.cancel_scope.cancel()
        assert begun == room
        with trio.fail_after(DEADLINE_S):
            while (await get(folder, server, ADDRESS)).status == 503:
                pass


async def _hold(server: object, ask: bytes, *, task_status: trio.TaskStatus[int]) -> None:
    """Begin a download, and read no more than its beginning."""
    async with server.connected() as connection:  # type: ignore[attr-defined]
        shrink_buffers(connection.stream)
        await connection.send(ask)
        await connection.stream.receive_some(100)
        task_status.started(1)
        await trio.sleep_forever()


async def test_a_download_whose_client_takes_nothing_ends(
    pool: Pool, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it holds no file for longer, and the client sees that the file is not whole."""
    monkeypatch.setattr(progress, "WINDOW_S", 0.2)
    closed = trio.Event()
    token = trio.lowlevel.current_trio_token()
    close = OpenObject.close

    def note_close(self: OpenObject) -> None:
        close(self)
        token.run_sync_soon(closed.set)

    async with open_files(pool, redis_url, tmp_path) as (folder, server), server.connected() as connection:
        await put(folder, server, bytes(8_000_000))
        monkeypatch.setattr(OpenObject, "close", note_close)
        shrink_buffers(connection.stream)
        await connection.send(sent(folder.presign_get(KEY, expires_s=60)))
        with trio.fail_after(DEADLINE_S):
            await closed.wait()
            assert len(await connection.closed()) < 8_000_000


async def test_a_file_that_cannot_be_sent_to_its_end_closes_the_connection(
    pool: Pool, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_output: list[dict[str, object]]
) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server), server.connected() as connection:
        await put(folder, server)
        opened = folder.open_object

        def longer(key: str) -> OpenObject:
            found = opened(key)
            found.size_bytes += 1
            return found

        monkeypatch.setattr(folder, "open_object", longer)
        await connection.send(sent(folder.presign_get(KEY, expires_s=60)))
        assert (await connection.closed()).endswith(CONTENT)
    [line] = [line for line in log_output if line["event"] == "transfer_failed"]
    assert line["route"] == "GET /files/"
