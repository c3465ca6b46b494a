"""What has happened in a run, as data. Users, devices and conversations go by short names, times are in seconds.

An event with `began` is a request: what it asked for happened some time from `began` to `at`, when it was answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

_E = TypeVar("_E", bound="Event")


@dataclass(frozen=True, slots=True)
class Opened:
    """A conversation was made, with its first participants."""

    at: float
    conversation: str
    kind: str
    participants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tried:
    """A message was sent for the first time, whatever comes of it."""

    at: float
    user: str
    conversation: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Acked:
    """A send was acknowledged.

    :ivar began: when it was first tried.
    """

    at: float
    began: float
    user: str
    conversation: str
    content: bytes
    seq: int
    message: str
    created: int


@dataclass(frozen=True, slots=True)
class TriedEdit:
    """Somebody set out to put other content into a message."""

    at: float
    user: str
    conversation: str
    seq: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Edited:
    at: float
    began: float
    user: str
    conversation: str
    seq: int
    content: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class TriedDelete:
    at: float
    user: str
    conversation: str
    seq: int
    for_everyone: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    at: float
    began: float
    user: str
    conversation: str
    seq: int
    for_everyone: bool


@dataclass(frozen=True, slots=True)
class ParticipantChange:
    """A user takes part from now on, or has left. `is_known` is false if the answer was lost."""

    at: float
    began: float
    conversation: str
    user: str
    is_added: bool
    is_known: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A group shows those who join what was said before, or no more."""

    at: float
    began: float
    conversation: str
    joiners_see_all: bool
    is_known: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    at: float
    began: float
    user: str
    other: str
    is_blocked: bool
    is_known: bool


@dataclass(frozen=True, slots=True)
class Logged:
    """A message came into a device's log: new, or changed. `content` is None for a tombstone."""

    at: float
    device: str
    user: str
    conversation: str
    seq: int
    message: str
    sender: str
    content: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Floor:
    """A device was told that nothing of a conversation lies below `first_seq` for it."""

    at: float
    device: str
    conversation: str
    first_seq: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A device dropped a conversation, since its user takes part no more."""

    at: float
    device: str
    conversation: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """A message came to a bare connection, as it is. `content` is None for a tombstone."""

    at: float
    connection: str
    user: str
    conversation: str
    seq: int
    content: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Marked:
    """How far somebody has come, as a device knows it."""

    at: float
    device: str
    conversation: str
    user: str
    joined_seq: int
    delivered: int
    read: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A device does not know any more how far somebody has come: who takes part no more, for instance."""

    at: float
    device: str
    conversation: str
    user: str


@dataclass(frozen=True, slots=True)
class Came:
    """How far a message of its own has come, as a device knows it, with those for whom it is."""

    at: float
    device: str
    conversation: str
    seq: int
    status: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to the processes."""

    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in the database, in the end."""

    at: float
    conversation: str
    seq: int
    message: str
    sender: str
    created: int
    content: bytes
    revision: int
    is_deleted: bool
    is_silent: bool


@dataclass(frozen=True, slots=True)
class PersonView:
    user: str
    name: str
    joined_seq: int
    is_admin: bool
    revision: int
    delivered: int | None
    read: int | None


@dataclass(frozen=True, slots=True)
class MessageView:
    """`content` is None for a tombstone; `status` is None for others' messages; `counts` are (delivered, read) of own
    messages where many take part."""

    seq: int
    message: str
    created: int
    sender: str
    content: bytes | None
    revision: int
    edited: int | None
    status: str | None
    counts: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A conversation as a device shows it."""

    conversation: str
    kind: str
    name: str | None
    joiners_see_all: bool
    lifetime_s: int | None
    active_at: int
    first_seq: int
    last_seq: int
    unread: int
    people: tuple[PersonView, ...]
    messages: tuple[MessageView, ...]


When: TypeAlias = Literal["connected", "resumed", "fresh"]


@dataclass(frozen=True, slots=True)
class View:
    """What a device holds in the end: while it stayed connected, after it has resumed, or fetched afresh.

    :ivar node: where it was connected then.
    """

    at: float
    device: str
    user: str
    node: str
    when: When
    conversations: tuple[ConversationView, ...]


Event: TypeAlias = (
    Opened
    | Tried
    | Acked
    | TriedEdit
    | Edited
    | TriedDelete
    | Deleted
    | ParticipantChange
    | Shown
    | Blocked
    | Logged
    | Floor
    | Dropped
    | Pushed
    | Marked
    | Gone
    | Came
    | Fault
    | Stored
    | View
)


@dataclass(frozen=True)
class History:
    """All events, in the order in which they were written down."""

    events: tuple[Event, ...] = field(repr=False)

    def of(self, kind: type[_E]) -> Iterator[_E]:
        return (event for event in self.events if isinstance(event, kind))
