"""`ops audit`: the audit log of all accounts and of the operators."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from runtime.commands import CommandError
from server.cli.found_users import named_user
from server.cli.operators import source_of_options
from server.cli.services import CommandAnswer, OperatorServices
from server.cli.shown import shown_id, shown_time
from store import security_events
from store.clock import Clock

MAX_EVENTS: Final = 1000

_SPAN: Final = re.compile(r"(\d{1,6})(m|h|d)")
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


async def show_audit(services: OperatorServices, options: argparse.Namespace) -> CommandAnswer:
    """Events, the newest first.

    To read those of a user is an event of that user, as over HTTP.

    :raises CommandError: if there is no such user, or the time cannot be read.
    """
    pool = services.pool
    clock = Clock(pool)
    await clock.measure()
    since = 0 if options.since is None else _since(options.since, clock.now_us())
    if options.user is None:
        events = await security_events.recent_events(pool, since=since, limit=options.limit)
    else:
        user = await named_user(pool, options.user)
        source = source_of_options(options)
        await security_events.note(pool, "events_read", user, source, is_counted=True)
        events = await security_events.events_of(pool, user, limit=options.limit)
        events = [each for each in events if (each.last or each.at) >= since]
    return CommandAnswer(
        [
            {
                "at": shown_time(each.last or each.at),
                "kind": each.kind,
                "user": shown_id(each.user),
                "actor": f"operator {each.operator}" if each.operator else each.actor,
                "device": shown_id(each.device),
                "network": each.network,
                "times": each.times,
                "detail": msgspec.json.encode(each.detail).decode() if each.detail else None,
            }
            for each in events
        ]
    )


def _since(typed: str, now_us: int) -> int:
    """The time in microseconds since 1970.

    :param typed: a length of time such as `2h`, or a time as RFC 3339 writes it, by UTC if it names no zone.
    """
    if span := _SPAN.fullmatch(typed):
        return now_us - round(int(span[1]) * _UNITS[span[2]].total_seconds() * 1e6)
    try:
        at = datetime.fromisoformat(typed)
    except ValueError:
        raise CommandError(
            "--since must be a time such as 2026-01-31 or 2026-01-31T08:00Z, or a span such as 30m, 2h or 7d,"
            f" not {typed}"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
