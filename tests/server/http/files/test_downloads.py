"""Files as answers: whole or in ranges, and headers with which no browser shows them."""

from __future__ import annotations

from pathlib import Path

from store.postgres.pool import Pool
from tests.rows import each_row
from tests.server.http.files.file_world import CONTENT, KEY, code_of, get, open_files, put, sent


async def test_a_file_that_was_uploaded_is_downloaded_byte_for_byte(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        answer = await put(folder, server)
        assert (answer.status, answer.body) == (200, b"")
        assert await folder.get(KEY) == CONTENT
        answer = await get(folder, server)
        assert (answer.status, answer.body) == (200, CONTENT)
        shown = {**answer.headers, "etag": "", "date": "", "x-request-id": ""}
        assert shown == {
            "content-type": "application/octet-stream",
            "content-disposition": "attachment",
            "content-security-policy": "default-src 'none'; sandbox",
            "x-content-type-options": "nosniff",
            "accept-ranges": "bytes",
            "cache-control": shown["cache-control"],
            "content-length": str(len(CONTENT)),
            "vary": "accept",
            "etag": "",
            "date": "",
            "x-request-id": "",
        }
        assert shown["cache-control"] in ("private, max-age=59, immutable", "private, max-age=60, immutable")


async def test_a_public_avatar_is_shown_as_its_type_and_runs_nothing(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        await put(folder, server, b"<script>alert(1)</script>")
        answer = await server.exchange(sent(folder.presign_get(KEY, expires_s=60, shown_as="image/png")))
        assert answer.status == 200
        expected = {
            "content-type": "image/png",
            "content-disposition": "inline",
            "content-security-policy": "default-src 'none'; sandbox",
            "x-content-type-options": "nosniff",
            "cross-origin-resource-policy": "cross-origin",
        }
        assert {name: answer.headers.get(name) for name in expected} == expected


async def test_head_shows_the_same_headers_and_no_body(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        await put(folder, server)
        whole, head = await get(folder, server), await get(folder, server, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        for name in ("content-length", "etag", "content-disposition", "accept-ranges"):
            assert head.headers[name] == whole.headers[name]


SIZE = len(CONTENT)


@each_row(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-299", 206, 100, 300),
        ("Bytes=100-299", 206, 100, 300),
        (f"bytes={SIZE - 10}-", 206, SIZE - 10, SIZE),
        ("bytes=-10", 206, SIZE - 10, SIZE),
        (f"bytes=-{SIZE * 2}", 206, 0, SIZE),
        (f"bytes=5-{SIZE * 9}", 206, 5, SIZE),
        (f"bytes={SIZE}-", 416, 0, 0),
        (f"bytes={SIZE + 5}-{SIZE + 9}", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=0-1,5-9", 200, 0, SIZE),
        ("bytes=9-5", 200, 0, SIZE),
        ("bytes=", 200, 0, SIZE),
        ("bytes=a-b", 200, 0, SIZE),
        ("lines=1-2", 200, 0, SIZE),
        ("bytes=" + "9" * 25 + "-", 200, 0, SIZE),
    ],
)
async def test_a_range_is_sent_alone(
    pool: Pool, redis_url: str, tmp_path: Path, asked: str, status: int, start: int, end: int
) -> None:
    """Several ranges, and texts that are none, are as if none was asked for (RFC 9110, section 14.2)."""
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        await put(folder, server)
        answer = await get(folder, server, {"range": asked})
        assert answer.status == status
        if status == 416:
            assert code_of(answer) == "range_not_satisfiable"
            assert answer.headers["content-range"] == f"bytes */{SIZE}"
            return
        assert answer.body == CONTENT[start:end]
        assert answer.headers.get("content-range") == (f"bytes {start}-{end - 1}/{SIZE}" if status == 206 else None)


async def test_a_client_that_holds_the_file_gets_no_body(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        await put(folder, server)
        tag = (await get(folder, server)).headers["etag"]
        for held in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            answer = await get(folder, server, {"if-none-match": held})
            assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
        assert (await get(folder, server, {"if-none-match": '"other"'})).body == CONTENT


async def test_a_range_of_another_version_is_the_whole_file(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    """So a client that resumes never joins bytes of two files."""
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        await put(folder, server)
        tag = (await get(folder, server)).headers["etag"]
        answer = await get(folder, server, {"range": "bytes=10-19", "if-range": tag})
        assert (answer.status, answer.body) == (206, CONTENT[10:20])
        for other in ('"other"', f"W/{tag}", "Mon, 30 Nov 2026 00:00:00 GMT"):
            answer = await get(folder, server, {"range": "bytes=10-19", "if-range": other})
            assert (answer.status, answer.body) == (200, CONTENT)
        await put(folder, server, b"another one")
        answer = await get(folder, server, {"range": "bytes=5-6", "if-range": tag})
        assert (answer.status, answer.body) == (200, b"another one")


async def test_an_empty_file_is_downloaded(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    async with open_files(pool, redis_url, tmp_path) as (folder, server):
        await folder.put(KEY, b"", "")
        assert ((await get(folder, server)).status, (await get(folder, server)).body) == (200, b"")
        assert (await get(folder, server, {"range": "bytes=0-"})).status == 416


async def test_the_next_requests_of_the_connection_are_served(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    """Also if their bytes come together with those of a file."""
    async with open_files(pool, redis_url, tmp_path) as (folder, server), server.connected() as connection:
        await put(folder, server)
        ask = sent(folder.presign_get(KEY, expires_s=60), {"range": "bytes=0-9"})
        health = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n"
        await connection.send(ask + health + ask, health)
        answers = [await connection.answer() for _ in range(4)]
        assert [answer.status for answer in answers] == [206, 200, 206, 200]
        assert answers[0].body == answers[2].body == CONTENT[:10]
