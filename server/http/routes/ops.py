"""Figures by day, for operators. The application has these routes only if OPS_TOKEN is set."""

from __future__ import annotations

from typing import Final

from server.http.answers.figures import DaysAnswer, day_body
from server.http.queries import DaysQuery, InvalidQuery
from server.http.routing import Answer, Request, Routes
from store import analytics

MAX_DAYS: Final = 366
"""The most in one answer, which then has some 100 KB of JSON."""

routes = Routes()


@routes.operator_read("GET /v1/ops/analytics", query=DaysQuery, answer=DaysAnswer)
async def get_analytics(request: Request[DaysQuery]) -> Answer:
    """Get figures by day."""
    first, last = request.query.from_, request.query.until
    if not 0 <= (last - first).days < MAX_DAYS:
        raise InvalidQuery(f"until must be the day from or one of the {MAX_DAYS - 1} days after it")
    days = await analytics.days(request.services.pool, first, last)
    return Answer(DaysAnswer([day_body(each) for each in days]))
