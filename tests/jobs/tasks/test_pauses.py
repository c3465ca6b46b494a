"""The next notice, decided from the last notice and the present state, without a database."""

from __future__ import annotations

import msgspec

from jobs.tasks.pauses import delay_s, is_pointless, next_notice
from store.notifiers import LastNotice, NoticeContext, NotifierState
from tests.rows import each_row

SECOND_US = 1_000_000
PAUSES_S = (60.0, 600.0)
LAST = LastNotice("1-1", 1000 * SECOND_US, 1, 5, 50, 40, True)
PHONE, DESKTOP = b"p" * 16, b"d" * 16
AWAY = NoticeContext(
    is_undelivered=True,
    unread_by=frozenset(),
    oldest=990 * SECOND_US,
    newest=1005 * SECOND_US,
    delivered=50,
    read=40,
    unread=6,
    conversations=1,
    now=1010 * SECOND_US,
    quiet=None,
    notifiers=(),
)


def state(last: LastNotice | None, device: bytes | None = PHONE) -> NotifierState:
    return NotifierState(b"n" * 16, device, None, last)


@each_row(
    ("changes", "expected"),
    [
        ({}, 50),
        ({"now": 1060 * SECOND_US}, 0),
        ({"unread": 5, "newest": 999 * SECOND_US}, None),
        # Four were deleted, and one came.
        ({"unread": 2}, 50),
        # It was being committed while the notice counted.
        ({"newest": 999 * SECOND_US}, 50),
        ({"read": 41}, 0),
        ({"read": 41, "unread": 3, "newest": 999 * SECOND_US}, 0),
        ({"delivered": 51}, 0),
        ({"delivered": 51, "unread": 5, "newest": 999 * SECOND_US}, None),
        ({"is_undelivered": False}, None),
        ({"is_undelivered": False, "unread_by": frozenset({DESKTOP})}, 50),
        ({"is_undelivered": False, "unread_by": frozenset({DESKTOP}), "delivered": 51}, 50),
        ({"is_undelivered": False, "unread_by": frozenset({DESKTOP}), "read": 41}, 0),
        ({"is_undelivered": False, "unread_by": frozenset({PHONE})}, None),
        ({"is_undelivered": False, "unread_by": frozenset({PHONE, None}), "read": 41}, 0),
    ],
)
def test_when_a_notifier_is_told_again(changes: dict[str, object], expected: float | None) -> None:
    context = msgspec.structs.replace(AWAY, **changes)
    assert delay_s(context, state(LAST), PAUSES_S) == expected
    if expected is not None:
        assert delay_s(context, state(None), PAUSES_S) == 0, "a notifier without an earlier notice does not wait"


def test_last_pause_repeats_and_coming_back_begins_with_the_first() -> None:
    for times in (2, 3, 99):
        last = msgspec.structs.replace(LAST, times=times)
        assert delay_s(AWAY, state(last), PAUSES_S) == 590
        assert next_notice(AWAY, state(last), "2-1", is_withdrawable=True).times == times + 1
        back = msgspec.structs.replace(AWAY, read=41)
        assert next_notice(back, state(last), "2-1", is_withdrawable=True).times == 1


def test_notice_is_pointless_when_nothing_that_was_sent_before_it_is_unread() -> None:
    for oldest, expected in ((None, True), (1001 * SECOND_US, True), (1000 * SECOND_US, False)):
        assert is_pointless(msgspec.structs.replace(AWAY, oldest=oldest), LAST) == expected
