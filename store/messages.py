"""Messages: sending them in batches, and reading history."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import structlog
from msgspec import Struct

from protocol.frames import Message, Tombstone
from store import sql
from store.columns import BIGINT, BIGINTS, BYTEAS, TEXT, TEXTS, UUID, UUIDS
from store.errors import NotAParticipant, Overloaded, StoreError, TempIdConflict, Unavailable
from store.members import MembersCache
from store.pool import Pool
from store.postgres import RETRYABLE, Error, uuid, uuids
from store.rows import message_of
from store.statement import Statement

log = structlog.get_logger(__name__)
_sql = sql.load("messages")
_SEND: Final = Statement(
    _sql.send,
    {
        "conversation": UUIDS,
        "known_version": BIGINTS,
        "id": UUIDS,
        "sender": UUIDS,
        "temp_id": UUIDS,
        "digest": BYTEAS,
        "content_type": TEXTS,
        "content": BYTEAS,
        "nonce": BYTEAS,
        "ephemeral_public_key": BYTEAS,
    },
    (BIGINT, TEXT, BIGINT, UUID, BIGINT, BIGINT, UUIDS),
)

MAX_ATTEMPTS: Final = 3
"""For a batch that met a twin or a deadlock: the second attempt sees what the first ran into."""


class NewMessage(Struct, frozen=True, gc=False):
    """A send as it comes from a client; ids are 16 bytes."""

    conversation: bytes
    sender: bytes
    temp_id: bytes
    content_type: str
    content: bytes
    nonce: bytes | None
    ephemeral_public_key: bytes | None

    def digest(self) -> bytes:
        """What a retry with the same temp_id must be equal in. 32 bytes."""
        # A lone surrogate is for Postgres' edge to refuse, alone and not with its batch.
        parts = (self.content_type.encode(errors="surrogatepass"), self.content, self.nonce, self.ephemeral_public_key)
        # Each part with its length, None apart from empty: no two messages have the same bytes.
        framed = [b"-" if part is None else b"%d:%b" % (len(part), part) for part in parts]
        return blake2b(b"".join(framed), digest_size=32).digest()


class Committed(Struct, frozen=True, gc=False):
    """The outcome of a send that is in Postgres.

    :ivar is_new: false for a retry: then somebody else has fanned it out, or will.
    :ivar members: who takes part, as of the commit.
    """

    message: bytes
    seq: int
    created: int
    is_new: bool
    members: tuple[bytes, ...]


Outcome: TypeAlias = Committed | StoreError


async def send(pool: Pool, cache: MembersCache, batch: Sequence[NewMessage]) -> list[Outcome]:
    """Commit a batch in one transaction and one round trip; one outcome for each, in order.

    One bad message fails alone: where Postgres refuses the batch, each is tried by itself. Outcomes are `Committed`,
    `NotAParticipant`, `TempIdConflict`, `Unavailable` (it may be committed; a retry with the same temp_id finds out),
    `Overloaded`, or `StoreError` for a fault.
    """
    first: dict[tuple[bytes, bytes], int] = {}
    for n, message in enumerate(batch):
        first.setdefault((message.sender, message.temp_id), n)
    unique = [batch[n] for n in first.values()]
    try:
        outcomes = await _send_unique(pool, cache, unique)
    except (Unavailable, Overloaded) as error:
        return [error] * len(batch)
    except Error as error:
        outcomes = await _send_alone(pool, cache, unique, error)
    by_first = dict(zip(first.values(), outcomes, strict=True))
    answered = [(n, first[message.sender, message.temp_id], message) for n, message in enumerate(batch)]
    return [by_first[f] if n == f else _outcome_of_twin(message, batch[f], by_first[f]) for n, f, message in answered]


def _outcome_of_twin(message: NewMessage, first: NewMessage, outcome: Outcome) -> Outcome:
    """Of a message whose temp_id stood in the batch before: the first one answers for it if they are the same."""
    if message == first:
        if isinstance(outcome, Committed):
            return Committed(outcome.message, outcome.seq, outcome.created, False, outcome.members)
        return outcome
    if isinstance(outcome, Committed):
        return TempIdConflict()
    # The first was refused, for reasons of its own: this one may be the retry of what was sent under the temp_id.
    return Overloaded("a temp_id used twice at once", 1)


async def _send_alone(pool: Pool, cache: MembersCache, unique: list[NewMessage], error: Error) -> list[Outcome]:
    log.warning("batch_refused", rows=len(unique), error=repr(error))
    outcomes: list[Outcome] = []
    for message in unique:
        try:
            outcomes += await _send_unique(pool, cache, [message])
        except (Unavailable, Overloaded) as unavailable:
            # Each of the rest would wait as long, and everybody behind them.
            return outcomes + [unavailable] * (len(unique) - len(outcomes))
        except Error as own:
            log.exception("send_refused", conversation=message.conversation.hex(), sender=message.sender.hex())
            outcomes.append(StoreError(f"Postgres refused the message: {type(own).__name__}"))
    return outcomes


async def _send_unique(pool: Pool, cache: MembersCache, batch: list[NewMessage]) -> list[Outcome]:
    parameters, cached = _parameters(cache, batch)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            rows = await pool.run(_SEND, parameters)
            break
        except RETRYABLE as error:
            if attempt == MAX_ATTEMPTS:
                raise
            log.info("batch_retried", rows=len(batch), error=type(error).__name__)
    return _outcomes(cache, cached, batch, rows)


_Cached: TypeAlias = dict[bytes, tuple[int, tuple[bytes, ...]]]


def _parameters(cache: MembersCache, batch: list[NewMessage]) -> tuple[dict[str, Any], _Cached]:
    cached: _Cached = {}
    known_versions: list[int | None] = []
    for message in batch:
        if message.conversation in cached:
            known_versions.append(None)
            continue
        cached[message.conversation] = entry = cache.get(message.conversation) or (0, ())
        known_versions.append(entry[0])
    parameters = {
        "conversation": [message.conversation for message in batch],
        "known_version": known_versions,
        "id": _message_ids(len(batch)),
        "sender": [message.sender for message in batch],
        "temp_id": [message.temp_id for message in batch],
        "digest": [message.digest() for message in batch],
        "content_type": [message.content_type for message in batch],
        "content": [message.content for message in batch],
        "nonce": [message.nonce for message in batch],
        "ephemeral_public_key": [message.ephemeral_public_key for message in batch],
    }
    return parameters, cached


def _message_ids(count: int) -> list[bytes]:
    """UUIDs of version 7 (RFC 9562): the time first, so that they are born in order. Only their uniqueness counts."""
    prefix = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    noise = os.urandom(10 * count)
    ids = []
    for i in range(0, len(noise), 10):
        tail = bytearray(noise[i : i + 10])
        tail[0] = tail[0] & 0x0F | 0x70
        tail[2] = tail[2] & 0x3F | 0x80
        ids.append(prefix + tail)
    return ids


def _outcomes(
    cache: MembersCache, cached: _Cached, batch: list[NewMessage], rows: list[tuple[Any, ...]]
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for message, (_, outcome, seq, message_id, created, version, members) in zip(batch, rows, strict=True):
        # They come with the first row of a conversation, a stranger's perhaps, and count for all of its rows.
        if members is not None:
            cached[message.conversation] = (version, members)
            cache.put(message.conversation, version, members)
        if outcome == "stranger":
            outcomes.append(NotAParticipant())
        elif outcome == "conflict":
            outcomes.append(TempIdConflict())
        else:
            known = cached[message.conversation][1]
            outcomes.append(Committed(message_id, seq, created, outcome == "sent", known))
    return outcomes


class Page(Struct, frozen=True):
    """Some messages of a conversation.

    :ivar more: there are others beyond them, in the direction in which they come.
    """

    messages: list[Message | Tombstone]
    more: bool


async def history(
    pool: Pool,
    user: bytes,
    conversation: bytes,
    *,
    limit: int,
    before: int | None = None,
    after: int | None = None,
    max_bytes: int | None = None,
) -> Page:
    """A page of history: newest first, or oldest first if `after` is given.

    :param before: only those with a smaller seq.
    :param after: only those with a greater seq.
    :param max_bytes: of all contents together, unless the first has more.
    :raises NotAParticipant: if the user may not see the conversation.
    """
    parameters = {
        "conversation": uuid(conversation),
        "user": uuid(user),
        "before": 2**63 - 1 if before is None else before,
        "after": after,
        "limit": limit + 1,
        "bytes": max_bytes,
    }
    rows = await pool.fetch(_sql.history_before if after is None else _sql.history_after, parameters)
    if not rows:
        raise NotAParticipant
    found = [row for row in rows if row[0] is not None]
    page = [message_of(conversation, *row) for row in found[:limit] if row[-1]]
    return Page(page, len(page) < len(found))


async def range_of(pool: Pool, conversation: bytes, *, after: int, upto: int, limit: int) -> list[Message | Tombstone]:
    """Messages with `after < seq <= upto`, oldest first, for a node that missed them; checks no membership."""
    parameters = {"conversation": uuid(conversation), "after": after, "upto": upto, "limit": limit}
    return [message_of(conversation, *row) for row in await pool.fetch(_sql.range, parameters)]


class Moved(Struct, frozen=True):
    """A conversation that moved lately.

    :ivar base: the last seq from before the period; nothing at or below it can have been missed in it.
    """

    conversation: bytes
    last_seq: int
    base: int
    members: tuple[bytes, ...]


async def recent(pool: Pool, users: Sequence[bytes], *, ago_s: float) -> list[Moved]:
    """Of the conversations of these users, those with a message in the last `ago_s` seconds, by Postgres' clock."""
    rows = await pool.fetch(_sql.recent, {"users": uuids(users), "ago_s": ago_s})
    return [Moved(conversation, last_seq, base, tuple(members)) for conversation, last_seq, base, members in rows]


async def members(pool: Pool, conversation: bytes) -> tuple[bytes, ...]:
    """Who gets the messages of a conversation now."""
    return tuple(row[0] for row in await pool.fetch(_sql.members, {"conversation": uuid(conversation)}))
