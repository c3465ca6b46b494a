"""Decides when a notifier may be told again, from the state at its last notice and the present state. No I/O.

A notifier is told once. It is told again when a device of the user has taken messages since, or the user has read some.
Without that, it is told after a pause, which grows each time, and only if more messages wait than the last notice said.
"""

from __future__ import annotations

from collections.abc import Sequence

from store.notifiers import LastNotice, NoticeContext, NotifierState


def delay_s(context: NoticeContext, state: NotifierState, pauses_s: Sequence[float]) -> float | None:
    """In how many seconds to tell a notifier that messages wait; 0: now; None: do not tell it.

    :param pauses_s: before the second notice, the third, and so on; the last pause holds for all later notices.
    """
    is_unread = waits_unread(context, state)
    if not context.is_undelivered and not is_unread:
        return None
    if state.last is None or _is_back(context, state.last, is_unread=is_unread):
        return 0.0
    if not _is_news(context, state.last):
        return None
    told_for_s = (context.now - state.last.told) / 1_000_000
    return max(0.0, pauses_s[min(state.last.times, len(pauses_s)) - 1] - told_for_s)


def waits_unread(context: NoticeContext, state: NotifierState) -> bool:
    """Whether messages that a device other than the notifier's has taken have been unread for too long."""
    return bool(context.unread_by - {state.device}) if state.device is not None else bool(context.unread_by)


def _is_back(context: NoticeContext, last: LastNotice, *, is_unread: bool) -> bool:
    """Whether the user has been back since the last notice. Deliveries alone do not show that while messages are
    unread: a device takes them without its user."""
    if context.read != last.read:
        return True
    return context.is_undelivered and context.delivered != last.delivered and _is_news(context, last)


def _is_news(context: NoticeContext, last: LastNotice) -> bool:
    """Whether messages came that the last notice did not count. The number alone misses a message if an older one was
    deleted; the time alone misses one that was being committed while the notice counted."""
    return context.unread > last.unread or (context.newest is not None and context.newest > last.told)


def next_notice(context: NoticeContext, state: NotifierState, name: str, *, is_withdrawable: bool) -> LastNotice:
    """The record of a notice that is sent now."""
    last = state.last
    is_first = last is None or _is_back(context, last, is_unread=waits_unread(context, state))
    return LastNotice(
        name,
        context.now,
        1 if is_first or last is None else last.times + 1,
        context.unread,
        context.delivered,
        context.read,
        is_withdrawable,
    )


def is_pointless(context: NoticeContext, last: LastNotice) -> bool:
    """Whether none of the messages of a notice wait now."""
    return context.oldest is None or context.oldest > last.told
