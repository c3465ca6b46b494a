"""A TCP proxy between a process and Postgres: slow, or silent, or one that breaks off when the test says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

_Pieces: TypeAlias = trio.MemoryReceiveChannel[tuple[float, bytes]]


class Proxy:
    """Passes bytes on.

    :ivar delay_s: how long the proxy holds back each piece, in either direction; the order stays.
    :ivar is_deaf: while true, the proxy does not pass on Postgres' answers.
    :ivar deaf_after: the proxy becomes deaf once a client has sent these bytes; empty: never.
    :ivar change: applied to each piece that Postgres sends.
    :ivar breaks_off: whether a lost answer (`lose_answer`) also breaks off its connection.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: set[trio.SocketStream] = set()
        self.port = 0
        self.delay_s = 0.0
        self.is_deaf = False
        self.deaf_after = b""
        self.change: Callable[[bytes], bytes] = lambda piece: piece
        self.breaks_off = True
        self._ports: set[int] = set()
        self._losing: set[int] = set()
        self._lost: set[int] = set()

    def url(self, postgres_url: str) -> str:
        """The same database, by way of this proxy."""
        return postgres_url.replace(f":{self._port}/", f":{self.port}/")

    async def cut(self) -> None:
        """Break off all connections."""
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)

    def lose_answer(self, client_port: int) -> None:
        """Do not pass on Postgres' answer to the next statement that this client executes; by then it is committed. The
        answer to preparing the statement still passes."""
        self._losing.add(client_port)

    def has_lost(self, client_port: int) -> bool:
        """Whether the statement whose answer this client was to lose has been passed on to Postgres."""
        return client_port in self._lost

    def lose_answers(self) -> None:
        """`lose_answer` for all clients."""
        self._losing |= self._ports

    async def serve(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self._port)
        except OSError:
            await client.aclose()
            return
        self._streams |= {client, server}
        port = client.socket.getpeername()[1]
        self._losing.discard(port)
        self._lost.discard(port)
        self._ports.add(port)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, client, server, False, port)
                nursery.start_soon(self._pass_on, server, client, True, port)
        finally:
            self._streams -= {client, server}
            self._ports.discard(port)
            client.socket.close()
            server.socket.close()

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream, is_answer: bool, port: int) -> None:
        send, receive = trio.open_memory_channel[tuple[float, bytes]](1000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, sink, receive, is_answer, port)
            with send:
                try:
                    while piece := await source.receive_some():
                        if (
                            not is_answer and port in self._losing and piece[:1] == b"B"
                        ):  # Bind, and the messages behind it
                            self._lost.add(port)
                        if not is_answer and self.deaf_after and self.deaf_after in piece:
                            self.is_deaf = True
                        await send.send((trio.current_time() + self.delay_s, bytes(piece)))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

    async def _write(
        self,
        sink: trio.SocketStream,
        pieces: trio.MemoryReceiveChannel[tuple[float, bytes]],
        is_answer: bool,
        port: int,
    ) -> None:
        with pieces:
            try:
                async for due, piece in pieces:
                    await trio.sleep_until(due)
                    if is_answer and port in self._lost:
                        if self.breaks_off:
                            break
                    elif not (is_answer and self.is_deaf):
                        await sink.send_all(self.change(piece) if is_answer else piece)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        await trio.aclose_forcefully(sink)


async def serve_proxy(port: int, task_status: trio.TaskStatus[Proxy] = trio.TASK_STATUS_IGNORED) -> None:
    """A proxy to a Postgres on this port, until cancelled; the task's start returns the proxy."""
    async with open_proxy(port) as proxy:
        task_status.started(proxy)
        await trio.sleep_forever()


@asynccontextmanager
async def open_proxy(port: int) -> AsyncGenerator[Proxy, None]:
    """A proxy to a Postgres on this port, until the end of the block."""
    proxy = Proxy(port)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()
