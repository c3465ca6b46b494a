"""The participants of one conversation, and their marks. Sans-IO.

Each frame about participants carries the version of the list (`participants_version`), so the order of frames does not
matter; marks never go back, so the greater one counts. The list remembers users who are gone, so that no older frame
brings them back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from msgspec.structs import replace

from protocol.frames import Participant, Profile, Stay

MessageStatus: TypeAlias = Literal["sent", "delivered", "read"]


class ParticipantList:
    """The participants of a conversation, as a user sees them.

    :param own: the user of this device: where many take part, the only one who is held (`count_all`).
    :ivar version: of the latest whole list.
    """

    def __init__(self, own: bytes) -> None:
        self._own = own
        self.version = -1
        self._number: int | None = None
        self._number_version = -1
        self._participants: dict[bytes, Participant] = {}
        self._versions: dict[bytes, int] = {}
        self._counts: dict[int, tuple[int, int, int]] = {}
        self._stays: dict[tuple[bytes, int, int], Stay] = {}

    def take_all(self, participants: Iterable[Participant], version: int) -> None:
        """These are all participants, as of this version."""
        told = list(participants)
        self.take(told, version)
        if version >= self.version:
            self.version = version
            self.remove([user for user in self._participants if user not in {each.user for each in told}], version)

    def count_all(self, number: int | None, version: int) -> None:
        """The number of participants as of this version, if the server does not tell all of them; None if it does.

        If it does not, only the user is held: when they are few again, the server tells all of them.
        """
        if version >= self._number_version:
            self._number, self._number_version = number, version
        self._drop_many()

    def _drop_many(self) -> None:
        if self._number is not None:
            self._participants = {user: each for user, each in self._participants.items() if user == self._own}

    def take(self, participants: Iterable[Participant], version: int) -> None:
        """These are participants, as they are as of this version."""
        for each in participants:
            held = self._participants.get(each.user)
            if version >= max(self._versions.get(each.user, -1), self.version if held is None else -1):
                self._versions[each.user] = version
                self._participants[each.user] = _merged(each, held)
            elif held is not None:
                self.mark(each.user, each.delivered_seq, each.read_seq)
                self.rename(Profile(each.user, each.revision or 0, each.username, each.display_name, each.avatar))
        self._drop_many()

    def remove(self, users: Iterable[bytes], version: int) -> None:
        """These no longer take part, as of this version."""
        for user in users:
            if version >= self._versions.get(user, -1):
                self._versions[user] = version
                self._participants.pop(user, None)

    def take_stays(self, stays: Iterable[Stay]) -> None:
        """Stays that have ended: their users remain recipients of the messages that were sent during the stay."""
        for each in stays:
            held = self._stays.get((each.user, each.since_seq, each.left_seq))
            if held is not None:
                most = (_most(held.delivered_seq, each.delivered_seq), _most(held.read_seq, each.read_seq))
                each = replace(each, delivered_seq=most[0], read_seq=most[1])
            self._stays[each.user, each.since_seq, each.left_seq] = each

    def mark(self, user: bytes, delivered: int | None, read: int | None) -> None:
        """Lift the marks of a user."""
        held = self._participants.get(user)
        if held is not None:
            most = (_most(held.delivered_seq, delivered), _most(held.read_seq, read))
            self._participants[user] = replace(held, delivered_seq=most[0], read_seq=most[1])

    def has_written(self, user: bytes, seq: int) -> None:
        """A user who writes has read: the message itself lifts the user's marks."""
        held = self._participants.get(user)
        if held is not None and held.read_seq is not None:
            self.mark(user, seq, seq)

    def count(self, seq: int, delivered: int, read: int, recipients: int) -> None:
        """The numbers of a message's recipients, where too many take part for the server to tell each mark."""
        held = self._counts.get(seq, (0, 0, 0))
        self._counts[seq] = (max(held[0], delivered), max(held[1], read), recipients)

    def counts(self, seq: int) -> tuple[int, int] | None:
        """The counts of a message; None where the server tells all marks."""
        held = None if self.are_shown else self._counts.get(seq)
        return held and held[:2]

    def rename(self, profile: Profile) -> None:
        held = self._participants.get(profile.user)
        if held is not None and profile.revision > (held.revision or 0):
            self._participants[profile.user] = replace(
                held, revision=profile.revision, display_name=profile.display_name, avatar=profile.avatar
            )

    @property
    def are_shown(self) -> bool:
        """Whether the server tells the marks of the others: not where too many take part."""
        return self._number is None

    @property
    def number(self) -> int:
        """The number of participants."""
        return len(self._participants) if self._number is None else self._number

    @property
    def all(self) -> list[Participant]:
        """The participants, by their ids."""
        return [self._participants[user] for user in sorted(self._participants)]

    @property
    def former(self) -> list[Stay]:
        """Stays that have ended, the latest first."""
        return sorted(self._stays.values(), key=lambda stay: (-stay.left_seq, stay.user))

    def read_seq(self, user: bytes) -> int:
        """The seq up to which a user has read; 0 if that is not known."""
        held = self._participants.get(user)
        return (held.read_seq or 0) if held else 0

    def since_seq(self, user: bytes) -> int:
        """The seq above which a user is a recipient; 0 if that is not known."""
        held = self._participants.get(user)
        return held.since if held else 0

    def status(self, seq: int, sender: bytes, *, is_counted: bool = True) -> MessageStatus:
        """Whether all recipients of a message have it, or have read it; where too many take part, by its counts.

        :param is_counted: whether each `sync` renews its counts; if not, they may be old, and are not used.
        """
        if not self.are_shown:
            return _status(*self._counts.get(seq, (0, 0, 0))) if is_counted else "sent"
        marks = [
            *((p.user, p.delivered_seq, p.read_seq) for p in self._participants.values() if p.since < seq),
            *((s.user, s.delivered_seq, s.read_seq) for s in self._stays.values() if s.since_seq < seq <= s.left_seq),
        ]
        known = [(delivered or 0, read or 0) for user, delivered, read in marks if user != sender]
        return _status(sum(each >= seq for each, _ in known), sum(each >= seq for _, each in known), len(known))


def _merged(told: Participant, held: Participant | None) -> Participant:
    """The entry that is told now, with the marks and the profile of the held one if those are newer."""
    if held is None:
        return told
    is_older = (told.revision or 0) < (held.revision or 0)
    return replace(
        told,
        delivered_seq=_most(held.delivered_seq, told.delivered_seq),
        read_seq=_most(held.read_seq, told.read_seq),
        revision=held.revision if is_older else told.revision,
        display_name=held.display_name if is_older else told.display_name,
        avatar=held.avatar if is_older else told.avatar,
    )


def _most(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)


def _status(delivered: int, read: int, recipients: int) -> MessageStatus:
    if not recipients or delivered < recipients:
        return "sent"
    return "read" if read >= recipients else "delivered"


NO_PARTICIPANTS: Final = ParticipantList(b"")
"""The participants of an unknown conversation; not to be changed."""
