"""The history of a conversation, and the recipients that have a message."""

from __future__ import annotations

from collections.abc import Mapping
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
from server.http.conditional import tag_headers
from server.http.first_pages import OlderPage
from server.http.hot_reads import page_of_history
from server.http.links import page_links
from server.http.problem_codes import ProblemCode
from server.http.queries import HistoryQuery
from server.http.routing import Answer, EncodedAnswer, Request, Routes
from store import marks, messages
from store.errors import UnknownMessage
from store.replicas import NeededVersion
from store.tokens import Identity

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
    admit=page_of_history,
    answer=HistoryAnswer,
    statuses=[200, 304],
    problems=[ProblemCode.NOT_FOUND],
    is_hot=True,
)
async def get_history(
    identity: Identity, page: Answer | EncodedAnswer | OlderPage, request: Request[HistoryQuery], conversation: UUID
) -> Answer | EncodedAnswer:
    """Get a page of the history of a conversation.

    It comes newest first; with `after_seq` or `around_seq` oldest first.
    """
    if not isinstance(page, OlderPage):
        return page
    query, headers = request.query, tag_headers(page.tag)
    if query.around_seq is not None:
        return await _history_around(identity, request, page.needed, query.around_seq, headers)
    found = await request.services.replicas.page(
        page.needed,
        lambda reader: messages.history(
            reader,
            identity.user,
            conversation.bytes,
            limit=query.limit,
            before=page.before,
            after=page.after,
            max_bytes=MAX_CONTENT_BYTES,
            device=identity.device,
        ),
    )
    direction: Literal["before", "after"] = "before" if page.after is None else "after"
    body = history_body(found, conversation.bytes, direction, request.encoding)
    return Answer(body, headers={**headers, **page_links(query, body.cursor)})


async def _history_around(
    identity: Identity, request: Request[HistoryQuery], needed: NeededVersion, around: int, headers: Mapping[str, str]
) -> Answer:
    limit, conversation = request.query.limit, needed.conversation
    page = await request.services.replicas.page(
        needed,
        lambda reader: messages.history_around(
            reader,
            identity.user,
            conversation,
            around=around,
            limit=limit,
            max_bytes=MAX_CONTENT_BYTES,
            device=identity.device,
        ),
    )
    older = cursors.cursor_text("before", conversation, page.messages[0].seq) if page.has_older else None
    newer = cursors.cursor_text("after", conversation, page.messages[-1].seq) if page.has_newer else None
    found = [message_body(message, request.encoding) for message in page.messages]
    return Answer(HistoryAnswer(found, newer, older), headers={**headers, **page_links(request.query, newer, older)})
