"""What is new for a user since a cursor: conversations that changed, and their messages.

A cursor holds a snapshot of Postgres: which transactions had been committed. New is whatever was written by any other
(`docs/decisions/0009-a-cursor-is-a-snapshot.md`). It belongs to a user and a history, and to nothing else.

While a device is connected its cursor is moved forward (`server.cluster.cursor_advance`): `cursor_of` makes one of a
snapshot of `take_cursor_snapshot` for a device that everything it sees was offered to. Marks are pushed only to the
authors whose messages they pass (decision 17), so such a cursor passes all changes but those of marks: it keeps the
number up to which the device was told of everybody's marks by its last `sync`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

import cbor2
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.frames import Conversation, Departed, Message, OwnSettings, Participants, ReceiptCounts, Tombstone
from protocol.limits import COUNTED, CURSOR_DAYS, MAX_SHOWN
from store import sql
from store.conversations import some_of
from store.errors import ExpiredCursor, ForeignCursor
from store.own_settings import own_settings_of_all
from store.postgres.columns import BIGINT, BIGINTS, BOOL, BYTEA, INT, TEXT, TEXTS, UUID, UUIDS
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.postgres.statement import Statement
from store.rows import departed_of, message_of

_sql = sql.load("sync")
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
    (TEXT, TEXT, TEXT, BIGINT, BOOL, BOOL, UUIDS, BIGINTS, BIGINTS, TEXTS, BIGINTS, BIGINTS),
)
_MESSAGES: Final = Statement(
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
    (UUID, BIGINT, UUID, BIGINT, UUID, TEXT, BYTEA, BYTEA, BYTEA, BIGINT, BIGINT, BIGINT, UUID, BOOL, UUID, BOOL),
)
RECEIPT_COUNTS: Final = Statement(
    _sql.counts, {"conversations": UUIDS, "user": UUID, "counted": BIGINT}, (UUID, BIGINT, BIGINT, BIGINT, BIGINT)
)

MAX_CONVERSATIONS: Final = 100
MAX_MESSAGES: Final = 500
MAX_BYTES: Final = 96 * 1024
"""Of one page. Bytes are those of contents and, roughly, of conversations; one entry may exceed them. With all the
rest a page stays below what a client must accept as one WebSocket message, 256 KiB."""

MAX_UNDER_WAY: Final = 48
"""Transactions under way that a cursor lists. Of a snapshot with more it takes the older part; then some of what has
been told is told again. Two snapshots of 9 bytes a number, and the rest, are less than the 1,024 bytes of a cursor."""

_FIRST: Final = (2**63 - 1, b"\xff" * 16)
"""Where the first page begins: `active_at` and id of a conversation; from there downwards."""

_FIRST_MOVED: Final = (-1, bytes(16))
"""Where those begin that were active again meanwhile: no `active_at`, and an id; from there upwards."""

_PARTICIPANT_BYTES: Final = 110
_STAY_BYTES: Final = 80
_SEQ_BYTES: Final = 9
_CONVERSATION_BYTES: Final = 100
_DAY_US: Final = 86_400_000_000

SyncPush: TypeAlias = Conversation | Participants | ReceiptCounts | Departed | Message | Tombstone | OwnSettings


class SyncPage(Struct, frozen=True):
    """Some of what is new.

    :ivar pushes: conversations that are new or have changed, or those of their participants who have; each followed by
        what of its messages is new, edited or deleted, in order of seq; and those in which the user takes part no more.
        The conversation with the latest message comes first; before all of them what the user has set, if that is new.
    :ivar cursor: for what comes after.
    :ivar more: there is more already, or may be.
    :ivar marks: after the last page everybody's marks have been told, as far as transactions below this number moved
        them.
    """

    pushes: list[SyncPush]
    cursor: bytes
    more: bool
    marks: int


class Snapshot(NamedTuple):
    """Which transactions had been committed: those below `xmax` that are not in `under_way`, which is sorted."""

    xmax: int
    under_way: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Postgres' own form of a pg_snapshot."""
        _, xmax, under_way = text.split(":")
        return cls(int(xmax), tuple(sorted(map(int, filter(None, under_way.split(","))))))

    @property
    def xmin(self) -> int:
        """All below it had been committed, or never will be."""
        return self.under_way[0] if self.under_way else self.xmax

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.under_way))}"

    def cut(self, xmax: int) -> Snapshot:
        """The part of it that is about transactions below `xmax`, with at most `MAX_UNDER_WAY` under way."""
        xmax = min(self.xmax, xmax)
        under_way = tuple(xid for xid in self.under_way if xid < xmax)
        if len(under_way) > MAX_UNDER_WAY:
            return Snapshot(under_way[MAX_UNDER_WAY], under_way[:MAX_UNDER_WAY])
        return Snapshot(xmax, under_way)


class SyncCursor(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    :ivar owner: of whose history it is, and which.
    :ivar day: when it was made, in days since 1970.
    :ivar base: what the device holds; empty for nothing.
    :ivar target: what it will hold after the last page; empty before the first.
    :ivar conversation: where the next page begins, with `active_at`: from the conversation with the latest message on.
    :ivar after: up to which seq that conversation was on the page before; -1 if it was not.
    :ivar active_at: when that one was active; -1 once there is left only what was active again after `target`.
    :ivar marks: of marks the device holds what transactions below this number wrote; 0: what `base` sees.
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
        :raises ForeignCursor: if it is none of ours.
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
    """xmax, then those under way, as `_pack` makes them; or nothing."""
    xmax, *under_way = numbers or (1,)
    if not (0 < xmax < 2**63 and all(0 < xid < xmax for xid in under_way) and sorted(set(under_way)) == under_way):
        return False
    return all(xid & 0xFFFFFFFF for xid in (xmax, *under_way))


def _unpack(numbers: tuple[int, ...]) -> Snapshot | None:
    return Snapshot(numbers[0], numbers[1:]) if numbers else None


async def sync(pool: Pool, user: bytes, cursor: bytes | None, *, newest: int | None = None) -> SyncPage:
    """A page of what is new since `cursor`; without one, of all conversations, each with its last message.

    Read in some queries, each at a later moment: what comes late may therefore be told twice, on this page or a later
    one, but nothing is passed over.

    :param newest: of each conversation only so many new messages, the last ones. Edits and deletions come all the same.
    :raises ForeignCursor: if the cursor is none of ours, another user's, or of another history.
    :raises ExpiredCursor: if it is too old to tell what has changed since.
    """
    given = SyncCursor.decode(cursor) if cursor is not None else None
    # What a device holds, and where its next page begins.
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
    page = _Page(pool, user, base, marks, newest, held.after if goes_on else -1)
    if is_own_new and first_target is None:
        page.pushes += (await own_settings_of_all(pool, [user])).values()
    rest = await page.fill(changed)
    if rest is not None:
        n, after = rest
        position = (-1 if held.active_at < 0 else changed[n].active_at, changed[n].conversation, after)
    elif first_target and has_moved and held.active_at >= 0:
        # A message has moved them up, perhaps past where the pages had come.
        position = (*_FIRST_MOVED, -1)
    else:
        # After several pages there is what was committed since the first.
        return SyncPage(page.pushes, SyncCursor(owner, day, _pack(target)).encode(), bool(first_target), target.xmin)
    # As old as the first page: until then it may be that what has changed is forgotten.
    first_day = given.day if given else day
    onward = SyncCursor(owner, first_day, held.base, _pack(target), *position, held.marks)
    return SyncPage(page.pushes, onward.encode(), True, target.xmin)


class CursorSnapshot(NamedTuple):
    """What has been committed, up to a commit that is surely on disk.

    :ivar history: which history it is of; another one after Postgres was restored, or another server took over
        (`store/sql/functions/history_id.sql`).
    :ivar now_us: when it was, in microseconds since 1970.
    """

    snapshot: Snapshot
    history: str
    now_us: int


async def take_cursor_snapshot(pool: Pool) -> CursorSnapshot:
    """What has been committed by now; writes one row, so that no crash of Postgres can undo what it says."""
    [(newest,)] = await pool.fetch(_sql.take_cursor_snapshot)
    [(snapshot, history, now_us)] = await pool.fetch(_sql.now)
    return CursorSnapshot(_durable(Snapshot.parse(snapshot), newest, None), history, now_us)


def cursor_of(user: bytes, taken: CursorSnapshot, marks: int) -> bytes:
    """The cursor of a device that holds all of this user's that a snapshot sees, but for marks.

    :param marks: of those it holds what transactions below this number wrote (`SyncPage.marks`).
    """
    owner, day = _owner(taken.history, user), taken.now_us // _DAY_US
    return SyncCursor(owner, day, _pack(taken.snapshot), marks=marks).encode()


def _owner(history: str, user: bytes) -> bytes:
    return blake2b(history.encode() + user, digest_size=8).digest()


def _pack(snapshot: Snapshot | None) -> tuple[int, ...]:
    return (snapshot.xmax, *snapshot.under_way) if snapshot else ()


def _durable(now: Snapshot, newest: str | None, base: Snapshot | None) -> Snapshot:
    """The part of a snapshot that no crash of Postgres can undo.

    A number whose transaction left nothing on disk is given out again after a crash: a cursor that took it for an old
    one would pass over what is written under it then. Below a transaction that is known to be committed none is.
    """
    bound = int(newest) + 1 if newest is not None else 1
    if bound & 0xFFFFFFFF == 0:
        bound += 3  # Of each 2^32 numbers Postgres gives out none of the first three.
    return now.cut(max(bound, base.xmax if base else 1))


class _Changed(NamedTuple):
    """A conversation of which something is new, as `changed` in `store/sql/sync.sql` says.

    :ivar floor: the seq up to which nothing is for the user.
    :ivar is_counted: whether it is to be told how far the user's own messages have come.
    :ivar is_silenced: whether somebody whom the user blocks has written since everybody's marks were told.
    """

    conversation: bytes
    active_at: int
    floor: int
    news: str
    is_counted: int
    is_silenced: int


class _Page:
    """One page while it is being filled."""

    def __init__(
        self,
        pool: Pool,
        user: bytes,
        base: Snapshot | None,
        marks: Snapshot | None,
        newest: int | None,
        after: int,
    ) -> None:
        self._pool = pool
        self._user = user
        self._base = base
        self._marks = marks
        self._newest = newest
        self._after = after
        self.pushes: list[SyncPush] = []

    async def fill(self, changed: Sequence[_Changed]) -> tuple[int, int] | None:
        """Fill it from these conversations; which of them the next page begins with, and after which of its messages
        (-1: with what is told before them); None if there is no other page."""
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
        by_id = {conversation.conversation: conversation for conversation in found}
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

    def _base_of(self, changed: _Changed) -> str | None:
        """Since when participants have to have changed to be told of; None: all are."""
        # Who has written has read; that is told by the message, which may be left out.
        is_skipped = changed.news == "head" and self._newest is not None
        return None if changed.news in ("whole", "came") or is_skipped else str(self._base)

    async def _counts(self, ids: Sequence[bytes]) -> dict[bytes, list[ReceiptCounts]]:
        """How far the user's own messages have come, where many take part."""
        if not ids:
            return {}
        rows = await self._pool.read(RECEIPT_COUNTS, {"conversations": ids, "user": self._user, "counted": COUNTED})
        found: dict[bytes, list[tuple[int, int, int, int]]] = {}
        for conversation, seq, delivered, read, recipients in rows:
            found.setdefault(conversation, []).append((seq, delivered, read, recipients))
        return {conversation: [ReceiptCounts(conversation, counts)] for conversation, counts in found.items()}

    async def _departed(self, ids: Sequence[bytes]) -> dict[bytes, list[Departed]]:
        """Those in which the user does not take part now."""
        if not ids:
            return {}
        rows = await self._pool.fetch(_sql.departed, {"user": uuid(self._user), "conversations": uuids(ids)})
        return {row[0]: [departed_of(*row)] for row in rows}

    async def _add_messages(
        self, changed: Sequence[_Changed], told: Sequence[Sequence[SyncPush]], max_bytes: int
    ) -> tuple[int, int] | None:
        """
        :param told: what is told of each conversation before its messages.
        """
        after = [each.floor for each in changed]
        if self._after >= 0:
            after[0] = max(after[0], self._after)
        parameters = {
            "user": self._user,
            "conversations": [each.conversation for each in changed],
            "after": after,
            # Whoever has come since is told of the last message, as a fresh device is.
            "newest": [0 if each.news == "came" else self._newest for each in changed],
            "bases": [str(self._marks if each.is_silenced else self._base) for each in changed],
            "limit": MAX_MESSAGES,
            "bytes": max_bytes,
        }
        rows = await self._pool.read(_MESSAGES, parameters)
        messages: dict[bytes, list[tuple[Any, ...]]] = {}
        for row in rows:
            messages.setdefault(row[0], []).append(row)
        for n, each in enumerate(changed):
            # A conversation that goes on from the page before was told of there.
            if n > 0 or self._after < 0:
                self.pushes += told[n]
            is_departed = any(isinstance(push, Departed) for push in told[n])
            for row in messages.get(each.conversation, ()):
                if row[-1]:
                    return n, after[n]
                after[n] = row[1]
                if not is_departed:
                    self.pushes.append(message_of(*row))
        return None


def _told(conversation: Conversation, news: str, *, is_fresh: bool) -> list[SyncPush]:
    """What is told of a conversation; its messages come by themselves, but for who holds none of it."""
    told: list[SyncPush] = []
    if is_fresh or news == "came":
        return [conversation]
    if news == "whole":
        return [replace(conversation, last_message=None)]
    if news == "head":
        told.append(replace(conversation, last_message=None, participants=None))
    if conversation.participants:
        id_, version = conversation.conversation, conversation.participants_version
        told.append(Participants(id_, conversation.participants, version, conversation.participant_count))
    return told


def _size(push: SyncPush) -> int:
    size = _CONVERSATION_BYTES
    if isinstance(push, Conversation | Participants):
        people = push.participants or ()
        names = sum(len(each.display_name.encode()) for each in people if each.display_name)
        size += _PARTICIPANT_BYTES * len(people) + names
    if isinstance(push, Conversation):
        size += _STAY_BYTES * len(push.former or ()) + _SEQ_BYTES * len(push.uncounted_seqs or ())
        if isinstance(push.last_message, Message):
            size += len(push.last_message.content)
    return size
