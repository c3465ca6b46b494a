"""What this device holds, in order and without gaps. Sans-IO: nothing here waits, so every call is one step.

Each conversation numbers its messages with `seq`, without gaps. Of each the mailbox keeps the last word: of two
revisions the greater one, of anything and a tombstone the tombstone. That is a maximum, so it does not matter in which
order things come, how often, and from where (pushes, `sync`, `history`, own requests).

What may be read of a conversation is one contiguous run. It *begins* at the last message that the conversation had when
this device was told of it: a device that held nothing is told no more, and nor is one whose user has come to a
conversation since. Above the beginning, what is missing is a *gap*: it is fetched, and
until then what lies above it waits aside. Below the beginning nothing is missing, it is only not loaded: messages that
adjoin the run from below, a page of `history` say, move its beginning down; edits of those further down wait aside.

Beside its messages each conversation has its people and what it is like (`client.people`). What lies below its first
seq is dropped, and the whole of it when this user takes part no more: then nothing that is older brings it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from client.held import Entry, Gap, HeldConversation, PushOfOne
from client.marks import Marks
from client.own import Own
from client.people import NOBODY, MessageStatus, People
from protocol.frames import (
    Contact,
    Conversation,
    Cursor,
    Departed,
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
)

OtherPush: TypeAlias = PushOfOne | Profile | OwnSettings | Contact


class Mailbox:
    """All conversations of a user with their messages, in memory.

    :ivar log: what a screen has to follow: each message when it becomes readable, and again, with its new content or as
        a tombstone, whenever it changes after that. Those that become readable in one step are in order of `seq`, and
        so is all that comes above the beginning of a conversation's run; what is loaded below comes when it is loaded.
        `log` only grows, even when all else is dropped; what was on the screen was on the screen.
    :ivar sending: by `temp_id`, what this device waits to hear of: None, or the message once it has come, by whatever
        way. Whoever sends enters it, and takes it out.
    :ivar cursor: of the last `Synced`; None if nothing is held.
    :ivar delivered: the marks that are due for what is held.
    :ivar read: the marks that are due for what the user has read; whoever shows messages lifts them.
    :ivar own: what the user has set, and whom they know.
    """

    def __init__(self, user: bytes) -> None:
        self.user = user
        self.log: list[Entry] = []
        self.sending: dict[bytes, Message | None] = {}
        self.drop()

    def drop(self) -> None:
        """Hold nothing any more: the server's history is another one."""
        self.cursor: bytes | None = None
        self.delivered = Marks()
        self.read = Marks()
        self._conversations: dict[bytes, HeldConversation] = {}
        self._unknown: set[bytes] = set()
        self._incomplete: set[bytes] = set()
        self._departed: dict[bytes, int] = {}
        self._early: dict[bytes, list[PushOfOne | Entry]] = {}
        self.own = Own()
        self._is_fresh = True

    def apply(self, entries: Iterable[Entry]) -> list[Entry]:
        """Take messages and tombstones from anywhere; returns what the log got by it."""
        logged: list[Entry] = []
        touched: dict[bytes, None] = {}
        for entry in entries:
            if isinstance(entry, Message) and entry.temp_id in self.sending:
                self.sending[entry.temp_id] = entry
            if entry.conversation in self._departed:
                self._early.setdefault(entry.conversation, []).append(entry)
                continue
            held = self._held(entry.conversation)
            if not held.put(entry):
                continue
            if held.is_in_run(entry.seq):
                logged.append(entry)
            else:
                touched[entry.conversation] = None
        self.log += logged
        for conversation in touched:
            logged += self._advance(self._conversations[conversation])
        return logged

    def learn(self, told: Conversation) -> list[Entry]:
        """Take note of what the server says of a conversation; returns what the log got by it.

        What lies below a first seq that has risen is dropped: it is gone, or this user has left a group and come back.
        If the group shows all to those who come, the first seq may have fallen by that: then older ones can be loaded.
        """
        if told.participants_version <= self._departed.get(told.conversation, -1):
            return []
        self._departed.pop(told.conversation, None)
        held = self._held(told.conversation)
        held.learn(told)
        # What was pushed before it may be newer: it was read before it was sent.
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
        """Take a push of any kind; returns whether it says something of what is held."""
        match push:
            case Message() | Tombstone():
                self.apply([push])
            case Conversation():
                self.learn(push)
            case Cursor() | Lag() | Move() | Presence() | Typing():
                return False
            case _:
                self.take(push)
        return True

    def take(self, push: OtherPush) -> None:
        """Take note of anything else that was pushed of conversations and people."""
        if isinstance(push, OwnSettings | Contact):
            self.own.take(push)
        elif isinstance(push, Profile):
            for each in self._conversations.values():
                if push.user == self.user or each.people.are_shown:
                    each.people.rename(push)
        elif isinstance(push, Departed) and self.user in push.users:
            self._depart(push)
        elif (held := self._conversations.get(push.conversation)) is not None and held.head is not None:
            held.take(push)
            if isinstance(push, Settings):
                # What was missing below a floor that has risen never comes: what waited above it may adjoin now.
                self._advance(held)
        else:
            self._early.setdefault(push.conversation, []).append(push)

    def raise_floor(self, conversation: bytes, first_seq: int) -> list[Entry]:
        """The server says that nothing lies below this seq for the user; returns what the log got by it."""
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
            self._early.pop(push.conversation, None)
            self._unknown.discard(push.conversation)
            self._incomplete.discard(push.conversation)

    def synced(self, reply: Synced | Cursor) -> None:
        """Everything up to this cursor has been applied."""
        self.cursor = reply.cursor
        if not reply.more:
            self._early.clear()
        # A first sync in several parts tells of the last messages alone in all of them.
        self._is_fresh = self._is_fresh and reply.more

    def forget_missing(self, conversation: bytes) -> None:
        """Give up what is missing and what is aside above it: the server says that it is not ours to see."""
        held = self._held(conversation)
        if held.begin is None:
            del self._conversations[conversation]
        else:
            held.forget_missing()
        self._unknown.discard(conversation)
        self._incomplete.discard(conversation)

    def messages(self, conversation: bytes) -> Sequence[Entry]:
        """What can be read of a conversation, as it is now, by `seq`; not to be changed."""
        held = self._conversations.get(conversation)
        return () if held is None else held.messages

    def conversations(self) -> list[bytes]:
        """Those that are known, in order of their ids."""
        return sorted(id_ for id_, held in self._conversations.items() if held.head is not None)

    def head(self, conversation: bytes) -> Conversation | None:
        """What a conversation is like now, without messages; None if it is not known."""
        held = self._conversations.get(conversation)
        return None if held is None else held.shown()

    def participants(self, conversation: bytes) -> list[Participant]:
        """Who takes part in a conversation, as far as is known, by their ids."""
        return self._people(conversation).all

    def former(self, conversation: bytes) -> list[Stay]:
        """Who took part in a conversation and has left, or was removed; the latest first, as far as is known."""
        return self._people(conversation).former

    def status(self, message: Entry) -> MessageStatus:
        """How far a message has come: with all whom it is for. Where many take part, of the last messages alone."""
        held = self._conversations.get(message.conversation)
        return NOBODY.status(message.seq, message.sender) if held is None else held.status(message)

    def counts(self, message: Entry) -> tuple[int, int] | None:
        """To how many an own message has come, how many have read it; None where all marks are told, or not known.

        Of a tombstone nobody counts any more: what was told before may be old.
        """
        held = self._conversations.get(message.conversation)
        return None if held is None else held.counts(message)

    def _people(self, conversation: bytes) -> People:
        held = self._conversations.get(conversation)
        return NOBODY if held is None else held.people

    def up_to(self, conversation: bytes) -> int:
        """The `seq` up to which nothing is missing; 0 if there is nothing."""
        held = self._conversations.get(conversation)
        return 0 if held is None else held.up_to

    def older_before(self, conversation: bytes) -> int | None:
        """The `seq` before which there are messages that are not loaded; None if there are none."""
        held = self._conversations.get(conversation)
        return None if held is None else held.older_before()

    @property
    def is_complete(self) -> bool:
        """Whether neither `unknown` nor `gaps` has anything."""
        return not (self._unknown or self._incomplete)

    def unknown(self) -> set[bytes]:
        """Conversations that the server has yet to tell of: with a `sync`."""
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
        """Let the run grow by what adjoins it, and see whether anything is still missing."""
        if held.begin is None:
            return []
        older, newer = held.grow()
        if newer:
            self.delivered.lift(held.id, held.up_to)
        if held.last_seq > held.up_to:
            self._incomplete.add(held.id)
        else:
            self._incomplete.discard(held.id)
        logged = older + newer
        self.log += logged
        return logged
