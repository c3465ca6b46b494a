"""One conversation, as far as this device holds it. Sans-IO."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias, assert_never

from msgspec.structs import replace

from client.participants import MessageStatus, ParticipantList
from protocol.frames import (
    Conversation,
    Departed,
    DevicesChanged,
    Message,
    Participants,
    ReceiptCounts,
    Receipts,
    Settings,
    Tombstone,
)
from protocol.limits import COUNTED

Entry: TypeAlias = Message | Tombstone
PushOfOne: TypeAlias = Participants | Departed | Settings | Receipts | ReceiptCounts | DevicesChanged
"""A push about one conversation, but for the frames that bring the conversation itself or an entry."""

_seq_of: Final[Callable[[Entry], int]] = attrgetter("seq")


class Gap(NamedTuple):
    """Messages that exist and are missing: those after `after_seq` and before `before_seq`."""

    conversation: bytes
    after_seq: int
    before_seq: int


class Grown(NamedTuple):
    """The entries that a run has gained, at its lower end and at its upper end; each by seq."""

    older: list[Entry]
    newer: list[Entry]


class HeldConversation:
    """A conversation and its messages, as far as this device holds them.

    :ivar head: the latest `Conversation` frame that counts; the attributes below are newer. None before the first one.
    :ivar participants: its participants.
    :ivar control_seq: the last control message that is known, from whatever frame.
    :ivar devices_version: the greatest known version of the device set, whatever frame told it.
    :ivar entries: the entry of each seq that counts, within the run or not.
    :ivar first_seq: messages below it are not for this user.
    :ivar last_seq: the highest seq known to exist.
    :ivar begin: the first seq of the run, the contiguous messages that can be read; None before the first frame.
    :ivar up_to: the last seq of the run; `begin` - 1 if it is empty.
    :ivar messages: the run.
    """

    __slots__ = (
        "_muted_until",
        "_own_version",
        "_quiet_counts",
        "_set_users",
        "_uncounted",
        "_user",
        "begin",
        "control_seq",
        "devices_version",
        "entries",
        "first_seq",
        "head",
        "id",
        "last_seq",
        "messages",
        "participants",
        "up_to",
    )

    def __init__(self, id_: bytes, user: bytes) -> None:
        self.id = id_
        self.head: Conversation | None = None
        self.control_seq = 0
        self.devices_version = 0
        self.participants = ParticipantList(user)
        self.entries: dict[int, Entry] = {}
        self.first_seq = 1
        self.last_seq = 0
        self.begin: int | None = None
        self.up_to = 0
        self.messages: list[Entry] = []
        self._user = user
        self._set_users: tuple[int, list[bytes]] = (-1, [])
        self._own_version = (-1, 0)
        """(participants_version, own_revision) of the latest frame with the user's own settings of it."""
        self._muted_until: int | None = None
        self._uncounted: set[int] = set()
        """The seqs above the user's own mark that do not count as unread: tombstones, held or told of, but for quiet
        messages. It only grows: no deleted message comes back."""
        self._quiet_counts: dict[int, int] = {}
        """By seq, how many messages up to it are quiet, as frames other than messages have told."""

    def learn(self, told: Conversation) -> None:
        """Apply a `Conversation` frame."""
        if self.head is not None and told.participants_version > self.head.participants_version:
            self.first_seq = min(self.first_seq, told.first_seq)
        if self.head is None or told.participants_version >= self.head.participants_version:
            self._take_head(told)
        self._note_set(told)
        self.control_seq = max(self.control_seq, told.control_seq or 0)
        own_version = told.participants_version, told.own_revision or 0
        if own_version >= self._own_version:
            self._own_version, self._muted_until = own_version, told.muted_until
        self.raise_floor(told.first_seq)
        self.last_seq = max(self.last_seq, told.last_seq)
        self.participants.count_all(told.participant_count, told.participants_version)
        if told.participants is not None:
            self.participants.take_all(told.participants, told.participants_version)
            self.participants.take_stays(told.former or ())
        self._count_quiet(told.quiet_counts)
        read = self._read_seq()
        self._quiet_counts = {seq: count for seq, count in self._quiet_counts.items() if seq >= read}
        self._uncounted = {seq for seq in (*self._uncounted, *(told.uncounted_seqs or ())) if seq > read}

    def _note_set(self, told: Conversation) -> None:
        version = told.devices_version or 0
        self.devices_version = max(self.devices_version, version)
        if told.participants is not None and told.participant_count is None and version >= self._set_users[0]:
            self._set_users = version, [each.user for each in told.participants]

    @property
    def set_users(self) -> tuple[int, list[bytes]] | None:
        """The present `devices_version`, and all whose devices it is about; None if no frame has told both together.

        They come from one frame: pushes about participants and about devices overtake each other.
        """
        return self._set_users if self._set_users[0] == self.devices_version else None

    def _count_quiet(self, told: list[tuple[int, int]] | None) -> None:
        self._quiet_counts.update(told or ())

    def _quiet_count_at(self, seq: int) -> int:
        """How many messages up to a seq are quiet. The server tells it for each base and each last message; without
        that, the number up to an earlier message."""
        if (entry := self.entries.get(seq)) is not None:
            return entry.quiet_count or 0
        if (entry := self.entries.get(seq + 1)) is not None:
            return (entry.quiet_count or 0) - bool(entry.is_quiet)
        if (count := self._quiet_counts.get(seq)) is not None:
            return count
        held = (entry.quiet_count or 0 for at, entry in self.entries.items() if at < seq)
        told = (count for at, count in self._quiet_counts.items() if at < seq)
        return max(*held, *told, 0, 0)

    def _take_head(self, told: Conversation) -> None:
        """Replace the head by a frame that is not older; at the same version an accepted request stays accepted."""
        former, self.head = self.head, told
        if former and former.participants_version == told.participants_version and not former.is_request:
            self._accept()

    def _accept(self) -> None:
        """The user has accepted the request, or has written, which accepts it."""
        if self.head is not None and self.head.is_request:
            self.head = replace(self.head, is_request=None, asked_by=None)

    def start(self, begin: int) -> None:
        """Begin an empty run here."""
        self.begin = begin
        self.up_to = begin - 1

    def put(self, entry: Entry) -> bool:
        """Hold an entry, if it is news; returns whether it is. An entry within the run takes its place there."""
        self._note_written(entry)
        if entry.sender == self._user and self.head is not None and entry.seq > self.head.last_seq:
            self._accept()
        if isinstance(entry, Message) and entry.follows is not None:
            self.control_seq = max(self.control_seq, entry.seq)
        if entry.seq < self.first_seq:
            return False
        if isinstance(entry, Tombstone) and not entry.is_quiet:
            self._uncounted.add(entry.seq)
        former = self.entries.get(entry.seq)
        if former is not None and not _supersedes(entry, former):
            return False
        self.entries[entry.seq] = entry
        self.last_seq = max(self.last_seq, entry.seq)
        if self.is_in_run(entry.seq):
            self.messages[bisect_left(self.messages, entry.seq, key=_seq_of)] = entry
        return True

    def _note_written(self, entry: Entry) -> None:
        """A user who writes has read, unless the message is quiet: clients may send those by themselves."""
        if not entry.is_quiet:
            self.participants.has_written(entry.sender, entry.seq)

    def is_in_run(self, seq: int) -> bool:
        """Whether a message can be read."""
        return self.begin is not None and self.begin <= seq <= self.up_to

    def take(self, push: PushOfOne) -> None:
        """Apply a push about participants, marks, counts or settings."""
        match push:
            case Participants():
                self.participants.count_all(push.participant_count, push.participants_version)
                self.participants.take(push.participants, push.participants_version)
                self._count_quiet(push.quiet_counts)
                for each in push.participants:
                    self.have_written(after=each.since, only=each.user)
            case Departed():
                self.participants.count_all(push.participant_count, push.participants_version)
                self.participants.remove(push.users, push.participants_version)
                self.participants.take_stays(push.former or ())
            case Receipts():
                for user, delivered, read in push.receipts:
                    self.participants.mark(user, delivered, read)
                self._count_quiet(push.quiet_counts)
            case ReceiptCounts():
                for seq, delivered, read, recipients in push.counts:
                    self.participants.count(seq, delivered, read, recipients)
            case Settings():
                self._take_settings(push)
            case DevicesChanged():
                self.devices_version = max(self.devices_version, push.devices_version)
            case _:
                assert_never(push)

    def _take_settings(self, push: Settings) -> None:
        if self.head is not None and push.participants_version > self.head.participants_version:
            self.head = replace(
                self.head,
                name=push.name,
                avatar=push.avatar,
                joiners_see_all=push.joiners_see_all,
                lifetime_s=push.lifetime_s,
                actor=push.actor,
                participants_version=push.participants_version,
            )
        self._count_quiet(push.quiet_counts)
        self.raise_floor(push.first_seq)

    def have_written(self, *, after: int, only: bytes | None = None) -> None:
        """Users who have written a message have read up to it, also if it came before the frame that brought the
        user."""
        for entry in self.entries.values():
            if entry.seq > after and only in (None, entry.sender):
                self._note_written(entry)

    def have_marked(self, seq: int, *, is_read: bool) -> None:
        """The server has noted a mark of this user, which counts as one up to the last message."""
        seq = min(seq, self.last_seq)
        self.participants.mark(self._user, seq, seq if is_read else None)

    def raise_floor(self, first_seq: int) -> None:
        """Messages below this seq are gone, or are not for this user; a seq below the present floor changes nothing."""
        if first_seq <= self.first_seq:
            return
        self.first_seq = first_seq
        self.last_seq = max(self.last_seq, first_seq - 1)
        self.entries = {seq: entry for seq, entry in self.entries.items() if seq >= first_seq}
        self.messages = [entry for entry in self.messages if entry.seq >= first_seq]
        if self.begin is not None:
            self.begin = max(self.begin, first_seq)
            self.up_to = max(self.up_to, first_seq - 1)

    def forget_missing(self) -> None:
        """Give up the messages that are missing above the run, and those that wait above them."""
        self.entries = {seq: entry for seq, entry in self.entries.items() if seq <= self.up_to}
        self.last_seq = self.up_to

    def grow(self) -> Grown:
        """Let the run grow by the entries that adjoin it."""
        if self.begin is None:
            return Grown([], [])
        older, newer = self._grow_down(self.begin), self._grow_up()
        if older:
            self.begin -= len(older)
            self.messages[:0] = older
        if newer:
            self.messages += newer
        return Grown(older, newer)

    def _grow_down(self, begin: int) -> list[Entry]:
        grown: list[Entry] = []
        while (entry := self.entries.get(begin - 1 - len(grown))) is not None:
            grown.append(entry)
        return grown[::-1]

    def _grow_up(self) -> list[Entry]:
        grown = []
        while True:
            entry = self.entries.get(self.up_to + 1)
            if entry is not None:
                grown.append(entry)
                self.up_to += 1
            elif self.up_to + 1 < self.first_seq:
                # The messages that are missing here are not for this user, and never come.
                self.up_to = min(self._next_held() or self.first_seq, self.first_seq) - 1
            else:
                return grown

    def gap(self) -> Gap:
        """The gap right above the run."""
        return Gap(self.id, self.up_to, self._next_held() or self.last_seq + 1)

    def _next_held(self) -> int | None:
        """The lowest seq that waits above the run."""
        return min((seq for seq in self.entries if seq > self.up_to), default=None)

    def shown(self) -> Conversation | None:
        """The conversation as it is now, without messages; None if it is not known."""
        if self.head is None:
            return None
        read = self._read_seq()
        unread = self.last_seq - read - sum(read < seq <= self.last_seq for seq in self._uncounted)
        last = next((entry for entry in reversed(self.messages) if not entry.is_quiet), None)
        if unread > 0:
            unread -= self._quiet_count_at(self.last_seq) - self._quiet_count_at(read)
        return replace(
            self.head,
            active_at=max(self.head.active_at, last.created if last else 0),
            first_seq=self.first_seq,
            last_seq=self.last_seq,
            unread_count=max(unread, 0),
            participants=self.participants.all,
            last_message=None,
            devices_version=self.devices_version or None,
            control_seq=self.control_seq or None,
            muted_until=self._muted_until,
            own_revision=self._own_version[1] or None,
            uncounted_seqs=None,
            former=None,
            quiet_counts=None,
            participant_count=None if self.participants.are_shown else self.participants.number,
        )

    def _read_seq(self) -> int:
        """The seq up to which no message counts as unread."""
        return max(self.participants.read_seq(self._user), self.participants.since_seq(self._user), self.first_seq - 1)

    def status(self, message: Entry) -> MessageStatus:
        """Whether all recipients of a message have it, or have read it."""
        is_counted = isinstance(message, Message) and self._is_counted(message.seq)
        return self.participants.status(message.seq, message.sender, is_counted=is_counted)

    def counts(self, message: Entry) -> tuple[int, int] | None:
        """To how many recipients an own message is delivered, and how many have read it; None if the server tells all
        marks, or if the counts are not known."""
        if isinstance(message, Tombstone) or not self._is_counted(message.seq):
            return None
        return self.participants.counts(message.seq)

    def _is_counted(self, seq: int) -> bool:
        return seq > self.last_seq - COUNTED

    def older_before(self) -> int | None:
        """The `seq` below which there are messages to load; None if all are loaded."""
        return self.begin if self.begin is not None and self.begin > self.first_seq else None


def _supersedes(entry: Entry, former: Entry) -> bool:
    """Whether an entry replaces the one held under the same key (`protocol/SPEC.md`, 5.2, 19.13, 19.17)."""
    match former, entry:
        case Message(revision=old), Message(revision=new):
            if (new or 0) == (old or 0):
                return entry.envelope is not None and entry.envelope != former.envelope
            return (new or 0) > (old or 0)
        case Message(), Tombstone():
            return True
        case _:
            return False
