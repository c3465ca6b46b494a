"""What this device holds, in order and without holes. Sans-IO: nothing here waits, so every call is one step.

Each conversation numbers its messages with `seq`, without gaps. Of each the mailbox keeps the last word: of two
revisions the greater one, of anything and a tombstone the tombstone. That is a maximum, so it does not matter in which
order things come, how often, and from where (pushes, `sync`, `history`, own requests).

What may be read of a conversation is one contiguous run. It *begins* at the last message that the conversation had when
this device was told of it: a device that held nothing is told no more, and nor is one whose user has come to a
conversation since. Above the beginning, what is missing is a *hole*: it is fetched, and
until then what lies above it waits aside. Below the beginning nothing is missing, it is only not loaded: messages that
adjoin the run from below, a page of `history` say, move its beginning down; edits of those further down wait aside.

Beside its messages each conversation has its people and what it is like (`client.people`). What lies below its first
seq is dropped, and the whole of it when this user takes part no more: then nothing that is older brings it back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias, assert_never

from msgspec.structs import replace

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
    Participants,
    Presence,
    Profile,
    Push,
    ReceiptCounts,
    Receipts,
    Settings,
    Stay,
    Synced,
    Tombstone,
    Typing,
)
from protocol.limits import COUNTED

Entry: TypeAlias = Message | Tombstone
_PushOfOne: TypeAlias = Participants | Departed | Settings | Receipts | ReceiptCounts
OtherPush: TypeAlias = _PushOfOne | Profile | OwnSettings | Contact

_seq_of: Final[Callable[[Entry], int]] = attrgetter("seq")


class Hole(NamedTuple):
    """Messages that exist and are missing: those after `after_seq` and before `before_seq`."""

    conversation: bytes
    after_seq: int
    before_seq: int


class _Conversation:
    __slots__ = (
        "begin",
        "first_seq",
        "head",
        "held",
        "last_seq",
        "messages",
        "muted_until",
        "own_version",
        "people",
        "uncounted",
        "up_to",
    )

    def __init__(self, user: bytes) -> None:
        self.head: Conversation | None = None
        """What was told of it last, but for what stands below; None until then."""
        self.people = People(user)
        self.held: dict[int, Entry] = {}
        """The last word on each seq, aside or not."""
        self.first_seq = 1
        """What is below it is not for this user."""
        self.last_seq = 0
        """The highest known to exist."""
        self.own_version = (-1, 0)
        """(participants_version, own_revision) of the frame that told what is the user's own last."""
        self.muted_until: int | None = None
        self.begin: int | None = None
        """The run to be read begins here; None until a `Conversation` frame has come."""
        self.up_to = 0
        """The run ends here; `begin` - 1 if it is empty."""
        self.messages: list[Entry] = []
        self.uncounted: set[int] = set()
        """Of what is above the own mark, what does not count as unread: tombstones, held or told of. It only grows: no
        message that is gone comes back."""

    def take_head(self, told: Conversation) -> None:
        """What is told, which is not older than what is held; at one version what was accepted stays so."""
        former, self.head = self.head, told
        if former and former.participants_version == told.participants_version and not former.is_request:
            self.accept()

    def accept(self) -> None:
        """It is no request, or none any more: the user has said so, or has written."""
        if self.head is not None and self.head.is_request:
            self.head = replace(self.head, is_request=None, asked_by=None)

    def have_written(self, *, after: int, only: bytes | None = None) -> None:
        """Who has written something after `after` has read up to it, though it came before they were told of."""
        for entry in self.held.values():
            if entry.seq > after and only in (None, entry.sender):
                self.people.has_written(entry.sender, entry.seq)


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
        self._conversations: dict[bytes, _Conversation] = {}
        self._unknown: set[bytes] = set()
        self._incomplete: set[bytes] = set()
        self._departed: dict[bytes, int] = {}
        self._early: dict[bytes, list[_PushOfOne | Entry]] = {}
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
            state = self._state(entry.conversation)
            state.people.has_written(entry.sender, entry.seq)
            if entry.sender == self.user and state.head is not None and entry.seq > state.head.last_seq:
                state.accept()
            if entry.seq < state.first_seq:
                continue
            if isinstance(entry, Tombstone):
                state.uncounted.add(entry.seq)
            former = state.held.get(entry.seq)
            if former is not None and not _supersedes(entry, former):
                continue
            state.held[entry.seq] = entry
            state.last_seq = max(state.last_seq, entry.seq)
            if state.begin is not None and state.begin <= entry.seq <= state.up_to:
                self._change(state, entry)
                logged.append(entry)
            else:
                touched[entry.conversation] = None
        self.log += logged
        for conversation in touched:
            logged += self._advance(conversation, self._conversations[conversation])
        return logged

    def learn(self, told: Conversation) -> list[Entry]:
        """Take note of what the server says of a conversation; returns what the log got by it.

        What lies below a first seq that has risen is dropped: it is gone, or this user has left a group and come back.
        If the group shows all to those who come, the first seq may have fallen by that: then older ones can be loaded.
        """
        if told.participants_version <= self._departed.get(told.conversation, -1):
            return []
        self._departed.pop(told.conversation, None)
        state = self._state(told.conversation)
        if state.head is not None and told.participants_version > state.head.participants_version:
            state.first_seq = min(state.first_seq, told.first_seq)
        if state.head is None or told.participants_version >= state.head.participants_version:
            state.take_head(told)
        own_version = told.participants_version, told.own_revision or 0
        if own_version >= state.own_version:
            state.own_version, state.muted_until = own_version, told.muted_until
        self._raise_floor(state, told.first_seq)
        state.last_seq = max(state.last_seq, told.last_seq)
        state.people.count_all(told.participant_count, told.participants_version)
        if told.participants is not None:
            state.people.take_all(told.participants, told.participants_version)
            state.people.take_stays(told.former or ())
        read = self._read_seq(state)
        state.uncounted = {seq for seq in (*state.uncounted, *(told.uncounted_seqs or ())) if seq > read}
        # What was pushed before it may be newer: it was read before it was sent.
        entries: list[Entry] = []
        for push in self._early.pop(told.conversation, ()):
            if isinstance(push, Message | Tombstone):
                entries.append(push)
            else:
                self._take(state, push)
        state.have_written(after=told.last_seq)
        if state.begin is None:
            self._unknown.discard(told.conversation)
            state.begin = self._beginning(told)
            state.up_to = state.begin - 1
        logged = self._advance(told.conversation, state)
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
        elif (state := self._conversations.get(push.conversation)) is not None and state.head is not None:
            self._take(state, push)
            if isinstance(push, Settings):
                # What was missing below a floor that has risen never comes: what waited above it may adjoin now.
                self._advance(push.conversation, state)
        else:
            self._early.setdefault(push.conversation, []).append(push)

    def _take(self, state: _Conversation, push: _PushOfOne) -> None:
        match push:
            case Participants():
                state.people.count_all(push.participant_count, push.participants_version)
                state.people.take(push.participants, push.participants_version)
                for each in push.participants:
                    state.have_written(after=each.since, only=each.user)
            case Departed():
                state.people.count_all(push.participant_count, push.participants_version)
                state.people.remove(push.users, push.participants_version)
                state.people.take_stays(push.former or ())
            case Receipts():
                for user, delivered, read in push.receipts:
                    state.people.mark(user, delivered, read)
            case ReceiptCounts():
                for seq, delivered, read, recipients in push.counts:
                    state.people.count(seq, delivered, read, recipients)
            case Settings():
                self._take_settings(state, push)
            case _:
                assert_never(push)

    def _take_settings(self, state: _Conversation, push: Settings) -> None:
        if state.head is not None and push.participants_version > state.head.participants_version:
            state.head = replace(
                state.head,
                name=push.name,
                joiners_see_all=push.joiners_see_all,
                lifetime_s=push.lifetime_s,
                actor=push.actor,
                participants_version=push.participants_version,
            )
        self._raise_floor(state, push.first_seq)

    def raise_floor(self, conversation: bytes, first_seq: int) -> list[Entry]:
        """The server says that nothing lies below this seq for the user; returns what the log got by it."""
        state = self._conversations.get(conversation)
        if state is None:
            return []
        self._raise_floor(state, first_seq)
        return self._advance(conversation, state)

    def _depart(self, push: Departed) -> None:
        state = self._conversations.get(push.conversation)
        known = state.head.participants_version if state and state.head else -1
        if push.participants_version >= max(known, self._departed.get(push.conversation, -1)):
            self._departed[push.conversation] = push.participants_version
            self._conversations.pop(push.conversation, None)
            self._early.pop(push.conversation, None)
            self._unknown.discard(push.conversation)
            self._incomplete.discard(push.conversation)

    def _raise_floor(self, state: _Conversation, first_seq: int) -> None:
        if first_seq <= state.first_seq:
            return
        state.first_seq = first_seq
        state.last_seq = max(state.last_seq, first_seq - 1)
        state.held = {seq: entry for seq, entry in state.held.items() if seq >= first_seq}
        state.messages = [entry for entry in state.messages if entry.seq >= first_seq]
        if state.begin is not None:
            state.begin = max(state.begin, first_seq)
            state.up_to = max(state.up_to, first_seq - 1)

    def synced(self, reply: Synced | Cursor) -> None:
        """Everything up to this cursor has been applied."""
        self.cursor = reply.cursor
        if not reply.more:
            self._early.clear()
        # A first sync in several parts tells of the last messages alone in all of them.
        self._is_fresh = self._is_fresh and reply.more

    def forget_missing(self, conversation: bytes) -> None:
        """Give up what is missing and what is aside above it: the server says that it is not ours to see."""
        state = self._state(conversation)
        if state.begin is None:
            del self._conversations[conversation]
        else:
            state.held = {seq: entry for seq, entry in state.held.items() if seq <= state.up_to}
            state.last_seq = state.up_to
        self._unknown.discard(conversation)
        self._incomplete.discard(conversation)

    def messages(self, conversation: bytes) -> Sequence[Entry]:
        """What can be read of a conversation, as it is now, by `seq`; not to be changed."""
        state = self._conversations.get(conversation)
        return () if state is None else state.messages

    def conversations(self) -> list[bytes]:
        """Those that are known, in order of their ids."""
        return sorted(id_ for id_, state in self._conversations.items() if state.head is not None)

    def head(self, conversation: bytes) -> Conversation | None:
        """What a conversation is like now, without messages; None if it is not known."""
        state = self._conversations.get(conversation)
        if state is None or state.head is None:
            return None
        read = self._read_seq(state)
        unread = state.last_seq - read - sum(read < seq <= state.last_seq for seq in state.uncounted)
        last = state.messages[-1] if state.messages else None
        return replace(
            state.head,
            active_at=max(state.head.active_at, last.created if last else 0),
            first_seq=state.first_seq,
            last_seq=state.last_seq,
            unread_count=max(unread, 0),
            participants=state.people.all,
            last_message=None,
            muted_until=state.muted_until,
            own_revision=state.own_version[1] or None,
            uncounted_seqs=None,
            former=None,
            participant_count=None if state.people.are_shown else state.people.number,
        )

    def _read_seq(self, state: _Conversation) -> int:
        """Up to where nothing counts as unread."""
        return max(state.people.read_seq(self.user), state.people.since_seq(self.user), state.first_seq - 1)

    def participants(self, conversation: bytes) -> list[Participant]:
        """Who takes part in a conversation, as far as is known, by their ids."""
        return self._people(conversation).all

    def former(self, conversation: bytes) -> list[Stay]:
        """Who took part in a conversation and has left, or was removed; the latest first, as far as is known."""
        return self._people(conversation).former

    def status(self, message: Entry) -> MessageStatus:
        """How far a message has come: with all whom it is for. Where many take part, of the last messages alone."""
        state = self._conversations.get(message.conversation)
        if state is None:
            return NOBODY.status(message.seq, message.sender)
        is_counted = isinstance(message, Message) and message.seq > state.last_seq - COUNTED
        return state.people.status(message.seq, message.sender, is_counted=is_counted)

    def counts(self, message: Entry) -> tuple[int, int] | None:
        """To how many an own message has come, how many have read it; None where all marks are told, or not known.

        Of a tombstone nobody counts any more: what was told before may be old.
        """
        state = self._conversations.get(message.conversation)
        if state is None or isinstance(message, Tombstone) or message.seq <= state.last_seq - COUNTED:
            return None
        return state.people.counts(message.seq)

    def _people(self, conversation: bytes) -> People:
        state = self._conversations.get(conversation)
        return NOBODY if state is None else state.people

    def up_to(self, conversation: bytes) -> int:
        """The `seq` up to which nothing is missing; 0 if there is nothing."""
        state = self._conversations.get(conversation)
        return 0 if state is None else state.up_to

    def older_before(self, conversation: bytes) -> int | None:
        """The `seq` before which there are messages that are not loaded; None if there are none."""
        state = self._conversations.get(conversation)
        if state is None or state.begin is None or state.begin <= state.first_seq:
            return None
        return state.begin

    @property
    def is_complete(self) -> bool:
        """Whether neither `unknown` nor `holes` has anything."""
        return not (self._unknown or self._incomplete)

    def unknown(self) -> set[bytes]:
        """Conversations that the server has yet to tell of: with a `sync`."""
        return set(self._unknown)

    def holes(self) -> list[Hole]:
        """The first hole of each conversation that is known."""
        return [self._hole(conversation) for conversation in self._incomplete]

    def _state(self, conversation: bytes) -> _Conversation:
        state = self._conversations.get(conversation)
        if state is None:
            state = self._conversations[conversation] = _Conversation(self.user)
            self._unknown.add(conversation)
        return state

    def _beginning(self, told: Conversation) -> int:
        if told.last_message is not None:
            return told.last_message.seq
        return told.last_seq + 1 if self._is_fresh else told.first_seq

    def _change(self, state: _Conversation, entry: Entry) -> None:
        state.messages[bisect_left(state.messages, entry.seq, key=_seq_of)] = entry

    def _advance(self, conversation: bytes, state: _Conversation) -> list[Entry]:
        """Let the run grow by what adjoins it, and see whether anything is still missing."""
        if state.begin is None:
            return []
        older, newer = self._grow_down(state), self._grow_up(state)
        if older:
            state.messages[:0] = older
        if newer:
            state.messages += newer
            self.delivered.lift(conversation, state.up_to)
        if state.last_seq > state.up_to:
            self._incomplete.add(conversation)
        else:
            self._incomplete.discard(conversation)
        logged = older + newer
        self.log += logged
        return logged

    def _grow_down(self, state: _Conversation) -> list[Entry]:
        grown = []
        assert state.begin is not None
        while (entry := state.held.get(state.begin - 1)) is not None:
            grown.append(entry)
            state.begin -= 1
        return grown[::-1]

    def _grow_up(self, state: _Conversation) -> list[Entry]:
        grown = []
        while True:
            entry = state.held.get(state.up_to + 1)
            if entry is not None:
                grown.append(entry)
                state.up_to += 1
            elif state.up_to + 1 < state.first_seq:
                # What is missing here is not for this user and never comes.
                state.up_to = min(_next_held(state) or state.first_seq, state.first_seq) - 1
            else:
                return grown

    def _hole(self, conversation: bytes) -> Hole:
        state = self._conversations[conversation]
        return Hole(conversation, state.up_to, _next_held(state) or state.last_seq + 1)


def _next_held(state: _Conversation) -> int | None:
    """The lowest seq that waits above the run."""
    return min((seq for seq in state.held if seq > state.up_to), default=None)


def _supersedes(entry: Entry, former: Entry) -> bool:
    """Whether it takes the place of what is held under the same key (`protocol/SPEC.md`, 5.2)."""
    match former, entry:
        case Message(revision=old), Message(revision=new):
            return (new or 0) > (old or 0)
        case Message(), Tombstone():
            return True
        case _:
            return False
