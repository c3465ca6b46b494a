"""When a notifier may be told again: decided from what was true when it was told last, and what is now. No I/O.

A notifier is told once. The next notice follows when a device of the user has taken something since, or the user has
read something; else after a pause, which grows each time, and only if more waits than the last notice said.
"""

from __future__ import annotations

from collections.abc import Sequence

from store.notifiers import LastNotice, NoticeContext, NotifierState


def delay_s(context: NoticeContext, state: NotifierState, pauses_s: Sequence[float]) -> float | None:
    """In how many seconds a notifier is to be told of what waits; 0: now. None: there is nothing to tell it.

    :param pauses_s: before the second notice, the third, and so on; the last one counts for all that follow.
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
    """Whether something has been unread for too long that was delivered by another device than the notifier's."""
    return bool(context.unread_by - {state.device}) if state.device is not None else bool(context.unread_by)


def _is_back(context: NoticeContext, last: LastNotice, *, is_unread: bool) -> bool:
    """Whether the user has come back since. Of messages that a device takes, one after the other, without anybody who
    reads them, deliveries say nothing."""
    if context.read != last.read:
        return True
    return context.is_undelivered and context.delivered != last.delivered and _is_news(context, last)


def _is_news(context: NoticeContext, last: LastNotice) -> bool:
    """Whether more came than the notice counted. By the number alone a message would be no news if another one was
    deleted; by the time alone, one that was being committed while the notice counted."""
    return context.unread > last.unread or (context.newest is not None and context.newest > last.told)


def next_notice(context: NoticeContext, state: NotifierState, name: str, *, is_withdrawable: bool) -> LastNotice:
    """What is to be kept of a notice that is given now."""
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
    """Whether nothing of what a notice was about waits any more."""
    return context.oldest is None or context.oldest > last.told
