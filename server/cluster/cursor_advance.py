"""Moves the cursors of connected devices forward: a device that reconnects fetches half a minute again at most.

The node takes a snapshot of Postgres and waits until everything that the snapshot sees has been offered here, or a
catch-up was requested (`server.cluster.catch_up`). Then it looks up whether pushes were lost without a sign
(`server.cluster.missed_pushes`). A device that has been told of everything up to the snapshot, by the last `sync` and
the pushes since, gets the snapshot as its cursor. A node takes one snapshot for all its devices. Marks are not pushed
to all participants, so a cursor keeps how far the last `sync` told its connection of marks.

The same look notices that Postgres' history has changed, after a fail-over or when a backup was restored: the former
pushes then say nothing about the new history. The node asks devices to sync, which tells them to begin from scratch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeAlias

import structlog
import trio

from protocol.codec import encode
from protocol.frames import Cursor
from server.delivery.hub import Hub
from store.errors import StoreError
from store.postgres.pool import Pool
from store.sync import CursorSnapshot, cursor_of, take_cursor_snapshot

log = structlog.get_logger(__name__)

SETTLE_S: Final = 20.0
"""The way from a commit to its push here, or to a request to catch up, takes less: at most 12 s until the outcome of
the commit is known or given up, and 3 s until the other nodes are asked to look for it
(`server.cluster.unknown_outcomes`); 5 s until the others miss a node in trouble, or a write to Redis has failed; and
some heartbeats."""

INTERVAL_S: Final = 30.0
"""From one cursor snapshot to the next."""

QUIET_S: Final = 300.0
"""A device without news keeps its cursor; the node checks at least this often whether the device lacks a push. It looks
up the conversations of each such user, so to check all of them with each snapshot would cost ten times as much."""

Check: TypeAlias = Callable[[Mapping[bytes, float], CursorSnapshot, float], Awaitable[None]]


class CursorAdvance:
    """Moves the cursors of this node's connections. Run `run` in a nursery.

    :param catch_ups: how many have been requested here; NaN, which equals no number, while the node may be missing
        changes.
    :param check: looks for devices of these users that lack pushes, and asks those to fetch them (`missed_pushes`).
    :ivar settled: a snapshot; everything that it sees has been offered to the connections that were here when it was
        taken. None before `begin`.
    """

    def __init__(self, pool: Pool, hub: Hub, catch_ups: Callable[[], float], check: Check) -> None:
        self._pool = pool
        self._hub = hub
        self._catch_ups = catch_ups
        self._check = check
        self._checked_at: dict[bytes, float] = {}
        self._history: str | None = None
        self._on_new_history: list[Callable[[], None]] = []
        self._begun = trio.Event()
        self.settled: CursorSnapshot | None = None

    async def begin(self) -> None:
        """Return once a first snapshot has been taken. Await this before the first connection: all sync after it."""
        while self.settled is None:
            try:
                self.settled = await self._look()
            except StoreError as error:
                log.warning("cursors_not_moved", error=str(error))
                await trio.sleep(1)
        self._begun.set()

    def when_history_changes(self, forget: Callable[[], None]) -> None:
        """Call `forget` when Postgres' history changes: everything that was kept of the former history is wrong."""
        self._on_new_history.append(forget)

    async def run(self) -> None:
        """Until cancelled; begins once `begin` has returned."""
        await self._begun.wait()
        while True:
            try:
                await self._move_once()
            except StoreError as error:
                log.warning("cursors_not_moved", error=str(error))
                await trio.sleep(1)

    async def _move_once(self) -> None:
        catch_ups = self._catch_ups()
        asked_at = trio.current_time()
        taken = await self._look()
        taken_at = trio.current_time()
        await trio.sleep(SETTLE_S)
        if taken.is_told and self._catch_ups() == catch_ups and (await self._look()).history == taken.history:
            users = [user for user in self._hub.users() if self._have_news(user, taken_at)]
            due = self._due(users, asked_at)
            await self._check(due, taken, asked_at)
            if self._catch_ups() == catch_ups:
                self._checked_at.update(dict.fromkeys(due, asked_at))
                self.settled = taken
                self._move(users, taken, taken_at)
        await trio.sleep(INTERVAL_S - SETTLE_S)

    async def _look(self) -> CursorSnapshot:
        found = await take_cursor_snapshot(self._pool)
        if self._history not in (None, found.history):
            log.warning("history_changed", connections=self._hub.statistics().connections)
            self.settled = found
            for forget in self._on_new_history:
                forget()
            self._hub.begin_anew()
        self._history = found.history
        return found

    def _due(self, users: Iterable[bytes], now: float) -> dict[bytes, float]:
        """These users, and quiet ones who were checked long ago; each with the time up to which it has been checked."""
        former = self._checked_at
        self._checked_at = {
            user: former[user] if user in former else self._registered_at(user) for user in self._hub.users()
        }
        news = set(users)
        return {
            user: checked_at
            for user, checked_at in self._checked_at.items()
            if user in news or (checked_at <= now - QUIET_S and self._hub.has_synced(user))
        }

    def _registered_at(self, user: bytes) -> float:
        """When the user's first connection came: its `sync`, which came later, told of everything before."""
        return min(connection.registered_at for connection in self._hub.of(user))

    def _have_news(self, user: bytes, taken_at: float) -> bool:
        return any(connection.outbox.holds_all_before(taken_at) for connection in self._hub.of(user))

    def _move(self, users: Iterable[bytes], taken: CursorSnapshot, taken_at: float) -> None:
        """Push the new cursor to the connections that have been told of everything. Atomic (no checkpoint)."""
        for user in users:
            for connection in self._hub.of(user):
                outbox = connection.outbox
                if outbox.holds_all_before(taken_at):
                    outbox.push_cursor(encode(Cursor(cursor_of(user, taken, outbox.marks), False)))
                    outbox.flush()
