"""What this device holds, in order and without gaps. Sans-IO: nothing here waits, so every call is one step.

Each conversation numbers its messages with `seq`, without gaps. For each seq the mailbox keeps the entry that counts:
the greater of two revisions, and a tombstone rather than a message. That is a maximum, so the order, number and source
of frames do not matter (pushes, `sync`, `history`, own requests).

The messages of a conversation that can be read are one contiguous run. The run *begins* at the last message that the
conversation had when the server first told this device of it: the server tells no earlier ones. A missing message above
the beginning is a *gap*: the client fetches it, and until then the messages above the gap wait aside. Messages below
the beginning are not loaded, which is not a gap: entries that adjoin the run from below, such as a page of `history`,
move its beginning down; edits of messages further down wait aside.

Beside its messages each conversation has its participants (`client.participants`) and settings. The mailbox drops
messages below its first seq, and the whole conversation when this user no longer takes part: then no older frame brings
it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from client.held import Entry, Gap, HeldConversation, PushOfOne
from client.marks import MarkTracker
from client.own import Own
from client.participants import NO_PARTICIPANTS, MessageStatus, ParticipantList
from client.plaintexts import Plaintexts
from protocol.frames import (
    Contact,
    Conversation,
    Cursor,
    Departed,
    Error,
    KeysLow,
    Lag,
    Message,
    Move,
    OwnSettings,
    Participant,
    Presence,
    Profile,
    Push,
    Settings,
    Stay,
    Synced,
    Tombstone,
    Typing,
    Undecryptable,
)

OtherPush: TypeAlias = PushOfOne | Profile | OwnSettings | Contact
HeldPush: TypeAlias = Message | Tombstone | Conversation | OtherPush
"""A push whose content the mailbox holds."""


class Mailbox:
    """All conversations of a user with their messages, in memory.

    :param keep: called with all messages and tombstones, from any source and in any order, before they are held: only
        when it has returned the server hears that they have come.
    :ivar log: the entries for a screen to show: each message when it becomes readable, and again, with its new content
        or as a tombstone, whenever it changes after that. Messages that become readable in one step are in order of
        `seq`, and so are all above the beginning of a conversation's run; older messages come when they are loaded.
        `log` only grows, even when everything else is dropped: a screen has shown its entries.
    :ivar sending: by `temp_id`, the messages that this device is sending: None, or the message once it has come, from
        any source. The sender enters the `temp_id`, and removes it.
    :ivar cursor: of the last `Synced`; None if nothing is held.
    :ivar delivered: the marks that are due for stored messages.
    :ivar read: the marks that are due for messages that the user has read; the caller that shows messages lifts them.
    :ivar own: the user's own settings and contacts.
    :ivar plaintexts: what the caller has decrypted; they outlive `drop`.
    """

    def __init__(self, user: bytes, keep: Callable[[Sequence[Entry]], object] = lambda _: None) -> None:
        self.user = user
        self._keep = keep
        self.log: list[Entry] = []
        self.sending: dict[bytes, Message | None] = {}
        self.plaintexts = Plaintexts()
        self.drop()

    def drop(self) -> None:
        """Drop the order of the messages, the marks and all else of the server's history; keep the plaintexts."""
        self.plaintexts.lose_order()
        self.cursor: bytes | None = None
        self.delivered = MarkTracker()
        self.read = MarkTracker()
        self._conversations: dict[bytes, HeldConversation] = {}
        self._unknown: set[bytes] = set()
        self._incomplete: set[bytes] = set()
        self._departed: dict[bytes, int] = {}
        self._early: dict[bytes, list[PushOfOne | Entry]] = {}
        self.own = Own()
        self._is_fresh = True

    def apply(self, entries: Iterable[Entry]) -> list[Entry]:
        """Take messages and tombstones from any source; returns the new entries of the log."""
        logged: list[Entry] = []
        touched: dict[bytes, None] = {}
        entries = list(entries)
        self._keep(entries)
        for entry in entries:
            if isinstance(entry, Message) and entry.temp_id in self.sending:
                self.sending[entry.temp_id] = entry
            if entry.conversation in self._departed:
                self._early.setdefault(entry.conversation, []).append(entry)
                continue
            held = self._held(entry.conversation)
            is_news = held.put(entry)
            self._place(entry, held)
            if not is_news:
                continue
            if held.is_in_run(entry.seq):
                logged.append(entry)
            else:
                touched[entry.conversation] = None
        self.log += logged
        for conversation in touched:
            logged += self._advance(self._conversations[conversation])
        return logged

    def _place(self, entry: Entry, held: HeldConversation) -> None:
        if isinstance(entry, Tombstone):
            self.plaintexts.forget(entry.conversation, entry.message)
        elif entry.seq >= held.first_seq:
            self.plaintexts.place(entry)

    def learn(self, told: Conversation) -> list[Entry]:
        """Apply a `Conversation` frame; returns the new entries of the log.

        If the first seq has risen, messages below it are dropped: they are gone, or this user has left a group and come
        back. If the group shows all to users who join, the first seq may have fallen by that: then older messages can
        be loaded.
        """
        if told.participants_version <= self._departed.get(told.conversation, -1):
            return []
        self._departed.pop(told.conversation, None)
        held = self._held(told.conversation)
        held.learn(told)
        # Pushes that came before it may be newer: the server read it before it sent it.
        entries: list[Entry] = []
        for push in self._early.pop(told.conversation, ()):
            if isinstance(push, Message | Tombstone):
                entries.append(push)
            else:
                held.take(push)
        held.have_written(after=told.last_seq)
        if held.begin is None:
            self._unknown.discard(told.conversation)
            held.start(self._beginning(told))
        logged = self._advance(held)
        if told.last_message is not None:
            entries.append(told.last_message)
        return logged + self.apply(entries) if entries else logged

    def feed(self, push: Push) -> bool:
        """Take a push of any kind; returns whether the mailbox holds such things."""
        match push:
            case Message() | Tombstone():
                self.apply([push])
            case Conversation():
                self.learn(push)
            case Cursor() | KeysLow() | Lag() | Move() | Presence() | Typing() | Undecryptable():
                return False
            case _:
                self.take(push)
        return True

    def take(self, push: OtherPush) -> None:
        """Apply any other push about conversations and users."""
        if isinstance(push, OwnSettings | Contact):
            self.own.take(push)
        elif isinstance(push, Profile):
            for each in self._conversations.values():
                if push.user == self.user or each.participants.are_shown:
                    each.participants.rename(push)
        elif isinstance(push, Departed) and self.user in push.users:
            self._depart(push)
        elif (held := self._conversations.get(push.conversation)) is not None and held.head is not None:
            held.take(push)
            if isinstance(push, Settings):
                # Messages below a floor that has risen never come: entries that waited above them may adjoin now.
                self._advance(held)
        else:
            self._early.setdefault(push.conversation, []).append(push)

    def raise_floor(self, conversation: bytes, first_seq: int) -> list[Entry]:
        """The first seq for the user has risen; returns the new entries of the log."""
        held = self._conversations.get(conversation)
        if held is None:
            return []
        held.raise_floor(first_seq)
        return self._advance(held)

    def _depart(self, push: Departed) -> None:
        held = self._conversations.get(push.conversation)
        known = held.head.participants_version if held and held.head else -1
        if push.participants_version >= max(known, self._departed.get(push.conversation, -1)):
            self._departed[push.conversation] = push.participants_version
            self._conversations.pop(push.conversation, None)
            self.delivered.forget(push.conversation)
            self.read.forget(push.conversation)
            self.plaintexts.forget_conversation(push.conversation)
            self._early.pop(push.conversation, None)
            self._unknown.discard(push.conversation)
            self._incomplete.discard(push.conversation)

    def synced(self, reply: Synced | Cursor) -> None:
        """The caller has applied everything up to this cursor."""
        self.cursor = reply.cursor
        if not reply.more:
            # Frames of a conversation that is not known by now are not for this user (SPEC 6.6.1).
            self._early.clear()
            for conversation in self._unknown:
                del self._conversations[conversation]
            self._unknown.clear()
            if self._is_fresh:
                for conversation in self.plaintexts.conversations():
                    if conversation not in self._conversations:
                        self.plaintexts.forget_conversation(conversation)
        # All parts of a first sync have only the last messages.
        self._is_fresh = self._is_fresh and reply.more

    def versions(self, marks: list[tuple[bytes, int]]) -> list[int | None]:
        """The `participants_version` of each mark's conversation; None if it is not known."""
        held = [self._conversations.get(conversation) for conversation, _ in marks]
        return [each.head.participants_version if each and each.head else None for each in held]

    def have_marked(self, tracker: MarkTracker, marks: list[tuple[bytes, int]], versions: list[int | None]) -> None:
        """The server has noted these marks: they are the user's own now.

        It drops those of a user who does not take part, without an error: a mark stays due if the participants
        have changed since it was sent.

        :param tracker: `delivered` or `read`, or one from before everything was dropped.
        :param versions: of `versions`, when the marks were sent.
        """
        if tracker not in (self.delivered, self.read):
            return
        for mark, before, now in zip(marks, versions, self.versions(marks), strict=True):
            if now is None:
                tracker.forget(mark[0])
            elif now == before:
                tracker.confirm([mark])
                self._conversations[mark[0]].have_marked(mark[1], is_read=tracker is self.read)

    def learn_from(self, conversation: bytes, error: Error) -> None:
        """Take what a refusal says: the version of the device set, and the last control message, which exists."""
        held = self._conversations.get(conversation)
        if held is not None:
            held.devices_version = max(held.devices_version, error.devices_version or 0)
            held.control_seq = max(held.control_seq, error.control_seq or 0)
            held.last_seq = max(held.last_seq, held.control_seq)
            self._advance(held)

    def forget_missing(self, conversation: bytes) -> None:
        """Give up missing messages, and those that wait above them: the server says that the user may not see them."""
        held = self._held(conversation)
        if held.begin is None:
            del self._conversations[conversation]
        else:
            held.forget_missing()
        self._unknown.discard(conversation)
        self._incomplete.discard(conversation)

    def messages(self, conversation: bytes) -> Sequence[Entry]:
        """The messages of a conversation that can be read, as they are now, by `seq`; not to be changed."""
        held = self._conversations.get(conversation)
        return () if held is None else held.messages

    def conversations(self) -> list[bytes]:
        """The known conversations, in order of their ids."""
        return sorted(id_ for id_, held in self._conversations.items() if held.head is not None)

    def head(self, conversation: bytes) -> Conversation | None:
        """A conversation as it is now, without messages; None if it is not known."""
        held = self._conversations.get(conversation)
        return None if held is None else held.shown()

    def participants(self, conversation: bytes) -> list[Participant]:
        """The known participants of a conversation, by their ids."""
        return self._participants(conversation).all

    def set_users(self, conversation: bytes) -> tuple[int, list[bytes]] | None:
        """The version of a conversation's device set, and the users whose devices are in it (SPEC 19.10); None if it is
        not known, or shows not all participants."""
        held = self._conversations.get(conversation)
        return None if held is None else held.set_users

    def former(self, conversation: bytes) -> list[Stay]:
        """The known stays in a conversation that have ended, the latest first."""
        return self._participants(conversation).former

    def status(self, message: Entry) -> MessageStatus:
        """Whether all recipients of a message have it, or have read it. Where many take part, only for the last
        messages."""
        held = self._conversations.get(message.conversation)
        return NO_PARTICIPANTS.status(message.seq, message.sender) if held is None else held.status(message)

    def counts(self, message: Entry) -> tuple[int, int] | None:
        """To how many recipients an own message is delivered, and how many have read it; None where the server tells
        all marks, or if the counts are not known.

        A tombstone has no counts: counts from before may be old.
        """
        held = self._conversations.get(message.conversation)
        return None if held is None else held.counts(message)

    def _participants(self, conversation: bytes) -> ParticipantList:
        held = self._conversations.get(conversation)
        return NO_PARTICIPANTS if held is None else held.participants

    def up_to(self, conversation: bytes) -> int:
        """The last `seq` of the run; 0 if it is empty."""
        held = self._conversations.get(conversation)
        return 0 if held is None else held.up_to

    def older_before(self, conversation: bytes) -> int | None:
        """The `seq` below which there are messages to load; None if all are loaded."""
        held = self._conversations.get(conversation)
        return None if held is None else held.older_before()

    @property
    def is_complete(self) -> bool:
        """Whether `unknown` and `gaps` are both empty."""
        return not (self._unknown or self._incomplete)

    def unknown(self) -> set[bytes]:
        """The conversations whose `Conversation` frame has yet to come, with a `sync`. If that does not bring it, the
        conversation is not this user's."""
        return set(self._unknown)

    def gaps(self) -> list[Gap]:
        """The first gap of each conversation that is known."""
        return [self._conversations[conversation].gap() for conversation in self._incomplete]

    def _held(self, conversation: bytes) -> HeldConversation:
        held = self._conversations.get(conversation)
        if held is None:
            held = self._conversations[conversation] = HeldConversation(conversation, self.user)
            self._unknown.add(conversation)
        return held

    def _beginning(self, told: Conversation) -> int:
        if told.last_message is not None:
            return told.last_message.seq
        return told.last_seq + 1 if self._is_fresh else told.first_seq

    def _advance(self, held: HeldConversation) -> list[Entry]:
        """Let the run grow by the entries that adjoin it, and see whether messages are still missing."""
        if held.begin is None:
            return []
        older, newer = held.grow()
        self.plaintexts.forget_below(held.id, held.first_seq)
        if held.older_before() is None and held.up_to >= held.last_seq:
            self.plaintexts.forget_placeless(held.id)
        if newer:
            self.delivered.lift(held.id, held.up_to)
        if held.last_seq > held.up_to:
            self._incomplete.add(held.id)
        else:
            self._incomplete.discard(held.id)
        logged = older + newer
        self.log += logged
        return logged
