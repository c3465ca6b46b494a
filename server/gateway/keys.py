"""Requests about the keys of devices: the frames of `store.keys`."""

from __future__ import annotations

from typing import TypeAlias, assert_never

from protocol import limits
from protocol.codes import ErrorCode
from protocol.errors import RequestError
from protocol.frames import DeviceList, Devices, HeldKeys, PutKeys, Reply
from server.gateway.connection import Connection
from store import keys
from store.postgres.pool import Pool

KeyRequest: TypeAlias = PutKeys | Devices


class KeyHandler:
    """Answers requests about keys."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def answer(self, connection: Connection, frame: KeyRequest) -> Reply:
        """
        :raises RequestError: if too many users are named.
        :raises StoreError: as `store.keys` does.
        """
        match frame:
            case PutKeys():
                published = await keys.put(self._pool, connection.device, frame.identity)
                return HeldKeys(frame.request, published.identity, published.identity_revision)
            case Devices():
                return await self._devices(connection, frame)
            case _:
                assert_never(frame)

    async def _devices(self, connection: Connection, frame: Devices) -> Reply:
        if len(frame.users) > limits.MAX_LISTED_USERS:
            detail = f"users (key 41) must be an array of at most {limits.MAX_LISTED_USERS} ids in this frame"
            raise RequestError(frame.request, ErrorCode.INVALID_FRAME, detail)
        page = await keys.devices_of(self._pool, connection.user, frame.users, after=frame.device)
        return DeviceList(frame.request, page.more, page.devices)
