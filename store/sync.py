"""What is new for a user since a cursor: conversations that changed, and their messages.

A cursor holds a snapshot of Postgres: which transactions had been committed. New is whatever was written by any other
(`docs/decisions/0009-a-cursor-is-a-snapshot.md`). It belongs to a user and a history, and to nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import cbor2
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.frames import Conversation, Message, Tombstone
from store import sql
from store.conversations import some_of
from store.errors import ForeignCursor
from store.pool import Pool
from store.postgres import bigints, uuid, uuids
from store.rows import message_of

_sql = sql.load("sync")

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


class SyncPage(Struct, frozen=True):
    """Some of what is new.

    :ivar pushes: conversations, each followed by what of its messages is new, edited or deleted, in order of seq.
    :ivar cursor: for what comes after.
    :ivar more: there is more already, or may be.
    """

    pushes: list[Conversation | Message | Tombstone]
    cursor: bytes
    more: bool


class Snapshot(NamedTuple):
    """Which transactions had been committed: those below `xmax` that are not in `under_way`, which is sorted."""

    xmax: int
    under_way: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Postgres' own form of a pg_snapshot."""
        _, xmax, under_way = text.split(":")
        return cls(int(xmax), tuple(sorted(map(int, filter(None, under_way.split(","))))))

    def __str__(self) -> str:
        xmin = self.under_way[0] if self.under_way else self.xmax
        return f"{xmin}:{self.xmax}:{','.join(map(str, self.under_way))}"

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
    :ivar base: what the device holds; empty for nothing.
    :ivar target: what it will hold after the last page; empty before the first.
    :ivar conversation: where the next page begins, in order of ids.
    :ivar after: up to which seq that conversation was on the page before; -1 if it was not.
    """

    owner: bytes
    base: tuple[int, ...] = ()
    target: tuple[int, ...] = ()
    conversation: bytes = bytes(16)
    after: int = -1

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
        if len(cursor.conversation) != 16 or not -1 <= cursor.after < 2**63 or not all(map(_is_snapshot, snapshots)):
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
    """
    given = _Cursor.decode(cursor) if cursor is not None else None
    base = _unpack(given.base) if given else None
    parameters = {
        "user": uuid(user),
        "base": base and str(base),
        "position": uuid(given.conversation if given else bytes(16)),
        "limit": MAX_CONVERSATIONS + 1,
    }
    [(snapshot, newest, history, ids, floors)] = await pool.fetch(_sql.changed, parameters)
    owner = blake2b(history + user, digest_size=8).digest()
    now = Snapshot.parse(snapshot)
    if given and (given.owner != owner or max(given.base[:1] + given.target[:1], default=0) > now.xmax):
        raise ForeignCursor
    target = (given and _unpack(given.target)) or _durable(now, newest, base)
    page = _Page(pool, user, base, given.after if given and ids and ids[0] == given.conversation else -1)
    rest = await page.fill(ids, floors)
    if rest is None:
        # After several pages there is what was committed since the first.
        return SyncPage(page.pushes, _Cursor(owner, _pack(target)).encode(), bool(given and given.target))
    return SyncPage(page.pushes, _Cursor(owner, _pack(base), _pack(target), *rest).encode(), True)


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

    def __init__(self, pool: Pool, user: bytes, base: Snapshot | None, after: int) -> None:
        self._pool = pool
        self._user = user
        self._base = base
        self._after = after
        self.pushes: list[Conversation | Message | Tombstone] = []

    async def fill(self, ids: Sequence[bytes], floors: Sequence[int]) -> tuple[bytes, int] | None:
        """Fill it from these conversations; where the next page begins, None if there is none."""
        found = await some_of(self._pool, self._user, ids[:MAX_CONVERSATIONS])
        by_id = {conversation.conversation: conversation for conversation in found}
        size, count = 0, 0
        for each in ids[:MAX_CONVERSATIONS]:
            # Not there: the user has left it since.
            size += _size(by_id[each]) if each in by_id else 0
            if count and size > MAX_BYTES:
                break
            count += 1
        rest = (ids[count], -1) if count < len(ids) else None
        if self._base is None:
            self.pushes += [by_id[each] for each in ids[:count] if each in by_id]
            return rest
        return await self._add_messages(by_id, ids[:count], floors[:count], max(MAX_BYTES - size, 0)) or rest

    async def _add_messages(
        self, by_id: dict[bytes, Conversation], ids: Sequence[bytes], floors: Sequence[int], max_bytes: int
    ) -> tuple[bytes, int] | None:
        after = [*floors]
        if self._after >= 0:
            after[0] = max(after[0], self._after)
        parameters = {
            "user": uuid(self._user),
            "conversations": uuids(ids),
            "after": bigints(after),
            "base": str(self._base),
            "limit": MAX_MESSAGES,
            "bytes": max_bytes,
        }
        rows = await self._pool.fetch(_sql.messages, parameters)
        messages: dict[bytes, list[tuple[Any, ...]]] = {}
        for row in rows:
            messages.setdefault(row[0], []).append(row)
        for n, each in enumerate(ids):
            conversation = by_id.get(each)
            # A conversation that goes on from the page before was told of there.
            if conversation is not None and (n > 0 or self._after < 0):
                # Its messages come by themselves.
                self.pushes.append(replace(conversation, last_message=None))
            for row in messages.get(each, ()):
                if row[-1]:
                    return each, after[n]
                after[n] = row[1]
                if conversation is not None:
                    self.pushes.append(message_of(*row))
        return None


def _size(conversation: Conversation) -> int:
    last = conversation.last_message
    content = len(last.content) if isinstance(last, Message) else 0
    return _CONVERSATION_BYTES + _PARTICIPANT_BYTES * len(conversation.participants) + content
