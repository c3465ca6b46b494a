"""The events of a run, as data. Users, devices and conversations go by short names, times are in seconds.

An event with `began` is a request: the server carried it out at some time between `began` and its answer, `at`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

_E = TypeVar("_E", bound="Event")


@dataclass(frozen=True, slots=True)
class Opened:
    """A user opened a conversation with its first participants."""

    at: float
    conversation: str
    kind: str
    participants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tried:
    """A device sent a message for the first time, with any outcome."""

    at: float
    user: str
    conversation: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Acked:
    """The server acknowledged a send.

    :ivar began: when the device first tried.
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
    """A user tried to edit a message, with any outcome."""

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
    """A user becomes a participant, or no longer is one. `is_known` is false if the answer was lost."""

    at: float
    began: float
    conversation: str
    user: str
    is_added: bool
    is_known: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """An administrator turned `joiners_see_all` of a group on or off: whether joiners see earlier messages."""

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
    """A new or changed message came into a device's log. `content` is None for a tombstone."""

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
    """The server told a device that it has no messages of a conversation below `first_seq` for it."""

    at: float
    device: str
    conversation: str
    first_seq: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A device dropped a conversation, since its user is no longer a participant."""

    at: float
    device: str
    conversation: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """A node pushed a message to a bare connection. `content` is None for a tombstone."""

    at: float
    connection: str
    user: str
    conversation: str
    seq: int
    content: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Marked:
    """A participant's marks changed, as far as a device knows."""

    at: float
    device: str
    conversation: str
    user: str
    joined_seq: int
    delivered: int
    read: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A device no longer knows a user's marks, for instance because the user left."""

    at: float
    device: str
    conversation: str
    user: str


@dataclass(frozen=True, slots=True)
class Came:
    """The status of an own message changed, as far as a device knows. `others` are its recipients."""

    at: float
    device: str
    conversation: str
    seq: int
    status: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """The run put this fault into the processes."""

    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Addressed:
    """A device is about to send or edit a message for the devices of one version of a conversation's device set.

    :ivar devices: (device, identity revision) of each, all that it knows of, the ids in hex.
    :ivar sender: the id of the device, to which it sends no envelope.
    """

    at: float
    user: str
    conversation: str
    content: bytes
    version: int
    devices: frozenset[tuple[str, int]]
    sender: str


@dataclass(frozen=True, slots=True)
class EnvelopeCame:
    """A message came to a device with an envelope.

    :ivar device: the id, in hex.
    """

    at: float
    device: str
    conversation: str
    seq: int
    revision: int
    envelope: bytes


@dataclass(frozen=True, slots=True)
class TriedHealing:
    """A device adds envelopes to its message, which is pushed again then, out of order."""

    at: float
    conversation: str
    seq: int


@dataclass(frozen=True, slots=True)
class EnvelopeHeld:
    """A message that was sent or edited with envelopes, on a device in the end; the envelope is None if it has none."""

    at: float
    device: str
    conversation: str
    seq: int
    revision: int
    envelope: bytes | None


@dataclass(frozen=True, slots=True)
class SetAt:
    """The devices of the participants, (device, identity revision) of each, as Postgres had them in the transaction
    that stored a message or a revision of it."""

    at: float
    conversation: str
    seq: int
    revision: int
    devices: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in the database at the end of the run."""

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
    avatar: str
    joined_seq: int
    is_admin: bool
    revision: int
    delivered: int | None
    read: int | None


@dataclass(frozen=True, slots=True)
class MessageView:
    """`content` is None for a tombstone; `status` is None for others' messages; `counts` are (delivered, read) of own
    messages in large groups; `attachments` and `thumbnail` are what the message has beside its content; `device` is the
    one that wrote it; `is_quiet` holds for tombstones, too."""

    seq: int
    message: str
    created: int
    sender: str
    content: bytes | None
    revision: int
    edited: int | None
    status: str | None
    counts: tuple[int, int] | None = None
    attachments: tuple[str, ...] = ()
    thumbnail: bytes | None = None
    device: str | None = None
    is_quiet: bool = False


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A conversation as a device shows it."""

    conversation: str
    kind: str
    name: str | None
    avatar: str
    joiners_see_all: bool
    lifetime_s: int | None
    devices_version: int | None
    control_seq: int | None
    muted_until: int | None
    is_request: bool
    asked_by: str | None
    actor: str | None
    created: int
    participant_count: int | None
    active_at: int
    first_seq: int
    last_seq: int
    unread: int
    people: tuple[PersonView, ...]
    messages: tuple[MessageView, ...]


When: TypeAlias = Literal["connected", "resumed", "fresh"]


@dataclass(frozen=True, slots=True)
class View:
    """The contents of a device in the end: while it stays connected, after a resume, or fetched afresh.

    :ivar node: the node that it was connected to.
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
    | Addressed
    | EnvelopeCame
    | EnvelopeHeld
    | TriedHealing
    | SetAt
    | Stored
    | View
)


@dataclass(frozen=True)
class History:
    """All events, in the order in which the recorder got them."""

    events: tuple[Event, ...] = field(repr=False)

    def of(self, kind: type[_E]) -> Iterator[_E]:
        return (event for event in self.events if isinstance(event, kind))
