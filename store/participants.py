"""Who takes part in a group, what they may do, and what a conversation is like: each change is one transaction that is
ordered with the messages.

A change moves the conversation's `participants_version`, so no list of participants from before it is used for a send
after it.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from protocol.frames import Departed, Settings, Stay
from protocol.limits import MAX_PARTICIPANTS
from store import sql
from store.conversations import STARTS_PER_DAY
from store.errors import (
    GroupFull,
    LastAdministrator,
    NotAccepted,
    NotAnAdministrator,
    NotAParticipant,
    NotARequest,
    Refused,
    TooManyStarts,
    UnknownUser,
)
from store.postgres.driver import uuid
from store.postgres.pool import Pool

_sql = sql.load("participants")
_REFUSED: Final[dict[str, type[Refused]]] = {
    "stranger": NotAParticipant,
    "forbidden": NotAnAdministrator,
    "unknown": UnknownUser,
    "full": GroupFull,
    "last": LastAdministrator,
}

Role: TypeAlias = Literal["admin", "member"]


class ParticipantsChange(Struct, frozen=True):
    """The outcome of a change.

    :ivar is_new: false if it was so already.
    :ivar participants: who takes part from now on; empty if nothing has changed.
    :ivar version: of that list.
    :ivar stay: that has ended by it.
    :ivar heir: who has become the administrator by it.
    :ivar was_participant: of somebody who was removed, whether they had been told of the conversation.
    :ivar others_settings: of changed settings, what the others see: nothing that somebody whom they block has set.
    """

    is_new: bool
    participants: list[bytes]
    version: int
    stay: Stay | None = None
    heir: bytes | None = None
    was_participant: bool = True
    others_settings: Settings | None = None


async def add(
    pool: Pool, user: bytes, conversation: bytes, other: bytes, *, starts_per_day: int = STARTS_PER_DAY
) -> ParticipantsChange:
    """Let somebody take part. They see what is sent from now on, or everything, as the group has it.

    Whoever does not know `user` is asked; whoever blocks `user`, or has left by themselves and does not know `user`, is
    among the participants that are shown, and not among `participants`: nothing reaches them.

    :raises NotAParticipant: if `user` does not take part, or it is no group.
    :raises NotAnAdministrator: if the group has administrators and `user` is none of them.
    :raises UnknownUser: if there is no such user.
    :raises GroupFull: if as many take part as may.
    :raises NotAccepted: if the other takes no groups from `user`.
    :raises TooManyStarts: if `user` has brought as many strangers as may be.
    """
    limits = {"limit": MAX_PARTICIPANTS, "starts": starts_per_day}
    return await _change(pool, _sql.add, user, conversation, other, **limits)


async def accept(pool: Pool, user: bytes, conversation: bytes) -> ParticipantsChange:
    """Take part in what was a request. To do it again changes nothing.

    :raises NotAParticipant: if the user is not asked to take part, and does not.
    """
    parameters = {"user": uuid(user), "conversation": uuid(conversation)}
    [(outcome, participants, version)] = await pool.fetch(_sql.accept, parameters)
    if outcome == "stranger":
        raise NotAParticipant
    return ParticipantsChange(outcome == "accepted", participants or [], version or 0)


async def decline(pool: Pool, user: bytes, conversation: bytes) -> Departed:
    """Take no part in what is a request; nobody else is told. What the user's own devices are to be told.

    :raises NotAParticipant: if the user is not asked to take part.
    :raises NotARequest: if the user has accepted.
    """
    parameters = {"user": uuid(user), "conversation": uuid(conversation)}
    [(outcome, version)] = await pool.fetch(_sql.decline, parameters)
    if outcome == "stranger":
        raise NotAParticipant
    if outcome == "accepted":
        raise NotARequest
    return Departed(conversation, [user], version)


async def remove(pool: Pool, user: bytes, conversation: bytes, other: bytes) -> ParticipantsChange:
    """Let somebody take part no more; anybody may leave by themselves.

    When no administrator is left, the participant who has taken part for longest becomes one.

    :raises NotAParticipant: if `user` does not take part, or it is no group.
    :raises NotAnAdministrator: if the group has administrators and `user` is none of them.
    :raises UnknownUser: if the other does not take part.
    """
    parameters = {"user": uuid(user), "conversation": uuid(conversation), "other": uuid(other)}
    [row] = await pool.fetch(_sql.remove, parameters)
    outcome, participants, version, was_participant, heir, delivered, read, since, left = row
    if outcome in _REFUSED:
        raise _REFUSED[outcome]
    stay = Stay(other, delivered, read, since, user if user != other else None, left)
    return ParticipantsChange(True, participants or [], version, stay, heir, bool(was_participant))


async def set_role(pool: Pool, user: bytes, conversation: bytes, other: bytes, role: Role) -> ParticipantsChange:
    """Make somebody an administrator, or no more.

    :raises NotAParticipant, NotAnAdministrator, UnknownUser: as for `remove`.
    :raises LastAdministrator: if no administrator would be left.
    """
    return await _change(pool, _sql.set_role, user, conversation, other, role=role)


async def mute(pool: Pool, user: bytes, conversation: bytes, *, seconds: float) -> None:
    """No offline notices of a conversation for so long; 0: notices again.

    :raises NotAParticipant: if the user does not take part in it.
    """
    parameters = {"user": uuid(user), "conversation": uuid(conversation), "seconds": float(seconds)}
    if not await pool.fetch(_sql.mute, parameters):
        raise NotAParticipant


async def change_settings(
    pool: Pool,
    user: bytes,
    conversation: bytes,
    *,
    name: str | None = None,
    joiners_see_all: bool | None = None,
    lifetime_s: int | None = None,
) -> tuple[ParticipantsChange, Settings]:
    """Give a group another name, show who joins later what was said before, or let messages disappear.

    None leaves it as it is. The settings are returned as the user sees them.

    :param lifetime_s: for how long messages live, those that are there included; 0: as long as the deployment keeps
        them. Of a direct conversation, whose participants are no administrators, this alone may be changed.
    :raises NotAParticipant, NotAnAdministrator: as for `remove`.
    """
    parameters = {
        "user": uuid(user),
        "conversation": uuid(conversation),
        "name": name,
        "joiners_see_all": joiners_see_all,
        "lifetime_s": lifetime_s,
    }
    [(outcome, participants, version, name, floor, sees_all, *rest)] = await pool.fetch(_sql.change, parameters)
    if outcome in _REFUSED:
        raise _REFUSED[outcome]
    own, others = (
        Settings(conversation, name, floor + 1, version or 0, sees_all or None, lifetime_s, actor)
        for lifetime_s, actor in (rest[:2], rest[2:])
    )
    return ParticipantsChange(outcome == "changed", participants or [], version or 0, others_settings=others), own


async def _change(
    pool: Pool, query: str, user: bytes, conversation: bytes, other: bytes, **more: Any
) -> ParticipantsChange:
    parameters = {"user": uuid(user), "conversation": uuid(conversation), "other": uuid(other), **more}
    [(outcome, participants, version, *wait_s)] = await pool.fetch(query, parameters)
    if outcome in _REFUSED:
        raise _REFUSED[outcome]
    if outcome == "refused":
        raise NotAccepted([other])
    if outcome == "limited":
        raise TooManyStarts(wait_s[0])
    return ParticipantsChange(outcome == "changed", participants or [], version or 0)
