"""A stream that notes when bytes come: any byte from the other side is a sign of life."""

from __future__ import annotations

from typing import Final

import trio


class HeardStream(trio.abc.Stream):
    """A stream with the latest sign of life of the other side.

    :ivar heard_at: when the last bytes came, by Trio's clock; at first, when this was made.
    :ivar ended: set when the other side has sent its last byte, or the stream is closed.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream: Final = stream
        self.heard_at = trio.current_time()
        self.ended: Final = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise
        if data:
            self.heard_at = trio.current_time()
        else:
            self.ended.set()
        return data

    async def cancel_when_ended(self, scope: trio.CancelScope) -> None:
        """Cancel a scope that waits for bytes which will not come."""
        await self.ended.wait()
        scope.cancel()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.ended.set()
        await self._stream.aclose()
