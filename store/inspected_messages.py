"""What operators see of a message (`python -m server ops message`): whom it was for, their marks, and what waits; no
content, no name of a conversation.

Times are microseconds since 1970, by Postgres' clock. Postgres does not hold when a push was made or a mark moved.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from msgspec import Struct

from protocol.ids import uuid7_ms
from store import sql
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.quiet_hours import QuietHours

_sql = sql.load("inspected_messages")

MARGIN_MS: Final = 300_000
"""How far the clock of the gateway, which made the id, may be from that of Postgres, and how long a commit may take."""


class InspectedConversation(Struct, frozen=True):
    """
    :ivar floor_seq: messages at or below it are gone for everyone.
    :ivar is_closed: direct, and one of the two users is deleted.
    :ivar now: when this was read.
    """

    kind: str
    last_seq: int
    floor_seq: int
    is_closed: bool
    participants: int
    now: int


class InspectedMessage(Struct, frozen=True):
    """
    :ivar created: when it was committed, to the duration of the commit.
    :ivar is_silent: its recipient blocks the sender, and sees a tombstone.
    :ivar is_quiet: it causes no notice.
    :ivar deleted: for everyone; `deleted_by` is the administrator who did it, None: the sender.
    :ivar enveloped: for how many devices the server keeps an envelope; 0: they are gone by now. None: it never had one.
    """

    message: bytes
    sender: bytes
    username: str
    created: int
    is_silent: bool
    is_quiet: bool
    edited: int | None
    deleted: int | None
    deleted_by: bytes | None
    enveloped: int | None = None

    @property
    def accepted(self) -> int | None:
        """When the gateway took it, by the gateway's clock; None: the id does not tell, as of an imported message."""
        ms = uuid7_ms(self.message)
        return None if ms is None else ms * 1000


class InspectedRecipient(Struct, frozen=True):
    """A user who takes part, or took part.

    :ivar part: `participant`; `withheld`: seems to take part and does not; `left`: has left, or was removed.
    :ivar after_seq: messages up to it were sent to others, or may not be read.
    :ivar left_seq: the last message of the stay of a user who has left.
    :ivar delivered, read: the marks, whether others see them or not.
    :ivar delivered_by: the device that moved the delivered mark last; None: none did, or a message of the user's own.
    :ivar asked_seq: it is a request, of the message after this one.
    """

    user: bytes
    username: str
    part: str
    after_seq: int
    left_seq: int | None
    delivered: int
    delivered_by: bytes | None
    read: int
    muted_until: int | None
    asked_seq: int | None
    is_closed: bool
    is_suspended: bool
    is_deleted: bool
    quiet: QuietHours | None


class NoticeQueues(Struct, frozen=True):
    """How far the worker has come.

    :ivar oldest_undecided: when the oldest message was created that waits in the debounce window; None: none waits.
    :ivar oldest_unread: the same for the read window.
    :ivar paused: tasks of notices that an operator has paused.
    """

    oldest_undecided: int | None
    oldest_unread: int | None
    paused: list[str]


async def place_of(pool: Pool, message: UUID) -> tuple[bytes, int] | None:
    """The conversation and the seq of a message. None: it is unknown, or its key of sends has been forgotten
    (`TEMP_ID_DAYS`): only those are found by the id of the message."""
    ms = uuid7_ms(message.bytes)
    if ms is None:
        return None
    rows = await pool.fetch(_sql.by_id, {"message": message, "ms": ms, "margin_ms": MARGIN_MS})
    return (rows[0][0], rows[0][1]) if rows else None


async def conversation_of(pool: Pool, conversation: bytes) -> InspectedConversation | None:
    """None: there is no such conversation."""
    rows = await pool.fetch(_sql.conversation, {"conversation": uuid(conversation)})
    return InspectedConversation(*rows[0]) if rows else None


async def message_of(pool: Pool, conversation: bytes, seq: int) -> InspectedMessage | None:
    """None: Postgres has no message with this number."""
    rows = await pool.fetch(_sql.message, {"conversation": uuid(conversation), "seq": seq})
    return InspectedMessage(*rows[0]) if rows else None


async def recipients_of(
    pool: Pool, conversation: bytes, seq: int, sender: bytes, *, user: bytes | None = None, limit: int
) -> list[InspectedRecipient]:
    """Those who take or took part, other than the sender; users who have not marked the message delivered first.

    :param user: only this one; None: all.
    """
    parameters = {
        "conversation": uuid(conversation),
        "seq": seq,
        "sender": uuid(sender),
        "user": None if user is None else uuid(user),
        "limit": limit,
    }
    found = []
    for row in await pool.fetch(_sql.recipients, parameters):
        quiet = None if row[13] is None else QuietHours(*row[13:])
        found.append(InspectedRecipient(*[*row[:13], quiet]))
    return found


async def queues_of(pool: Pool) -> NoticeQueues:
    """How far the worker has come with notices."""
    [row] = await pool.fetch(_sql.queues)
    return NoticeQueues(*row)
