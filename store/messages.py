"""Messages: sending them in batches, and reading history."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import structlog
from msgspec import Struct
from msgspec.structs import replace

from protocol import ids
from protocol.frames import Message, Tombstone
from protocol.limits import TEMP_ID_DAYS
from store import sql
from store.envelopes import EnvelopeTable, PackedEnvelopes, columns_of, page_with_own, tables_of
from store.errors import (
    ATTACHMENT_OUTCOMES,
    ControlConflict,
    DatabaseError,
    Locked,
    NotAParticipant,
    Overloaded,
    RecipientDeleted,
    Retryable,
    StaleDevices,
    StoreError,
    TempIdConflict,
    TempIdExpired,
    Unavailable,
    UnknownMessage,
    UnlistedDevices,
)
from store.listed_devices import ListedDevices
from store.participant_lists import ParticipantsCache
from store.postgres.columns import BIGINT, BIGINTS, BOOLS, BYTEAS, INT, TEXTS, UUID, UUIDS
from store.postgres.driver import byteas, uuid, uuids
from store.postgres.pool import Pool
from store.postgres.reads import StatementReader
from store.postgres.statement import Statement
from store.rows import message_of

log = structlog.get_logger(__name__)
_sql = sql.load("messages")
_SEND: Final = Statement(
    _sql.send,
    {
        "lock_ms": INT,
        "conversations": UUIDS,
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
        "reply_to": BIGINTS,
        "attachments": TEXTS,
        "thumbnail": BYTEAS,
        "device": UUIDS,
        "is_quiet": BOOLS,
        "devices_version": BIGINTS,
        "envelopes": BYTEAS,
        "envelope_devices": UUIDS,
        "envelope_ends": BIGINTS,
        "envelope_of": BIGINTS,
        "envelope_upto": BIGINTS,
        "follows": BIGINTS,
    },
)

_PAGE: Final = {"conversation": UUID, "user": UUID, "before": BIGINT, "limit": BIGINT, "bytes": BIGINT}
HISTORY_BEFORE: Final = Statement(_sql.history_before, _PAGE)
HISTORY_AFTER: Final = Statement(_sql.history_after, {**_PAGE, "after": BIGINT})
HISTORY_AROUND: Final = Statement(
    _sql.history_around,
    {"conversation": UUID, "user": UUID, "around": BIGINT, "older": BIGINT, "newer": BIGINT, "bytes": BIGINT},
)
MESSAGES_BETWEEN: Final = Statement(
    _sql.messages_between, {"conversation": UUID, "users": UUIDS, "after": BIGINT, "upto": BIGINT, "limit": BIGINT}
)
CURRENT_PARTICIPANTS: Final = Statement(_sql.current_participants, {"conversation": UUID})
_TYPING_TO: Final = Statement(
    _sql.typing_recipients.rstrip(";"), {"conversation": UUID, "user": UUID}, label="messages.typing_recipients"
)

MAX_ATTEMPTS: Final = 3
"""For a batch that met a duplicate or a deadlock: the second attempt sees the rows that the first one ran into."""

LOCK_WAIT_S: Final = 5.0
"""How long a send waits for a conversation that another transaction has locked, unless its caller says otherwise."""

_REMEMBERED_MS: Final = TEMP_ID_DAYS * 86_400_000


class NewMessage(Struct, frozen=True, gc=False):
    """A send as a client requests it; ids are 16 bytes, those of attachments included.

    :ivar device: the device that sends it; None only where it is not known.
    :ivar is_quiet: it counts neither as unread nor for notices.
    :ivar devices_version: of the conversation's device set, for which it is encrypted; None: not told.
    :ivar envelopes: for some devices of the set; None: none.
    :ivar follows: of a control message: the seq of the one before it, 0 for the first; None: it is none.
    """

    conversation: bytes
    sender: bytes
    temp_id: bytes
    content_type: str
    content: bytes
    nonce: bytes | None
    ephemeral_public_key: bytes | None
    reply_to: int | None = None
    attachments: list[bytes] | None = None
    thumbnail: bytes | None = None
    device: bytes | None = None
    is_quiet: bool = False
    devices_version: int | None = None
    envelopes: PackedEnvelopes | None = None
    follows: int | None = None

    @property
    def size_bytes(self) -> int:
        """The bytes of its content and thumbnail, which each device gets."""
        return len(self.content) + len(self.thumbnail or b"")

    @property
    def envelope_bytes(self) -> int:
        """The bytes of its envelopes, each of which one device gets."""
        return 0 if self.envelopes is None else len(self.envelopes.body)

    def digest(self) -> bytes:
        """A digest of everything that a retry with the same temp_id must repeat, but for the conversation. 32 bytes.

        Without the device: a user's other device may repeat the send. Without the version of the device set: a message
        that was accepted is not refused later.
        """
        # Postgres refuses a lone surrogate: this message alone fails, not its batch.
        parts = (self.content_type.encode(errors="surrogatepass"), self.content, self.nonce, self.ephemeral_public_key)
        # Each part with its length, and None distinct from empty: no two messages have the same bytes.
        framed = [b"-" if part is None else b"%d:%b" % (len(part), part) for part in parts]
        if self.reply_to is not None:
            framed.append(b"%d" % self.reply_to)
        if self.attachments is not None:
            framed.append(b"a%b" % b"".join(self.attachments))
        if self.thumbnail is not None:
            framed.append(b"t%b" % self.thumbnail)
        if self.is_quiet:
            framed.append(b"q")
        if self.envelopes is not None:
            framed += (b"e", *self.envelopes.framed)
        if self.follows is not None:
            framed.append(b"f%d" % self.follows)
        return blake2b(b"".join(framed), digest_size=32).digest()


class Committed(Struct, frozen=True, gc=False):
    """The outcome of a committed send.

    :ivar is_new: false for a retry: then the first request fans the message out.
    :ivar participants: of the conversation, at the commit.
    :ivar device: of a retry, the device that wrote the message; None if that is not known, or the message is gone.
    :ivar quiet_count: how many of the conversation's messages up to this one are quiet; None for 0, and in the answer
        to a retry of a message that is gone.
    """

    message: bytes
    seq: int
    created: int
    is_new: bool
    participants: tuple[bytes, ...]
    device: bytes | None = None
    quiet_count: int | None = None


Outcome: TypeAlias = Committed | StoreError


async def send(
    pool: Pool,
    cache: ParticipantsCache,
    batch: Sequence[NewMessage],
    *,
    lock_wait_s: float = LOCK_WAIT_S,
    now_ms: int | None = None,
) -> list[Outcome]:
    """Commit a batch in one transaction and one round trip; one outcome for each, in order.

    One bad message fails alone: where Postgres refuses the batch, each message is tried by itself. Outcomes are
    `Committed`, `NotAParticipant`, `TempIdConflict`, `TempIdExpired`, `UnknownMessage` (to reply to),
    `UnknownAttachment`, `AttachmentIncomplete`, `AttachmentUsed`, `ControlConflict`, `StaleDevices`, `UnlistedDevices`,
    `Unavailable` (the outcome is unknown; a retry with the same temp_id finds out), `Locked`, `Overloaded`, or
    `StoreError` for a fault.

    :param lock_wait_s: how long to wait for a conversation that another transaction has locked; 0 does not wait.
    :param now_ms: the time by Postgres' clock, to find temp_ids that are too old; by default this machine's.
    """
    first: dict[tuple[bytes, bytes], int] = {}
    for n, message in enumerate(batch):
        first.setdefault((message.sender, message.temp_id), n)
    unique = [batch[n] for n in first.values()]
    oldest_ms = (time.time_ns() // 1_000_000 if now_ms is None else now_ms) - _REMEMBERED_MS
    try:
        if any(_is_old(message.temp_id, oldest_ms) for message in unique):
            outcomes = await _send_with_old(pool, cache, unique, lock_wait_s, oldest_ms)
        else:
            outcomes = await _send_new(pool, cache, unique, lock_wait_s)
    except (Unavailable, Overloaded) as error:
        return [error] * len(batch)
    if len(unique) == len(batch):
        return outcomes
    by_first = dict(zip(first.values(), outcomes, strict=True))
    answered = [(n, first[message.sender, message.temp_id], message) for n, message in enumerate(batch)]
    return [
        by_first[f] if n == f else _outcome_of_duplicate(message, batch[f], by_first[f]) for n, f, message in answered
    ]


def _is_old(temp_id: bytes, oldest_ms: int) -> bool:
    ms = ids.uuid7_ms(temp_id)
    return ms is not None and ms < oldest_ms


async def _send_with_old(
    pool: Pool, cache: ParticipantsCache, unique: list[NewMessage], lock_wait_s: float, oldest_ms: int
) -> list[Outcome]:
    """Look up messages whose temp_id may have been forgotten, and store none of them: such a message is either a retry
    of a message that is found, or `TempIdExpired`."""
    old = [each for each in unique if _is_old(each.temp_id, oldest_ms)]
    parameters = {
        "sender": uuids([message.sender for message in old]),
        "temp_id": uuids([message.temp_id for message in old]),
        "conversation": uuids([message.conversation for message in old]),
        "digest": byteas([message.digest() for message in old]),
    }
    outcomes: dict[tuple[bytes, bytes], Outcome] = {(each.sender, each.temp_id): TempIdExpired() for each in old}
    for n, seq, message_id, created, device, quiet_count, is_same in await pool.fetch(_sql.sent_before, parameters):
        committed = Committed(message_id, seq, created, False, (), device, quiet_count or None)
        outcome = committed if is_same else TempIdConflict()
        outcomes[old[n - 1].sender, old[n - 1].temp_id] = outcome
    new = [message for message in unique if (message.sender, message.temp_id) not in outcomes]
    if new:
        sent = await _send_new(pool, cache, new, lock_wait_s)
        outcomes |= {(each.sender, each.temp_id): outcome for each, outcome in zip(new, sent, strict=True)}
    return [outcomes[message.sender, message.temp_id] for message in unique]


async def _send_new(
    pool: Pool, cache: ParticipantsCache, unique: list[NewMessage], lock_wait_s: float
) -> list[Outcome]:
    try:
        return await _send_unique(pool, cache, unique, lock_wait_s)
    except Locked as error:
        return [error] * len(unique)
    except DatabaseError as error:
        return await _send_alone(pool, cache, unique, lock_wait_s, error)


def _outcome_of_duplicate(message: NewMessage, first: NewMessage, outcome: Outcome) -> Outcome:
    """The outcome of a message with the temp_id of an earlier one in the batch: the earlier one's, if they are
    equal, whichever of the user's devices sent them."""
    if replace(message, device=first.device, devices_version=first.devices_version) == first:
        if isinstance(outcome, Committed):
            return replace(outcome, is_new=False, device=outcome.device or first.device)
        return outcome
    if isinstance(outcome, Committed):
        return TempIdConflict()
    # The first was refused for reasons of its own; this message may be a retry of one that was sent before.
    return Overloaded("a temp_id used twice at once", 1)


async def _send_alone(
    pool: Pool, cache: ParticipantsCache, unique: list[NewMessage], lock_wait_s: float, error: DatabaseError
) -> list[Outcome]:
    log.warning("batch_refused", rows=len(unique), error=repr(error))
    outcomes: list[Outcome] = []
    for message in unique:
        try:
            outcomes += await _send_unique(pool, cache, [message], lock_wait_s)
        except Locked as locked:
            outcomes.append(locked)
        except (Unavailable, Overloaded) as unavailable:
            # Each of the rest would wait as long, and so would all senders behind them.
            return outcomes + [unavailable] * (len(unique) - len(outcomes))
        except DatabaseError as own:
            log.exception("send_refused", conversation=message.conversation.hex(), sender=message.sender.hex())
            outcomes.append(StoreError(f"Postgres refused the message: {own.sqlstate}"))
    return outcomes


async def _send_unique(
    pool: Pool, cache: ParticipantsCache, batch: list[NewMessage], lock_wait_s: float
) -> list[Outcome]:
    parameters, cached = _parameters(cache, batch)
    parameters["lock_ms"] = round(lock_wait_s * 1000)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            rows = await pool.run(_SEND, parameters)
            break
        except Retryable as error:
            if attempt == MAX_ATTEMPTS:
                raise
            log.info("batch_retried", rows=len(batch), error=str(error))
    outcomes = _outcomes(cache, cached, batch, rows)
    if parameters["envelope_of"] is not None:
        _note_devices(cache.devices, batch, outcomes)
    return outcomes


def _is_looked_up(listed: ListedDevices, message: NewMessage) -> bool:
    """Whether Postgres has to find the devices of its envelopes in the device set."""
    envelopes, version = message.envelopes, message.devices_version
    return envelopes is not None and (
        version is None or not listed.has_all(message.conversation, version, envelopes.devices)
    )


def _note_devices(listed: ListedDevices, batch: list[NewMessage], outcomes: list[Outcome]) -> None:
    """Note the devices that Postgres has found in the device sets of the versions that the messages name."""
    for message, outcome in zip(batch, outcomes, strict=True):
        envelopes, version = message.envelopes, message.devices_version
        if envelopes is not None and version is not None and isinstance(outcome, Committed) and outcome.is_new:
            listed.add(message.conversation, version, envelopes.devices)


_Cached: TypeAlias = dict[bytes, tuple[int, tuple[bytes, ...]]]


def _parameters(cache: ParticipantsCache, batch: list[NewMessage]) -> tuple[dict[str, Any], _Cached]:
    cached: _Cached = {}
    known_versions: list[int | None] = []
    for message in batch:
        if message.conversation in cached:
            known_versions.append(None)
            continue
        cached[message.conversation] = entry = cache.get(message.conversation) or (0, ())
        known_versions.append(entry[0])
    parameters = {
        "conversations": list(cached),
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
        "reply_to": [message.reply_to for message in batch],
        "attachments": None,
        "thumbnail": None,
        "device": [message.device for message in batch],
        "is_quiet": [message.is_quiet for message in batch],
        "devices_version": None,
        **dict.fromkeys(("envelopes", "envelope_devices", "envelope_ends", "envelope_of", "envelope_upto", "follows")),
    }
    if any(message.attachments is not None for message in batch):
        parameters["attachments"] = [
            None if message.attachments is None else _array(message.attachments) for message in batch
        ]
    if any(message.thumbnail is not None for message in batch):
        parameters["thumbnail"] = [message.thumbnail for message in batch]
    if any(message.devices_version is not None for message in batch):
        parameters["devices_version"] = [message.devices_version for message in batch]
    if any(message.envelopes is not None for message in batch):
        looked_up = {n for n, message in enumerate(batch) if _is_looked_up(cache.devices, message)}
        parameters |= columns_of([message.envelopes for message in batch], looked_up)
    if any(message.follows is not None for message in batch):
        parameters["follows"] = [message.follows for message in batch]
    return parameters, cached


def _array(ids_: list[bytes]) -> str:
    """The text of a uuid[]: Postgres has no arrays of arrays of different lengths."""
    return f"{{{','.join(map(bytes.hex, ids_))}}}"


def _message_ids(count: int) -> list[bytes]:
    """Ids of one batch, in order of their time. Only their uniqueness matters."""
    ms, noise, size = time.time_ns() // 1_000_000, os.urandom(ids.NOISE_BYTES * count), ids.NOISE_BYTES
    return [ids.uuid7(ms, noise[at : at + size]) for at in range(0, len(noise), size)]


_REFUSED: Final[dict[str, type[StoreError]]] = {
    "stranger": NotAParticipant,
    "closed": RecipientDeleted,
    "conflict": TempIdConflict,
    "unknown": UnknownMessage,
    **ATTACHMENT_OUTCOMES,
    "locked": Locked,
}


def _outcomes(
    cache: ParticipantsCache, cached: _Cached, batch: list[NewMessage], rows: list[tuple[Any, ...]]
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for message, row in zip(batch, rows, strict=True):
        _, outcome, seq, message_id, created, device, quiet_count, version, participants, *stale = row
        # They come with the first row of a conversation, even a refused one, and apply to all of its rows.
        if participants is not None:
            cached[message.conversation] = (version, tuple(participants))
            cache.put(message.conversation, *cached[message.conversation])
        if outcome == "devices":
            outcomes.append(StaleDevices(*stale[:2]))
        elif outcome == "control":
            outcomes.append(ControlConflict(stale[2]))
        elif outcome == "unlisted":
            outcomes.append(UnlistedDevices(stale[1]))
        elif outcome in _REFUSED:
            outcomes.append(_REFUSED[outcome]())
        else:
            # The message of a blocked sender goes to the sender's own devices only.
            known = (message.sender,) if outcome == "silent" else cached[message.conversation][1]
            is_new = outcome != "again"
            outcomes.append(Committed(message_id, seq, created, is_new, known, device, quiet_count or None))
    return outcomes


class HistoryPage(Struct, frozen=True):
    """Some messages of a conversation.

    :ivar more: there are further messages, in the direction of the page.
    :ivar first_seq: the first seq that the user may read.
    """

    messages: list[Message | Tombstone]
    more: bool
    first_seq: int


async def history(
    pool: StatementReader,
    user: bytes,
    conversation: bytes,
    *,
    limit: int,
    before: int | None = None,
    after: int | None = None,
    max_bytes: int | None = None,
    device: bytes | None = None,
) -> HistoryPage:
    """A page of history: newest first, or oldest first if `after` is given.

    :param before: only messages with a smaller seq.
    :param after: only messages with a greater seq.
    :param max_bytes: of all contents, nonces, keys and envelopes together; the first message is returned even if it has
        more.
    :param device: of the user; its envelopes come with the messages. None: no envelopes.
    :raises NotAParticipant: if the user may not see the conversation.
    """
    parameters = {
        "conversation": conversation,
        "user": user,
        "before": 2**63 - 1 if before is None else before,
        "after": after,
        "limit": limit + 1,
        "bytes": max_bytes,
    }
    rows = await pool.read(HISTORY_BEFORE if after is None else HISTORY_AFTER, parameters)
    if not rows:
        raise NotAParticipant
    found = [row for row in rows if row[0] is not None]
    page = [message_of(conversation, *row) for row in found[:limit] if row[-1]]
    page = await page_with_own(pool, device, page, max_bytes)
    return HistoryPage(page, len(page) < len(found), rows[0][-2])


class PageAround(Struct, frozen=True):
    """Some messages of a conversation, oldest first, and whether there are others before and after them."""

    messages: list[Message | Tombstone]
    has_older: bool
    has_newer: bool


async def history_around(
    pool: StatementReader,
    user: bytes,
    conversation: bytes,
    *,
    around: int,
    limit: int,
    max_bytes: int | None = None,
    device: bytes | None = None,
) -> PageAround:
    """A page of history with `around`, or the place where it would be, in the middle.

    :param max_bytes: like in `history`; the messages nearest to `around` are returned first.
    :param device: as in `history`.
    :raises NotAParticipant: if the user may not see the conversation.
    """
    older, newer = limit // 2 + 1, (limit - 1) // 2
    parameters = {"conversation": conversation, "user": user, "around": around, "older": older + 1, "newer": newer + 1}
    parameters["bytes"] = max_bytes
    rows = await pool.read(HISTORY_AROUND, parameters)
    if not rows:
        raise NotAParticipant
    found = [row for row in rows if row[0] is not None]
    before = [row for row in found if row[0] <= around]
    after = [row for row in found if row[0] > around]
    page = [message_of(conversation, *row) for row in (*before[-older:], *after[:newer]) if row[-1]]
    page.sort(key=lambda message: (abs(message.seq - around), message.seq))
    page = await page_with_own(pool, device, page, max_bytes)
    page.sort(key=lambda message: message.seq)
    has_older = bool(before) and page[0].seq > before[0][0]
    return PageAround(page, has_older, bool(after) and page[-1].seq < after[-1][0])


class MissedMessage(Struct, frozen=True):
    """A message that a node may not have pushed.

    :ivar message: as its sender sees it.
    :ivar holders: the users, among some, whose devices are told it.
    :ivar hiders: those who have deleted it for themselves: their devices are told a tombstone.
    :ivar envelopes: of all devices; None if it has none.
    """

    message: Message | Tombstone
    holders: list[bytes]
    hiders: list[bytes]
    envelopes: EnvelopeTable | None = None


async def messages_between(
    pool: Pool, conversation: bytes, users: Sequence[bytes], *, after: int, upto: int, limit: int
) -> list[MissedMessage]:
    """Messages with `after < seq <= upto`, oldest first, for a node that missed them and has devices of these users."""
    parameters = {"conversation": conversation, "users": users, "after": after, "upto": upto, "limit": limit}
    rows = await pool.read(MESSAGES_BETWEEN, parameters)
    found = [message_of(conversation, *row[:-2]) for row in rows]
    tables = await tables_of(pool, found)
    return [
        MissedMessage(message, holders, hiders, table)
        for message, (*_, holders, hiders), table in zip(found, rows, tables, strict=True)
    ]


class ActiveConversation(Struct, frozen=True):
    """A conversation with messages in a period.

    :ivar base: the last seq before the period; a node cannot have missed messages at or below it in the period.
    """

    conversation: bytes
    last_seq: int
    base: int
    participants: list[bytes]


async def active_conversations(pool: Pool, users: Sequence[bytes], *, ago_s: float) -> list[ActiveConversation]:
    """Conversations of these users with a message in the last `ago_s` seconds, by Postgres' clock."""
    rows = await pool.fetch(_sql.active_conversations, {"users": uuids(users), "ago_s": ago_s})
    return [ActiveConversation(*row) for row in rows]


async def expected_deliveries(
    pool: Pool, users: Sequence[bytes], conversation: bytes, *, after: int, upto: int
) -> list[tuple[bytes, int, int]]:
    """The messages with `after < seq <= upto` that are for these users: (user, seq, created), without contents.

    Without messages from before a user joined, even if the group shows them to newcomers, and without the user's own.
    """
    parameters = {"users": uuids(users), "conversation": uuid(conversation), "after": after, "upto": upto}
    return [(user, seq, created) for user, seq, created in await pool.fetch(_sql.expected_deliveries, parameters)]


async def forget_temp_ids(pool: Pool, *, limit: int) -> int:
    """Delete keys of sends that are no longer needed. Looks at about `limit` keys; returns how many, 0 at the end."""
    [(looked_at,)] = await pool.fetch(_sql.forget_temp_ids, {"days": TEMP_ID_DAYS, "limit": limit})
    return int(looked_at)


async def current_participants(pool: Pool, conversation: bytes) -> list[bytes]:
    """The users who take part in a conversation now."""
    return [user for (user,) in await pool.read(CURRENT_PARTICIPANTS, {"conversation": conversation})]


async def typing_recipients(pool: Pool, conversation: bytes, user: bytes) -> list[bytes]:
    """The participants that see a user typing: not the user's blockers, nor users whom the user blocks.

    :raises NotAParticipant: if the user does not take part in it.
    """
    [(users,)] = await pool.read(_TYPING_TO, {"conversation": conversation, "user": user})
    if not users:
        raise NotAParticipant
    return [each for each in users if each != user]
