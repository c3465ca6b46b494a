"""When a notifier may be told again: decided from what was true when it was told last, and what is now. No I/O.

A notifier is told once. The next notice follows when a device of the user has taken something since, or the user has
read something; else after a pause, which grows each time, and only if more waits than the last notice said.
"""

from __future__ import annotations

from collections.abc import Sequence

from store.notifiers import LastNotice, Prospect, Way


def delay_s(prospect: Prospect, way: Way, pauses_s: Sequence[float]) -> float | None:
    """In how many seconds a notifier is to be told of what waits; 0: now. None: there is nothing to tell it.

    :param pauses_s: before the second notice, the third, and so on; the last one counts for all that follow.
    """
    is_unread = waits_unread(prospect, way)
    if not prospect.is_undelivered and not is_unread:
        return None
    if way.last is None or _is_back(prospect, way.last, is_unread=is_unread):
        return 0.0
    if not _is_news(prospect, way.last):
        return None
    told_for_s = (prospect.now - way.last.told) / 1_000_000
    return max(0.0, pauses_s[min(way.last.times, len(pauses_s)) - 1] - told_for_s)


def waits_unread(prospect: Prospect, way: Way) -> bool:
    """Whether something has been unread for too long that was delivered by another device than the notifier's."""
    return bool(prospect.unread_by - {way.device}) if way.device is not None else bool(prospect.unread_by)


def _is_back(prospect: Prospect, last: LastNotice, *, is_unread: bool) -> bool:
    """Whether the user has come back since. Of messages that a device takes, one after the other, without anybody who
    reads them, deliveries say nothing."""
    if prospect.read != last.read:
        return True
    return prospect.is_undelivered and prospect.delivered != last.delivered and _is_news(prospect, last)


def _is_news(prospect: Prospect, last: LastNotice) -> bool:
    """Whether more came than the notice counted. By the number alone a message would be no news if another one was
    deleted; by the time alone, one that was being committed while the notice counted."""
    return prospect.unread > last.unread or (prospect.newest is not None and prospect.newest > last.told)


def next_notice(prospect: Prospect, way: Way, name: str, *, is_withdrawable: bool) -> LastNotice:
    """What is to be kept of a notice that is given now."""
    last = way.last
    is_first = last is None or _is_back(prospect, last, is_unread=waits_unread(prospect, way))
    return LastNotice(
        name,
        prospect.now,
        1 if is_first or last is None else last.times + 1,
        prospect.unread,
        prospect.delivered,
        prospect.read,
        is_withdrawable,
    )


def is_pointless(prospect: Prospect, last: LastNotice) -> bool:
    """Whether nothing of what a notice was about waits any more."""
    return prospect.oldest is None or prospect.oldest > last.told
