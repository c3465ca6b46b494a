"""What is new for a user since a cursor: conversations that changed, and their messages.

A cursor holds a snapshot of Postgres: which transactions had been committed. New is whatever was written by any other
(`docs/decisions/0009-a-cursor-is-a-snapshot.md`). It belongs to a user and a history, and to nothing else.

While a device is connected its cursor is moved forward (`server.tide`): `cursor_of` makes one of a snapshot of `tide`
for a device that everything it sees was offered to. Marks are pushed only to the authors whose messages they pass
(decision 17), so such a cursor passes all changes but those of marks: it keeps the number up to which the device was
told of everybody's marks by its last `sync`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

import cbor2
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.frames import Conversation, Departed, Message, Participants, Tombstone
from protocol.limits import CURSOR_DAYS, MAX_SHOWN
from store import sql
from store.columns import BIGINT, BIGINTS, BOOL, BYTEA, INT, TEXT, TEXTS, UUID, UUIDS
from store.conversations import some_of
from store.errors import ExpiredCursor, ForeignCursor
from store.pool import Pool
from store.postgres import uuid, uuids
from store.rows import message_of
from store.statement import Statement

_sql = sql.load("sync")
_CHANGED: Final = Statement(
    _sql.changed,
    {"base": TEXT, "marks": TEXT, "most": BIGINT, "user": UUID, "position": UUID, "limit": BIGINT},
    (TEXT, TEXT, TEXT, BIGINT, UUIDS, BIGINTS, TEXTS),
)
_MESSAGES: Final = Statement(
    _sql.messages,
    {"user": UUID, "conversations": UUIDS, "after": BIGINTS, "base": TEXT, "limit": INT, "bytes": BIGINT},
    (UUID, BIGINT, UUID, BIGINT, UUID, TEXT, BYTEA, BYTEA, BYTEA, BIGINT, BIGINT, BIGINT, BOOL, BOOL),
)

MAX_CONVERSATIONS: Final = 100
MAX_MESSAGES: Final = 500
MAX_BYTES: Final = 96 * 1024
"""Of one page. Bytes are those of contents and, roughly, of conversations; one entry may exceed them. With all the
rest a page stays below what a client must accept as one WebSocket message, 256 KiB."""

MAX_UNDER_WAY: Final = 64
"""Transactions under way that a cursor lists. Of a snapshot with more it takes the older part; then some of what has
been told is told again."""

_PARTICIPANT_BYTES: Final = 80
_CONVERSATION_BYTES: Final = 100
_DAY_US: Final = 86_400_000_000

SyncPush: TypeAlias = Conversation | Participants | Departed | Message | Tombstone


class SyncPage(Struct, frozen=True):
    """Some of what is new.

    :ivar pushes: conversations that are new or have changed, or those of their participants who have; each followed by
        what of its messages is new, edited or deleted, in order of seq; and those in which the user takes part no more.
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


class _Cursor(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """
    :ivar owner: of whose history it is, and which.
    :ivar day: when it was made, in days since 1970.
    :ivar base: what the device holds; empty for nothing.
    :ivar target: what it will hold after the last page; empty before the first.
    :ivar conversation: where the next page begins, in order of ids.
    :ivar after: up to which seq that conversation was on the page before; -1 if it was not.
    :ivar marks: of marks the device holds what transactions below this number wrote; 0: what `base` sees.
    """

    owner: bytes
    day: int
    base: tuple[int, ...] = ()
    target: tuple[int, ...] = ()
    conversation: bytes = bytes(16)
    after: int = -1
    marks: int = 0

    def encode(self) -> bytes:
        return cbor2.dumps(msgspec.to_builtins(self, builtin_types=(bytes,)))

    @classmethod
    def decode(cls, data: bytes) -> _Cursor:
        """
        :raises ForeignCursor: if it is none of ours.
        """
        try:
            cursor = msgspec.convert(cbor2.loads(data, max_depth=3), cls)
        except (ValueError, cbor2.CBORDecodeError):
            raise ForeignCursor from None
        snapshots = (cursor.base, cursor.target)
        marks = (cursor.marks,) if cursor.marks else ()
        if len(cursor.conversation) != 16 or not -1 <= cursor.after < 2**63:
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


async def sync(pool: Pool, user: bytes, cursor: bytes | None) -> SyncPage:
    """A page of what is new since `cursor`; without one, of all conversations, each with its last message.

    Read in three queries, each at a later moment: what comes late may therefore be told twice, on this page or the
    next, but nothing is passed over.

    :raises ForeignCursor: if the cursor is none of ours, another user's, or of another history.
    :raises ExpiredCursor: if it is too old to tell what has changed since.
    """
    given = _Cursor.decode(cursor) if cursor is not None else None
    base = _unpack(given.base) if given else None
    marks = Snapshot(given.marks) if given and given.marks else base
    parameters = {
        "user": user,
        "base": base and str(base),
        "marks": marks and str(marks),
        "position": given.conversation if given else bytes(16),
        "limit": MAX_CONVERSATIONS + 1,
        "most": MAX_SHOWN,
    }
    [(snapshot, newest, history, now_us, ids, floors, news)] = await pool.read(_CHANGED, parameters)
    owner, day = _owner(history, user), now_us // _DAY_US
    now = Snapshot.parse(snapshot)
    if given:
        if given.owner != owner or max(given.base[:1] + given.target[:1], default=0) > now.xmax:
            raise ForeignCursor
        if given.day < day - CURSOR_DAYS:
            raise ExpiredCursor
    target = (given and _unpack(given.target)) or _durable(now, newest, base)
    page = _Page(pool, user, base, marks, given.after if given and ids and ids[0] == given.conversation else -1)
    rest = await page.fill(ids, floors, news)
    if rest is None:
        # After several pages there is what was committed since the first.
        more = bool(given and given.target)
        return SyncPage(page.pushes, _Cursor(owner, day, _pack(target)).encode(), more, target.xmin)
    # As old as the first page: until then it may be that what has changed is forgotten.
    first_day, held = (given.day, given.marks) if given else (day, 0)
    cursor_on = _Cursor(owner, first_day, _pack(base), _pack(target), *rest, held)
    return SyncPage(page.pushes, cursor_on.encode(), True, target.xmin)


class Tide(NamedTuple):
    """What has been committed, up to a commit that is surely on disk.

    :ivar history: which history it is of; another one after Postgres was restored, or another server took over
        (`store/sql/functions/history_id.sql`).
    :ivar now_us: when it was, in microseconds since 1970.
    """

    snapshot: Snapshot
    history: str
    now_us: int


async def tide(pool: Pool) -> Tide:
    """What has been committed by now; writes one row, so that no crash of Postgres can undo what it says."""
    [(newest,)] = await pool.fetch(_sql.tide)
    [(snapshot, history, now_us)] = await pool.fetch(_sql.now)
    return Tide(_durable(Snapshot.parse(snapshot), newest, None), history, now_us)


def cursor_of(user: bytes, tide: Tide, marks: int) -> bytes:
    """The cursor of a device that holds all of this user's that a snapshot sees, but for marks.

    :param marks: of those it holds what transactions below this number wrote (`SyncPage.marks`).
    """
    owner, day = _owner(tide.history, user), tide.now_us // _DAY_US
    return _Cursor(owner, day, _pack(tide.snapshot), marks=marks).encode()


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


class _Page:
    """One page while it is being filled."""

    def __init__(self, pool: Pool, user: bytes, base: Snapshot | None, marks: Snapshot | None, after: int) -> None:
        self._pool = pool
        self._user = user
        self._base = base
        self._marks = marks
        self._after = after
        self.pushes: list[SyncPush] = []

    async def fill(self, ids: Sequence[bytes], floors: Sequence[int], news: Sequence[str]) -> tuple[bytes, int] | None:
        """Fill it from these conversations; where the next page begins, None if there is none.

        :param floors: of each, the seq up to which nothing is for the user.
        :param news: what of each is new, as `changed` in `store/sql/sync.sql` says.
        """
        if not ids:
            return None
        bases = [None if each == "whole" else str(self._base) for each in news]
        marks = self._marks and str(self._marks)
        found = await some_of(self._pool, self._user, ids[:MAX_CONVERSATIONS], bases[:MAX_CONVERSATIONS], marks)
        by_id = {conversation.conversation: conversation for conversation in found}
        size, count = 0, 0
        for each in ids[:MAX_CONVERSATIONS]:
            size += _size(by_id[each]) if each in by_id else 0
            if count and size > MAX_BYTES:
                break
            count += 1
        rest = (ids[count], -1) if count < len(ids) else None
        if self._base is None:
            self.pushes += [by_id[each] for each in ids[:count] if each in by_id]
            return rest
        departed = await self._departed([each for each in ids[:count] if each not in by_id])
        told = [
            [departed[each]] if each in departed else _told(by_id[each], kind) if each in by_id else []
            for each, kind in zip(ids[:count], news, strict=False)
        ]
        return await self._add_messages(told, ids[:count], floors[:count], max(MAX_BYTES - size, 0)) or rest

    async def _departed(self, ids: Sequence[bytes]) -> dict[bytes, Departed]:
        """Those in which the user does not take part now."""
        if not ids:
            return {}
        versions = await self._pool.fetch(_sql.departed, {"user": uuid(self._user), "conversations": uuids(ids)})
        return {each: Departed(each, [self._user], version) for each, version in versions}

    async def _add_messages(
        self, told: Sequence[Sequence[SyncPush]], ids: Sequence[bytes], floors: Sequence[int], max_bytes: int
    ) -> tuple[bytes, int] | None:
        """
        :param told: what is told of each conversation before its messages.
        """
        after = [*floors]
        if self._after >= 0:
            after[0] = max(after[0], self._after)
        parameters = {
            "user": self._user,
            "conversations": ids,
            "after": after,
            "base": str(self._base),
            "limit": MAX_MESSAGES,
            "bytes": max_bytes,
        }
        rows = await self._pool.read(_MESSAGES, parameters)
        messages: dict[bytes, list[tuple[Any, ...]]] = {}
        for row in rows:
            messages.setdefault(row[0], []).append(row)
        for n, each in enumerate(ids):
            # A conversation that goes on from the page before was told of there.
            if n > 0 or self._after < 0:
                self.pushes += told[n]
            is_departed = any(isinstance(push, Departed) for push in told[n])
            for row in messages.get(each, ()):
                if row[-1]:
                    return each, after[n]
                after[n] = row[1]
                if not is_departed:
                    self.pushes.append(message_of(*row))
        return None


def _told(conversation: Conversation, news: str) -> list[SyncPush]:
    """What is told of a conversation; its messages come by themselves."""
    told: list[SyncPush] = []
    if news == "whole":
        return [replace(conversation, last_message=None)]
    if news == "head":
        told.append(replace(conversation, last_message=None, participants=None))
    if conversation.participants:
        id_, version = conversation.conversation, conversation.members_version
        told.append(Participants(id_, conversation.participants, version))
    return told


def _size(conversation: Conversation) -> int:
    last = conversation.last_message
    content = len(last.content) if isinstance(last, Message) else 0
    people = conversation.participants or ()
    names = sum(len(each.display_name.encode()) for each in people if each.display_name)
    return _CONVERSATION_BYTES + _PARTICIPANT_BYTES * len(people) + names + content
