"""The audit log of accounts: a user's own, and that of all accounts for operators."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.usernames import form_of
from server.http import cursors
from server.http.answers.security_events import SecurityEventsAnswer, event_body
from server.http.links import page_links
from server.http.problem_codes import ProblemCode
from server.http.queries import EventsQuery, PageQuery
from server.http.routing import Answer, Request, Routes
from server.http.sources import operator_source
from store import accounts, security_events
from store.security_events import SecurityEvent
from store.tokens import Identity

routes = Routes()


@routes.read("GET /v1/security-events", query=PageQuery, answer=SecurityEventsAnswer)
async def list_own_events(identity: Identity, request: Request[PageQuery]) -> Answer:
    """List the security events of your account, the newest first."""
    query = request.query
    events = await security_events.events_of(
        request.services.pool, identity.user, limit=query.limit + 1, before=_before(query)
    )
    return _page(request, events)


@routes.operator_read(
    "GET /v1/ops/security-events", query=EventsQuery, answer=SecurityEventsAnswer, problems=[ProblemCode.UNKNOWN_USER]
)
async def list_events(request: Request[EventsQuery]) -> Answer:
    """List security events, the newest first.

    To read those of a user is a security event of that user.
    """
    pool, query = request.services.pool, request.query
    before = _before(query)
    if query.username is None:
        return _page(request, await security_events.all_events(pool, limit=query.limit + 1, before=before))
    user = (await accounts.user_by_name(pool, form_of(query.username))).user
    await security_events.note(pool, "events_read", user, operator_source(request), is_counted=True)
    return _page(request, await security_events.events_of(pool, user, limit=query.limit + 1, before=before))


def _before(query: PageQuery) -> int | None:
    if query.cursor is None:
        return None
    [number] = cursors.cursor_parts(query.cursor, "events", int)
    return int(number)


def _page(request: Request[PageQuery] | Request[EventsQuery], events: Sequence[SecurityEvent]) -> Answer:
    """:param events: one more than the page has, if there are more."""
    limit = request.query.limit
    following = cursors.cursor_text("events", events[limit - 1].number) if len(events) > limit else None
    body = SecurityEventsAnswer([event_body(each, request.encoding) for each in events[:limit]], following)
    return Answer(body, headers=page_links(request.query, following))
