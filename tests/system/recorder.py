"""A proxy between clients and a gateway that keeps all bytes, as one who reads behind the TLS of a load balancer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


class Recorder:
    """
    :ivar url: of the gateway by way of this proxy.
    """

    def __init__(self, target_port: int, port: int) -> None:
        self.url = f"ws://127.0.0.1:{port}"
        self._target_port = target_port
        self._recorded: list[tuple[bool, bytearray]] = []

    def messages(self) -> bytes:
        """All that clients and the gateway have said, without the masks of WebSocket frames."""
        return b"\n".join(_unmasked(bytes(data)) if is_client else bytes(data) for is_client, data in self._recorded)

    async def serve(self, client: trio.SocketStream) -> None:
        try:
            gateway = await trio.open_tcp_stream("127.0.0.1", self._target_port)
        except OSError:
            await client.aclose()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pass, client, gateway, True, nursery.cancel_scope)
            nursery.start_soon(self._pass, gateway, client, False, nursery.cancel_scope)
        await trio.aclose_forcefully(gateway)
        await trio.aclose_forcefully(client)

    async def _pass(
        self, source: trio.SocketStream, target: trio.SocketStream, is_client: bool, connection: trio.CancelScope
    ) -> None:
        kept = bytearray()
        self._recorded.append((is_client, kept))
        try:
            async for data in source:
                kept += data
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            connection.cancel()


def _unmasked(data: bytes) -> bytes:
    """The payloads of a client's frames (RFC 6455, section 5.2), after the head of its request."""
    head, _, rest = data.partition(b"\r\n\r\n")
    found = [head]
    while len(rest) >= 6:
        length, start = rest[1] & 0x7F, 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(rest[2 : 2 + size], "big"), 2 + size
        mask, payload = rest[start : start + 4], rest[start + 4 : start + 4 + length]
        found.append(bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload)))
        rest = rest[start + 4 + length :]
    return b"\n".join(found)


@asynccontextmanager
async def recording(gateway_url: str) -> AsyncGenerator[Recorder]:
    """A proxy for one gateway; it may be killed and come back."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    recorder = Recorder(int(gateway_url.rpartition(":")[2]), listeners[0].socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, recorder.serve, listeners)
        yield recorder
        nursery.cancel_scope.cancel()
