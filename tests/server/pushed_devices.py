"""Devices that apply the pushes of a node, to be compared with a device that has just fetched everything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from client.connection import ClientConnection, connect
from client.http import Credentials
from client.mailbox import Mailbox
from protocol.frames import Cursor, Presence, Push
from tests.checker.views import fetch, view_of
from tests.server.node_world import TestNode
from tests.waiting import wait_until


class PushedDevice:
    """A device that applies its pushes.

    :ivar presence: the users that it watches, as it shows them.
    """

    def __init__(self, name: str, owner: Credentials, node: TestNode) -> None:
        self.name = name
        self.owner = owner
        self.node = node
        self.mailbox = Mailbox(owner.user)
        self.presence: dict[bytes, bool] = {}
        self.cursors = 0

    @asynccontextmanager
    async def connected(self, cursor: bytes | None = None) -> AsyncGenerator[ClientConnection]:
        async with connect(self.node.url, self.owner.token, on_push=self._take, cursor=cursor) as connection:
            yield connection

    async def _take(self, push: Push) -> None:
        if isinstance(push, Presence):
            self.presence[push.user] = push.is_online
        elif isinstance(push, Cursor):
            self.mailbox.synced(push)
            self.cursors += 1
        else:
            self.mailbox.feed(push)

    async def begin(self, connection: ClientConnection) -> None:
        """Fetch everything."""
        self.mailbox = await fetch(self.node.url, self.owner.token, self.owner.user)
        self.mailbox.synced(await connection.sync(self.mailbox.cursor))

    def shown(self) -> Any:
        return shown_by(self.mailbox)

    async def wait_true(self, what: str, *, timeout_s: float = 30.0) -> None:
        """Return once the device shows the same as one that has just fetched everything."""

        async def is_true() -> bool:
            return bool(self.shown() == await self._fresh())

        with suppress(AssertionError):
            await wait_until(is_true, what, timeout_s=timeout_s)
            return
        assert self.shown() == await self._fresh(), f"{what}: {self.name} shows something else"

    async def _fresh(self) -> Any:
        return shown_by(await fetch(self.node.url, self.owner.token, self.owner.user))


def shown_by(mailbox: Mailbox) -> Any:
    """The contents of a mailbox, but for the user's own delivered marks: the server pushes these to no device."""
    return [
        replace(
            view,
            people=[replace(each, delivered=None) if each.user == mailbox.user.hex() else each for each in view.people],
        )
        for view in view_of(mailbox, bytes.hex)
    ]
