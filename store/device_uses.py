"""When devices were used last, and by which client: noted as they are used, and written in batches.

A process writes the use of a device at most once in `ACCURACY_S`, so a row changes 24 times a day and not with each
request.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

import structlog
import trio

from store import sql
from store.batching.group_commit import Batcher, BatchStatistics
from store.errors import Overloaded, StoreError
from store.postgres.columns import BIGINTS, TEXTS, UUIDS
from store.postgres.pool import Pool
from store.postgres.statement import Statement

log = structlog.get_logger(__name__)
_sql = sql.load("device_uses")
_NOTE: Final = Statement(_sql.note, {"devices": UUIDS, "ago_us": BIGINTS, "clients": TEXTS})

ACCURACY_S: Final = 3600.0
"""A device is shown as used last at most this long before it was: enough to tell a forgotten login from a daily one.
With 1,000,000 devices that are used all day it is 278 rows a second, in batches."""

PATIENCE_S: Final = 1.0
"""Time until a batch is written; no caller waits for it."""

INSIST_S: Final = 600.0
"""A write that fails is repeated for this time, once in `PATIENCE_S`. After that the next use counts."""

MAX_NOTED: Final = 50_000
"""Devices whose last note is remembered, in some 8 MB; of more devices the least recently noted is written again."""


class _Use(NamedTuple):
    device: bytes
    client: str | None
    at: float


class DeviceUses:
    """The devices that this process serves."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._noted: OrderedDict[bytes, _Use] = OrderedDict()
        self._batcher: Batcher[_Use, bool] = Batcher(
            "the queue of devices' uses", self._write, self._settle, lambda _: 16, patience_s=PATIENCE_S
        )

    def note(self, device: bytes, client: str | None = None) -> None:
        """The device is used now. Atomic (no checkpoint).

        :param client: the client's name and version; None: it is not told.
        """
        now, last = trio.current_time(), self._noted.get(device)
        if last is not None and now - last.at < ACCURACY_S and client in (None, last.client):
            return
        use = _Use(device, client or (last and last.client), now)
        if self._submit(use):
            self._noted[device] = use
            self._noted.move_to_end(device)
            if len(self._noted) > MAX_NOTED:
                self._noted.popitem(last=False)

    async def run(self) -> None:
        """Until cancelled."""
        await self._batcher.run()

    async def wait_idle(self) -> None:
        """Return once everything has been written."""
        await self._batcher.wait_idle()

    def statistics(self) -> BatchStatistics:
        return self._batcher.statistics()

    def _submit(self, use: _Use) -> bool:
        try:
            self._batcher.submit_nowait(use)
        except Overloaded:
            return False
        return True

    async def _write(self, batch: list[_Use]) -> list[bool]:
        now = trio.current_time()
        values = {
            "devices": [use.device for use in batch],
            "ago_us": [round((now - use.at) * 1e6) for use in batch],
            "clients": [use.client for use in batch],
        }
        try:
            left = {device for (device,) in await self._pool.run(_NOTE, values)}
        except StoreError as error:
            log.warning("device_uses_not_stored", devices=len(batch), error=str(error))
            return [False] * len(batch)
        return [use.device not in left for use in batch]

    def _settle(self, batch: list[_Use], outcomes: list[bool]) -> None:
        now = trio.current_time()
        for use, is_stored in zip(batch, outcomes, strict=True):
            if not is_stored and now - use.at < INSIST_S:
                self._submit(use)
