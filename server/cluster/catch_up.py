"""Catching up: this node reads from Postgres the changes that it may have missed, and pushes them to its connections.

The node compares the conversations of its users that moved lately with its pushes. Each of these signs requests a
catch-up:

| sign | what happened |
|---|---|
| the heartbeat finds no stream | FLUSHALL, or this node was away for longer than its lease |
| the first entry of the stream is later than what was read | it was trimmed: this node is too slow |
| the connection to Redis is new | entries may have been written and lost |
| Redis failed over to a different server | this node may have written to the former one after others stopped reading |
| another node vanished without signing off | it may have committed messages and not fanned them out |
| another node asks (`CatchUpRequest`) | it could not write to Redis |
| a worker asks: it has deleted an account | no push followed (`store.account_deletions`) |
| a process that only writes vanished (`server.cluster.writer`) | it may have committed changes and told no node |
| a write's outcome is unknown (`server.cluster.unknown_outcomes`) | it may have been committed, and no node was told |
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import structlog
import trio

from protocol.codec import encode
from protocol.frames import Receipts
from server.cluster.cursor_advance import CursorAdvance
from server.cluster.presence import PresenceWatch
from server.delivery.broadcast import Broadcast, push_of, tombstone_of
from server.delivery.hub import Hub
from server.delivery.receipt_counts import ReceiptCounter
from store.conversations import some_of
from store.envelopes import tables_of
from store.errors import StoreError
from store.messages import ActiveConversation, active_conversations, current_participants, messages_between
from store.own_settings import changed_since as own_changed_since
from store.participant_lists import ChangedParticipants, changed_since, departed_since
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush
from store.revisions import revised_since

log = structlog.get_logger(__name__)

MARGIN_S: Final = 15.0
"""Added to the period of each catch-up: Postgres takes a message's `created` before the commit, which may take as long
as a query."""

MAX_CATCH_UP: Final = 200
"""A catch-up pushes at most this many messages of one conversation, the last ones: clients see the gap by the seq and
fetch a page of history."""


class CatchUp:
    """Pushes what this node's connections may have missed. Run `run` in a nursery.

    :ivar settled: set once the node has looked for the changes that it may have missed before it began.
    :ivar requests: how many requests there were; each counts again when its catch-up begins.
    """

    def __init__(
        self,
        pool: Pool,
        hub: Hub,
        broadcast: Broadcast,
        presence: PresenceWatch,
        receipt_counter: ReceiptCounter,
        cursor_advance: CursorAdvance,
    ) -> None:
        self._pool = pool
        self._hub = hub
        self._broadcast = broadcast
        self._presence = presence
        self._receipt_counter = receipt_counter
        self._cursor_advance = cursor_advance
        self._since = math.inf
        self._requested = trio.Event()
        self._is_serving = False
        self.requests = 0
        self.settled = trio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._catch_up_on_request)
            nursery.start_soon(self._fill_gaps)

    def request(self, ago_s: float) -> None:
        """This node may have missed changes in the last `ago_s` seconds."""
        self._since = min(self._since, trio.current_time() - ago_s)
        self.requests += 1
        self._requested.set()

    @property
    def is_due(self) -> bool:
        """Whether there is a request that has not been served: changes may be missing that are old by now."""
        return self._is_serving or self._requested.is_set()

    async def _catch_up_on_request(self) -> None:
        while True:
            await self._requested.wait()
            self._requested = trio.Event()
            self._is_serving = True
            self.requests += 1
            since, self._since = self._since, math.inf
            ago_s = trio.current_time() - since
            try:
                pushed = await self._catch_up(since - MARGIN_S)
            except StoreError as error:
                log.warning("catch_up_failed", error=str(error))
                await trio.sleep(1)
                self.request(trio.current_time() - since)
            else:
                log.info("caught_up", ago_s=round(ago_s, 1), messages=pushed)
                self.settled.set()
            self._is_serving = False

    async def _catch_up(self, since: float) -> int:
        users, pushed = self._hub.users(), 0
        for start in range(0, len(users), 500):
            some = users[start : start + 500]
            # Computed for each part: the parts before it took time.
            ago_s = trio.current_time() - since
            for active in await active_conversations(self._pool, some, ago_s=ago_s):
                pushed += await self._push_missed(active)
            # Clients recognise an edit or a deletion that they already have by its revision.
            revised = await revised_since(self._pool, some, ago_s=ago_s)
            tables = await tables_of(self._pool, [message for message, _ in revised])
            for (message, concerned), envelopes in zip(revised, tables, strict=True):
                self._broadcast.push_found(push_of(message, concerned, envelopes=envelopes))
                pushed += 1
            await self._push_other_changes(some)
            self._broadcast.flush()
        # Postgres keeps no versions of the permissions to watch, so a snapshot cannot show which ones have changed.
        self._presence.recheck(self._presence.users())
        return pushed

    async def _push_other_changes(self, users: list[bytes]) -> None:
        """Push the other changes that users may have missed: receipts, changed conversations, and those they left."""
        settled = self._cursor_advance.settled
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
                # With the last message: a device that did not know the conversation begins there.
                self._hub.push_to_synced(user, encode(told))

    async def _push_own_settings(self, users: list[bytes], base: str) -> list[tuple[bytes, bytes]]:
        """Push the users' own settings; returns the pairs of user and conversation with changed own settings."""
        settings, conversations = await own_changed_since(self._pool, users, base)
        for user, told in settings.items():
            self._hub.push_to_synced(user, encode(told))
        return conversations

    def _counted_anew(self, changed: list[ChangedParticipants]) -> list[ChangedParticipants]:
        for each in changed:
            if each.counted_upto:
                self._receipt_counter.note_latest(each.conversation, each.counted_upto)
        return changed

    def _push_receipts(self, changed: ChangedParticipants) -> None:
        id_ = changed.conversation
        if changed.settings is not None:
            self._broadcast.push_found(AddressedPush(id_, 0, encode(changed.settings), changed.users))
        shown = [(user, delivered, read) for user, delivered, read, *_ in changed.marks]
        if shown:
            self._broadcast.push_found(AddressedPush(id_, 0, encode(Receipts(id_, None, shown)), changed.users))
        for user, delivered, read, own_read, quiet_count in changed.marks:
            if own_read > read or quiet_count is not None:
                known = None if quiet_count is None else [(own_read, quiet_count)]
                own = Receipts(id_, None, [(user, delivered, own_read)], known)
                self._broadcast.push_found(AddressedPush(id_, 0, encode(own), (user,)))

    async def _push_missed(self, active: ActiveConversation) -> int:
        """Push the messages of the period before and after the hub's span. Afterwards the span has all of them: those
        that were left out do not count as missed, since clients fetch them."""
        conversation, last_seq = active.conversation, active.last_seq
        # A message that is pushed live during the catch-up does not show that the messages before it were pushed.
        first, head = self._hub.follow(conversation, active.base)
        pushed = await self._push_between(conversation, active.participants, active.base, first - 1)
        self._hub.join(conversation, active.base, first)
        self._hub.pass_over(conversation, last_seq - MAX_CATCH_UP)
        pushed += await self._push_between(conversation, active.participants, head, last_seq)
        self._hub.pass_over(conversation, last_seq)
        return pushed

    async def _push_between(self, conversation: bytes, participants: Sequence[bytes], after: int, upto: int) -> int:
        """Push the last `MAX_CATCH_UP` messages with `after < seq <= upto`."""
        after = max(after, upto - MAX_CATCH_UP)
        if after >= upto:
            return 0
        # A user that connects from now on fetches these messages by its sync.
        users = [user for user in participants if self._hub.holds(user)]
        found = await messages_between(self._pool, conversation, users, after=after, upto=upto, limit=MAX_CATCH_UP)
        for missed in found:
            message = missed.message
            self._broadcast.push_found(push_of(message, missed.holders, seq=message.seq, envelopes=missed.envelopes))
            if missed.hiders:
                left = encode(tombstone_of(message))
                self._broadcast.push_found(AddressedPush(conversation, 0, left, missed.hiders))
        self._broadcast.flush()
        return len(found)

    async def _fill_gaps(self) -> None:
        while True:
            await self._hub.gap_seen.wait()
            await trio.sleep(0.05)
            for gap in self._hub.gaps_due():
                conversation = gap.conversation
                try:
                    participants = await current_participants(self._pool, conversation)
                    pushed = await self._push_between(conversation, participants, gap.after, gap.before - 1)
                except StoreError as error:
                    log.warning("gap_not_filled", conversation=conversation.hex(), error=str(error))
                    continue
                log.info("gap_filled", conversation=conversation.hex(), messages=pushed)
                self._hub.skip(gap)
                self._broadcast.flush()
