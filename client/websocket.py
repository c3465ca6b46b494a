"""From the URL of a gateway to a WebSocket whose handshake is done."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
import trio_websocket

from client.dial import InvalidAddress, open_stream
from client.errors import ClientFailure, InvalidAuthorities, Unreachable
from client.nursery import open_service_nursery
from client.reasons import reason_of
from client.stream import HeardStream
from protocol import limits


@asynccontextmanager
async def open_websocket(
    url: str, timeout_s: float
) -> AsyncGenerator[tuple[trio_websocket.WebSocketConnection, HeardStream, float]]:
    """A WebSocket after its handshake, the stream below it, and the deadline by Trio's clock."""
    deadline = trio.current_time() + timeout_s
    stream, host = await _dial(url, timeout_s)
    socket = None
    try:
        async with open_service_nursery() as nursery:
            with trio.CancelScope(deadline=deadline) as patience:
                # trio-websocket waits for an answer even when the other side has gone.
                nursery.start_soon(stream.cancel_when_ended, patience)
                socket = await trio_websocket.wrap_client_stream(
                    nursery,
                    stream,  # type: ignore[arg-type]  # any stream will do
                    host,
                    limits.SOCKET_PATH,
                    subprotocols=[limits.SUBPROTOCOL],
                    max_message_size=limits.MAX_WEBSOCKET_MESSAGE_BYTES,
                    receive_buffer_size=64 * 1024,
                )
            if socket is None and stream.ended.is_set():
                raise Unreachable(f"{url} ended the connection without a WebSocket handshake")
            if socket is None:
                raise Unreachable(f"{url} did not complete the WebSocket handshake within {timeout_s:g} s")
            if socket.subprotocol != limits.SUBPROTOCOL:
                raise Unreachable(f"{url} does not speak {limits.SUBPROTOCOL}")
            yield socket, stream, deadline
    except trio_websocket.ConnectionRejected as error:
        raise Unreachable(f"{url} answered with status {error.status_code}", _retry_after_s(error)) from None
    except ClientFailure:
        raise
    except Exception as error:
        # trio-websocket lets errors of its parsers through, such as h11's, if the answer breaks their rules.
        if socket is not None:
            raise
        raise Unreachable(f"{url} does not speak WebSocket") from error
    finally:
        await trio.aclose_forcefully(stream)


async def _dial(url: str, timeout_s: float) -> tuple[HeardStream, str]:
    """The stream below a WebSocket, and the value of the Host header."""
    try:
        with trio.fail_after(timeout_s):
            opened, host = await open_stream(url)
    except trio.TooSlowError:
        raise Unreachable(f"{url} did not answer within {timeout_s:g} s") from None
    except (InvalidAddress, InvalidAuthorities) as error:
        raise Unreachable(f"{url}: {error}") from error
    except (OSError, UnicodeError, trio.BrokenResourceError) as error:
        raise Unreachable(f"{url}: {reason_of(error)}") from error
    return HeardStream(opened), host


def _retry_after_s(rejected: trio_websocket.ConnectionRejected) -> float:
    for name, value in rejected.headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return int(value)
    return 0
