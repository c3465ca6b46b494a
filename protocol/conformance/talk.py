"""One conversation of the server double: its messages, its settings, and what has changed since a cursor. Sans-IO."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from protocol.conformance.devices import DoubleDeviceSet
from protocol.conformance.values import id_of
from protocol.frames import (
    Conversation,
    Departed,
    DevicesChanged,
    Message,
    Participant,
    Participants,
    Push,
    Receipts,
    Settings,
    Tombstone,
)

ME: Final = id_of("me")
"""The user whose client is tested."""

DEVICE: Final = id_of("device")
"""The device on which that client runs."""

START_US: Final = 1_790_000_000_000_000
"""The time of the first message, in microseconds since 1970."""

Entry: TypeAlias = Message | Tombstone
Subject: TypeAlias = Literal["new", "entry", "talk"]


class Change(Struct, frozen=True):
    """One change of a conversation.

    :ivar subject: "new": a message has come; "entry": a message was edited or deleted; "talk": anything else.
    :ivar seq: of the message; 0 for anything else.
    """

    subject: Subject
    seq: int = 0


class Talk:
    """A conversation as the user of the tested client sees it.

    :ivar others: the other participants.
    :ivar entries: the message or tombstone of each seq, from 1 on.
    :ivar revisions: (seq, revision) -> the message as it was.
    :ivar asked_by: the user whose request it is, until the user accepts; None: it is no request.
    :ivar begin: the first seq that a client holds which was told of the conversation last.
    :ivar returned_at: the number of changes before the user came, or came back: a client that knows fewer begins anew.
    """

    def __init__(self, name: str, kind: str = "direct", others: list[bytes] | None = None) -> None:
        self.id = id_of(name)
        self.kind = kind
        self.name = name if kind == "group" else None
        self.others = [id_of("bob")] if others is None else others
        self.entries: list[Entry] = []
        self.revisions: dict[tuple[int, int], Message] = {}
        self.first_seq = 1
        self.version = 1
        self.device_set: Final = DoubleDeviceSet()
        self.control_seq = 0
        self.lifetime_s: int | None = None
        self.asked_by: bytes | None = None
        self.delivered_seq = 0
        self.read_seq = 0
        self.since_seq = 0
        self.has_left = False
        self.begin = 1
        self.changes: list[Change] = []
        self.returned_at = 0

    @property
    def last_seq(self) -> int:
        return len(self.entries)

    @property
    def is_shown(self) -> bool:
        """Whether a client that is up to date shows it."""
        return not self.has_left

    @property
    def base(self) -> int:
        """The seq up to which no message counts as unread (SPEC 5.6)."""
        return max(self.read_seq, self.since_seq, self.first_seq - 1)

    @property
    def unread_count(self) -> int:
        above = [entry for entry in self.entries if entry.seq > self.base]
        return sum(isinstance(entry, Message) and not entry.is_quiet for entry in above)

    @property
    def readable(self) -> list[Entry]:
        """The entries from the first one that a client must hold, up to the last one."""
        return [entry for entry in self.entries if entry.seq >= max(self.begin, self.first_seq)]

    def write(
        self,
        sender: bytes,
        content: bytes,
        *,
        device: bytes | None = None,
        temp_id: bytes | None = None,
        content_type: str = "text/plain",
        reply_to: int | None = None,
        is_quiet: bool = False,
        envelopes: dict[bytes, bytes] | None = None,
        follows: int | None = None,
    ) -> Message:
        """A user sends a message; with `follows` it is a control message.

        :param envelopes: device -> its bytes.
        """
        seq = self.last_seq + 1
        quiet_count = self._quiet_count(seq - 1) + is_quiet
        message = Message(
            self.id,
            seq,
            self.id[:8] + seq.to_bytes(8, "big"),
            START_US + seq,
            sender,
            content_type,
            content,
            None,
            None,
            temp_id if sender == ME else None,
            device,
            reply_to=reply_to,
            is_quiet=is_quiet or None,
            has_envelopes=bool(envelopes) or None,
            follows=follows,
            quiet_count=quiet_count or None,
            envelope=(envelopes or {}).get(DEVICE),
        )
        if follows is not None:
            self.control_seq = seq
        if sender == ME and self.asked_by is not None:
            self.accept()
        self.entries.append(message)
        self.revisions[seq, 0] = message
        self.changes.append(Change("new", seq))
        if sender == ME and not is_quiet:
            self.read(seq)
        return message

    def edit(self, seq: int, content: bytes, device: bytes | None = None) -> Message:
        """Its sender puts other content into a message.

        :raises ValueError: if the message does not exist, or is deleted.
        """
        entry = self._message(seq)
        revision = (entry.revision or 0) + 1
        edited = replace(
            entry, content=content, revision=revision, edited=entry.created + revision, device=device or entry.device
        )
        self._replace(edited)
        self.revisions[seq, revision] = edited
        return edited

    def add_envelope(self, seq: int, envelope: bytes) -> Message:
        """Its sender gives this device another envelope for a message (SPEC 19.17)."""
        self._replace(replace(self._message(seq), has_envelopes=True, envelope=envelope))
        return self._message(seq)

    def delete(self, seq: int) -> Tombstone:
        """Its sender deletes a message for everyone; again it changes nothing.

        :raises ValueError: if the message does not exist.
        """
        if 1 <= seq <= self.last_seq and isinstance(entry := self.entries[seq - 1], Tombstone):
            return entry
        entry = self._message(seq)
        key = (entry.conversation, entry.seq, entry.message, entry.created, entry.sender)
        tombstone = Tombstone(*key, entry.is_quiet, None, entry.quiet_count)
        self._replace(tombstone)
        return tombstone

    def _message(self, seq: int) -> Message:
        entry = self.entries[seq - 1] if 1 <= seq <= self.last_seq else None
        if not isinstance(entry, Message):
            raise ValueError(f"there is no message {seq} of which something could be changed")
        return entry

    def _replace(self, entry: Entry) -> None:
        self.entries[entry.seq - 1] = entry
        self.changes.append(Change("entry", entry.seq))

    def read(self, seq: int) -> bool:
        """The user has read up to a seq; returns whether that is news."""
        is_news = min(seq, self.last_seq) > self.read_seq
        self.read_seq = max(self.read_seq, min(seq, self.last_seq))
        self.deliver(self.read_seq)
        if is_news:
            self.changes.append(Change("talk"))
        return is_news

    def deliver(self, seq: int) -> None:
        """A device of the user has all messages up to a seq."""
        self.delivered_seq = max(self.delivered_seq, min(seq, self.last_seq))

    def receipts(self) -> Receipts:
        """The user's own marks."""
        return Receipts(self.id, DEVICE, [(ME, self.delivered_seq, self.read_seq)], self._quiet_counts())

    def join(self, user: bytes) -> Participants:
        """An administrator adds a user."""
        self.others.append(user)
        self.version += 1
        self.changes.append(Change("talk"))
        return Participants(self.id, [self._participant(user)], self.version)

    def rename(self, name: str) -> Settings:
        """An administrator renames the group."""
        self.name = name
        return self._settings()

    def raise_floor(self, first_seq: int) -> Settings:
        """The messages below this seq are gone for everyone."""
        self.first_seq = max(self.first_seq, first_seq)
        return self._settings(changes_version=False)

    def _settings(self, *, changes_version: bool = True) -> Settings:
        self.version += changes_version
        self.changes.append(Change("talk"))
        return Settings(
            self.id,
            self.name,
            self.first_seq,
            self.version,
            lifetime_s=self.lifetime_s,
            quiet_counts=self._quiet_counts(),
        )

    def set_lifetime(self, lifetime_s: int | None) -> Settings:
        """From now on messages disappear after so many seconds."""
        self.lifetime_s = lifetime_s
        return self._settings()

    def accept(self) -> Conversation:
        """The user accepts the request on another device."""
        self.asked_by = None
        self.changes.append(Change("talk"))
        return self.conversation(is_new=False)

    def leave(self) -> Departed:
        """An administrator removes the user."""
        self.has_left = True
        self.version += 1
        self.changes.append(Change("talk"))
        return self.departed()

    def departed(self) -> Departed:
        return Departed(self.id, [ME], self.version)

    def come_back(self) -> Conversation:
        """The user takes part again, and sees what is written from now on."""
        self.has_left = False
        self.version += 1
        self.returned_at = len(self.changes)
        self.first_seq = self.last_seq + 1
        self.since_seq = self.last_seq
        self.changes.append(Change("talk"))
        return self.tell_anew()

    def change_devices(self, users: list[bytes]) -> DevicesChanged:
        """Devices of these users have changed."""
        since = self.device_set.change(users)
        self.changes.append(Change("talk"))
        return DevicesChanged(self.id, self.device_set.version, users, since)

    def tell_anew(self) -> Conversation:
        """The frame for a client that does not know it: the client begins at the last message (SPEC 6.3)."""
        told = self.conversation(is_new=True)
        self.begin = told.last_message.seq if told.last_message is not None else self.last_seq + 1
        return told

    def conversation(self, *, is_new: bool) -> Conversation:
        """The frame that tells of it, with all participants.

        :param is_new: to the client; else it comes without the last message.
        """
        last = self._last_loud() if is_new else None
        others = [self._participant(user) for user in self.others]
        own = Participant(ME, None, "me", 0, self.delivered_seq, self.read_seq, since_seq=self.since_seq or None)
        uncounted = [entry.seq for entry in self.entries if isinstance(entry, Tombstone) and entry.seq > self.base]
        return Conversation(
            self.id,
            START_US,
            self.kind,
            self.name,
            self.first_seq,
            self.last_seq,
            self.unread_count,
            max((entry.created for entry in self.entries if not entry.is_quiet), default=START_US),
            [own, *others],
            last,
            self.version,
            lifetime_s=self.lifetime_s,
            devices_version=self.device_set.version or None,
            control_seq=self.control_seq or None,
            is_request=(self.asked_by is not None) or None,
            asked_by=self.asked_by,
            uncounted_seqs=[seq for seq in uncounted if not self.entries[seq - 1].is_quiet] or None,
            quiet_counts=self._quiet_counts(),
        )

    def _participant(self, user: bytes) -> Participant:
        return Participant(user, None, _username(user), 0, 0, 0)

    def _last_loud(self) -> Entry | None:
        """The last message that is not quiet, of those that the user may read."""
        return next((e for e in reversed(self.entries) if not e.is_quiet and e.seq >= self.first_seq), None)

    def _quiet_count(self, seq: int) -> int:
        return sum(bool(entry.is_quiet) for entry in self.entries[:seq])

    def _quiet_counts(self) -> list[tuple[int, int]] | None:
        if not self._quiet_count(self.last_seq):
            return None
        return [(seq, self._quiet_count(seq)) for seq in sorted({self.base, self.last_seq})]

    def news(self, known: int | None, count: int | None = None) -> list[Push]:
        """The frames that a `sync` brings (SPEC 6.1).

        :param known: the number of changes that the client has been told; None: it does not know the conversation.
        :param count: the greatest number of new messages.
        """
        if self.has_left:
            return [] if known is None or known == len(self.changes) else [self.departed()]
        if known is None or known < self.returned_at:
            return [self.tell_anew()]
        changes = self.changes[known:]
        new = sorted({change.seq for change in changes if change.subject == "new"})
        edited = {change.seq for change in changes if change.subject == "entry"}.difference(new)
        seqs = sorted({*new[-count if count else 0 :], *edited})
        heads: list[Push] = [self.conversation(is_new=False)] if Change("talk") in changes else []
        return [*heads, *(self.entries[seq - 1] for seq in seqs if seq >= self.first_seq)]


def _username(user: bytes) -> str:
    return user.rstrip(b".").decode()
