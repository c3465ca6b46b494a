"""Routes: history, and how far a message has come."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from quart import request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http import answers, cursors
from server.http.first_pages import FirstPages
from server.http.frame import (
    ApiError,
    answer,
    answer_encoded,
    encoding_asked,
    identify,
    limit_asked,
    number,
)
from store import marks, messages
from store.errors import (
    UnknownMessage,
)
from store.page_cursor import InvalidCursor
from store.postgres.pool import Pool


def add_messages(app: QuartTrio, pool: Pool, pages: FirstPages) -> None:
    @app.get("/v1/conversations/<uuid:conversation>/messages/<int:seq>/status")
    async def status(conversation: UUID, seq: int) -> ResponseReturnValue:
        user = (await identify(pool)).user
        if not 1 <= seq < 2**63:
            raise UnknownMessage
        return answer(
            answers.status_body(await marks.message_status(pool, user, conversation.bytes, seq), seq, encoding_asked())
        )

    @app.get("/v1/conversations/<uuid:conversation>/messages")
    async def history(conversation: UUID) -> ResponseReturnValue:
        user, limit = (await identify(pool)).user, limit_asked()
        if "around_seq" in request.args:
            return await _history_around(pool, user, conversation, limit)
        before, after = _history_bounds(conversation)
        if before is None and after is None:
            return answer_encoded(await pages.newest_of(user, conversation.bytes, limit, encoding_asked()))
        page = await messages.history(
            pool, user, conversation.bytes, limit=limit, before=before, after=after, max_bytes=answers.MAX_CONTENT_BYTES
        )
        direction: Literal["before", "after"] = "before" if after is None else "after"
        return answer(answers.history_body(page, conversation.bytes, direction, encoding_asked()))


async def _history_around(pool: Pool, user: bytes, conversation: UUID, limit: int) -> ResponseReturnValue:
    if "cursor" in request.args or "after_seq" in request.args:
        raise ApiError(400, "invalid_query", "give around_seq without cursor and after_seq")
    around = number("around_seq", request.args["around_seq"], 0, 2**63 - 2)
    page = await messages.history_around(pool, user, conversation.bytes, around=around, limit=limit)
    older = cursors.cursor_text("before", conversation.bytes, page.messages[0].seq) if page.has_older else None
    newer = cursors.cursor_text("after", conversation.bytes, page.messages[-1].seq) if page.has_newer else None
    encoding = encoding_asked()
    found = [answers.message_body(message, encoding) for message in page.messages]
    return answer({"messages": found, "cursor": newer, "older": older})


def _history_bounds(conversation: UUID) -> tuple[int | None, int | None]:
    """(before, after), at most one of them given."""
    cursor, after_seq = request.args.get("cursor"), request.args.get("after_seq")
    if cursor is not None and after_seq is not None:
        raise ApiError(400, "invalid_query", "give cursor or after_seq, not both")
    if after_seq is not None:
        return None, number("after_seq", after_seq, 0, 2**63 - 1)
    if cursor is None:
        return None, None
    try:
        of, seq = cursors.cursor_parts(cursor, "before", bytes, int)
        bounds = (seq, None)
    except InvalidCursor:
        of, seq = cursors.cursor_parts(cursor, "after", bytes, int)
        bounds = (None, seq)
    if of != conversation.bytes:
        raise InvalidCursor
    return bounds
