"""What the HTTP interface changes about conversations and people, told to the devices concerned, on whatever node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from msgspec.structs import replace

from protocol.codec import encode
from protocol.frames import Conversation, Departed, Participant, Participants, Profile, Push, Receipts, Settings
from protocol.limits import MAX_SHOWN
from server import hub
from server.fanout import Fanout
from store import contacts, conversations, members
from store.errors import NotAParticipant, UnknownUser
from store.marks import direct_mark
from store.own_settings import own_settings_of
from store.participants import Membership
from store.pool import Pool

_OF_NO_CONVERSATION: Final = bytes(16)


class Announcements:
    """Pushes for what has been committed just now. Who is not reached by them finds it with the next `sync`."""

    def __init__(self, pool: Pool, fanout: Fanout) -> None:
        self._pool = pool
        self._fanout = fanout

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Around what is looked up after a commit, to tell of it. If that fails the nodes look for the change by
        themselves: whoever repeats the request changes nothing any more, and so tells nobody."""
        try:
            yield
        except BaseException:
            self._fanout.miss("a change was committed that could not be told")
            raise

    def conversation_made(self, made: Conversation) -> None:
        """A conversation is new: to everybody in it, who see the same of it."""
        self._push(made, [each.user for each in made.participants or ()])

    async def participant_added(self, conversation: bytes, user: bytes, membership: Membership) -> None:
        """Somebody takes part from now on: the others are told who, the new one is told of the conversation."""
        await self._tell_of(conversation, user, membership, is_new=True)

    async def role_set(self, conversation: bytes, user: bytes, membership: Membership) -> None:
        """Somebody has become an administrator, or is none any more."""
        await self._tell_of(conversation, user, membership, is_new=False)

    async def participant_removed(self, conversation: bytes, user: bytes, membership: Membership) -> None:
        """Somebody takes part no more; another one may have become the administrator by that.

        Where it leaves few enough, names and marks are shown from now on: of all, and of all stays.
        """
        stay = membership.stay
        if stay is None:
            return
        if len(membership.members) > MAX_SHOWN:
            stay = replace(stay, delivered_seq=None, read_seq=None)
        self._push(Departed(conversation, [user], membership.version, [stay]), [*membership.members, user])
        if len(membership.members) == MAX_SHOWN:
            shown = await self._as_others_see(membership.members, conversation)
            self._push(Participants(conversation, shown, membership.version), membership.members)
            await self._show_stays(conversation, user, membership)
        elif membership.heir is not None:
            await self._tell_of(conversation, membership.heir, membership, is_new=False)

    async def _show_stays(self, conversation: bytes, user: bytes, membership: Membership) -> None:
        """Stays were told without marks as long as many took part. Which of them concern a participant, differs."""
        for viewer in membership.members:
            with suppress(NotAParticipant):
                seen = await conversations.one(self._pool, viewer, conversation)
                self._push(Departed(conversation, [user], membership.version, seen.former), [viewer])

    def settings_changed(self, settings: Settings, membership: Membership) -> None:
        """A group is another one."""
        if membership.is_new:
            self._push(settings, membership.members)

    async def profile_changed(self, profile: Profile) -> None:
        """A user is shown otherwise: to all who share a conversation in which names are shown."""
        with self.telling():
            self._push(profile, await members.acquainted(self._pool, profile.user))

    async def own_settings_changed(self, user: bytes) -> None:
        """A user has set something for themselves: to their own devices."""
        with self.telling():
            self._push(await own_settings_of(self._pool, user), [user])

    async def contact_changed(self, user: bytes, other: bytes) -> None:
        """Somebody is a contact of the user's, or blocked, or no more: to the user's own devices."""
        with self.telling(), suppress(UnknownUser):
            self._push(await contacts.told(self._pool, user, other), [user])

    async def muted(self, user: bytes, conversation: bytes) -> None:
        """A user wants no notices of a conversation, or does so again: to their own devices."""
        with self.telling(), suppress(NotAParticipant):
            seen = await conversations.one(self._pool, user, conversation)
            self._push(replace(seen, participants=None, last_message=None), [user])

    def presence_shown_otherwise(self, users: Iterable[bytes]) -> None:
        """These users are to be shown to others than before: the nodes look again who may watch them."""
        self._fanout.add_recheck(list(users))
        self._fanout.wake()

    async def _tell_of(self, conversation: bytes, user: bytes, membership: Membership, *, is_new: bool) -> None:
        if membership.is_new:
            with self.telling():
                await self._tell(conversation, user, membership, is_new=is_new)

    async def _tell(self, conversation: bytes, user: bytes, membership: Membership, *, is_new: bool) -> None:
        try:
            seen = await conversations.one(self._pool, user, conversation)
        except NotAParticipant:
            return  # Removed meanwhile, and that is told as well.
        if is_new:
            self._push(seen, [user])
        others = [each for each in membership.members if each != user]
        told = [each for each in await self._as_others_see(others, conversation) if each.user == user]
        if told:
            self._push(Participants(conversation, told, membership.version), others)
        if not is_new:
            own = [each for each in seen.participants or () if each.user == user]
            self._push(Participants(conversation, own, membership.version), [user])

    async def _as_others_see(self, viewers: Iterable[bytes], conversation: bytes) -> list[Participant]:
        """Who takes part, with the marks that others see; a viewer sees more of their own, so two are asked.

        Whoever has just come may have read and written by now, told by nodes that have looked for what is new. A device
        that has heard of that before hearing of the new one will not hear of it again.
        """
        shown: dict[bytes, Participant] = {}
        asked: list[bytes] = []
        for viewer in viewers:
            with suppress(NotAParticipant):
                seen = await conversations.one(self._pool, viewer, conversation)
                shown |= {each.user: each for each in seen.participants or () if each.user != viewer}
                asked.append(viewer)
            if len(asked) == 2:
                break
        return list(shown.values())

    async def contact_blocked(self, user: bytes, other: bytes) -> None:
        """What was unread of somebody counts as read from now on: to the user's own devices."""
        for conversation, delivered, read in await direct_mark(self._pool, user, other):
            self._push(Receipts(conversation, [(user, delivered, read)]), [user])

    def _push(self, frame: Push, users: Iterable[bytes]) -> None:
        conversation = getattr(frame, "conversation", _OF_NO_CONVERSATION)
        self._fanout.add(hub.Push(conversation, 0, encode(frame), list(users)))
        self._fanout.wake()
