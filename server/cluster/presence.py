"""Presence: shows watchers which users are online.

A user is online while a live node has a device of theirs in the directory (`store.redis.directory`). Each node knows
which users its own connections watch, and finds out about these by itself: it looks all of them up every `POLL_S`, and
looks a user up at once when another node sends a hint. So a lost hint, a dead node or a forgetful Redis makes a change
late, and nothing else. An absent user counts as online for another `GRACE_S`: watchers see nothing of a phone that
changes networks, a node that restarts, or FLUSHALL. An offline user is shown with the time when they were online last,
if Postgres knows it. The node asks Postgres which users a watcher may watch when the watcher begins to, and again when
that may have changed (`recheck`).

All decisions are synchronous; only the look-ups wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Final, Protocol

import structlog
import trio

from protocol.codec import encode
from protocol.frames import Presence
from server.delivery.hub import Hub, HubConnection
from store.errors import StoreError, Unavailable
from store.last_seen import last_seen
from store.participant_lists import Watchable, unwatchable
from store.postgres.pool import Pool
from store.redis.addressing import address_presence_hints
from store.redis.bus import publish
from store.redis.client import Redis, RedisError
from store.redis.directory import AT_ONCE, enter_watchers, leave_watchers, locate_some

log = structlog.get_logger(__name__)

POLL_S: Final = 5.0
GRACE_S: Final = 5.0

RECHECKED_AT_ONCE: Final = 1000
"""Pairs of a watcher and a user that one query checks for permission: it takes Postgres some 20 ms."""

CHANGED_S: Final = 60.0
"""The node remembers a change of permission to watch a user for this time, so that a `watch` under way asks again. No
look-up takes longer."""

HINT_S: Final = 0.1
"""The node gathers arrivals and departures for this time: a herd makes one hint, not thousands."""


@dataclass(frozen=True, slots=True)
class PresenceStatistics:
    """A snapshot of the counters since the start.

    :ivar absent: users who seem to be gone, and count as online until the grace is over.
    :ivar hits: users that a connection began to watch and that this node watched already.
    :ivar misses: users that a connection began to watch and that this node did not watch yet.
    """

    watched: int
    absent: int
    hits: int
    misses: int


class WatchingConnection(HubConnection, Protocol):
    """A connection, as presence sees it.

    :ivar watched: the users that the connection watches; only this module changes it.
    """

    watched: frozenset[bytes]


class _Watched:
    """A user that some connection here watches."""

    __slots__ = ("absent_since", "is_online", "watchers")

    def __init__(self) -> None:
        self.watchers: set[WatchingConnection] = set()
        self.is_online = False
        self.absent_since: float | None = None


class PresenceWatch:
    """Presence of the users that this node's connections watch, and hints for other nodes.

    :param live_nodes: the ids of the nodes that live, this one included.
    """

    def __init__(
        self,
        redis: Redis,
        pool: Pool,
        node: bytes,
        hub: Hub,
        live_nodes: Callable[[], frozenset[bytes]],
    ) -> None:
        self._redis = redis
        self._pool = pool
        self._node = node
        self._hub = hub
        self._live_nodes = live_nodes
        self._watched: dict[bytes, _Watched] = {}
        self._unwatched: set[bytes] = set()
        self._hinted: set[bytes] = set()
        self._rechecked: set[bytes] = set()
        self._changed_at: dict[bytes, float] = {}
        self._parting: set[tuple[bytes, bytes]] = set()
        self._announced: set[bytes] = set()
        self._hits = 0
        self._misses = 0
        self._wake = trio.Event()
        self._announcement = trio.Event()
        self._recheck = trio.Event()

    def statistics(self) -> PresenceStatistics:
        absent = sum(each.absent_since is not None for each in self._watched.values())
        return PresenceStatistics(len(self._watched), absent, self._hits, self._misses)

    def users(self) -> list[bytes]:
        """The users that this node watches."""
        return list(self._watched)

    async def watch(self, connection: WatchingConnection, users: Iterable[Watchable], asked_at: float) -> None:
        """Watch these users and no others; the connection is offered their presence before this returns.

        :param asked_at: when the caller asked which users may be watched. If that has changed since, it is asked again.
        :raises Unavailable: if Redis cannot be reached; then nothing has changed.
        """
        asked = list(users)
        # A blocker that has just begun to block this watcher stays watched until the grace ends, as a user that leaves.
        frozen = [
            each
            for each in asked
            if each.is_frozen
            and each.user not in connection.watched
            and (connection.user, each.user) not in self._parting
        ]
        wanted = frozenset(each.user for each in asked if each not in frozen)
        states: dict[bytes, bool] = {}
        entered: list[bytes] = []
        known = sum(user in self._watched for user in wanted)
        seen: dict[bytes, int | None] = {}
        while True:
            # A user that another connection here watches needs no look-up, unless that connection ends meanwhile.
            new = [user for user in wanted if user not in self._watched and user not in states]
            if new:
                # Entered before the look-up, so that the nodes of a user that changes afterwards send a hint here.
                # Users whose bus does not answer are entered and looked up when it does; they are offline until then.
                await enter_watchers(self._redis, self._node, new)
                entered += new
                states |= dict.fromkeys(new, False) | await self._look_up(new)
                continue
            offline = [user for user in wanted if user not in seen and not self._is_shown_online(user, states)]
            if not offline:
                break
            seen |= dict.fromkeys(offline) | await self._last_seen(offline)
        self._hits += known
        self._misses += len(wanted) - known
        if connection.outbox.cut_reason is not None:
            self._unwatched.update(entered)
            return
        self.forget(connection, keep=wanted)
        connection.watched = wanted
        for user in wanted:
            watched = self._watched.get(user)
            if watched is None:
                watched = self._watched[user] = _Watched()
                watched.is_online = states[user]
            watched.watchers.add(connection)
            shown = None if watched.is_online else seen.get(user)
            self._hub.offer(connection, encode(Presence(user, watched.is_online, shown)))
        self.recheck(
            each.user
            for each in asked
            if each.user in wanted and (each.is_frozen or self._changed_at.get(each.user, -inf) >= asked_at)
        )
        for each in frozen:
            self._hub.offer(connection, encode(Presence(each.user, False, each.last_seen)))

    def _is_shown_online(self, user: bytes, states: dict[bytes, bool]) -> bool:
        return self._watched[user].is_online if user in self._watched else states[user]

    def forget(self, connection: WatchingConnection, *, keep: frozenset[bytes] = frozenset()) -> None:
        """The connection stops watching all users but `keep`. Atomic (no checkpoint)."""
        for user in connection.watched - keep:
            watched = self._watched[user]
            watched.watchers.discard(connection)
            if not watched.watchers:
                del self._watched[user]
                self._unwatched.add(user)
        connection.watched &= keep

    def announce(self, user: bytes) -> None:
        """Note that the user's first device has come to this node, or the last one gone. Atomic (no checkpoint)."""
        self._announced.add(user)
        self._announcement.set()

    def hear(self, users: Iterable[bytes]) -> None:
        """Note the hint of another node that these users may have come or gone. Atomic (no checkpoint)."""
        self._hinted.update(users)
        self._wake.set()

    def recheck(self, users: Iterable[bytes]) -> None:
        """Note that the permission to watch these users may have changed. Atomic (no checkpoint)."""
        for user in users:
            self._changed_at[user] = trio.current_time()
            if user in self._watched:
                self._rechecked.add(user)
        if self._rechecked:
            self._recheck.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._tell)
            nursery.start_soon(self._recheck_watchers, nursery)

    async def _recheck_watchers(self, nursery: trio.Nursery) -> None:
        while True:
            await self._recheck.wait()
            self._recheck = trio.Event()
            users, self._rechecked = self._rechecked, set()
            pairs = [
                (connection.user, user)
                for user in users
                if user in self._watched
                for connection in self._watched[user].watchers
            ]
            pairs = list(dict.fromkeys(pairs))
            try:
                for start in range(0, len(pairs), RECHECKED_AT_ONCE):
                    for watcher, user, is_blocked, seen in await unwatchable(
                        self._pool, pairs[start : start + RECHECKED_AT_ONCE]
                    ):
                        if is_blocked:
                            self._part_nowait(nursery, watcher, user, seen)
                        else:
                            self._drop_watcher(watcher, user, Presence(user, False, None))
            except StoreError as error:
                log.warning("watchers_not_rechecked", error=str(error))
                await trio.sleep(1)
                self.recheck(users)

    def _part_nowait(self, nursery: trio.Nursery, watcher: bytes, user: bytes, last_seen: int | None) -> None:
        """The user blocks the watcher: show the watcher only what a departure would show. An online user appears
        offline after the grace; of an offline user, the watcher is told nothing. Atomic (no checkpoint)."""
        if user in self._watched and not self._watched[user].is_online:
            self._drop_watcher(watcher, user, None)
        elif (watcher, user) not in self._parting:
            self._parting.add((watcher, user))
            nursery.start_soon(self._part, watcher, user, last_seen)

    async def _part(self, watcher: bytes, user: bytes, last_seen: int | None) -> None:
        try:
            await trio.sleep(GRACE_S)
        finally:
            self._parting.discard((watcher, user))
        is_shown = user in self._watched and self._watched[user].is_online
        self._drop_watcher(watcher, user, Presence(user, False, last_seen) if is_shown else None)

    def _drop_watcher(self, watcher: bytes, user: bytes, last: Presence | None) -> None:
        """Show the watcher's devices `last`, and nothing of the user after that. Atomic (no checkpoint)."""
        watched = self._watched.get(user)
        for connection in list(watched.watchers) if watched is not None else ():
            if connection.user == watcher:
                if last is not None:
                    connection.outbox.push_latest(user, encode(last))
                    connection.outbox.flush()
                self.forget(connection, keep=connection.watched - {user})

    async def _last_seen(self, users: Iterable[bytes]) -> dict[bytes, int]:
        """When these users were online last; users whose time is not known are left out."""
        offline = list(users)
        if not offline:
            return {}
        try:
            return await last_seen(self._pool, offline)
        except StoreError as error:
            log.warning("last_seen_not_read", error=str(error))
            return {}

    async def _follow(self) -> None:
        polled_at = 0.0
        while True:
            with trio.move_on_after(self._pause(polled_at)):
                await self._wake.wait()
            self._wake = trio.Event()
            now = trio.current_time()
            if now >= polled_at + POLL_S:
                polled_at, users = now, list(self._watched)
                self._changed_at = {user: at for user, at in self._changed_at.items() if at > now - CHANGED_S}
            else:
                due = [user for user, each in self._watched.items() if _is_over(each, now)]
                users = [*due, *(user for user in self._hinted if user in self._watched)]
            self._hinted.clear()
            try:
                await self._clean_up()
                if users:
                    await self._show(self._settle(await self._look_up(users)))
            except (Unavailable, RedisError) as error:
                log.warning("presence_not_looked_up", error=str(error))
                # A user that was absent before the outage may have been back since: the grace starts over.
                for each in self._watched.values():
                    each.absent_since = None
                await trio.sleep(1)

    def _pause(self, polled_at: float) -> float:
        now = trio.current_time()
        ends = [each.absent_since + GRACE_S for each in self._watched.values() if each.absent_since is not None]
        return max(0.0, min([polled_at + POLL_S, *ends]) - now)

    async def _tell(self) -> None:
        while True:
            await self._announcement.wait()
            await trio.sleep(HINT_S)
            self._announcement = trio.Event()
            users, self._announced = list(self._announced), set()
            self.hear(user for user in users if user in self._watched)
            if self._live_nodes() <= {self._node}:
                continue
            try:
                entries = await address_presence_hints(self._redis, users, own=self._node)
                if entries:
                    await publish(self._redis, entries)
            except (Unavailable, RedisError) as error:
                log.warning("presence_not_told", error=str(error))  # The other nodes find out when they poll.

    async def _look_up(self, users: list[bytes]) -> dict[bytes, bool]:
        """Whether each user is online; users whose bus does not answer are left out."""
        elsewhere = [user for user in users if not self._hub.holds(user)]
        nodes = self._live_nodes()
        where = await locate_some(self._redis, elsewhere) if nodes - {self._node} else [()] * len(elsewhere)
        states = dict.fromkeys(users, False)
        for user, there in zip(elsewhere, where, strict=True):
            if isinstance(there, Exception):
                states.pop(user, None)
            else:
                states[user] = not nodes.isdisjoint(there)
        # The hub knows the users on this node; one may have come during the look-up.
        return states | {user: True for user in users if self._hub.holds(user)}

    def _settle(self, states: dict[bytes, bool]) -> list[bytes]:
        """Note the result of a look-up; returns the users whose change the watchers are to be told."""
        changed = []
        now = trio.current_time()
        for user, is_online in states.items():
            watched = self._watched.get(user)
            if watched is None:
                continue
            if is_online or not watched.is_online:
                watched.absent_since = None
            elif watched.absent_since is None:
                watched.absent_since = now
            if is_online != watched.is_online and (is_online or _is_over(watched, now)):
                watched.is_online = is_online
                watched.absent_since = None
                changed.append(user)
        return changed

    async def _show(self, changed: list[bytes]) -> None:
        seen = await self._last_seen(
            user for user in changed if user in self._watched and not self._watched[user].is_online
        )
        for user in changed:
            watched = self._watched.get(user)
            if watched is None:
                continue
            frame = encode(Presence(user, watched.is_online, None if watched.is_online else seen.get(user)))
            for connection in watched.watchers:
                connection.outbox.push_latest(user, frame)
                connection.outbox.flush()

    async def _clean_up(self) -> None:
        """Stop the hints of other nodes about users that no connection here watches."""
        while self._unwatched:
            # Decided and written without a checkpoint in between: a user who is watched again is entered after this.
            some = list(islice(self._unwatched, AT_ONCE))
            self._unwatched.difference_update(some)
            if gone := [user for user in some if user not in self._watched]:
                await leave_watchers(self._redis, self._node, gone)


def _is_over(watched: _Watched, now: float) -> bool:
    return watched.absent_since is not None and now >= watched.absent_since + GRACE_S
