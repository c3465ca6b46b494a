"""Why a notice of a message was or was not sent: sentences from facts. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from server.cli.shown import shown_id, shown_time
from server.cli.verdicts import Verdict
from store.inspected_messages import InspectedMessage, InspectedRecipient, NoticeQueues
from store.inspected_users import DeadUserJob, InspectedNotifier, NoticeJob

LATE_S: Final = 5.0
"""The worker looks for ended windows twice a second. After this time more than a busy moment keeps it."""


class NoticeFacts(NamedTuple):
    """All that the verdicts on the notices of one message to one user depend on.

    :ivar window_s: the debounce window, by the configuration of this command.
    :ivar delivery: the verdict on the delivery to this user.
    :ivar job: that decides which notifiers are told; None: none waits or runs.
    :ivar dead: jobs about the user that have failed for good.
    :ivar now: when the facts were read, in microseconds since 1970, by Postgres' clock.
    """

    recipient: InspectedRecipient
    delivery: Verdict
    notifiers: Sequence[InspectedNotifier]
    job: NoticeJob | None
    dead: Sequence[DeadUserJob]
    queues: NoticeQueues
    window_s: float
    now: int


class NoticeRow(NamedTuple):
    """A verdict on one notifier; without a notifier: on all of the user."""

    notifier: InspectedNotifier | None
    verdict: Verdict


_NOT_FOR: Final = frozenset(("withheld", "joined_later", "left_before", "left", "blocked", "expired", "deleted"))
_NO_ACCOUNT: Final = frozenset(("account_deleted", "account_closed", "suspended"))


def notices(message: InspectedMessage, seq: int, facts: NoticeFacts) -> Iterator[NoticeRow]:
    """A row for each notifier that the message may be told to, or one row that says why it is told to none."""
    for each in facts.notifiers:
        if each.told and each.told >= message.created:
            yield NoticeRow(each, _told(each))
    if reason := _none_wanted(message, seq, facts) or _in_window(message, facts) or _undecided(facts):
        yield NoticeRow(None, reason)
        return
    waiting = [each for each in facts.notifiers if not (each.told and each.told >= message.created)]
    if not facts.notifiers:
        yield NoticeRow(None, Verdict("no_notifier", "the user has no notifier: the worker only logs the notice"))
    for each in waiting:
        yield NoticeRow(each, _of_notifier(each, facts))
    for dead in facts.dead:
        if dead.task in ("notify", "offline_notice") and dead.died >= message.created:
            why = f"job {dead.job} ({dead.task}) failed for good at {_at(dead.died)}: {dead.reason[:120]}"
            yield NoticeRow(None, Verdict("dead_job", f"{why}; python -m jobs replay {dead.job} tries again"))


def _told(each: InspectedNotifier) -> Verdict:
    if each.unread == 0:
        return Verdict("withdrawn", f"took a notice at {_at(each.told)}, which was withdrawn: all was read")
    return Verdict("told", f"took a notice at {_at(each.told)}, of {each.unread} unread messages")


def _none_wanted(message: InspectedMessage, seq: int, facts: NoticeFacts) -> Verdict | None:
    recipient, state = facts.recipient, facts.delivery.state
    if state in _NOT_FOR:
        return Verdict("not_for_them", f"no notice, for the same reason: {facts.delivery.why}")
    if state in _NO_ACCOUNT:
        return Verdict(state, f"no notice: {facts.delivery.why}")
    if message.is_quiet:
        return Verdict("quiet", "the message is quiet: its sender wants no notice of it")
    if state == "read":
        return Verdict("not_needed", "the user has read it")
    if recipient.muted_until is not None and recipient.muted_until > facts.now:
        return Verdict("muted", f"the user has muted the conversation until {_at(recipient.muted_until)}")
    if recipient.asked_seq is not None and seq != recipient.asked_seq + 1:
        return Verdict("request", "a request causes one notice, for its first message that is not quiet")
    return None


def _in_window(message: InspectedMessage, facts: NoticeFacts) -> Verdict | None:
    ends = message.created + round(facts.window_s * 1e6)
    oldest = facts.queues.oldest_undecided
    if facts.now < ends:
        return Verdict("debounce", f"the debounce window is open until {_at(ends)}: a device may yet take the message")
    if oldest is not None and oldest <= message.created and facts.now > ends + LATE_S * 1e6:
        why = f"the worker is behind: messages since {_at(oldest)} wait; is one running? (python -m jobs status)"
        return Verdict("worker_behind", why)
    return None


def _undecided(facts: NoticeFacts) -> Verdict | None:
    job, recipient = facts.job, facts.recipient
    if facts.queues.paused:
        names = " and ".join(facts.queues.paused)
        return Verdict("paused", f"an operator has paused {names} (python -m jobs resume {facts.queues.paused[0]})")
    if job is None:
        return None
    if job.is_running:
        return Verdict("running", f"job {job.job} decides now")
    if job.due > facts.now and recipient.quiet is not None:
        quiet = recipient.quiet
        hours = f"{_clock(quiet.from_minute)} to {_clock(quiet.until_minute)} {quiet.zone}"
        return Verdict("quiet_hours", f"job {job.job} waits until {_at(job.due)}; the user's quiet hours are {hours}")
    return Verdict("waiting", f"job {job.job} is due at {_at(job.due)}, and was begun {job.attempt} times")


def _of_notifier(each: InspectedNotifier, facts: NoticeFacts) -> Verdict:
    failing = f"; it fails since {_at(each.failing_since)}: {each.last_error}" if each.failing_since else ""
    if each.job is not None and each.is_running:
        return Verdict("running", f"job {each.job} calls it now{failing}")
    if each.job is not None:
        state = "failing" if failing else "waiting"
        return Verdict(state, f"job {each.job} is due at {_at(each.due)}, and was begun {each.attempt} times{failing}")
    if failing:
        return Verdict("failing", f"no job waits{failing}")
    if each.device is not None and facts.recipient.delivered_by == each.device and facts.delivery.state == "delivered":
        return Verdict("not_needed", "its own device has the message")
    if facts.delivery.state == "delivered":
        return Verdict("not_needed", "a device had the message before its window ended; the read window may follow")
    if each.told:
        return Verdict("told_before", f"was told at {_at(each.told)}, and the user has not been back since: it pauses")
    return Verdict("not_told", "the worker has decided, and did not tell it: see offline_notice and notify in its log")


def name_of(each: InspectedNotifier | None) -> str | None:
    """The name of a notifier in a row."""
    if each is None:
        return None
    return "webhook of the deployment" if each.kind is None else f"{each.kind} {shown_id(each.notifier)}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _at(us: int | None) -> str:
    return shown_time(us) or "-"
