"""This node among the others: its lease, its users in the directory, and catching up after a gap.

Redis may forget everything at any time. What it holds of this node (lease, stream, directory entries) is rebuilt from
the connections, and whatever may have passed the node by meanwhile is read from Postgres: conversations of the users
here that moved lately, compared with what was pushed. The same catching up answers every kind of gap:

| sign | what happened |
|---|---|
| the heartbeat finds no stream | FLUSHALL, or this node was away for longer than its lease |
| the first entry of the stream is later than what was read | it was trimmed: this node is too slow |
| the connection to Redis is new | entries may have been written and lost |
| Redis is another server (fail-over) | this node may have written to the former one longer than others read there |
| another node vanished without signing off | it may have committed messages and not fanned them out |
| another node asks (`CatchUpRequest`) | it could not write to Redis |
| a process that only writes vanished (`server.cluster.writer`) | it may have committed changes and told nobody |
| a write's outcome is not known (`server.cluster.unknown_outcomes`) | it may have been committed, and nobody was told |
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog
import trio

from protocol.codec import encode
from protocol.frames import Message, Receipts, Tombstone
from server.cluster.cursor_advance import CursorAdvance
from server.cluster.missed_pushes import MissedPushes
from server.cluster.presence import PresenceWatch
from server.cluster.unknown_outcomes import UnknownOutcomes
from server.delivery.broadcast import Broadcast, push_of
from server.delivery.fanout import Fanout
from server.delivery.hub import Hub
from server.delivery.receipt_counts import ReceiptCounter
from store.conversations import some_of
from store.errors import StoreError, Unavailable
from store.messages import Moved, participants, range_of, recent
from store.own_settings import changed_since as own_changed_since
from store.participant_lists import ChangedParticipants, changed_since, departed_since
from store.postgres.pool import Pool
from store.redis.bus import Inbox
from store.redis.client import Redis, RedisError
from store.redis.directory import (
    HEARTBEAT_S,
    LEASE_S,
    NODE_BYTES,
    beat,
    enter,
    enter_watchers,
    leave,
    left_in_good_order,
    sign_off,
)
from store.redis.entries import AddressedPush, CatchUpRequest, PresenceHint, PresenceRecheck, decode_entry
from store.revisions import hidden_from, revised_since

log = structlog.get_logger(__name__)

MARGIN_S: Final = 15.0
"""Added to each gap: a message's `created` is taken before its commit, which may take as long as a query may."""

ALONE_S: Final = 1.0
"""For so long after the beginning of a heartbeat that found no other node, this node looks up nobody on other nodes. A
node that comes (back) therefore catches up only when as much time has passed since it became visible: whatever was
not written for it was committed before. Two heartbeats, so that one late one changes nothing."""

MAX_CATCH_UP: Final = 200
"""Messages of one conversation that are pushed after a gap; of more, the last ones: clients see the hole by the seq and
fetch a page of history."""


class _Arrivals:
    """Users who are to be entered into the directory together.

    :ivar entered: set when they are, or when it has failed: then `error` says why.
    """

    def __init__(self) -> None:
        self.users: list[bytes] = []
        self.entered = trio.Event()
        self.error: Unavailable | None = None


class Node:
    """This node's place in the cluster. Run `run` in a nursery.

    :ivar ready: set once others can find it.
    :ivar settled: set once it has looked for what it may have missed until then.
    """

    def __init__(self, redis: Redis, pool: Pool, hub: Hub) -> None:
        self.id = os.urandom(NODE_BYTES)
        self.ready = trio.Event()
        self.settled = trio.Event()
        self._fanout = Fanout(redis, self.id, self._is_alone)
        self.broadcast = Broadcast(self._fanout, hub)
        self._redis = redis
        self._pool = pool
        self._hub = hub
        self._inbox = Inbox(redis, self.id)
        self._others: frozenset[bytes] = frozenset()
        self._writers: frozenset[bytes] = frozenset()
        self.receipt_counter = ReceiptCounter(pool, self.broadcast)
        self.presence = PresenceWatch(redis, pool, self.id, hub, self.live_nodes)
        self._departed: set[bytes] = set()
        self._departure = trio.Event()
        self._arrivals = _Arrivals()
        self._arrival = trio.Event()
        self._in_step_at = trio.current_time()
        self._alone_until = 0.0
        self._unknown_outcomes = UnknownOutcomes(pool.url, self._tell_unknown_outcomes)
        pool.on_unknown_outcome = self._unknown_outcomes.note
        self._gap_from = math.inf
        self._gaps = 0
        self.missed = MissedPushes(redis, pool, hub, self.id, self._count_gaps)
        self.cursor_advance = CursorAdvance(pool, hub, self._count_gaps, self.missed.find)
        self._gap_seen = trio.Event()
        self._moves = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_lease)
            nursery.start_soon(self._follow)
            nursery.start_soon(self._catch_up_after_gaps)
            nursery.start_soon(self._fill_holes)
            nursery.start_soon(self._remove_departed)
            nursery.start_soon(self._enter_arrivals)
            nursery.start_soon(self._fanout.run)
            nursery.start_soon(self._unknown_outcomes.run)
            nursery.start_soon(self.presence.run)
            nursery.start_soon(self.receipt_counter.run)
            nursery.start_soon(self.cursor_advance.run)

    def _is_alone(self) -> bool:
        """Whether no other node can hold anybody now."""
        return trio.current_time() < self._alone_until

    def _count_gaps(self) -> float:
        """How many there were; a number that equals no other one while this node may be missing something."""
        is_in_step = self._redis.is_connected and trio.current_time() - self._in_step_at < LEASE_S
        is_known = is_in_step and not self._gap_seen.is_set() and not self._unknown_outcomes.are_open
        return self._gaps if is_known else math.nan

    def has_others(self) -> bool:
        """Whether another node lives, as of the last heartbeat."""
        return bool(self._others)

    def live_nodes(self) -> frozenset[bytes]:
        """The ids of the nodes that live, as of the last heartbeat; this one included."""
        return self._others | {self.id}

    async def enter(self, user: bytes) -> None:
        """The user has a device here: tell the other nodes. The hub must know the device already.

        :raises Unavailable: if Redis cannot be reached.
        """
        arrivals = self._arrivals
        arrivals.users.append(user)
        self._arrival.set()
        await arrivals.entered.wait()
        if arrivals.error is not None:
            raise Unavailable(arrivals.error.service, arrivals.error.where, arrivals.error.detail)
        self.presence.moved(user)

    def depart(self, user: bytes) -> None:
        """The user's last device here has gone; the other nodes are told soon."""
        self._departed.add(user)
        self._departure.set()

    async def wait_fanned_out(self) -> None:
        """Return once the other nodes have been told of everything that was committed here."""
        await self._fanout.wait_idle()

    async def sign_off(self) -> None:
        """Leave in good order; nothing may be committed here any more.

        If the others cannot be told what they have missed, the lease ends by itself, and they look for it.

        :raises Unavailable: if Redis cannot be reached; then the lease ends by itself, too.
        """
        await self._fanout.tell_missed(self._others)
        if self._fanout.missed_since is None and not self._unknown_outcomes.are_open:
            await sign_off(self._redis, self.id)

    async def _keep_lease(self) -> None:
        while True:
            await self._redis.wait_connected()
            connects = self._redis.connects
            try:
                await self._rebuild()
                # Another connection may be there between two heartbeats.
                while self._redis.is_connected and self._redis.connects == connects:
                    await self._beat()
                    await trio.sleep(HEARTBEAT_S)
            except (Unavailable, RedisError) as error:
                log.warning("lease_not_kept", error=str(error))
                # Connected, but not answering as it should (loading, memory full): not in a tight loop.
                await trio.sleep(HEARTBEAT_S / 4)

    async def _rebuild(self) -> None:
        """Make Redis know this node and its users, then look for what was missed until then."""
        if self._redis.moves > self._moves:
            self._moves = self._redis.moves
            self._fanout.miss("Redis is another server now")
        await self._inbox.open()
        await self._beat_once()
        await enter(self._redis, self.id, self._hub.users())
        await enter_watchers(self._redis, self.id, self.presence.users())
        self.ready.set()
        log.info("node_ready", node=self.id.hex(), users=len(self._hub.users()))
        await trio.sleep(ALONE_S)
        self.note_gap(trio.current_time() - self._in_step_at)
        self._in_step_at = trio.current_time()

    async def _beat(self) -> None:
        # The answer tells of the time before it was read: since then this process may have been paused.
        asked_at = trio.current_time()
        if not await self._beat_once():
            await self._rebuild()
            return
        self._in_step_at = asked_at
        await self._fanout.tell_missed(self._others)

    async def _beat_once(self) -> bool:
        """Renew the lease; false if this node may have missed entries."""
        # Before the call: what is read while it is under way may be trimmed by it, but never what is not read.
        position, began = self._inbox.position, trio.current_time()
        found = await beat(self._redis, self.id, position)
        vanished = (self._others - found.nodes) | (self._writers - found.writers)
        self._others, self._writers = found.nodes - {self.id}, found.writers
        self._alone_until = 0.0 if self._others else began + ALONE_S
        for node in vanished:
            if not await left_in_good_order(self._redis, node):
                log.warning("node_vanished", node=node.hex())
                self.note_gap(LEASE_S + HEARTBEAT_S)
        return found.first is not None and found.first <= position

    async def _follow(self) -> None:
        while True:
            await self.ready.wait()
            await self._redis.wait_connected()
            try:
                await self._inbox.follow(self._receive)
            except (Unavailable, RedisError) as error:
                log.warning("bus_lost", error=str(error))
                await trio.sleep(HEARTBEAT_S / 4)

    def _receive(self, entries: list[bytes]) -> None:
        for entry in entries:
            for item in decode_entry(entry):
                match item:
                    case CatchUpRequest(ago_s):
                        self.note_gap(ago_s)
                    case PresenceHint(users):
                        self.presence.hear(users)
                    case PresenceRecheck(users):
                        self.presence.recheck(users)
                    case AddressedPush():
                        self.broadcast.push_here(item)
        self.broadcast.flush()

    def note_gap(self, gap_s: float) -> None:
        """Something may have passed this node by in the last `gap_s` seconds."""
        self._gap_from = min(self._gap_from, trio.current_time() - gap_s)
        self._gaps += 1
        self._gap_seen.set()

    def _tell_unknown_outcomes(self, since: float) -> None:
        """Something may have been committed since then that no node was told of."""
        self.note_gap(trio.current_time() - since)
        self._fanout.miss("the outcome of a write is not known", since=since)

    async def _catch_up_after_gaps(self) -> None:
        while True:
            await self._gap_seen.wait()
            self._gap_seen = trio.Event()
            self._gaps += 1
            since, self._gap_from = self._gap_from, math.inf
            gap_s = trio.current_time() - since
            try:
                pushed = await self._catch_up(since - MARGIN_S)
            except StoreError as error:
                log.warning("catch_up_failed", error=str(error))
                await trio.sleep(1)
                self.note_gap(trio.current_time() - since)
            else:
                log.info("caught_up", gap_s=round(gap_s, 1), messages=pushed)
                self.settled.set()

    async def _catch_up(self, since: float) -> int:
        users, pushed = self._hub.users(), 0
        for start in range(0, len(users), 500):
            some = users[start : start + 500]
            # Asked of each part anew: those before it took time.
            ago_s = trio.current_time() - since
            for moved in await recent(self._pool, some, ago_s=ago_s):
                pushed += await self._push_missed(moved)
            # Clients know an edit or a deletion that they have already by its revision.
            for revised, concerned in await revised_since(self._pool, some, ago_s=ago_s):
                self.broadcast.push_here(push_of(revised, concerned))
                pushed += 1
            await self._push_other_changes(some)
            self.broadcast.flush()
        # Of who may watch whom nothing is kept that a snapshot could tell from what was there before.
        self.presence.recheck(self.presence.users())
        return pushed

    async def _push_other_changes(self, users: list[bytes]) -> None:
        """What other than messages may have been missed: receipts, conversations that are others, or theirs no more."""
        settled = self.cursor_advance.settled
        if settled is None:
            return
        base = str(settled.snapshot)
        for departed in await departed_since(self._pool, users, base):
            for user in departed.users:
                self._hub.push_to_synced(user, encode(departed))
        others: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for each in self._counted_anew(await changed_since(self._pool, users, base)):
            if each.is_other:
                for user in filter(self._hub.has_synced, each.users):
                    others[user].append(each.conversation)
            else:
                self._push_receipts(each)
        for user, conversation in await self._push_own_settings(users, base):
            others[user].append(conversation)
        for user, conversations in others.items():
            for told in await some_of(self._pool, user, conversations):
                # With its last message: a device that did not know of it begins there.
                self._hub.push_to_synced(user, encode(told))

    async def _push_own_settings(self, users: list[bytes], base: str) -> list[tuple[bytes, bytes]]:
        """What users have set; returns in which conversations besides: (user, conversation)."""
        settings, conversations = await own_changed_since(self._pool, users, base)
        for user, told in settings.items():
            self._hub.push_to_synced(user, encode(told))
        return conversations

    def _counted_anew(self, changed: list[ChangedParticipants]) -> list[ChangedParticipants]:
        for each in changed:
            if each.counted_upto:
                self.receipt_counter.note_latest(each.conversation, each.counted_upto)
        return changed

    def _push_receipts(self, changed: ChangedParticipants) -> None:
        id_ = changed.conversation
        if changed.settings is not None:
            self.broadcast.push_here(AddressedPush(id_, 0, encode(changed.settings), changed.users))
        shown = [(user, delivered, read) for user, delivered, read, _ in changed.marks]
        if shown:
            self.broadcast.push_here(AddressedPush(id_, 0, encode(Receipts(id_, shown)), changed.users))
        for user, delivered, read, own_read in changed.marks:
            if own_read > read:
                own = Receipts(id_, [(user, delivered, own_read)])
                self.broadcast.push_here(AddressedPush(id_, 0, encode(own), (user,)))

    async def _push_missed(self, moved: Moved) -> int:
        span = self._hub.span(moved.conversation)
        if span is None:
            return await self._push_between(moved, moved.base, moved.last_seq)
        first, head = span
        # What came live while this node was catching up says nothing of what had come before it.
        pushed = await self._push_between(moved, moved.base, first - 1)
        self._hub.begin_at(moved.conversation, moved.base + 1)
        if head < moved.last_seq - MAX_CATCH_UP:
            self._hub.forget(moved.conversation)
        return pushed + await self._push_between(moved, head, moved.last_seq)

    async def _push_between(self, moved: Moved, after: int, upto: int) -> int:
        """Push the messages with `after < seq <= upto`, or the last ones of them."""
        after = max(after, upto - MAX_CATCH_UP)
        if after >= upto:
            return 0
        found = await range_of(self._pool, moved.conversation, after=after, upto=upto, limit=MAX_CATCH_UP)
        await self._push_all(found, moved.joined)
        return len(found)

    async def _push_all(self, found: Sequence[tuple[Message | Tombstone, bool]], joined: dict[bytes, int]) -> None:
        if not found:
            return
        conversation, first, last = found[0][0].conversation, found[0][0].seq, found[-1][0].seq
        # Who comes from now on asks for what was read just now. For whom a message is gone is asked after reading it:
        # else one that has been edited meanwhile, by somebody who is blocked, would be shown as it is now.
        here = {user: seq for user, seq in joined.items() if self._hub.holds(user)}
        hidden = await hidden_from(self._pool, list(here), conversation, first=first, last=last)
        for message, is_silent in found:
            gone = hidden.get(message.seq, set())
            # Who joined later does not see it.
            users = [user for user, seq in here.items() if seq < message.seq and user not in gone]
            concerned = [message.sender] if is_silent else users
            self.broadcast.push_here(push_of(message, concerned, seq=message.seq))
            if gone:
                left = Tombstone(conversation, message.seq, message.message, message.created, message.sender)
                self.broadcast.push_here(AddressedPush(conversation, 0, encode(left), gone))
        self.broadcast.flush()

    async def _fill_holes(self) -> None:
        while True:
            await self._hub.hole_seen.wait()
            await trio.sleep(0.05)
            for hole in self._hub.holes_due():
                try:
                    joined = await participants(self._pool, hole.conversation)
                    found = await range_of(
                        self._pool, hole.conversation, after=hole.after, upto=hole.before - 1, limit=MAX_CATCH_UP
                    )
                    await self._push_all(found, joined)
                except StoreError as error:
                    log.warning("hole_not_filled", conversation=hole.conversation.hex(), error=str(error))
                    continue
                log.info("hole_filled", conversation=hole.conversation.hex(), messages=len(found))
                self._hub.skip(hole)
                self.broadcast.flush()

    async def _enter_arrivals(self) -> None:
        """Those who come while others are being entered are entered together: a herd is a few commands."""
        while True:
            await self._arrival.wait()
            self._arrival = trio.Event()
            arrivals, self._arrivals = self._arrivals, _Arrivals()
            try:
                await enter(self._redis, self.id, arrivals.users)
            except Unavailable as error:
                arrivals.error = error
            except RedisError as error:
                arrivals.error = Unavailable("Redis", self._redis.where, str(error))
            arrivals.entered.set()

    async def _remove_departed(self) -> None:
        while True:
            await self._departure.wait()
            self._departure = trio.Event()
            # Decided and written without a checkpoint in between: who comes back enters after this.
            users = [user for user in self._departed if not self._hub.holds(user)]
            self._departed.clear()
            # A stale entry costs others one write that finds nobody; a rebuild has none.
            with suppress(Unavailable, RedisError):
                await leave(self._redis, self.id, users)
            for user in users:
                self.presence.moved(user)
