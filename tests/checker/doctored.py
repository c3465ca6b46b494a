"""Doctored histories: each doctoring puts one fault of a server or a client into the history of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, TypeVar

from tests.checker.history import (
    Acked,
    Addressed,
    Blocked,
    Came,
    ConversationView,
    Edited,
    EnvelopeCame,
    EnvelopeHeld,
    Event,
    History,
    Logged,
    Marked,
    ParticipantChange,
    Pushed,
    SetAt,
    Stored,
    View,
)
from tests.checker.plan import Kind, Step

_E = TypeVar("_E", bound=Event)

GROUP, DIRECT = "group0", "direct01"
"""The group of users 0, 1 and 2, and the direct conversation of users 0 and 1."""

REMOVED = "user2"


def small_plan() -> list[Step]:
    """Users 0 to 2 talk, user 2 is removed, and the others talk on; user 0 blocks user 1, and user 1 still writes."""
    # `place` chooses among the conversations of a user: user 0 has five, user 1 seven.
    group, direct = {0: 5, 1: 7, 2: 5}, {1: 5}
    steps: list[Step] = []

    def add(at_s: float, kind: Kind, user: int, place: int, *, pick: float = 0.0, flag: bool = True) -> None:
        steps.append(Step(at_s, kind, user, 0, place, 1, pick, flag))

    for turn in range(9):
        add(turn * 0.05, Kind.SEND, turn % 3, group[turn % 3])
    add(1.0, Kind.ENCRYPT, 0, group[0])
    add(1.5, Kind.EDIT, 0, group[0])
    add(1.5, Kind.READ, 1, group[1], pick=0.9)
    add(1.5, Kind.BLOCK, 0, 0)
    add(2.5, Kind.SEND, 1, direct[1])
    add(3.0, Kind.REMOVE, 0, 5, pick=0.9)
    for turn in range(6):
        add(4.5 + turn * 0.05, Kind.SEND, turn % 2, group[turn % 2])
    return steps


def _lost(history: History) -> History:
    """One acknowledged message is not in the database."""
    return _without(history, _some(history, Stored, lambda each: each.seq == 4))


def _stored_twice(history: History) -> History:
    """Postgres holds a retry as a second message."""
    last = max((each for each in history.of(Stored) if each.conversation == GROUP), key=lambda each: each.seq)
    return _after(history, last, replace(last, seq=last.seq + 1))


def _acked_twice(history: History) -> History:
    """The server acknowledged a retry with another seq."""
    ack = _some(history, Acked)
    return _after(history, ack, replace(ack, seq=ack.seq + 1))


def _swapped_in_the_database(history: History) -> History:
    one, other = (_some(history, Stored, lambda each, seq=seq: each.seq == seq) for seq in (3, 4))  # type: ignore[misc]
    return _with(_with(history, one, replace(other, seq=3)), other, replace(one, seq=4))


def _lost_on_a_device(history: History) -> History:
    """One message never came into a device's log."""
    return _without(history, _logged(history, 4))


def _repeated_on_a_device(history: History) -> History:
    return _after(history, _logged(history, 5), _logged(history, 4))


def _swapped_on_a_device(history: History) -> History:
    return _exchanged(history, _logged(history, 4), _logged(history, 5))


def _swapped_on_the_wire(history: History) -> History:
    one, other = [each for each in history.of(Pushed) if each.user == "user2" and each.conversation == GROUP][1:3]
    return _exchanged(history, one, other)


def _leaked(history: History) -> History:
    """A device of a removed user got a message that was sent after the removal."""
    removed = _some(history, ParticipantChange)
    assert (removed.user, removed.is_added) == (REMOVED, False)
    sent = _some(history, Acked, lambda each: each.began > removed.at)
    leak = Logged(sent.at, "user2.0", REMOVED, GROUP, sent.seq, sent.message, sent.user, sent.content, 0)
    return _after(history, sent, leak)


def _for_another_set(history: History) -> History:
    """The server accepted an edit for a device set, and a device had come meanwhile."""
    meant = _some(history, Addressed)
    edit = _some(history, Edited, lambda each: each.content in {other.content for other in history.of(Addressed)})
    place = (edit.conversation, edit.seq, edit.revision)
    found = _some(history, SetAt, lambda each: (each.conversation, each.seq, each.revision) == place)
    assert meant.devices == found.devices
    return _with(history, found, replace(found, devices=found.devices | {("another device", 1)}))


def _envelope_of_another(history: History) -> History:
    """A device got an envelope of another device."""
    came = _some(history, EnvelopeCame)
    other = next(each for each in history.of(EnvelopeCame) if each.device != came.device)
    return _after(history, came, replace(came, envelope=other.envelope))


def _envelope_lost(history: History) -> History:
    held = _some(history, EnvelopeHeld, lambda each: each.envelope is not None)
    return _with(history, held, replace(held, envelope=None))


def _written_by_a_stranger(history: History) -> History:
    """The server accepted a message from a removed user."""
    removed = _some(history, ParticipantChange)
    sent = _some(history, Acked, lambda each: each.began > removed.at)
    return _with(history, sent, replace(sent, user=REMOVED))


def _heard_though_blocked(history: History) -> History:
    blocked = _some(history, Blocked)
    sent = _some(history, Acked, lambda each: each.conversation == DIRECT and each.began > blocked.at)
    heard = Logged(sent.at, "user0.0", "user0", DIRECT, sent.seq, sent.message, sent.user, sent.content, 0)
    return _after(history, sent, heard)


def _mark_back(history: History) -> History:
    mark = _some(history, Marked, lambda each: each.delivered > 0)
    return _after(history, mark, replace(mark, delivered=mark.delivered - 1))


def _status_back(history: History) -> History:
    came = _some(history, Came, lambda each: each.status == "delivered")
    return _after(history, came, replace(came, status="sent"))


def _edit_missed(history: History) -> History:
    """A device shows a message as it was before its edit."""
    edit = _some(history, Edited)
    view = _some(history, View, lambda each: each.when == "resumed" and each.user == "user1")

    def before(shown: ConversationView) -> ConversationView:
        return replace(
            shown,
            messages=tuple(
                replace(each, content=b"as it was", revision=0, edited=None) if each.seq == edit.seq else each
                for each in shown.messages
            ),
        )

    return _with(history, view, _changed(view, before))


def _edit_lost(history: History) -> History:
    """An edit was acknowledged, and the database has the message as it was."""
    edit = _some(history, Edited)
    held = _some(history, Stored, lambda each: each.seq == edit.seq)
    first = _some(history, Acked, lambda each: (each.conversation, each.seq) == (edit.conversation, edit.seq))
    return _with(history, held, replace(held, revision=0, content=first.content))


def _missing_from_a_fresh_fetch(history: History) -> History:
    view = _some(history, View, lambda each: each.when == "fresh" and each.user == "user1")
    return _with(history, view, _changed(view, lambda shown: replace(shown, messages=shown.messages[1:])))


def _missing_from_a_device(history: History) -> History:
    """A device that resumed does not have the last message."""
    view = _some(history, View, lambda each: each.when == "resumed" and each.user == "user1")
    return _with(history, view, _changed(view, lambda shown: replace(shown, messages=shown.messages[:-1])))


DOCTORINGS: Final[dict[str, tuple[Callable[[History], History], str]]] = {
    "an acked message is lost": (_lost, "lost"),
    "a retry was stored twice": (_stored_twice, "repeated"),
    "a retry was acked otherwise": (_acked_twice, "repeated"),
    "two are swapped in the database": (_swapped_in_the_database, "lost"),
    # If the device loaded the message in a page of older ones, the next message of the page is then out of order.
    "one is lost on a device": (_lost_on_a_device, "gap|order"),
    "one is repeated on a device": (_repeated_on_a_device, "repeated"),
    "two are swapped on a device": (_swapped_on_a_device, "order"),
    "two are pushed the wrong way round": (_swapped_on_the_wire, "order"),
    "one leaks to who was removed": (_leaked, "leak"),
    "one is for another device set": (_for_another_set, "devices"),
    "a device gets another one's envelope": (_envelope_of_another, "envelope"),
    "a device lacks its envelope": (_envelope_lost, "envelope"),
    "one is taken from who was removed": (_written_by_a_stranger, "stranger"),
    "one comes to who blocks its sender": (_heard_though_blocked, "blocked"),
    "a mark goes back": (_mark_back, "marks"),
    "a status goes back": (_status_back, "status"),
    "a device misses an edit": (_edit_missed, "differs"),
    "a device misses the last message": (_missing_from_a_device, "differs"),
    "an edit is lost": (_edit_lost, "edit"),
    "a fresh fetch leaves one out": (_missing_from_a_fresh_fetch, "gap"),
}
"""Fault -> the function that puts it in, and the check that should report it; `a|b` means either check."""


def _some(history: History, kind: type[_E], which: Callable[[_E], bool] = lambda _: True) -> _E:
    """The first matching event of the group, else of any conversation."""
    found = [each for each in history.of(kind) if which(each)]
    return next((each for each in found if getattr(each, "conversation", GROUP) == GROUP), found[0])


def _logged(history: History, seq: int) -> Logged:
    return _some(
        history,
        Logged,
        lambda each: (each.device, each.conversation, each.seq, each.revision) == ("user1.0", GROUP, seq, 0),
    )


def _changed(view: View, change: Callable[[ConversationView], ConversationView]) -> View:
    shown: Iterable[ConversationView] = view.conversations
    return replace(view, conversations=tuple(change(each) if each.conversation == GROUP else each for each in shown))


def _with(history: History, event: Event, other: Event) -> History:
    return History(tuple(other if each is event else each for each in history.events))


def _without(history: History, event: Event) -> History:
    return History(tuple(each for each in history.events if each is not event))


def _after(history: History, event: Event, more: Event) -> History:
    at = next(number for number, each in enumerate(history.events) if each is event) + 1
    return History((*history.events[:at], more, *history.events[at:]))


def _exchanged(history: History, one: Event, other: Event) -> History:
    at = {id(one): other, id(other): one}
    return History(tuple(at.get(id(each), each) for each in history.events))
