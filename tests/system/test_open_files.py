"""Processes with a low limit of open files: clients cannot take all of it, and the log says once that it is reached."""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Callable

import pytest
import trio
import trio.testing

from embedded.ports import free_port
from embedded.process import LINUX
from runtime.config import Config
from runtime.open_files import EVERY_S, MACOS_MOST, OTHER_FILES, AcceptFailures, raise_limit
from runtime.operations import PORT_STEPS
from server.transport.listener import accept_connections, listen
from store.postgres.pool import Pool
from tests.processes import open_cluster, three_free_ports

SOFT, HARD = 48, 160
DATABASE_POOL = Config().database_pool


@pytest.mark.skipif(not LINUX, reason="/proc tells of limits")
@pytest.mark.parametrize(
    ("command", "event"),
    [(("server", "web"), "listening"), (("server", "socket"), "listening"), (("jobs",), "working")],
)
async def test_each_process_raises_its_soft_limit_to_the_hard_one(
    pool: Pool, redis_url: str, command: tuple[str, ...], event: str
) -> None:
    ports = {"PORT": str(free_port()), "SOCKET_PORT": str(free_port())}
    async with open_cluster(pool.url, redis_url, **ports) as cluster:
        process = await cluster.start("tests.limited", str(SOFT), str(HARD), *command)
        await process.wait_event(event)
        limits = await trio.Path(f"/proc/{process.pid}/limits").read_text()
        assert re.search(rf"^Max open files +{HARD} +{HARD} ", limits, re.MULTILINE)


@pytest.mark.parametrize(("soft", "raised"), [(256, MACOS_MOST), (20_000, 20_000)])
def test_a_hard_limit_that_the_system_does_not_grant_leaves_what_it_does_grant(
    monkeypatch: pytest.MonkeyPatch, soft: int, raised: int
) -> None:
    """As on macOS: the hard limit is infinite, and 10,240 is the most."""
    limits = [(soft, resource.RLIM_INFINITY)]

    def set_limit(_: int, wanted: tuple[int, int]) -> None:
        if wanted[0] == resource.RLIM_INFINITY:
            raise ValueError("current limit exceeds maximum limit")
        limits.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    raise_limit()
    assert limits[-1] == (raised, resource.RLIM_INFINITY)


GET = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n"
POST = b"POST /v1/users HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
UPGRADE = (
    b"GET /v1/socket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: alo.v1\r\n\r\n"
)
HELD = {
    "web: silent": b"",
    "web: half a head": GET[:-2],
    "web: idle": GET,
    "web: half a body": POST + b"{",
    "socket: silent": b"",
    "socket: half a head": UPGRADE[:-2],
    "socket: no hello": UPGRADE,
}
"""Bytes with which clients hold connections to a process."""


@pytest.mark.parametrize("case", HELD)
async def test_a_process_closes_connections_that_wait_for_their_clients_when_it_has_no_more_files(
    pool: Pool, redis_url: str, case: str
) -> None:
    """It keeps files for itself: its operators get answers at their port and at that of clients, while clients hold all
    that they can."""
    command = case.partition(":")[0]
    port, first = free_port(), three_free_ports()
    operators = first + PORT_STEPS[command]
    ports = {"PORT": str(port), "SOCKET_PORT": str(port), "METRICS_PORT": str(first)}
    async with open_cluster(pool.url, redis_url, LOG_FORMAT="json", **ports) as cluster:
        process = await cluster.start("tests.limited", str(SOFT), str(HARD), "server", command)
        await process.wait_event("listening")
        streams = []
        for _ in range(HARD + 40):
            streams.append(await trio.open_tcp_stream("127.0.0.1", port))
            await streams[-1].send_all(HELD[case])
        full = await process.wait_event("connections_full")
        assert (full["level"], full["most"]) == ("warning", HARD - OTHER_FILES - DATABASE_POOL)
        for _ in range(10):
            for asked, path in (
                (port, "/healthz"),
                (port, "/readyz"),
                (operators, "/healthz"),
                (operators, "/metrics"),
            ):
                with trio.fail_after(10):
                    assert (await answer_of(asked, path)).startswith(b"HTTP/1.1 200 ")
        for stream in streams:
            await trio.aclose_forcefully(stream)
        assert [line["event"] for line in process.log].count("connections_full") == 1
        assert await process.stop() == 0
        assert "accept_failed" not in [line["event"] for line in process.log]
        assert len(process.raw) == len(process.log), "each line on stderr is one of the log"


async def answer_of(port: int, path: str) -> bytes:
    """The beginning of an answer, asked for again after a reset: so does each program that checks health."""
    while True:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            await stream.send_all(b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path.encode())
            if answer := await stream.receive_some():
                return bytes(answer)
        except trio.BrokenResourceError:
            continue
        finally:
            await trio.aclose_forcefully(stream)


class FullListener:
    """A listening socket with a connection that can never be accepted."""

    def __init__(self) -> None:
        self._sock = listen("127.0.0.1", 0)
        self.port = self._sock.getsockname()[1]
        self.tries = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def accept(self) -> None:
        self.tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    def close(self) -> None:
        self._sock.close()


async def test_it_is_said_once_a_minute_how_often_no_connection_was_accepted(
    autojump_clock: trio.testing.MockClock, log_output: list[dict[str, object]]
) -> None:
    full = FullListener()
    waiting = await trio.open_tcp_stream("127.0.0.1", full.port)

    async def serve(*_: object) -> None:
        raise AssertionError("nobody was accepted")

    with trio.move_on_after(2.5 * EVERY_S):
        async with trio.open_nursery() as nursery:
            await accept_connections(full, nursery, serve, trio.lowlevel.checkpoint)  # type: ignore[arg-type]
    await waiting.aclose()
    full.close()
    said = [line for line in log_output if line["event"] == "accept_failed"]
    assert len(said) == 3
    assert said[0]["times"] == 1
    assert full.tries > 1000


@pytest.mark.parametrize(("number", "has_hint"), [(errno.EMFILE, True), (errno.ENFILE, True), (errno.ENOMEM, False)])
def test_hint_of_a_refused_accept_is_for_limits_alone(
    log_output: list[dict[str, object]], number: int, has_hint: bool
) -> None:
    AcceptFailures(now(0.0)).note(OSError(number, "full"))
    assert ("hint" in log_output[0]) is has_hint


def now(moment: float) -> Callable[[], float]:
    return lambda: moment
