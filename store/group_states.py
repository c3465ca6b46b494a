"""The state of a conversation's cryptography after its last control message, for devices that join by themselves: with
MLS (RFC 9420, section 12.4.3) a GroupInfo with the ratchet tree.

The store never looks into the bytes. A state belongs to one control message: it is shown while that is the last one.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from store import sql
from store.errors import ControlConflict, NotAParticipant
from store.postgres.columns import BIGINT, BOOL, BYTEA, UUID
from store.postgres.pool import Pool
from store.postgres.statement import Statement

_sql = sql.load("group_states")
_PUT: Final = Statement(
    _sql.put, {"user": UUID, "device": UUID, "conversation": UUID, "control_seq": BIGINT, "body": BYTEA}
)
_STATE: Final = Statement(_sql.state, {"user": UUID, "conversation": UUID, "has_body": BOOL})


class HeldState(Struct, frozen=True):
    """A state as the server holds it.

    :ivar revision: grows with each state of the conversation.
    :ivar device: that put it.
    :ivar put: when, in microseconds since 1970.
    :ivar body: None: it was not asked for.
    """

    revision: int
    device: bytes
    put: int
    body: bytes | None


class GroupState(Struct, frozen=True):
    """The last control message of a conversation, and the state after it.

    :ivar control_seq: 0: there was no control message.
    :ivar held: None: no device has put that state yet.
    """

    control_seq: int
    held: HeldState | None


async def put(pool: Pool, user: bytes, device: bytes, conversation: bytes, control_seq: int, body: bytes) -> None:
    """Store the state after the last control message, in place of the one before. To repeat it changes nothing.

    :param control_seq: of that control message.
    :param body: 1 to `limits.MAX_GROUP_STATE_BYTES`.
    :raises NotAParticipant: if the user takes no part in the conversation, or has not accepted the request.
    :raises ControlConflict: if it is not the last control message, with the last one; nothing is stored.
    """
    values = {"user": user, "device": device, "conversation": conversation, "control_seq": control_seq, "body": body}
    [(outcome, last)] = await pool.run(_PUT, values)
    if outcome == "stranger":
        raise NotAParticipant
    if outcome == "conflict":
        raise ControlConflict(last)


async def state(pool: Pool, user: bytes, conversation: bytes, *, has_body: bool = True) -> GroupState:
    """The state after the last control message, for a participant.

    :param has_body: false: only which state there is.
    :raises NotAParticipant: as `put` does.
    """
    rows = await pool.run(_STATE, {"user": user, "conversation": conversation, "has_body": has_body})
    if not rows:
        raise NotAParticipant
    control_seq, revision, *rest = rows[0]
    return GroupState(control_seq, None if revision is None else HeldState(revision, *rest))
