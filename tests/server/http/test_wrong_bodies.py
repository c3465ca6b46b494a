"""Bodies and cursors over HTTP that are wrong, cannot be read, or are too large."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http import bodies, cursors
from server.http.decoding import InvalidBody, decode
from store.page_cursor import InvalidCursor
from store.postgres.pool import Pool
from tests.people import new_user
from tests.server.http.socket_world import open_server, request
from tests.server.http_world import CBOR, PASSWORD, REGISTER, both_encodings, open_api

WRONG_BODIES: list[tuple[str, Any]] = [
    ("/v1/users", {}),
    ("/v1/users", []),
    ("/v1/users", None),
    ("/v1/users", {"username": "carol"}),
    *(("/v1/users", REGISTER | {"username": name}) for name in ("", "a" * 129, 5, None)),
    *(
        ("/v1/users", REGISTER | {"password": password})
        for password in ("short", "e\u0301" * 7, "e\u0301" * 257, "x" * 257, "line\nfeed and more", None, 12345678)
    ),
    ("/v1/devices", {"username": "alice", "password": PASSWORD}),
    *(("/v1/devices", {"username": "alice", "password": "x", "name": name}) for name in ("", "a\0b", "x" * 129)),
    ("/v1/conversations", {}),
    ("/v1/conversations", {"kind": "other", "participants": [b"u" * 16]}),
    ("/v1/conversations", {"kind": "direct", "participants": []}),
    ("/v1/conversations", {"kind": "direct", "participants": [b"u" * 16, b"v" * 16]}),
    ("/v1/conversations", {"kind": "direct", "participants": ["me"]}),
    ("/v1/conversations", {"kind": "direct", "participants": b"u" * 16}),
    ("/v1/conversations", {"kind": "group", "participants": [b"u" * 16]}),
    ("/v1/conversations", {"kind": "group", "name": "", "participants": [b"u" * 16]}),
    ("/v1/conversations", {"kind": "group", "name": "a\0", "participants": [b"u" * 16]}),
    ("/v1/conversations", {"kind": "group", "name": "Group", "participants": []}),
    ("/v1/conversations", {"kind": "group", "name": "Group", "participants": [b"u" * 16] * 1000}),
]


@both_encodings
async def test_a_body_that_is_wrong_is_invalid(pool: Pool, redis_url: str, encoding: str) -> None:
    async with open_api(pool, redis_url, encoding) as api:
        mine = api.of((await new_user(pool, "alice")).token)
        for path, body in WRONG_BODIES:
            answer = await mine.post(path, body)
            assert (answer.status, answer.code) == (400, "invalid_body"), (path, body)
        assert await pool.fetch("select count(*) from users") == [(1,)]
        assert await pool.fetch("select count(*) from conversations") == [(0,)]


UNREADABLE_BODIES = [
    (b"", "application/json"),
    (b"{", "application/json"),
    (b"\xff", "application/json"),
    (b'{"username": "\\ud800", "password": "correct horse"}', "application/json"),
    (b'{"username": "carol", "password": "correct horse"}x', "application/json"),
    (b"[" * 60_000, "application/json"),
    (b"", CBOR),
    (b"\xa1", CBOR),
    (b"\xff", CBOR),
    (b"\x81" * 60_000, CBOR),
    (b"\x9b" + b"\x7f" * 8, CBOR),
    (cbor2.dumps({"username": "carol", "password": "correct horse"}), "application/json"),
    (b'{"username": "carol", "password": "correct horse"}', CBOR),
]


async def test_a_body_that_cannot_be_read_is_invalid(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        for data, content_type in UNREADABLE_BODIES:
            answer = await api.request("POST", "/v1/users", data=data, headers={"Content-Type": content_type})
            assert (answer.status, answer.code) == (400, "invalid_body"), (data, content_type)


def test_keys_that_hash_alike_are_refused_before_they_cost_anything() -> None:
    """All multiples of 2**61 - 1 have the hash 0, and arrays can be made that have it too. 64 KiB took a second."""
    numbers = [(10**9 + n) * (2**61 - 1) for n in range(4300)]
    data = b"\xb9\x10\xcc" + b"".join(b"\xc2\x4c" + number.to_bytes(12) + b"\x00" for number in numbers)
    began = time.thread_time()
    with pytest.raises(InvalidBody):
        decode(data, "cbor", bodies.Register)
    assert time.thread_time() - began < 0.05


_tagged = st.builds(
    lambda tag, item: bytes([0xD8, tag]) + item,
    st.sampled_from([24, 25, 28, 29, 30, 35, 36, 37, 38, 52, 54, 100]),
    st.sampled_from(
        [b"\x00", b"\x20", b"\x82\x01\x00", b"\x61(", b"\x41x", b"\x80", b"\xa0", b"\xfb\x7f\xf8" + bytes(6)]
    ),
)


_small_tags = st.builds(
    lambda tag, item: bytes([0xC0 | tag]) + item,
    st.integers(0, 5),
    st.sampled_from(
        [b"\x00", b"\x61x", b"\x82\x1b" + b"\xff" * 8 + b"\x01", b"\x82\x3a\x7f\xff\xff\xff\x01", b"\xf9\x7e\x00"]
    ),
)


@given(st.binary(max_size=60) | _tagged | _small_tags | st.builds(lambda item: b"\x81" + item, _tagged | _small_tags))
def test_any_cbor_is_a_body_or_invalid(data: bytes) -> None:
    """Tags of dates, fractions, expressions or shared values make an error of the body, not of the server."""
    for whole in (data, b"\xa1\x68username" + data):
        try:
            decode(whole, "cbor", bodies.Register)
        except InvalidBody:
            continue


async def test_a_body_is_bounded(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        for size, status in ((64 * 1024, 400), (64 * 1024 + 1, 413), (10 * 1024 * 1024, 413)):
            headers = {"Content-Type": "application/json"}
            answer = await api.request("POST", "/v1/users", data=b" " * size, headers=headers)
            assert (answer.status, answer.code) == (status, "body_too_large" if status == 413 else "invalid_body")


async def test_a_body_that_does_not_come_ends_the_connection_with_an_answer(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.http.app.BODY_TIMEOUT_S", 0.05)
    async with open_server(pool, redis_url) as server:
        headers = {"content-type": "application/json"}
        for head, some in (("content-length", "20"), ("transfer-encoding", "chunked")):
            async with server.connected() as connection:
                await connection.send(request("POST", "/v1/users", {**headers, head: some}, b"2\r\n{"))
                answer = await connection.answer(b"POST")
                assert (answer.status, json.loads(answer.body)["code"]) == (408, "request_timeout")
                assert (answer.headers["connection"], answer.headers["retry-after"]) == ("close", "1")
                assert await connection.closed() == b""


@given(
    st.text(max_size=60)
    | st.binary(max_size=60).map(lambda data: urlsafe_b64encode(data).decode())
    | (_tagged | _small_tags).map(lambda item: urlsafe_b64encode(b"\x83\x64list\x01" + item).decode())
)
def test_any_text_is_a_cursor_or_an_invalid_one(text: str) -> None:
    try:
        cursors.cursor_parts(text, "list", int, bytes)
    except InvalidCursor:
        pass
    else:
        raise AssertionError(text)
