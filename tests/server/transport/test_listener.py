"""The end of a listening socket: connections that the kernel holds are served, and later ones are refused."""

from __future__ import annotations

import socket
import sys

import pytest
import trio

from server.transport.listener import REST_S, accept_rest, listen

HELD = 50


async def echo(sock: socket.socket, _: str) -> None:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    await stream.send_all(await stream.receive_some(100))


async def test_connections_that_wait_in_the_kernel_are_served_at_the_end() -> None:
    """Their clients have sent a request, and a reset would be an answer that a proxy cannot repeat."""
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    clients = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(HELD)]
    for client in clients:
        await client.send_all(b"request")
    async with trio.open_nursery() as nursery:
        await accept_rest(listening, nursery, echo)
        for client in clients:
            assert await client.receive_some(100) == b"request"
            await client.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be told to drop requests to connect")
async def test_a_client_that_connects_at_the_end_is_refused_and_never_reset_after_its_request() -> None:
    """While clients keep coming, each is served or refused: the end comes right after the last one that is taken."""
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    outcomes: list[str] = []

    async def come() -> None:
        with trio.move_on_after(3 * REST_S):
            while True:
                try:
                    async with await trio.open_tcp_stream("127.0.0.1", port) as client:
                        await client.send_all(b"request")
                        outcomes.append("served" if await client.receive_some(100) else "closed")
                except trio.BrokenResourceError:
                    outcomes.append("reset")
                except OSError:
                    outcomes.append("refused")
                    await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(come)
        await trio.testing.wait_all_tasks_blocked()
        await accept_rest(listening, nursery, echo)
    assert set(outcomes) <= {"served", "refused"}
    assert "served" in outcomes
