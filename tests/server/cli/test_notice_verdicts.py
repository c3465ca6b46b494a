"""Verdicts on notices: each state from the facts that make it, and no other."""

from __future__ import annotations

from typing import Any

import msgspec

from server.cli.notice_verdicts import NoticeFacts, name_of, notices
from server.cli.verdicts import Verdict
from store.inspected_messages import NoticeQueues
from store.inspected_users import DeadUserJob, InspectedNotifier, NoticeJob
from store.quiet_hours import QuietHours
from tests.rows import each_row
from tests.server.cli.test_verdicts import DEVICE, MESSAGE, NOW, OTHER, RECIPIENT, SENT, USER

WEBHOOK = InspectedNotifier(USER, OTHER, "webhook", None, None, 0, None, None, None, None, None, None, False)
JOB = NoticeJob(USER, 7, NOW, 0, False)
IDLE = NoticeQueues(None, None, [])
AWAY = Verdict("away", "no device is connected")


def facts(
    *,
    delivery: str = "away",
    notifiers: list[InspectedNotifier] | None = None,
    job: NoticeJob | None = None,
    dead: list[DeadUserJob] | None = None,
    queues: NoticeQueues = IDLE,
    window_s: float = 10.0,
    **recipient: Any,
) -> NoticeFacts:
    return NoticeFacts(
        msgspec.structs.replace(RECIPIENT, **recipient),
        Verdict(delivery, "why"),
        [WEBHOOK] if notifiers is None else notifiers,
        job,
        dead or [],
        queues,
        window_s,
        NOW,
    )


def webhook(**fields: Any) -> InspectedNotifier:
    return msgspec.structs.replace(WEBHOOK, **fields)


NOTICES: dict[str, NoticeFacts] = {
    "not_for_them": facts(delivery="withheld"),
    "suspended": facts(delivery="suspended"),
    "account_closed": facts(delivery="account_closed"),
    "account_deleted": facts(delivery="account_deleted"),
    "muted": facts(muted_until=NOW + 1),
    "request": facts(asked_seq=2),
    "debounce": facts(window_s=61.0),
    "worker_behind": facts(queues=NoticeQueues(SENT, None, [])),
    "paused": facts(queues=NoticeQueues(None, None, ["notify"])),
    "running": facts(job=msgspec.structs.replace(JOB, is_running=True)),
    "quiet_hours": facts(job=msgspec.structs.replace(JOB, due=NOW + 1), quiet=QuietHours(60, 120, "UTC")),
    "waiting": facts(job=JOB),
    "no_notifier": facts(notifiers=[]),
    "told": facts(notifiers=[webhook(told=SENT + 1, unread=2)]),
    "withdrawn": facts(notifiers=[webhook(told=SENT + 1, unread=0)]),
    "failing": facts(notifiers=[webhook(failing_since=NOW, last_error="500", job=3, due=NOW, attempt=1)]),
    "told_before": facts(notifiers=[webhook(told=SENT - 1, unread=1)]),
    "not_told": facts(),
}
"""State -> the facts of message 5 that lead to it as the only row."""


@each_row("state", NOTICES)
def test_each_state_of_a_notice_follows_from_its_facts(state: str) -> None:
    assert [row.verdict.state for row in notices(MESSAGE, 5, NOTICES[state])] == [state]


def test_a_quiet_message_causes_no_notice() -> None:
    [row] = notices(msgspec.structs.replace(MESSAGE, is_quiet=True), 5, facts())
    assert (row.notifier, row.verdict.state) == (None, "quiet")


def test_a_message_that_was_read_needs_no_notice() -> None:
    [row] = notices(MESSAGE, 5, facts(delivery="read"))
    assert (row.notifier, row.verdict.state) == (None, "not_needed")


def test_a_notifier_whose_own_device_has_the_message_is_not_told() -> None:
    push = webhook(kind="fcm", device=DEVICE)
    [row] = notices(MESSAGE, 5, facts(delivery="delivered", delivered_by=DEVICE, notifiers=[push]))
    assert (row.verdict.state, "its own device" in row.verdict.why) == ("not_needed", True)


def test_a_job_that_failed_for_good_since_the_message_is_named_with_the_command_that_replays_it() -> None:
    dead = [DeadUserJob(USER, 8, "notify", SENT + 1, "410 Gone"), DeadUserJob(USER, 9, "notify", SENT - 1, "older")]
    *_, last = notices(MESSAGE, 5, facts(dead=dead))
    assert last.verdict.state == "dead_job"
    assert "410 Gone" in last.verdict.why
    assert "python -m jobs replay 8" in last.verdict.why


def test_a_notifier_that_was_told_and_one_that_fails_have_a_row_each() -> None:
    found = [webhook(told=SENT + 1, unread=1), webhook(failing_since=NOW, last_error="timed out")]
    rows = {row.verdict.state: row.verdict.why for row in notices(MESSAGE, 5, facts(notifiers=found))}
    assert rows.keys() == {"told", "failing"}
    assert "timed out" in rows["failing"]


def test_a_muted_conversation_that_was_muted_until_then_wants_notices_again() -> None:
    assert [row.verdict.state for row in notices(MESSAGE, 5, facts(muted_until=NOW - 1))] == ["not_told"]


def test_a_notifier_without_a_kind_is_the_webhook_of_the_deployment() -> None:
    assert name_of(webhook(kind=None, notifier=None)) == "webhook of the deployment"
    assert name_of(WEBHOOK) == "webhook 6f6f6f6f-6f6f-6f6f-6f6f-6f6f6f6f6f6f"
    assert name_of(None) is None
