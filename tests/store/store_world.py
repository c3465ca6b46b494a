"""Shared by the tests of the store: a Redis client, a server that stays silent, messages to send, devices that sync."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from uuid import uuid4

import trio

from client.mailbox import Mailbox
from protocol.frames import Synced
from store.messages import NewMessage
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.sync import SyncPush, sync
from tests.waiting import DEADLINE_S

MORE_EXAMPLES: Final = int(os.environ.get("EXAMPLES", "0")) // 10
"""Of each property: `make faults` tries more than `make test`."""


@contextmanager
def no_longer_than(seconds: float):  # type: ignore[no-untyped-def]
    """Fails if the block takes longer; the caller adds the margin for a busy machine."""
    began = trio.current_time()
    yield
    took = trio.current_time() - began
    assert took <= seconds, f"took {took:.2f} s"


@asynccontextmanager
async def running(url: str, *, connected: bool = True) -> AsyncGenerator[Redis, None]:
    """A client of this Redis; it is connected, unless the test does not wait for that."""
    redis = Redis(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        if connected:
            with trio.fail_after(DEADLINE_S):
                await redis.wait_connected()
        yield redis
        nursery.cancel_scope.cancel()


class SilentServer:
    """Accepts connections and sends nothing.

    :ivar port: where it listens.
    :ivar accepted: set when a client has connected.
    :ivar left: set when a client has closed its connection.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted = trio.Event()
        self.left = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        self.accepted.set()
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        self.left.set()


@asynccontextmanager
async def silent_server() -> AsyncGenerator[SilentServer, None]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = SilentServer(listeners[0].socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()


def a_message(conversation: bytes, sender: bytes, content: bytes = b"ciphertext", **changes: Any) -> NewMessage:
    """A send with a fresh temp_id, unless one is given."""
    values: dict[str, Any] = {
        "temp_id": uuid4().bytes,
        "content_type": "text",
        "content": content,
        "nonce": b"n" * 24,
        "ephemeral_public_key": None,
        **changes,
    }
    return NewMessage(conversation=conversation, sender=sender, **values)


async def catch_up(pool: Pool, device: Mailbox, *, newest: int | None = None) -> list[SyncPush]:
    """Sync page by page to the end, as a device does; returns the pushes.

    :param newest: as of `sync`.
    """
    told: list[SyncPush] = []
    more = True
    while more:
        page = await sync(pool, device.user, device.cursor, newest=newest)
        for push in page.pushes:
            device.feed(push)
        device.synced(Synced(1, page.cursor, page.more))
        told += page.pushes
        more = page.more
    return told


async def is_waiting_for(pool: Pool, event_type: str, query_part: str) -> bool:
    """Whether another connection waits for this type of event in a query with this text."""
    rows = await pool.fetch(
        "select count(*) from pg_stat_activity where state = 'active' and wait_event_type = %s"
        " and query like %s and pid <> pg_backend_pid()",
        (event_type, f"%{query_part}%"),
    )
    return bool(rows[0][0])
