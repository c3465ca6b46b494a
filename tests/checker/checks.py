"""The checks of a history, as pure functions: each yields the faults that it finds.

The server carries out a request at some moment between its beginning and its answer, so the order of two requests that
overlap is unknown: the checks accuse only where the order is certain.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Final, TypeAlias

from tests.checker.history import (
    Acked,
    Addressed,
    Blocked,
    Came,
    ConversationView,
    Deleted,
    Dropped,
    Edited,
    EnvelopeCame,
    EnvelopeHeld,
    Floor,
    Gone,
    History,
    Logged,
    Marked,
    MessageView,
    Opened,
    ParticipantChange,
    Pushed,
    SetAt,
    Shown,
    Stored,
    Tried,
    TriedDelete,
    TriedEdit,
    TriedHealing,
    View,
)

FOR: Final = b" for "


def envelope_for(content: bytes, device: str) -> bytes:
    """The envelope of a message or an edit for a device."""
    return content + FOR + device.encode()


_RANKS: Final = {"sent": 0, "delivered": 1, "read": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault in a history. `check` is the name of its kind."""

    check: str
    what: str


def verify(history: History) -> list[Finding]:
    """All checks."""
    return [Finding(name, what) for check in CHECKS for name, what in check(history)]


Found: TypeAlias = Iterator[tuple[str, str]]


def check_acks(history: History) -> Found:
    """Postgres holds every acked send once, at the acked seq, and no other message; a retry gets the same ack (P1 to
    P3)."""
    stored = {(each.conversation, each.seq): each for each in history.of(Stored)}
    first: dict[bytes, Acked] = {}
    for ack in history.of(Acked):
        former = first.setdefault(ack.content, ack)
        if (former.seq, former.message, former.created) != (ack.seq, ack.message, ack.created):
            yield "repeated", f"{ack.content!r} was acked as {former.seq} and as {ack.seq} of {ack.conversation}"
    for ack in first.values():
        held = stored.get((ack.conversation, ack.seq))
        if held is None:
            yield "lost", f"{ack.content!r}, acked as {ack.seq} of {ack.conversation}"
        elif (held.message, held.sender, held.created) != (ack.message, ack.user, ack.created):
            yield "lost", f"{ack.content!r}: {ack.seq} of {ack.conversation} is another message"
    acked = {(ack.conversation, ack.seq) for ack in first.values()}
    for key in sorted(stored.keys() - acked):
        yield "repeated", f"{key[1]} of {key[0]}, {stored[key].content!r}, was stored and acked to nobody"
    for conversation, messages in _by_conversation(stored.values()).items():
        if [each.seq for each in messages] != list(range(1, len(messages) + 1)):
            yield "gap", f"seqs of {conversation} in the database: {_spans(each.seq for each in messages)}"
        if any(one.created > other.created for one, other in pairwise(messages)):
            yield "order", f"`created` goes back in {conversation}"


def check_edits(history: History) -> Found:
    """Postgres holds the content of each acked revision, or a later revision; no deleted message has a content."""
    stored = {(each.conversation, each.seq): each for each in history.of(Stored)}
    acked: dict[tuple[str, int, int], bytes] = {}
    for edit in history.of(Edited):
        key = (edit.conversation, edit.seq, edit.revision)
        if acked.setdefault(key, edit.content) != edit.content:
            yield "edit", f"two edits became revision {edit.revision} of {edit.conversation} {edit.seq}"
    for (conversation, seq, revision), content in acked.items():
        held = stored.get((conversation, seq))
        if held is None or held.is_deleted:
            continue
        if held.revision < revision or (held.revision == revision and held.content != content):
            yield "edit", f"revision {revision} of {conversation} {seq} was acked, {held.revision} is stored"
    for each in history.of(Deleted):
        held = stored.get((each.conversation, each.seq))
        if each.for_everyone and held is not None and not held.is_deleted:
            yield "edit", f"{each.conversation} {each.seq} was deleted, and is there"


def check_device_sets(history: History) -> Found:
    """A message for one version of the device set is accepted only if the devices are those at its place (P14)."""
    addressed = {each.content: each for each in history.of(Addressed)}
    sets = {(each.conversation, each.seq, each.revision): each.devices for each in history.of(SetAt)}
    accepted = [(each, 0) for each in history.of(Acked)]
    for each, revision in [*accepted, *((edit, edit.revision) for edit in history.of(Edited))]:
        meant = addressed.get(each.content)
        if meant is None:
            continue
        where = f"{each.conversation} {each.seq}, revision {revision}"
        found = sets.get((each.conversation, each.seq, revision))
        if found is None:
            yield "devices", f"{where}: no set was noted"
        elif found != meant.devices:
            missing, more = sorted(found - meant.devices), sorted(meant.devices - found)
            yield "devices", f"{where} is for version {meant.version}, without {missing}, and with {more}"


def check_envelopes(history: History) -> Found:
    """Each device that a message or an edit was encrypted for has its envelope, and no other device gets one (P15)."""
    addressed = {each.content: each for each in history.of(Addressed)}
    accepted = {(each.conversation, each.seq, 0): each.content for each in history.of(Acked)}
    accepted |= {(each.conversation, each.seq, each.revision): each.content for each in history.of(Edited)}

    def envelope_of(device: str, conversation: str, seq: int, revision: int) -> bytes | None:
        """That of the last part that names the device."""
        for part in range(revision, -1, -1):
            meant = addressed.get(accepted.get((conversation, seq, part), b""))
            if meant is not None and meant.sender != device and device in {each for each, _ in meant.devices}:
                return envelope_for(meant.content, device)
        return None

    for each in history.of(EnvelopeCame):
        content, _, device = each.envelope.partition(FOR)
        meant = addressed.get(content)
        where = f"{each.conversation} {each.seq}, revision {each.revision}"
        if meant is None or meant.conversation != each.conversation or device.decode() != each.device:
            yield "envelope", f"{each.device} got {each.envelope!r} in {where}"
        elif each.device not in {named for named, _ in meant.devices}:
            yield "envelope", f"{each.device} got an envelope in {where}, for which it was not addressed"
    for held in history.of(EnvelopeHeld):
        expected = envelope_of(held.device, held.conversation, held.seq, held.revision)
        if held.envelope != expected:
            yield (
                "envelope",
                (
                    f"{held.device} has {held.envelope!r}, not {expected!r}, in {held.conversation} {held.seq},"
                    f" revision {held.revision}"
                ),
            )


def check_writers(history: History) -> Found:
    """A user wrote each content that is stored, and a user deleted each message that is deleted."""
    written = {each.content for each in history.of(Tried)} | {each.content for each in history.of(TriedEdit)}
    deleted = {(each.conversation, each.seq) for each in history.of(TriedDelete) if each.for_everyone}
    for held in history.of(Stored):
        where = (held.conversation, held.seq)
        if held.is_deleted and where not in deleted:
            yield "edit", f"{where} was deleted by nobody"
        if not held.is_deleted and held.content not in written:
            yield "edit", f"{where} has a content that nobody wrote"


@dataclass
class _Run:
    """A device's log of a conversation so far: seqs `begin` to `up_to`, and an incomplete page of older messages."""

    begin: int = 0
    up_to: int = -1
    floor: int = 1
    older: list[int] = field(default_factory=list)
    last: dict[int, tuple[int, bool]] = field(default_factory=dict)


def check_logs(history: History) -> Found:
    """A device's log has each message once as new, in order and without gaps; and again only after a change."""
    runs: defaultdict[tuple[str, str], _Run] = defaultdict(_Run)
    for event in history.events:
        match event:
            case Dropped():
                runs.pop((event.device, event.conversation), None)
            case Floor():
                run = runs[event.device, event.conversation]
                run.floor = max(run.floor, event.first_seq)
            case Logged():
                yield from _log(runs[event.device, event.conversation], event)
            case _:
                pass
    for (device, conversation), run in runs.items():
        if run.older:
            yield "gap", f"{device}: {_spans(run.older)} of {conversation} do not reach {run.begin}"


def _log(run: _Run, event: Logged) -> Found:
    where, seq, is_gone = f"{event.device}: {event.conversation} {event.seq}", event.seq, event.content is None
    former = run.last.get(seq)
    run.last[seq] = (event.revision, is_gone)
    if former is not None:
        if former[1] or (not is_gone and event.revision <= former[0]):
            yield "repeated", f"{where} was logged again as it was"
        return
    if run.up_to < 0:
        run.begin, run.up_to = seq, seq
    elif seq == run.up_to + 1:
        run.up_to = seq
    elif seq > run.up_to:
        if seq > max(run.floor, run.up_to + 1):
            yield "gap", f"{where} came after {run.up_to}"
        run.up_to = seq
    elif seq < run.begin:
        run.older.append(seq)
        if run.older != list(range(run.older[0], run.older[0] + len(run.older))):
            yield "order", f"{where} among older ones {run.older}"
        if seq == run.begin - 1:
            run.begin = run.older[0]
            run.older = []
    else:
        yield "order", f"{where} came after {run.up_to}"


def check_pushes(history: History) -> Found:
    """A node pushes the new messages of a conversation in order, starting with the first push on a connection.

    Messages from the time before the node knew the conversation come late: their seqs are below that first one. Those
    that get further envelopes come again, out of order.
    """
    healed = {(each.conversation, each.seq) for each in history.of(TriedHealing)}
    first: dict[tuple[str, str], int] = {}
    latest: dict[tuple[str, str], int] = {}
    for push in history.of(Pushed):
        if push.revision or push.content is None or (push.conversation, push.seq) in healed:
            continue
        key = (push.connection, push.conversation)
        begin = first.setdefault(key, push.seq)
        if begin <= push.seq < latest.get(key, 0):
            yield "order", f"{push.connection} was pushed {push.conversation} {push.seq} after {latest[key]}"
        latest[key] = max(latest.get(key, 0), push.seq)


def check_leaks(history: History) -> Found:
    """A user never gets a message sent during the user's absence, unless the group shows it to joiners."""
    requests = _requests(history)
    seen = _seen(history)
    for (user, conversation), absences in _absences(history).items():
        for absence in absences:
            hidden = absence.hides(requests[conversation])
            for event in seen[user, conversation]:
                if event.at < absence.shown_from and hidden(event):
                    yield "leak", f"{_who(event)} got {event.content!r} of {conversation} {event.seq} at {event.at:.3f}"


def check_strangers(history: History) -> Found:
    """The server accepts messages and edits from participants only."""
    absences = _absences(history)
    for request in _all(_requests(history)):
        for absence in absences.get((request.user, request.conversation), ()):
            if absence.covers(request):
                yield "stranger", f"{request.user} wrote {request.content!r} into {request.conversation}"


def check_blocked(history: History) -> Found:
    """In a direct conversation, messages and edits of a blocked sender never reach the blocker."""
    requests, seen = _requests(history), _seen(history)
    pairs = {frozenset(each.participants): each.conversation for each in history.of(Opened) if each.kind == "direct"}
    for (user, other), spells in _spells(history).items():
        conversation = pairs.get(frozenset((user, other)))
        if conversation is None:
            continue
        for spell in spells:
            silent = spell.hides(requests[conversation])
            for event in seen[user, conversation]:
                if event.content is not None and silent(event) and _sender_of(event, history) == other:
                    yield "blocked", f"{_who(event)} got {event.content!r} of {other}, in {conversation}"


def check_marks(history: History) -> Found:
    """A participant's marks never go back in any device's view, until the participant leaves (5.7)."""
    known: dict[tuple[str, str, str], Marked] = {}
    for event in history.events:
        match event:
            case Dropped():
                for key in [key for key in known if key[:2] == (event.device, event.conversation)]:
                    del known[key]
            case Gone():
                known.pop((event.device, event.conversation, event.user), None)
            case Marked():
                key = (event.device, event.conversation, event.user)
                former = known.get(key)
                known[key] = event
                if former is None or former.joined_seq != event.joined_seq:
                    continue
                if event.delivered < former.delivered or event.read < former.read:
                    yield "marks", f"{event.device}: {event.user} in {event.conversation}: {former} became {event}"
            case _:
                pass


def check_statuses(history: History) -> Found:
    """The status of a message never goes back, even when a participant leaves. Exception: a device that has not heard
    yet of a recipient, added just before the message was sent, may have shown too high a status."""
    known: dict[tuple[str, str, int], Came] = {}
    for event in history.events:
        match event:
            case Dropped():
                for key in [key for key in known if key[:2] == (event.device, event.conversation)]:
                    del known[key]
            case Came():
                key = (event.device, event.conversation, event.seq)
                former = known.get(key)
                known[key] = event
                if former is None or set(event.others) - set(former.others):
                    continue
                if _RANKS[event.status] < _RANKS[former.status]:
                    yield "status", f"{event.device}: {event.conversation} {event.seq}: {former} became {event}"
            case _:
                pass


def check_fresh(history: History) -> Found:
    """A fresh device fetches everything that its user may read, and nothing else."""
    stored = {(each.conversation, each.seq): each for each in history.of(Stored)}
    last: dict[str, int] = defaultdict(int)
    for conversation, seq in stored:
        last[conversation] = max(last[conversation], seq)
    hidden = {(each.user, each.conversation, each.seq) for each in history.of(TriedDelete)}
    blocked = _ever_blocked(history)
    for view in history.of(View):
        if view.when != "fresh":
            continue
        for held in view.conversations:
            where = f"{view.device}: {held.conversation}"
            if [each.seq for each in held.messages] != list(range(held.first_seq, held.last_seq + 1)):
                yield "gap", f"{where} has {_spans(each.seq for each in held.messages)} from {held.first_seq}"
            if held.last_seq > last[held.conversation]:
                yield "gap", f"{where} ends at {held.last_seq}, not at {last[held.conversation]}"
            for message in held.messages:
                truth = stored.get((held.conversation, message.seq))
                if truth is None or message.message != truth.message:
                    yield "lost", f"{where} {message.seq} is no message that is stored"
                    continue
                may_hide = (view.user, held.conversation, message.seq) in hidden or (
                    held.kind == "direct" and (view.user, truth.sender) in blocked
                )
                yield from _wrongly_shown(where, message, truth, may_hide=may_hide)


def _wrongly_shown(where: str, shown: MessageView, truth: Stored, *, may_hide: bool) -> Found:
    if shown.content is None:
        if not truth.is_deleted and not may_hide:
            yield "lost", f"{where} {shown.seq} is a tombstone without a reason"
    elif truth.is_deleted:
        yield "edit", f"{where} {shown.seq} shows {shown.content!r}, which was deleted"
    elif (shown.content, shown.revision) != (truth.content, truth.revision):
        yield "edit", f"{where} {shown.seq} shows revision {shown.revision}, not {truth.revision}"


def check_views(history: History) -> Found:
    """In the end a device holds the same as a fresh device fetches (P4)."""
    fresh: dict[str, View] = {}
    for view in history.of(View):
        if view.when == "fresh":
            fresh[view.user] = view
        else:
            for what in differences(view, fresh[view.user]):
                yield "differs", f"{view.device} at {view.node or 'no node'}, {view.when}: {what}"


CHECKS: Final[tuple[Callable[[History], Found], ...]] = (
    check_acks,
    check_edits,
    check_device_sets,
    check_envelopes,
    check_writers,
    check_logs,
    check_pushes,
    check_leaks,
    check_strangers,
    check_blocked,
    check_marks,
    check_statuses,
    check_fresh,
    check_views,
)


def differences(view: View, fresh: View) -> list[str]:
    """The differences between a device's view and that of a fresh device.

    A device that has resumed, with any cursor, may lack only messages that it has not loaded. For a device that stays
    connected, the server pushes a mark only to the authors of the messages that the mark passes, so the device may
    know lower marks of others; but the status of its user's own messages must be right. The device may also not know
    the last message of a blocked user until another message comes.
    """
    held = {each.conversation: each for each in view.conversations}
    shown = {each.conversation: each for each in fresh.conversations}
    found = [f"{name} is {'missing' if name in shown else 'not theirs'}" for name in held.keys() ^ shown.keys()]
    for name in sorted(held.keys() & shown.keys()):
        one = held[name]
        other = _loaded(shown[name], one)
        if view.when == "connected":
            other = _without_silence(_less(other, one, view.user), one, view.user)
        found += [f"{name}: {what}" for what in _unlike(one, other)]
    return found


def _loaded(shown: ConversationView, held: ConversationView) -> ConversationView:
    """The fresh view without the messages that the device has not loaded."""
    first = held.messages[0].seq if held.messages else 0
    return replace(shown, messages=tuple(each for each in shown.messages if each.seq >= first))


def _less(shown: ConversationView, held: ConversationView, user: str) -> ConversationView:
    """The fresh view without the marks and counts that the server did not tell the device."""
    known = {each.user: each for each in held.people}
    people = []
    for each in shown.people:
        mine = known.get(each.user)
        if mine is not None:
            delivered = mine.delivered if _is_behind(mine.delivered, each.delivered) else each.delivered
            read = mine.read if each.user != user and _is_behind(mine.read, each.read) else each.read
            people.append(replace(each, delivered=delivered, read=read))
        else:
            people.append(each)
    counts = {each.seq: each.counts for each in held.messages}
    messages = tuple(replace(each, counts=counts.get(each.seq)) for each in shown.messages)
    return replace(shown, people=tuple(people), messages=messages)


def _without_silence(shown: ConversationView, held: ConversationView, user: str) -> ConversationView:
    """The fresh view without the last messages of a blocked user, and without their effect on the unread count, the
    user's own read mark, statuses and `active_at`."""
    if shown.kind != "direct" or not any(each.content is None and each.sender != user for each in shown.messages):
        return shown
    unheard = {each.seq for each in shown.messages if each.seq > held.last_seq}
    if any(each.content is not None or each.sender == user for each in shown.messages if each.seq in unheard):
        return shown
    own = {each.user: each.read for each in held.people}.get(user)
    known = {each.seq: each.status for each in held.messages}
    shown = replace(
        shown,
        people=tuple(replace(each, read=own) if each.user == user else each for each in shown.people),
        unread=held.unread,
    )
    if not unheard:
        return shown
    # A sender has read all earlier messages, so the push of a silent message would also have raised the statuses.
    return replace(
        shown,
        messages=tuple(
            replace(each, status=known.get(each.seq, each.status)) for each in shown.messages if each.seq not in unheard
        ),
        last_seq=held.last_seq,
        active_at=held.active_at,
    )


def _is_behind(held: int | None, shown: int | None) -> bool:
    return held is not None and shown is not None and held <= shown


def _unlike(held: ConversationView, shown: ConversationView) -> list[str]:
    found = [
        f"{name} is {getattr(held, name)!r}, not {getattr(shown, name)!r}"
        for name in (each.name for each in fields(ConversationView))
        if name not in ("people", "messages") and getattr(held, name) != getattr(shown, name)
    ]
    for name, ours, theirs in (
        ("person", {each.user: each for each in held.people}, {each.user: each for each in shown.people}),
        ("message", {str(each.seq): each for each in held.messages}, {str(each.seq): each for each in shown.messages}),
    ):
        for key in sorted(ours.keys() | theirs.keys()):
            one, other = ours.get(key), theirs.get(key)
            if one != other:
                found.append(f"{name} {key}{_id_of(one or other)} is {one or 'missing'}, not {other or 'missing'}")
    return found


def _id_of(each: object) -> str:
    return f" ({each.message})" if isinstance(each, MessageView) else ""


@dataclass(frozen=True, slots=True)
class _Request:
    """A send (`seq` is its place) or an edit (`is_edit`) that was acknowledged."""

    began: float
    at: float
    user: str
    conversation: str
    content: bytes
    seq: int
    is_edit: bool


@dataclass(frozen=True, slots=True)
class _Span:
    """A time of a user's certain absence from a conversation, or of a block; from `shown_from` on the user may see the
    messages of that time."""

    since: float
    until: float
    shown_from: float = math.inf

    def covers(self, request: _Request) -> bool:
        return self.since <= request.began and request.at <= self.until

    def hides(self, requests: Iterable[_Request]) -> Callable[[Logged | Pushed], bool]:
        """A test of whether an event shows a message of this time: by its content, or by its seq.

        All seqs between the first message begun in this time and the last one acked in it are of this time, as each
        change of participants comes before or after each message.
        """
        contents = {each.content for each in requests if self.covers(each)}
        sends = [each for each in requests if not each.is_edit]
        lowest = min((each.seq for each in sends if each.began >= self.since), default=math.inf)
        highest = max((each.seq for each in sends if each.at <= self.until), default=-1)
        return lambda event: event.content in contents or lowest <= event.seq <= highest


def _requests(history: History) -> defaultdict[str, list[_Request]]:
    """By conversation."""
    found: defaultdict[str, list[_Request]] = defaultdict(list)
    known: set[bytes] = set()
    for event in history.events:
        if isinstance(event, Acked | Edited) and event.content not in known:
            known.add(event.content)
            is_edit = isinstance(event, Edited)
            request = _Request(event.began, event.at, event.user, event.conversation, event.content, event.seq, is_edit)
            found[event.conversation].append(request)
    return found


def _all(requests: dict[str, list[_Request]]) -> Iterator[_Request]:
    for some in requests.values():
        yield from some


def _seen(history: History) -> defaultdict[tuple[str, str], list[Logged | Pushed]]:
    """The messages that came to a user's devices, by (user, conversation)."""
    found: defaultdict[tuple[str, str], list[Logged | Pushed]] = defaultdict(list)
    for event in history.events:
        if isinstance(event, Logged | Pushed):
            found[event.user, event.conversation].append(event)
    return found


class _Presences:
    """Collects each user's certain absences from conversations, event by event."""

    def __init__(self, users: set[str]) -> None:
        self.found: defaultdict[tuple[str, str], list[_Span]] = defaultdict(list)
        self._users = users
        self._out: dict[tuple[str, str], float] = {}
        self._shows: dict[str, bool] = {}

    def open(self, event: Opened) -> None:
        self._out |= {(user, event.conversation): -math.inf for user in self._users - set(event.participants)}

    def show(self, event: Shown) -> None:
        might = not event.is_known and self._shows.get(event.conversation, False)
        self._shows[event.conversation] = event.joiners_see_all or might

    def change(self, event: ParticipantChange) -> None:
        key = (event.user, event.conversation)
        if not event.is_added:
            if event.is_known:
                self._out.setdefault(key, event.at)
            return
        if key in self._out:
            self.found[key].append(_Span(self._out.pop(key), event.began))
        if self._shows.get(event.conversation, False):
            self.found[key] = [replace(span, shown_from=min(span.shown_from, event.began)) for span in self.found[key]]

    def end(self) -> None:
        for key, since in self._out.items():
            self.found[key].append(_Span(since, math.inf))


def _absences(history: History) -> dict[tuple[str, str], list[_Span]]:
    """Each user's certain absences from each conversation. A run changes the participants of one conversation one
    after the other."""
    presences = _Presences(
        {each.user for each in history.of(View)} | {each.user for each in history.of(ParticipantChange)}
    )
    for event in history.events:
        match event:
            case Opened():
                presences.open(event)
            case Shown():
                presences.show(event)
            case ParticipantChange():
                presences.change(event)
            case _:
                pass
    presences.end()
    return presences.found


def _spells(history: History) -> dict[tuple[str, str], list[_Span]]:
    """The times of each certain block, by (blocker, blocked user)."""
    since: dict[tuple[str, str], float] = {}
    found: defaultdict[tuple[str, str], list[_Span]] = defaultdict(list)
    for event in history.of(Blocked):
        key = (event.user, event.other)
        if event.is_blocked:
            if event.is_known:
                since.setdefault(key, event.at)
        elif key in since:
            found[key].append(_Span(since.pop(key), event.began))
    for key, at in since.items():
        found[key].append(_Span(at, math.inf))
    return found


def _ever_blocked(history: History) -> set[tuple[str, str]]:
    return {(each.user, each.other) for each in history.of(Blocked) if each.is_blocked}


def _sender_of(event: Logged | Pushed, history: History) -> str | None:
    if isinstance(event, Logged):
        return event.sender
    senders = {(each.conversation, each.seq): each.user for each in history.of(Acked)}
    return senders.get((event.conversation, event.seq))


def _who(event: Logged | Pushed) -> str:
    return event.device if isinstance(event, Logged) else event.connection


def _by_conversation(messages: Iterable[Stored]) -> dict[str, list[Stored]]:
    found: defaultdict[str, list[Stored]] = defaultdict(list)
    for each in sorted(messages, key=lambda each: each.seq):
        found[each.conversation].append(each)
    return found


def _spans(seqs: Iterable[int]) -> str:
    """`1-5, 7`."""
    parts: list[list[int]] = []
    for seq in sorted(seqs):
        if parts and seq == parts[-1][1] + 1:
            parts[-1][1] = seq
        else:
            parts.append([seq, seq])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts) or "nothing"
