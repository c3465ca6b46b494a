"""Who takes part in a group, what they may do, and what a conversation is like: each change is one transaction that is
ordered with the messages.

A change moves the conversation's `members_version`, so no list of members from before it is used for a send after it.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from protocol.frames import Settings, Stay
from protocol.limits import MAX_PARTICIPANTS
from store import sql
from store.errors import GroupFull, LastAdministrator, NotAnAdministrator, NotAParticipant, Refused, UnknownUser
from store.pool import Pool
from store.postgres import uuid

_sql = sql.load("participants")
_REFUSED: Final[dict[str, type[Refused]]] = {
    "stranger": NotAParticipant,
    "forbidden": NotAnAdministrator,
    "unknown": UnknownUser,
    "full": GroupFull,
    "last": LastAdministrator,
}

Role: TypeAlias = Literal["admin", "member"]


class Membership(Struct, frozen=True):
    """The outcome of a change.

    :ivar is_new: false if it was so already.
    :ivar members: who takes part from now on; empty if nothing has changed.
    :ivar version: of that list.
    :ivar stay: that has ended by it.
    :ivar heir: who has become the administrator by it.
    """

    is_new: bool
    members: list[bytes]
    version: int
    stay: Stay | None = None
    heir: bytes | None = None


async def add(pool: Pool, user: bytes, conversation: bytes, other: bytes) -> Membership:
    """Let somebody take part. They see what is sent from now on, or everything, as the group has it.

    :raises NotAParticipant: if `user` does not take part, or it is no group.
    :raises NotAnAdministrator: if the group has administrators and `user` is none of them.
    :raises UnknownUser: if there is no such user.
    :raises GroupFull: if as many take part as may.
    """
    return await _change(pool, _sql.add, user, conversation, other, limit=MAX_PARTICIPANTS)


async def remove(pool: Pool, user: bytes, conversation: bytes, other: bytes) -> Membership:
    """Let somebody take part no more; anybody may leave by themselves.

    When no administrator is left, the participant who has taken part for longest becomes one.

    :raises NotAParticipant: if `user` does not take part, or it is no group.
    :raises NotAnAdministrator: if the group has administrators and `user` is none of them.
    :raises UnknownUser: if the other does not take part.
    """
    parameters = {"user": uuid(user), "conversation": uuid(conversation), "other": uuid(other)}
    [(outcome, members, version, heir, delivered, read, since, left)] = await pool.fetch(_sql.remove, parameters)
    if outcome in _REFUSED:
        raise _REFUSED[outcome]
    stay = Stay(other, delivered, read, since, user if user != other else None, left)
    return Membership(True, members or [], version, stay, heir)


async def set_role(pool: Pool, user: bytes, conversation: bytes, other: bytes, role: Role) -> Membership:
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
) -> tuple[Membership, Settings]:
    """Give a group another name, show who joins later what was said before, or let messages disappear.

    None leaves it as it is.

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
    [(outcome, members, version, name, floor, sees_all, lifetime_s, actor)] = await pool.fetch(_sql.change, parameters)
    if outcome in _REFUSED:
        raise _REFUSED[outcome]
    settings = Settings(conversation, name, floor + 1, version or 0, sees_all or None, lifetime_s, actor)
    return Membership(outcome == "changed", members or [], version or 0), settings


async def _change(pool: Pool, query: str, user: bytes, conversation: bytes, other: bytes, **more: Any) -> Membership:
    parameters = {"user": uuid(user), "conversation": uuid(conversation), "other": uuid(other), **more}
    [(outcome, members, version)] = await pool.fetch(query, parameters)
    if outcome in _REFUSED:
        raise _REFUSED[outcome]
    return Membership(outcome == "changed", members or [], version or 0)
