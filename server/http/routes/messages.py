"""The history of a conversation, and the recipients that have a message."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from server.http import cursors
from server.http.answers.messages import (
    MAX_CONTENT_BYTES,
    HistoryAnswer,
    StatusAnswer,
    history_body,
    message_body,
    status_body,
)
from server.http.hot_reads import newest_of_history
from server.http.links import page_links
from server.http.problem_codes import ProblemCode
from server.http.queries import HistoryQuery
from server.http.routing import Answer, EncodedAnswer, Request, Routes
from store import marks, messages
from store.accounts import Identity
from store.errors import UnknownMessage
from store.page_cursor import InvalidCursor

routes = Routes()


@routes.read(
    "GET /v1/conversations/<uuid:conversation>/messages/<int:seq>/status",
    answer=StatusAnswer,
    problems=[ProblemCode.NOT_FOUND, ProblemCode.UNKNOWN_MESSAGE],
)
async def get_status(identity: Identity, request: Request[None], conversation: UUID, seq: int) -> Answer:
    """Get the status of a message.

    Every participant may ask. Users who left or joined since change nothing.
    """
    if not 1 <= seq < 2**63:
        raise UnknownMessage
    status = await marks.message_status(request.services.pool, identity.user, conversation.bytes, seq)
    return Answer(status_body(status, seq, request.encoding))


@routes.read(
    "GET /v1/conversations/<uuid:conversation>/messages",
    query=HistoryQuery,
    admit=newest_of_history,
    answer=HistoryAnswer,
    statuses=[200, 304],
    problems=[ProblemCode.NOT_FOUND],
    is_hot=True,
)
async def get_history(
    identity: Identity, newest: Answer | EncodedAnswer | None, request: Request[HistoryQuery], conversation: UUID
) -> Answer | EncodedAnswer:
    """Get a page of the history of a conversation.

    It comes newest first; with `after_seq` or `around_seq` oldest first.
    """
    if newest is not None:
        return newest
    user, query, services = identity.user, request.query, request.services
    if query.around_seq is not None:
        return await _history_around(user, request, conversation.bytes, query.around_seq)
    before, after = _bounds(query, conversation.bytes)
    page = await messages.history(
        services.pool,
        user,
        conversation.bytes,
        limit=query.limit,
        before=before,
        after=after,
        max_bytes=MAX_CONTENT_BYTES,
    )
    direction: Literal["before", "after"] = "before" if after is None else "after"
    body = history_body(page, conversation.bytes, direction, request.encoding)
    return Answer(body, headers=page_links(query, body.cursor))


async def _history_around(user: bytes, request: Request[HistoryQuery], conversation: bytes, around: int) -> Answer:
    limit = request.query.limit
    page = await messages.history_around(
        request.services.pool, user, conversation, around=around, limit=limit, max_bytes=MAX_CONTENT_BYTES
    )
    older = cursors.cursor_text("before", conversation, page.messages[0].seq) if page.has_older else None
    newer = cursors.cursor_text("after", conversation, page.messages[-1].seq) if page.has_newer else None
    found = [message_body(message, request.encoding) for message in page.messages]
    return Answer(HistoryAnswer(found, newer, older), headers=page_links(request.query, newer, older))


def _bounds(query: HistoryQuery, conversation: bytes) -> tuple[int | None, int | None]:
    """(before, after), at most one of them given."""
    cursor = query.cursor
    if cursor is None:
        return None, query.after_seq
    try:
        of, seq = cursors.cursor_parts(cursor, "before", bytes, int)
        bounds = (seq, None)
    except InvalidCursor:
        of, seq = cursors.cursor_parts(cursor, "after", bytes, int)
        bounds = (None, seq)
    if of != conversation:
        raise InvalidCursor
    return bounds
