"""Changes for a user since a cursor: conversations that changed, and their messages.

A cursor holds a snapshot of Postgres, that is, the set of transactions that had been committed. A change is new if any
other transaction wrote it (`docs/decisions/0009-a-cursor-is-a-snapshot.md`). A cursor belongs to one user and one
history of the database.

While a device is connected the server moves its cursor forward (`server.cluster.cursor_advance`): `cursor_of` makes a
cursor from a `take_cursor_snapshot` for a device that was offered everything in that snapshot. Marks are pushed
only to the authors whose messages they pass (decision 17), so such a cursor covers all changes but those of marks. It
keeps the transaction number up to which the device's last `sync` covered everybody's marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias

import cbor2
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.frames import Conversation, Departed, Message, OwnSettings, Participants, ReceiptCounts, Tombstone
from protocol.limits import COUNTED, CURSOR_DAYS, MAX_SHOWN
from store import sql
from store.conversations import some_of
from store.envelopes import page_with_own, size_of, with_own
from store.errors import ExpiredCursor, ForeignCursor
from store.own_settings import own_settings_of_all
from store.postgres.columns import BIGINT, BIGINTS, BOOL, INT, TEXT, TEXTS, UUID, UUIDS
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.postgres.statement import Statement
from store.rows import departed_of, message_of

_sql = sql.load("sync")
_history_sql = sql.load("history")
_CHANGED: Final = Statement(
    _sql.changed,
    {
        "base": TEXT,
        "marks": TEXT,
        "target": TEXT,
        "are_moved": BOOL,
        "active_at": BIGINT,
        "position": UUID,
        "most": BIGINT,
        "counted": BIGINT,
        "user": UUID,
        "limit": BIGINT,
    },
)
PAGE_MESSAGES: Final = Statement(
    _sql.messages,
    {
        "user": UUID,
        "conversations": UUIDS,
        "after": BIGINTS,
        "newest": BIGINTS,
        "bases": TEXTS,
        "limit": INT,
        "bytes": BIGINT,
    },
)
RECEIPT_COUNTS: Final = Statement(_sql.counts, {"conversations": UUIDS, "user": UUID, "counted": BIGINT})

MAX_CONVERSATIONS: Final = 100
MAX_MESSAGES: Final = 500
MAX_BYTES: Final = 96 * 1024
"""Bytes of one page. They count contents and, roughly, conversations; one entry may exceed them. With all the rest a
page stays below the WebSocket message that a client must accept, 256 KiB."""

MAX_UNDER_WAY: Final = 48
"""The most transactions under way that a cursor lists. If a snapshot has more, the cursor takes the older part, and the
next sync repeats some changes. Two snapshots of 9 bytes a number, and the rest, fit the 1,024 bytes of a cursor."""

_FIRST: Final = (2**63 - 1, b"\xff" * 16)
"""The start of the first page: `active_at` and id of a conversation; pages go down from there."""

_FIRST_MOVED: Final = (-1, bytes(16))
"""The start of the pages of conversations that became active again: no `active_at`, and an id; they go up from
there."""

_PARTICIPANT_BYTES: Final = 110
_AVATAR_BYTES: Final = 60
_STAY_BYTES: Final = 80
_SEQ_BYTES: Final = 9
_CONVERSATION_BYTES: Final = 100
_DAY_US: Final = 86_400_000_000

SyncPush: TypeAlias = Conversation | Participants | ReceiptCounts | Departed | Message | Tombstone | OwnSettings


class SyncPage(Struct, frozen=True):
    """A page of changes.

    :ivar pushes: conversations that are new or have changed, or whose participants have; each followed by its new,
        edited or deleted messages in order of seq; and conversations that the user has left. The conversation with the
        latest message comes first. Before all of them come the user's own settings, if they have changed.
    :ivar cursor: for the next page or sync.
    :ivar more: there are more changes already, or may be.
    :ivar marks: after the last page the device knows all marks that transactions below this number moved.
    """

    pushes: list[SyncPush]
    cursor: bytes
    more: bool
    marks: int


class Snapshot(NamedTuple):
    """The committed transactions: those below `xmax` that are not in `under_way`, which is sorted."""

    xmax: int
    under_way: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read Postgres' own form of a pg_snapshot."""
        _, xmax, under_way = text.split(":")
        return cls(int(xmax), tuple(sorted(map(int, filter(None, under_way.split(","))))))

    @property
    def xmin(self) -> int:
        """All transactions below it were committed, or never will be."""
        return self.under_way[0] if self.under_way else self.xmax

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.under_way))}"

    def cut(self, xmax: int) -> Snapshot:
        """The part for transactions below `xmax`, with at most `MAX_UNDER_WAY` under way."""
        xmax = min(self.xmax, xmax)
        under_way = tuple(xid for xid in self.under_way if xid < xmax)
        if len(under_way) > MAX_UNDER_WAY:
            return Snapshot(under_way[MAX_UNDER_WAY], under_way[:MAX_UNDER_WAY])
        return Snapshot(xmax, under_way)


class SyncCursor(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    :ivar owner: a digest of the user and the history.
    :ivar day: when it was made, in days since 1970.
    :ivar base: the snapshot that the device holds; empty for none.
    :ivar target: the snapshot that it will hold after the last page; empty before the first.
    :ivar conversation: the start of the next page, with `active_at`; the conversation with the latest message is first.
    :ivar after: the seq up to which the page before covered that conversation; -1 if it did not.
    :ivar active_at: of that conversation; -1 once only conversations are left that became active after `target`.
    :ivar marks: the device holds the marks that transactions below this number wrote; 0: those that `base` sees.
    """

    owner: bytes
    day: int
    base: tuple[int, ...] = ()
    target: tuple[int, ...] = ()
    active_at: int = _FIRST[0]
    conversation: bytes = _FIRST[1]
    after: int = -1
    marks: int = 0

    def encode(self) -> bytes:
        return cbor2.dumps(msgspec.to_builtins(self, builtin_types=(bytes,)))

    @classmethod
    def decode(cls, data: bytes) -> SyncCursor:
        """
        :raises ForeignCursor: if it cannot be decoded.
        """
        try:
            cursor = msgspec.convert(cbor2.loads(data, max_depth=3), cls)
        except (ValueError, cbor2.CBORDecodeError):
            raise ForeignCursor from None
        snapshots = (cursor.base, cursor.target)
        marks = (cursor.marks,) if cursor.marks else ()
        positions = (cursor.active_at, cursor.after)
        if len(cursor.conversation) != 16 or not all(-1 <= position < 2**63 for position in positions):
            raise ForeignCursor
        if not all(map(_is_snapshot, (*snapshots, marks))):
            raise ForeignCursor
        return cursor


def _is_snapshot(numbers: tuple[int, ...]) -> bool:
    """Whether it is empty, or xmax and the transactions under way, as `_pack` writes them."""
    xmax, *under_way = numbers or (1,)
    if not (0 < xmax < 2**63 and all(0 < xid < xmax for xid in under_way) and sorted(set(under_way)) == under_way):
        return False
    return all(xid & 0xFFFFFFFF for xid in (xmax, *under_way))


def _unpack(numbers: tuple[int, ...]) -> Snapshot | None:
    return Snapshot(numbers[0], numbers[1:]) if numbers else None


async def sync(
    pool: Pool, user: bytes, cursor: bytes | None, *, newest: int | None = None, device: bytes | None = None
) -> SyncPage:
    """A page of changes since `cursor`; without a cursor, a page of all conversations, each with its last message.

    It runs several queries, each at a later moment: a late change may be sent twice, on this page or a later one, but
    no change is missed.

    :param newest: the most new messages of each conversation, the last ones. Edits and deletions are not counted.
    :param device: of the user; its envelopes come with the messages. None: no envelopes.
    :raises ForeignCursor: if the cursor was not issued to this user by this server's current database.
    :raises ExpiredCursor: if it is so old that the changes since are no longer known.
    """
    given = SyncCursor.decode(cursor) if cursor is not None else None
    # The snapshot that the device holds, and the start of its next page.
    held = given or SyncCursor(b"", 0)
    base, first_target = _unpack(held.base), _unpack(held.target)
    marks = Snapshot(held.marks) if held.marks else base
    parameters = {
        "user": user,
        "base": base and str(base),
        "marks": marks and str(marks),
        "target": first_target and str(first_target),
        "are_moved": held.active_at < 0,
        "active_at": held.active_at,
        "position": held.conversation,
        "limit": MAX_CONVERSATIONS + 1,
        "most": MAX_SHOWN,
        "counted": COUNTED,
    }
    [(snapshot, last, history, now_us, has_moved, is_own_new, *columns)] = await pool.read(_CHANGED, parameters)
    owner, day = _owner(history, user), now_us // _DAY_US
    now = Snapshot.parse(snapshot)
    if given:
        if given.owner != owner or max(given.base[:1] + given.target[:1], default=0) > now.xmax:
            raise ForeignCursor
        if given.day < day - CURSOR_DAYS:
            raise ExpiredCursor
    changed = [_Changed(*row) for row in zip(*columns, strict=True)]
    target = first_target or _durable(now, last, base)
    goes_on = bool(changed) and changed[0].conversation == held.conversation
    page = _Page(pool, user, device, base, marks, newest, held.after if goes_on else -1)
    if is_own_new and first_target is None:
        page.pushes += (await own_settings_of_all(pool, [user])).values()
    rest = await page.fill(changed)
    if rest is not None:
        n, after = rest
        position = (-1 if held.active_at < 0 else changed[n].active_at, changed[n].conversation, after)
    elif first_target and has_moved and held.active_at >= 0:
        # A message has moved them up, perhaps beyond the pages so far.
        position = (*_FIRST_MOVED, -1)
    else:
        # After several pages there are changes that were committed since the first.
        return SyncPage(page.pushes, SyncCursor(owner, day, _pack(target)).encode(), bool(first_target), target.xmin)
    # As old as the first page: the server may have forgotten changes since then.
    first_day = given.day if given else day
    onward = SyncCursor(owner, first_day, held.base, _pack(target), *position, held.marks)
    return SyncPage(page.pushes, onward.encode(), True, target.xmin)


async def history_id(pool: Pool) -> str:
    """The id of the history that numbers of transactions belong to (`store/sql/functions/history_id.sql`)."""
    [(history,)] = await pool.fetch(_history_sql.current)
    return str(history)


class CursorSnapshot(NamedTuple):
    """A snapshot up to a commit that is surely on disk.

    :ivar history: the history that it belongs to; it changes when Postgres is restored, or another server takes over.
    :ivar now_us: its time, in microseconds since 1970.
    :ivar is_told: no process that is not a node has still to tell the nodes of changes in it
        (`store.account_deletions`).
    """

    snapshot: Snapshot
    history: str
    now_us: int
    is_told: bool = True


async def take_cursor_snapshot(pool: Pool) -> CursorSnapshot:
    """Take a snapshot; writes one row, so that no crash of Postgres can undo the commits in it."""
    [(newest,)] = await pool.fetch(_sql.take_cursor_snapshot)
    [(snapshot, history, now_us, is_told)] = await pool.fetch(_sql.now)
    return CursorSnapshot(_durable(Snapshot.parse(snapshot), newest, None), history, now_us, is_told)


def cursor_of(user: bytes, taken: CursorSnapshot, marks: int) -> bytes:
    """The cursor of a device that holds everything that a snapshot sees for this user, except for marks.

    :param marks: the device holds the marks that transactions below this number wrote (`SyncPage.marks`).
    """
    owner, day = _owner(taken.history, user), taken.now_us // _DAY_US
    return SyncCursor(owner, day, _pack(taken.snapshot), marks=marks).encode()


def _owner(history: str, user: bytes) -> bytes:
    return blake2b(history.encode() + user, digest_size=8).digest()


def _pack(snapshot: Snapshot | None) -> tuple[int, ...]:
    return (snapshot.xmax, *snapshot.under_way) if snapshot else ()


def _durable(now: Snapshot, newest: str | None, base: Snapshot | None) -> Snapshot:
    """The part of a snapshot that no crash of Postgres can undo.

    After a crash Postgres issues the number of a transaction that left no trace on disk again. A cursor that counted
    it as committed would miss the changes that are written under it then. All numbers below a transaction that is known
    to be committed are safe.
    """
    bound = int(newest) + 1 if newest is not None else 1
    if bound & 0xFFFFFFFF == 0:
        bound += 3  # In each 2^32 numbers Postgres skips the first three.
    return now.cut(max(bound, base.xmax if base else 1))


class _Changed(NamedTuple):
    """A conversation with changes; a row of `changed` in `store/sql/sync.sql`.

    :ivar floor: the user may not read messages up to this seq.
    :ivar is_counted: whether to send receipt counts for the user's own messages.
    :ivar is_silenced: whether a user whom this user blocks has written since marks were last sent.
    """

    conversation: bytes
    active_at: int
    floor: int
    news: str
    is_counted: int
    is_silenced: int


class _Page:
    """One page while it is filled."""

    def __init__(
        self,
        pool: Pool,
        user: bytes,
        device: bytes | None,
        base: Snapshot | None,
        marks: Snapshot | None,
        newest: int | None,
        after: int,
    ) -> None:
        self._pool = pool
        self._user = user
        self._device = device
        self._base = base
        self._marks = marks
        self._newest = newest
        self._after = after
        self.pushes: list[SyncPush] = []

    async def fill(self, changed: Sequence[_Changed]) -> tuple[int, int] | None:
        """Fill it from these conversations. Return the conversation that the next page begins with, and the seq after
        which it continues (-1: from its beginning); None if this is the last page."""
        if not changed:
            return None
        some = changed[:MAX_CONVERSATIONS]
        found = await some_of(
            self._pool,
            self._user,
            [each.conversation for each in some],
            [self._base_of(each) for each in some],
            self._marks and str(self._marks),
        )
        by_id = await self._with_last_envelopes(some, found)
        told: list[list[SyncPush]] = []
        size = 0
        for each in some:
            seen = by_id.get(each.conversation)
            pushes = _told(seen, each.news, is_fresh=self._base is None) if seen else []
            size += sum(map(_size, pushes))
            if told and size > MAX_BYTES:
                break
            told.append(pushes)
        some = some[: len(told)]
        rest = (len(told), -1) if len(told) < len(changed) else None
        counts = await self._counts([each.conversation for each in some if each.is_counted])
        for each, pushes in zip(some, told, strict=True):
            pushes += counts.get(each.conversation, ())
        if self._base is None:
            self.pushes += [push for pushes in told for push in pushes]
            return rest
        departed = await self._departed([each.conversation for each in some if each.conversation not in by_id])
        for each, pushes in zip(some, told, strict=True):
            pushes += departed.get(each.conversation, ())
        return await self._add_messages(some, told, max(MAX_BYTES - size, 0)) or rest

    async def _with_last_envelopes(
        self, changed: Sequence[_Changed], found: Sequence[Conversation]
    ) -> dict[bytes, Conversation]:
        """These conversations by id, with the device's envelopes in those last messages that are told."""
        by_id = {conversation.conversation: conversation for conversation in found}
        if self._device is not None:
            shown = [
                by_id[each.conversation]
                for each in changed
                if (self._base is None or each.news == "came") and each.conversation in by_id
            ]
            by_id |= {each.conversation: each for each in await with_own(self._pool, self._device, shown)}
        return by_id

    def _base_of(self, changed: _Changed) -> str | None:
        """The snapshot since which participants must have changed to be sent; None: all are sent."""
        # A user who wrote has read. The message says so, but it may be left out.
        is_skipped = changed.news == "head" and self._newest is not None
        return None if changed.news in ("whole", "came") or is_skipped else str(self._base)

    async def _counts(self, ids: Sequence[bytes]) -> dict[bytes, list[ReceiptCounts]]:
        """Receipt counts of the user's own messages, in conversations of many."""
        if not ids:
            return {}
        rows = await self._pool.read(RECEIPT_COUNTS, {"conversations": ids, "user": self._user, "counted": COUNTED})
        found: dict[bytes, list[tuple[int, int, int, int]]] = {}
        for conversation, seq, delivered, read, recipients in rows:
            found.setdefault(conversation, []).append((seq, delivered, read, recipients))
        return {conversation: [ReceiptCounts(conversation, counts)] for conversation, counts in found.items()}

    async def _departed(self, ids: Sequence[bytes]) -> dict[bytes, list[Departed]]:
        """The conversations among these that the user has left."""
        if not ids:
            return {}
        rows = await self._pool.fetch(_sql.departed, {"user": uuid(self._user), "conversations": uuids(ids)})
        return {row[0]: [departed_of(*row)] for row in rows}

    async def _add_messages(
        self, changed: Sequence[_Changed], told: Sequence[Sequence[SyncPush]], max_bytes: int
    ) -> tuple[int, int] | None:
        """
        :param told: the pushes for each conversation before its messages.
        """
        after = [each.floor for each in changed]
        if self._after >= 0:
            after[0] = max(after[0], self._after)
        parameters = {
            "user": self._user,
            "conversations": [each.conversation for each in changed],
            "after": after,
            # A new participant gets the last message, like a new device.
            "newest": [0 if each.news == "came" else self._newest for each in changed],
            "bases": [str(self._marks if each.is_silenced else self._base) for each in changed],
            "limit": MAX_MESSAGES,
            "bytes": max_bytes,
        }
        rows = await self._pool.read(PAGE_MESSAGES, parameters)
        beyond = rows.pop()[0] if rows and rows[-1][-1] else None
        found = [message_of(*row) for row in rows]
        kept = await page_with_own(self._pool, self._device, found, max_bytes)
        if len(kept) < len(found):
            beyond = found[len(kept)].conversation
        messages: dict[bytes, list[Message | Tombstone]] = {}
        for message in kept:
            messages.setdefault(message.conversation, []).append(message)
        for n, each in enumerate(changed):
            # The page before has sent a conversation that continues on this one.
            if n > 0 or self._after < 0:
                self.pushes += told[n]
            is_departed = any(isinstance(push, Departed) for push in told[n])
            for message in messages.get(each.conversation, ()):
                after[n] = message.seq
                if not is_departed:
                    self.pushes.append(message)
            if each.conversation == beyond:
                return n, after[n]
        return None


def _told(conversation: Conversation, news: str, *, is_fresh: bool) -> list[SyncPush]:
    """The pushes for a conversation before its messages; a device without any of them gets the last one with it."""
    told: list[SyncPush] = []
    if is_fresh or news == "came":
        return [conversation]
    if news == "whole":
        return [replace(conversation, last_message=None)]
    if news == "head":
        told.append(replace(conversation, last_message=None, participants=None))
    if conversation.participants:
        id_, version = conversation.conversation, conversation.participants_version
        count, quiet_counts = conversation.participant_count, conversation.quiet_counts
        told.append(Participants(id_, conversation.participants, version, count, quiet_counts))
    return told


def _size(push: SyncPush) -> int:
    size = _CONVERSATION_BYTES
    if isinstance(push, Conversation | Participants):
        people = push.participants or ()
        names = sum(len(each.display_name.encode()) for each in people if each.display_name)
        avatars = sum(each.avatar is not None for each in people)
        size += _PARTICIPANT_BYTES * len(people) + names + _AVATAR_BYTES * avatars
    if isinstance(push, Conversation):
        size += _STAY_BYTES * len(push.former or ()) + _SEQ_BYTES * len(push.uncounted_seqs or ())
        size += size_of(push.last_message)
    return size
