"""Changes to a conversation's participants, their roles and its settings: each is one transaction, ordered with the
messages.

A change moves the conversation's `participants_version`, so no later send uses a list of participants from before it.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from protocol.frames import Departed, Settings, Stay
from protocol.limits import MAX_PARTICIPANTS
from store import sql
from store.avatars import avatar_of
from store.conversations import PLACES_PER_DAY, STARTS_PER_DAY
from store.errors import (
    ATTACHMENT_OUTCOMES,
    GroupFull,
    LastAdministrator,
    NotAccepted,
    NotAGroup,
    NotAnAdministrator,
    NotAParticipant,
    NotARequest,
    Refused,
    TooManyPlaces,
    TooManyStarts,
    UnknownUser,
)
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.rows import stay_of

_sql = sql.load("participants")
_REFUSED: Final[dict[str, type[Refused]]] = {
    "stranger": NotAParticipant,
    "no_group": NotAGroup,
    "forbidden": NotAnAdministrator,
    "unknown": UnknownUser,
    "full": GroupFull,
    "last": LastAdministrator,
    **ATTACHMENT_OUTCOMES,
}

Role: TypeAlias = Literal["admin", "member"]


class ParticipantsChange(Struct, frozen=True):
    """The outcome of a change.

    :ivar is_new: false if it changed nothing.
    :ivar participants: from now on; empty if nothing has changed.
    :ivar version: of that list.
    :ivar stay: the stay that ended.
    :ivar heir: the participant who became administrator.
    :ivar was_participant: whether a removed user had been told of the conversation.
    :ivar others_settings: changed settings as the others see them: without those that a user whom they block has set.
    """

    is_new: bool
    participants: list[bytes]
    version: int
    stay: Stay | None = None
    heir: bytes | None = None
    was_participant: bool = True
    others_settings: Settings | None = None


async def add(
    pool: Pool,
    user: bytes,
    conversation: bytes,
    other: bytes,
    *,
    starts_per_day: int = STARTS_PER_DAY,
    places_per_day: int = PLACES_PER_DAY,
) -> ParticipantsChange:
    """Add a user to a group. They see messages from now on, or all, depending on the group's settings.

    A user who does not know `user` is asked. A user who blocks `user`, or who left by themselves and does not know
    `user`, appears in the list of participants but not in `participants`: nothing reaches them.

    :raises NotAParticipant: if `user` is not a participant.
    :raises NotAGroup: if the conversation is direct, or of the own devices of `user`.
    :raises NotAnAdministrator: if the group has administrators and `user` is not one of them.
    :raises UnknownUser: if the other user does not exist.
    :raises GroupFull: if the group has as many participants as it may.
    :raises NotAccepted: if the other user does not accept groups from `user`.
    :raises TooManyStarts: if `user` has added as many strangers as a user may.
    :raises TooManyPlaces: if `user` has filled as many places in groups as a user may.
    """
    limits = {"limit": MAX_PARTICIPANTS, "starts": starts_per_day, "places": places_per_day}
    return await _change(pool, _sql.add, user, conversation, other, **limits)


async def accept(pool: Pool, user: bytes, conversation: bytes) -> ParticipantsChange:
    """Accept a request and become a participant. Repeating it changes nothing.

    :raises NotAParticipant: if the user is neither asked nor a participant.
    """
    parameters = {"user": uuid(user), "conversation": uuid(conversation)}
    [(outcome, participants, version)] = await pool.fetch(_sql.accept, parameters)
    if outcome == "stranger":
        raise NotAParticipant
    return ParticipantsChange(outcome == "accepted", participants or [], version or 0)


async def decline(pool: Pool, user: bytes, conversation: bytes) -> Departed:
    """Decline a request; the others are not told. Returns the push for the user's own devices.

    :raises NotAParticipant: if the user is not asked.
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
    """Remove a participant; a participant may always leave.

    If no administrator is left, the participant who joined first becomes one.

    :raises NotAParticipant: if `user` is not a participant.
    :raises NotAGroup: if the conversation is direct, or of the own devices of `user`.
    :raises NotAnAdministrator: if the group has administrators and `user` is not one of them.
    :raises UnknownUser: if the other user is not a participant.
    """
    parameters = {"user": uuid(user), "conversation": uuid(conversation), "other": uuid(other)}
    [row] = await pool.fetch(_sql.remove, parameters)
    outcome, participants, version, was_participant, heir, delivered, read, since, left = row
    if outcome in _REFUSED:
        raise _REFUSED[outcome]
    stay = Stay(other, delivered, read, since, user if user != other else None, left)
    return ParticipantsChange(True, participants or [], version, stay, heir, bool(was_participant))


async def last_stay(pool: Pool, conversation: bytes, user: bytes) -> Stay | None:
    """The latest stay of a user that has ended, as the others see it; None if there is none in which a message was
    sent."""
    rows = await pool.fetch(_sql.last_stay, {"conversation": uuid(conversation), "user": uuid(user)})
    return stay_of(*rows[0]) if rows else None


async def set_role(pool: Pool, user: bytes, conversation: bytes, other: bytes, role: Role) -> ParticipantsChange:
    """Set a participant's role: 'admin' or 'member'.

    :raises NotAParticipant, NotAGroup, NotAnAdministrator, UnknownUser: as for `remove`.
    :raises LastAdministrator: if no administrator would be left.
    """
    return await _change(pool, _sql.set_role, user, conversation, other, role=role)


async def mute(pool: Pool, user: bytes, conversation: bytes, *, seconds: float) -> None:
    """Mute a conversation: no offline notices for `seconds`; 0 ends it.

    :raises NotAParticipant: if the user is not a participant.
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
    avatar: bytes | None = None,
    joiners_see_all: bool | None = None,
    lifetime_s: int | None = None,
) -> tuple[ParticipantsChange, Settings]:
    """Rename a group, give it an avatar, show newcomers its earlier messages, or let messages disappear.

    None leaves a setting unchanged. Returns the settings as the user sees them.

    :param avatar: an upload of the user's own, or `NO_AVATAR`; as in `store.profiles.change`.
    :param lifetime_s: how long messages live, including existing ones; 0: as long as the deployment keeps them. In a
        direct conversation, and in that of the user's own devices, only this may be changed.
    :raises NotAParticipant, NotAGroup, NotAnAdministrator: as for `remove`.
    :raises UnknownAttachment, AttachmentIncomplete, AttachmentUsed: if the group cannot have the avatar.
    """
    parameters = {
        "user": uuid(user),
        "conversation": uuid(conversation),
        "name": name,
        "avatar": None if avatar is None else uuid(avatar),
        "joiners_see_all": joiners_see_all,
        "lifetime_s": lifetime_s,
    }
    [(outcome, participants, version, name, floor, sees_all, *rest)] = await pool.fetch(_sql.change, parameters)
    if outcome in _REFUSED:
        raise _REFUSED[outcome]
    shown = avatar_of(rest[4])
    own, others = (
        Settings(conversation, name, floor + 1, version or 0, sees_all or None, lifetime_s, actor, shown)
        for lifetime_s, actor in (rest[:2], rest[2:4])
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
    if outcome == "crowded":
        raise TooManyPlaces(wait_s[0])
    return ParticipantsChange(outcome == "changed", participants or [], version or 0)
