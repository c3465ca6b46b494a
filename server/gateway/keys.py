"""Requests about the keys of devices: the frames of `store.keys` and `store.key_claims`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, assert_never

import structlog
import trio

from protocol import limits
from protocol.codes import ErrorCode
from protocol.errors import RequestError
from protocol.frames import DeviceList, Devices, HeldKeys, KeyStatus, PutKeys, Reply
from protocol.uploaded_keys import key_fault_of
from server.delivery.broadcast import Broadcast
from server.delivery.device_sets import pushes_of
from server.gateway.connection import Connection
from store import keys
from store.errors import QuotaExceeded, StaleDevices, StoreError
from store.key_claims import KeyClaims
from store.keys import DeviceKeys
from store.postgres.pool import Pool

log = structlog.get_logger(__name__)

KeyRequest: TypeAlias = PutKeys | Devices | KeyStatus


class KeyHandler:
    """Answers requests about keys.

    :ivar claims: of this node.
    """

    def __init__(self, pool: Pool, broadcast: Broadcast) -> None:
        self._pool = pool
        self._broadcast = broadcast
        self.claims = KeyClaims(pool)

    async def answer(self, connection: Connection, frame: KeyRequest) -> Reply:
        """
        :raises RequestError: if too many users are named, two keys have one number, `is_anew` comes without keys, or
            there would be keys of too many kinds.
        :raises StoreError: as `store.keys` does.
        """
        match frame:
            case PutKeys():
                return await self._put(connection, frame)
            case Devices():
                return await self._devices(connection, frame)
            case KeyStatus():
                return _held(frame.request, await keys.status(self._pool, connection.device))
            case _:
                assert_never(frame)

    async def _put(self, connection: Connection, frame: PutKeys) -> Reply:
        one_time_keys, last_resort_keys = frame.one_time_keys or (), frame.last_resort_keys or ()
        fault = key_fault_of(one_time_keys, last_resort_keys, is_anew=bool(frame.is_anew))
        if fault is not None:
            raise RequestError(frame.request, ErrorCode.INVALID_FRAME, fault)
        try:
            held = await keys.put(
                self._pool,
                connection.device,
                frame.identity,
                one_time_keys,
                last_resort_keys,
                is_anew=bool(frame.is_anew),
                history=frame.key_history,
            )
        except QuotaExceeded:
            limit = limits.KEY_KINDS_PER_DEVICE
            detail = f"limit {limit.name}: {limit.shown}"
            raise RequestError(frame.request, ErrorCode.QUOTA_EXCEEDED, detail, limit=limit) from None
        if frame.identity is not None:
            await self._tell(connection)
        return _held(frame.request, held)

    async def _tell(self, connection: Connection) -> None:
        for push in pushes_of(await keys.small_changes(self._pool, [connection.user]), connection.user):
            self._broadcast.push(push)
        self._broadcast.flush()

    async def _devices(self, connection: Connection, frame: Devices) -> Reply:
        if len(frame.users) > limits.MAX_LISTED_USERS:
            detail = f"users (key 41) must be an array of at most {limits.MAX_LISTED_USERS} ids in this frame"
            raise RequestError(frame.request, ErrorCode.INVALID_FRAME, detail)
        if frame.kinds is None:
            page = await keys.devices_of(self._pool, connection.user, frame.users, after=frame.device)
        else:
            page = await self.claims.claim(connection.user, frame.users, frame.kinds, after=frame.device)
            _charge(connection, frame.kinds, len(page.devices))
        return DeviceList(frame.request, page.more, page.devices)

    async def list_changed(
        self, connection: Connection, conversation: bytes, changed: StaleDevices, kinds: Sequence[str] | None
    ) -> None:
        """List the devices in the refusal of a user's message, and claim keys of them; without them, if Postgres fails:
        the client can ask for them.

        :param kinds: of keys to claim of each device; None: none.
        """
        try:
            await self.claims.list_changed(connection.user, conversation, changed, kinds)
        except StoreError as error:
            log.warning("devices_not_listed", error=str(error))
        _charge(connection, kinds or (), len(changed.devices or ()))


def _charge(connection: Connection, kinds: Sequence[str], devices: int) -> None:
    connection.budget.charge(trio.current_time(), limits.COST_OF_KEY * len(kinds) * devices)


def _held(request: int, held: DeviceKeys) -> HeldKeys:
    return HeldKeys(request, held.identity, held.identity_revision, held.history, held.pools)
