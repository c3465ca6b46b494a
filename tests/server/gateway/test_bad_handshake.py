"""Clients that do not complete the WebSocket handshake get an HTTP answer or an end, and leave nothing behind."""

from __future__ import annotations

import pytest
import trio

from protocol import limits
from store.postgres.pool import Pool
from tests.server.node_world import open_node, undisturbed
from tests.waiting import let_pass

REQUEST = (
    b"GET /v1/socket HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: alo.v1\r\n\r\n"
)
TLS_HELLO = bytes.fromhex(
    "16030100c8010000c40303"
    + "5a" * 32
    + "20"
    + "a5" * 32
    + "0004130113020100007700000010000e00000b6578616d706c652e636f6d"
) + bytes(120)
SHORT_S = 0.8


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELLO_TIMEOUT_S", SHORT_S)


STATUS = {
    ("/", ("alo.v1",)): 404,
    ("/v1/socket/", ("alo.v1",)): 404,
    ("/v2/socket", ("alo.v1",)): 404,
    ("/v1/socket", ()): 400,
    ("/v1/socket", ("alo.v2",)): 400,
    ("/v1/socket", ("ALO.V1", "chat")): 400,
    ("/v1/socket?x=1", ("alo.v1",)): 101,
    ("/v1/socket", ("chat", "alo.v1")): 101,
}


async def test_wrong_paths_and_subprotocols_are_refused_by_status(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node):
        statuses = {}
        for path, subprotocols in STATUS:
            async with node.open_raw() as client:
                await client.handshake(path=path, subprotocols=subprotocols)
                statuses[path, subprotocols] = client.status
                if client.status != 101:
                    assert await client.wait_end() is None
        assert statuses == STATUS


NO_UPGRADE = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n"
NO_REQUEST = b"HTTP/1.1 400 Bad Request\r\n"
NO_HANDSHAKE: dict[str, tuple[bytes, bytes]] = {
    "plain GET": (b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", NO_UPGRADE),
    "HTTP 1.0": (b"GET /v1/socket HTTP/1.0\r\n\r\n", NO_UPGRADE),
    "POST without an upgrade": (b"POST /v1/users HTTP/1.1\r\nHost: test\r\n\r\n", NO_UPGRADE),
    "upgrade to another protocol": (REQUEST.replace(b"Upgrade: websocket", b"Upgrade: h2c"), b"HTTP/1.1 400"),
    "POST": (REQUEST.replace(b"GET", b"POST"), b"HTTP/1.1 4"),
    "old WebSocket version": (REQUEST.replace(b"Version: 13", b"Version: 8"), b"HTTP/1.1 4"),
    "no key": (REQUEST.replace(b"Sec-WebSocket-Key", b"X"), b"HTTP/1.1 4"),
    "path that is no text": (REQUEST.replace(b"/v1/socket", b"/v1/\xff\xfe"), NO_REQUEST),
    "HTTP/2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100_000), NO_REQUEST),
    "request of HTTP/2": (REQUEST.replace(b"HTTP/1.1", b"HTTP/2.0"), NO_REQUEST),
    "no host": (REQUEST.replace(b"\r\nHost: test", b""), b"HTTP/1.1 4"),
    "subprotocol that is no text": (REQUEST.replace(b"alo.v1", b"\xff\xfe"), b""),
    "endless header": (REQUEST.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 300_000), b""),
    "TLS hello": (TLS_HELLO, b""),
    "zeros": (bytes(1000), b""),
    "empty lines": (b"\r\n" * 1000, b""),
    "half a request": (b"GET /v1/so", b""),
    "silence": (b"", b""),
}


@pytest.mark.usefixtures("_short")
async def test_a_bad_websocket_handshake_is_answered_or_ended_in_time(pool: Pool, redis_url: str) -> None:
    """The deadline runs from accepting the connection: no kind of half-open handshake keeps a task."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node):

        async def knock(name: str, raw: bytes, answer: bytes) -> None:
            began, got = trio.current_time(), b""
            async with node.open_raw() as client:
                try:
                    await client.write(raw)
                    async for chunk in client.stream:
                        got += bytes(chunk)
                except trio.BrokenResourceError:
                    pass  # The node closed the connection before it had read everything.
            assert got.startswith(answer), (name, got)
            assert b"Traceback" not in got
            if answer == NO_REQUEST:
                assert got.endswith(b"This port speaks WebSocket over HTTP/1.1, and no other version of HTTP.\n")
            if answer == NO_UPGRADE:
                assert b"\r\n\r\nThis port speaks WebSocket: connect to /v1/socket with the subprotocol alo.v1." in got
            if answer:
                assert trio.current_time() - began < SHORT_S, "an answer does not wait for the deadline"

        with trio.fail_after(SHORT_S * 10):
            async with trio.open_nursery() as nursery:
                for name, (raw, answer) in NO_HANDSHAKE.items():
                    nursery.start_soon(knock, name, raw, answer)


@pytest.mark.usefixtures("_short")
async def test_a_client_that_goes_during_the_handshake_leaves_nothing(pool: Pool, redis_url: str) -> None:
    """The client goes at once, in the request, or after it; by a FIN or a reset."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node):
        for _ in range(20):
            for raw in (b"", b"GET /v1/so", REQUEST):
                async with node.open_raw() as client:
                    await client.write(raw)
                    client.reset()
                async with node.open_raw() as client:
                    await client.write(raw)
                    await client.stream.send_eof()


@pytest.mark.parametrize("raw", [b"", b"GET /v1/so", b"\r\n", TLS_HELLO])
async def test_a_client_that_goes_before_its_request_is_whole_holds_no_connection_until_the_deadline(
    pool: Pool, redis_url: str, raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HELLO_TIMEOUT_S", 600.0)
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node), node.open_raw() as client:
        await client.write(raw)
        await client.stream.send_eof()
        assert await client.wait_end() is None


@pytest.mark.usefixtures("_short")
async def test_silence_after_the_handshake_ends_with_hello_timeout(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node), node.open_websocket() as client:
        assert await client.wait_end() == 4000


@pytest.mark.usefixtures("_short")
async def test_pings_do_not_put_off_the_hello(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node), node.open_websocket() as client:

        async def ping() -> None:
            while client.close_code is None:
                await client.write(b"\x89\x80\x00\x00\x00\x00")
                await let_pass(SHORT_S / 10, why="pings come regularly")

        with trio.fail_after(SHORT_S * 10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ping)
                assert await client.wait_end() == 4000
                nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("_short")
async def test_a_welcomed_client_may_be_silent(pool: Pool, redis_url: str) -> None:
    """The deadline only applies to the hello."""
    async with (
        open_node(pool.url, redis_url) as node,
        undisturbed(pool, node) as somebody,
        node.open_websocket(somebody.token) as client,
    ):
        with trio.move_on_after(SHORT_S * 2):
            await client.wait_end()
            raise AssertionError(client.close_code)
