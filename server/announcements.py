"""What the HTTP interface changes about conversations and people, told to the devices concerned, on whatever node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from protocol.codec import encode
from protocol.frames import Conversation, Departed, Participant, Participants, Profile, Push, Settings
from protocol.limits import MAX_SHOWN
from server import hub
from server.fanout import Fanout
from store import conversations, members
from store.errors import NotAParticipant
from store.participants import Membership
from store.pool import Pool

_OF_NO_CONVERSATION: Final = bytes(16)


class Announcements:
    """Pushes for what has been committed just now. Who is not reached by them finds it with the next `sync`."""

    def __init__(self, pool: Pool, fanout: Fanout) -> None:
        self._pool = pool
        self._fanout = fanout

    def conversation_made(self, made: Conversation) -> None:
        """A conversation is new: to everybody in it, who see the same of it."""
        self._push(made, [each.user for each in made.participants or ()])

    async def participant_added(self, conversation: bytes, user: bytes, membership: Membership) -> None:
        """Somebody takes part from now on: the others are told who, the new one is told of the conversation."""
        await self._tell_of(conversation, user, membership, is_new=True)

    async def role_set(self, conversation: bytes, user: bytes, membership: Membership) -> None:
        """Somebody has become an administrator, or is none any more."""
        await self._tell_of(conversation, user, membership, is_new=False)

    def participant_removed(self, conversation: bytes, user: bytes, membership: Membership) -> None:
        """Somebody takes part no more."""
        if membership.is_new:
            departed = Departed(conversation, [user], membership.version)
            self._push(departed, [*membership.members, user])

    def settings_changed(self, settings: Settings, membership: Membership) -> None:
        """A group is another one."""
        if membership.is_new:
            self._push(settings, membership.members)

    async def profile_changed(self, profile: Profile) -> None:
        """A user is shown otherwise: to all who share a conversation in which names are shown."""
        self._push(profile, await members.acquainted(self._pool, profile.user))

    def presence_shown_otherwise(self, users: Iterable[bytes]) -> None:
        """These users are to be shown to others than before: the nodes look again who may watch them."""
        self._fanout.add_recheck(list(users))
        self._fanout.wake()

    async def _tell_of(self, conversation: bytes, user: bytes, membership: Membership, *, is_new: bool) -> None:
        if not membership.is_new:
            return
        try:
            seen = await conversations.one(self._pool, user, conversation)
        except NotAParticipant:
            return  # Removed meanwhile, and that is told as well.
        if is_new:
            self._push(replace(seen, last_message=None), [user])
        shows = len(membership.members) <= MAX_SHOWN
        told = [
            _as_others_see(each, shows_name=shows, shows_marks=shows and is_new)
            for each in seen.participants or ()
            if each.user == user
        ]
        others = [each for each in membership.members if each != user or not is_new]
        self._push(Participants(conversation, told, membership.version), others)

    def _push(self, frame: Push, users: Iterable[bytes]) -> None:
        conversation = getattr(frame, "conversation", _OF_NO_CONVERSATION)
        self._fanout.add(hub.Push(conversation, 0, encode(frame), list(users)))
        self._fanout.wake()


def _as_others_see(own: Participant, *, shows_name: bool, shows_marks: bool) -> Participant:
    """What others are told of somebody who is seen here with their own eyes.

    Who comes has marks from the beginning: without them others could not tell "not known" from "too many to tell". What
    has been read in private stays so; of what was not, receipts tell.
    """
    return replace(
        own,
        delivered_seq=own.delivered_seq if shows_marks else None,
        read_seq=0 if shows_marks else None,
        display_name=own.display_name if shows_name else None,
    )
