"""Pushes for changes that were made over HTTP, to the devices concerned on all nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import trio
from msgspec.structs import replace

from protocol.codec import encode
from protocol.frames import Departed, Participants, Profile, Push, Receipts, Settings
from protocol.limits import MAX_SHOWN
from server.delivery.broadcast import Broadcast
from server.delivery.device_sets import pushes_of
from store import contacts, conversations, keys, messages, participant_lists
from store.contacts import AddedContact, BlockChange
from store.errors import NotAParticipant, UnknownUser
from store.marks import direct_mark
from store.own_settings import own_settings_of
from store.participants import ParticipantsChange, last_stay
from store.postgres.pool import Pool
from store.redis.entries import AddressedPush
from store.rows import told_count

_OF_NO_CONVERSATION: Final = bytes(16)

SEEN_AT_ONCE: Final = 100
"""Users whose view of a conversation is read and encoded at once, in 5 ms or so; other requests have their turn in
between."""


class Announcements:
    """Each method pushes a change that was just committed. A device that no push reaches finds it by its next sync.

    :param cause: the user whose request made the change; its pushes take turns with those of other users.
    """

    def __init__(self, pool: Pool, broadcast: Broadcast, cause: bytes = b"") -> None:
        self._pool = pool
        self._broadcast = broadcast
        self._cause = cause

    def caused_by(self, user: bytes) -> Announcements:
        """The announcements of a request of this user."""
        return Announcements(self._pool, self._broadcast, user)

    @contextmanager
    def _miss_on_failure(self) -> Iterator[None]:
        """Around the queries of an announcement. If one fails, the nodes are asked to look for the change themselves: a
        client that repeats the request changes nothing, so no announcement follows."""
        committed_at = trio.current_time()
        try:
            yield
        except BaseException:
            self._broadcast.miss("a change was committed that could not be told", since=committed_at)
            raise

    async def conversation_made(self, conversation: bytes, users: Iterable[bytes]) -> None:
        """The conversation is new for these users. Each gets it as that user sees it."""
        with self._miss_on_failure():
            await self._push_conversation(conversation, list(users), is_new=True)

    async def participant_added(self, conversation: bytes, user: bytes, change: ParticipantsChange) -> None:
        """A user was added. The others get the participant; the user gets the conversation, unless it is withheld from
        the user (docs/blocking.md)."""
        if change.is_new:
            with self._miss_on_failure():
                size = await self._size(conversation)
                await self._push_last_stay(conversation, user, change, size)
                if user in change.participants:
                    await self._push_conversation(conversation, [user], is_new=True)
                await self._push_participant(conversation, user, change, size)
            await self.devices_changed(user)

    async def role_set(self, conversation: bytes, user: bytes, change: ParticipantsChange) -> None:
        """A participant has been made an administrator, or an ordinary participant again."""
        if change.is_new:
            with self._miss_on_failure():
                await self._push_participant(conversation, user, change, await self._size(conversation))
                for seen in (await conversations.seen_by(self._pool, conversation, [user])).values():
                    own = [each for each in seen.participants or () if each.user == user]
                    self._push(Participants(conversation, own, change.version, seen.participant_count), [user])

    async def participant_removed(self, conversation: bytes, user: bytes, change: ParticipantsChange) -> None:
        """A user has left or was removed; a participant may have become the administrator by that (`heir`).

        If the others are now few enough (`MAX_SHOWN`), conversations show them to each other again.
        """
        stay = change.stay
        if stay is None:
            return
        with self._miss_on_failure():
            size = await self._size(conversation)
            if size > MAX_SHOWN:
                stay = replace(stay, delivered_seq=None, read_seq=None)
            departed = Departed(conversation, [user], change.version, told_count(size), [stay])
            # The devices of a withheld user were told long ago that the user does not take part.
            self._push(departed, [*change.participants, *([user] if change.was_participant else [])])
            if size == MAX_SHOWN:
                await self._push_conversation(conversation, change.participants)
            elif change.heir is not None:
                await self.role_set(conversation, change.heir, change)
        await self.devices_changed(user)

    async def devices_changed(self, user: bytes) -> None:
        """The devices of a user have changed, or have joined or left a conversation with the user. Revocations are told
        by the nodes themselves (`server.gateway.revocations`)."""
        with self._miss_on_failure():
            for push in pushes_of(await keys.small_changes(self._pool, [user]), self._cause):
                self._broadcast.push(push)
            self._broadcast.flush()

    async def request_accepted(self, conversation: bytes, user: bytes, change: ParticipantsChange) -> None:
        """A user has accepted a request: the user's devices get the conversation, the others get the user's marks."""
        if not change.is_new:
            return
        with self._miss_on_failure():
            await self._push_conversation(conversation, [user])
            size = await self._size(conversation)
            if size <= MAX_SHOWN:
                await self._push_participant(conversation, user, change, size)

    async def request_declined(self, user: bytes, departed: Departed) -> None:
        """A user has declined a request: a push to the user's own devices alone."""
        self._push(departed, [user])

    async def blocked(self, user: bytes, other: bytes, blocked: BlockChange) -> None:
        """A user has blocked or unblocked the other: pushes to the user's own devices alone. The nodes check again
        which users may watch the presence of these two."""
        with self._miss_on_failure():
            for conversation, version in blocked.declined:
                await self.request_declined(user, Departed(conversation, [user], version))
            for start in range(0, len(blocked.shown), 50):
                for seen in await conversations.some_of(self._pool, user, blocked.shown[start : start + 50]):
                    self._push(replace(seen, last_message=None), [user])
            # Unread messages of a blocked user count as read from now on.
            for conversation, delivered, read in await direct_mark(self._pool, user, other):
                self._push(Receipts(conversation, None, [(user, delivered, read)]), [user])
        await self.presence_rules_changed([user, other])

    async def contact_added(self, user: bytes, added: AddedContact) -> None:
        """A user has added a contact, and thereby accepted the contact's requests."""
        with self._miss_on_failure():
            for conversation, version in await conversations.participants_versions(self._pool, added.accepted):
                participants = await messages.current_participants(self._pool, conversation)
                await self.request_accepted(conversation, user, ParticipantsChange(True, participants, version))

    async def settings_changed(self, user: bytes, settings: Settings, change: ParticipantsChange) -> None:
        """The settings of a conversation have changed; the others may see other settings than this user."""
        if change.is_new:
            self._push(settings, [user])
            self._push(change.others_settings or settings, [each for each in change.participants if each != user])

    async def profile_changed(self, profile: Profile) -> None:
        """A user's name or avatar has changed: a push to all users who share a conversation that shows them. Blockers
        get it without both, since their devices need only the revision."""
        with self._miss_on_failure():
            users = await participant_lists.acquainted(self._pool, profile.user)
            blockers = await contacts.blockers(self._pool, profile.user, users)
            self._push(profile, [each for each in users if each not in blockers])
            self._push(replace(profile, display_name=None, avatar=None), blockers)

    async def own_settings_changed(self, user: bytes) -> None:
        """A user has changed settings of their own: a push to the user's own devices."""
        with self._miss_on_failure():
            self._push(await own_settings_of(self._pool, user), [user])

    async def contact_changed(self, user: bytes, other: bytes) -> None:
        """A user has added, removed, blocked or unblocked the other: a push to the user's own devices."""
        with self._miss_on_failure(), suppress(UnknownUser):
            self._push(await contacts.contact_of(self._pool, user, other), [user])

    async def muted(self, user: bytes, conversation: bytes) -> None:
        """A user has muted or unmuted a conversation: a push to the user's own devices."""
        with self._miss_on_failure(), suppress(NotAParticipant):
            seen = await conversations.one(self._pool, user, conversation)
            self._push(replace(seen, participants=None, last_message=None), [user])

    async def presence_rules_changed(self, users: Iterable[bytes]) -> None:
        """Other users than before may watch these users' presence: the nodes check it again."""
        self._broadcast.recheck_watchers(users)

    async def _push_last_stay(self, conversation: bytes, user: bytes, change: ParticipantsChange, size: int) -> None:
        """If a user has come back, push first that the last stay has ended, as of the version before.

        The push of that time may come later than the return, since pushes of different users take turns, and then the
        devices ignore it. The user's own devices would keep messages that were edited during the absence, and others
        would no longer count the user among the recipients of messages that the user has read.
        """
        stay = await last_stay(self._pool, conversation, user)
        if stay is None:
            return
        if size > MAX_SHOWN:
            stay = replace(stay, delivered_seq=None, read_seq=None)
        self._push(
            Departed(conversation, [user], change.version - 1, told_count(size - 1), [stay]), change.participants
        )

    async def _push_participant(self, conversation: bytes, user: bytes, change: ParticipantsChange, size: int) -> None:
        """Push a new or changed participant to the others, with the marks that they see.

        A new participant may have read and written already, and nodes that look for changes may have pushed those
        marks. A device that got a mark before the participant does not get it again, so this push has the marks.
        """
        shown = await conversations.participant(self._pool, conversation, user)
        if shown is None:
            return  # The participant was removed meanwhile, and the removal has its own push.
        others = [each for each in change.participants if each != user]
        blockers = await contacts.blockers(self._pool, user, others)
        count = told_count(size)
        for told, nameless in ((shown, False), (replace(shown, display_name=None, avatar=None), True)):
            if users := [each for each in others if (each in blockers) == nameless]:
                self._push(Participants(conversation, [told], change.version, count), users)

    async def _size(self, conversation: bytes) -> int:
        return await conversations.participant_count(self._pool, conversation)

    async def _push_conversation(self, conversation: bytes, users: Sequence[bytes], *, is_new: bool = False) -> None:
        """Push a conversation to each of these users as that user sees it, with the last message if it is new."""
        for start in range(0, len(users), SEEN_AT_ONCE):
            some = users[start : start + SEEN_AT_ONCE]
            for user, seen in (await conversations.seen_by(self._pool, conversation, some)).items():
                self._push(seen if is_new else replace(seen, last_message=None), [user])

    def _push(self, frame: Push, users: Collection[bytes]) -> None:
        if not users:
            return
        conversation = getattr(frame, "conversation", _OF_NO_CONVERSATION)
        self._broadcast.push(AddressedPush(conversation, 0, encode(frame), users, cause=self._cause))
        self._broadcast.flush()
