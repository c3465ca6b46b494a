"""Up-to marks of participants, written in batches, and the users that see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
from msgspec import Struct

from protocol.limits import MAX_SHOWN
from store import sql
from store.errors import (
    DatabaseError,
    Locked,
    NotAParticipant,
    Overloaded,
    Retryable,
    StoreError,
    Unavailable,
    UnknownMessage,
)
from store.messages import current_participants
from store.postgres.columns import BIGINT, BIGINTS, UUID, UUIDS
from store.postgres.pool import Pool
from store.postgres.statement import Statement

log = structlog.get_logger(__name__)
_sql = sql.load("marks")
_COLUMNS: Final = {"conversation": UUIDS, "user": UUIDS, "delivered": BIGINTS, "read": BIGINTS}
_GIVEN: Final = {**_COLUMNS, "device": UUIDS, "most": BIGINT}
_MARK: Final = Statement(_sql.mark, _GIVEN)
_MARK_UNLOCKED: Final = Statement(
    _sql.mark.replace("/* skip locked */", "skip locked"), _GIVEN, label="marks.mark_unlocked"
)
_BEHIND: Final = Statement(_sql.behind, _COLUMNS)

_COUNTS: Final = Statement(
    _sql.receipt_counts, {"conversation": UUID, "after": BIGINT, "upto": BIGINT, "limit": BIGINT}
)
_STATUS: Final = Statement(_sql.message_status, {"conversation": UUID, "user": UUID, "seq": BIGINT})
_DIRECT: Final = Statement(_sql.direct, {"user": UUID, "other": UUID})

MAX_ATTEMPTS: Final = 3


class Mark(Struct, frozen=True, gc=False):
    """A user's devices have stored a conversation up to `delivered`, and the user has read it up to `read`.

    :ivar device: the device that marks; kept, so that notices about unread messages go to the user's other devices.
    """

    user: bytes
    conversation: bytes
    delivered: int
    read: int = 0
    device: bytes | None = None


class MovedMarks(Struct, frozen=True, gc=False):
    """A participant's marks after they moved.

    :ivar delivered, read: as others see them.
    :ivar own_delivered, own_read: as the reader's own devices see them.
    :ivar is_read: whether `own_read` has moved.
    :ivar device: if `is_read`, the device that moved it; None: not known.
    :ivar after: others' marks have passed messages above this seq.
    :ivar authors: the authors of those messages; None in conversations of more than `MAX_SHOWN`.
    :ivar quiet_count: if `is_read`, how many messages up to `own_read` are quiet; None if no message of the
        conversation is, or if it is not known.
    """

    conversation: bytes
    user: bytes
    delivered: int
    read: int
    own_delivered: int
    own_read: int
    is_read: bool
    device: bytes | None
    after: int
    authors: list[bytes] | None
    quiet_count: int | None


class Marked(Struct, frozen=True):
    """The outcome of a batch: for each request None or an error; and the marks that moved."""

    outcomes: list[StoreError | None]
    moved: list[MovedMarks]


async def mark(pool: Pool, batch: Sequence[Sequence[Mark]]) -> Marked:
    """Write the marks of many requests in one transaction.

    Marks only go up, never beyond the conversation's last message. Marks on conversations where the user is not a
    participant are dropped silently: an error would say which conversations exist.
    """
    marks = [mark for request in batch for mark in request]
    parameters = {
        "conversation": [mark.conversation for mark in marks],
        "user": [mark.user for mark in marks],
        "delivered": [mark.delivered for mark in marks],
        "read": [mark.read for mark in marks],
    }
    given = {**parameters, "device": [mark.device for mark in marks], "most": MAX_SHOWN}
    statement, locked = _MARK, set[tuple[bytes, bytes]]()
    moved: list[MovedMarks] = []
    error: StoreError
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            moved += [MovedMarks(*row) for row in await pool.run(statement, given)]
            if statement is _MARK_UNLOCKED:
                locked = {(conversation, user) for conversation, user in await pool.run(_BEHIND, parameters)}
        except (Unavailable, Overloaded) as unavailable:
            return Marked([unavailable] * len(batch), moved)
        except (Retryable, Locked):
            # After this wait the next attempt skips locked rows, and writes the others.
            statement = _MARK_UNLOCKED
            if attempt < MAX_ATTEMPTS:
                continue
            error = Unavailable("Postgres", "", "other transactions kept the marks' rows locked")
            return Marked([error] * len(batch), moved)
        except DatabaseError:
            log.exception("marks_refused", rows=len(marks))
            error = StoreError("Postgres refused the marks")
            return Marked([error] * len(batch), moved)
        break
    outcomes: list[StoreError | None] = [
        Locked() if any((mark.conversation, mark.user) in locked for mark in request) else None for request in batch
    ]
    return Marked(outcomes, moved)


async def receipt_counts(
    pool: Pool, conversation: bytes, *, after: int, upto: int, limit: int
) -> dict[bytes, list[tuple[int, int, int, int]]]:
    """Counts for the latest messages with `after < seq <= upto`, by author: (seq, number of users to whom it was
    delivered, number who read it, number of recipients)."""
    parameters = {"conversation": conversation, "after": after, "upto": upto, "limit": limit}
    found: dict[bytes, list[tuple[int, int, int, int]]] = {}
    for author, seq, delivered, read, recipients in await pool.read(_COUNTS, parameters):
        found.setdefault(author, []).append((seq, delivered, read, recipients))
    return found


async def direct_mark(pool: Pool, user: bytes, other: bytes) -> list[tuple[bytes, int, int]]:
    """The direct conversation of two users and the user's own marks in it: (conversation, delivered, read). Empty if
    they have none."""
    return await pool.read(_DIRECT, {"user": user, "other": other})


class MessageStatus(Struct, frozen=True):
    """The participants that have received and read a message.

    :ivar sender: of the message.
    :ivar receipts: (user, delivered_seq, read_seq) of each recipient: the participants when the message was sent,
        without its sender.
    """

    sender: bytes
    receipts: list[tuple[bytes, int, int]]


async def message_status(pool: Pool, user: bytes, conversation: bytes, seq: int) -> MessageStatus:
    """Which recipients have received and read a message, as far as the user may know.

    :raises NotAParticipant: if the user is not a participant of the conversation.
    :raises UnknownMessage: if the message does not exist, or the user may not see it.
    """
    rows = await pool.read(_STATUS, {"conversation": conversation, "user": user, "seq": seq})
    if not rows:
        if user in await current_participants(pool, conversation):
            raise UnknownMessage
        raise NotAParticipant
    receipts = [(other, delivered, read) for other, delivered, read, _ in rows if other is not None]
    return MessageStatus(rows[0][3], receipts)
