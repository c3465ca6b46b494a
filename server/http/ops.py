"""What operators ask over HTTP: figures by day. `server.http.app` registers the routes; `docs/http.md` describes them.

Off unless there is an operators' token (OPS_TOKEN). It says nothing about who asks: whoever has it may see all of this.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any, Final

from msgspec.structs import asdict

from store import analytics
from store.analytics import Day
from store.postgres.pool import Pool

MAX_DAYS: Final = 366
"""Of one answer: some 100 KB of JSON."""

Route = Callable[[Mapping[str, str]], Awaitable[Any]]
"""From the parameters of a query to the body of an answer."""


class NotAnOperator(Exception):
    """The operators' token is missing or wrong."""


class InvalidQuery(Exception):
    """A parameter of the query is wrong; the text says which one, and what it should be."""


class Ops:
    """What operators may ask.

    :param token: what they show; not empty.
    """

    def __init__(self, pool: Pool, token: str) -> None:
        self._pool = pool
        self._token = token.encode()

    def admit(self, authorization: str) -> None:
        """
        :param authorization: the header of that name.
        :raises NotAnOperator: if it does not have the operators' token.
        """
        scheme, _, token = authorization.partition(" ")
        # Takes as long whatever the token is, as far as its length is right.
        is_right = secrets.compare_digest(token.encode(), self._token)
        if scheme.lower() != "bearer" or not is_right:
            raise NotAnOperator

    def routes(self) -> dict[str, Route]:
        """What answers a GET of each path."""
        return {"/v1/ops/analytics": self.analytics}

    async def analytics(self, query: Mapping[str, str]) -> Any:
        """Figures of the days `from` to `until`, both included.

        :raises InvalidQuery: if these are no days, or too many.
        """
        first, last = _day(query, "from"), _day(query, "until")
        if not 0 <= (last - first).days < MAX_DAYS:
            raise InvalidQuery(f"until must be from, or one of the {MAX_DAYS - 1} days after it")
        return {"days": [_body(day) for day in await analytics.days(self._pool, first, last)]}


def _day(query: Mapping[str, str], name: str) -> date:
    text = query.get(name, "")
    try:
        # Of the forms of ISO 8601 that Python reads, this one alone: else a typing error may be another day.
        day = date.fromisoformat(text) if len(text) == 10 and text[4] == text[7] == "-" else None
    except ValueError:
        day = None
    if day is None:
        raise InvalidQuery(f"{name} must be a day, such as 2026-01-31")
    return day


def _body(day: Day) -> dict[str, Any]:
    return {
        "day": day.day.isoformat(),
        "messages": day.messages,
        "active_users": day.active_users,
        "new_users": day.new_users,
        "delivery_ms": asdict(day.delivery) if day.delivery else None,
        "storage_bytes": day.storage,
    }
