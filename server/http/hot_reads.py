"""Admissions of the reads that clients ask for most. One round trip checks the token and reads the answer.

Each raises the errors of `server.http.authentication`, and returns the identity and what the handler needs.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from server.http.authentication import device, token_shown
from server.http.conditional import held_tag, tag_headers
from server.http.first_pages import FirstPage, HeldPage, OlderPage
from server.http.links import page_links
from server.http.queries import HistoryQuery, ListQuery, PageQuery
from server.http.routing import Answer, EncodedAnswer, Request
from store import conversations
from store.rows import Entry
from store.tokens import Identity


async def first_of_list(request: Request[ListQuery]) -> tuple[Identity, Answer | EncodedAnswer | None]:
    """With the first page of the list; None if the request asks for another page."""
    query, pages = request.query, request.services.first_pages
    if query.cursor is not None or query.requests:
        return *await device(request), None
    held = request.headers.get("if-none-match", "")
    identity, page = await pages.first_of_list(token_shown(request), query.limit, request.encoding, held)
    return identity, _answer(page, query)


async def page_of_history(
    request: Request[HistoryQuery], conversation: UUID
) -> tuple[Identity, Answer | EncodedAnswer | OlderPage]:
    """With the newest page of a conversation's history, `304` for a page that the client holds, or the tag of an older
    page.

    :raises NotAParticipant: if the user may not see the conversation.
    """
    query, pages = request.query, request.services.first_pages
    held = request.headers.get("if-none-match", "")
    token, limit = token_shown(request), query.limit
    if query.cursor is not None or query.after_seq is not None or query.around_seq is not None:
        identity, older = await pages.older_of(token, conversation.bytes, query, request.encoding)
        if (current := held_tag(held, older.tag)) is not None:
            return identity, Answer(None, 304, tag_headers(current))
        return identity, older
    identity, page = await pages.newest_of(token, conversation.bytes, limit, request.encoding, held)
    return identity, _answer(page, query)


async def one_conversation(request: Request[Any], conversation: UUID) -> tuple[Identity, Entry]:
    """With a conversation.

    :raises NotAParticipant: if the user may not see it.
    """
    return await conversations.entry_for(request.services.pool, token_shown(request), conversation.bytes)


def _answer(page: FirstPage, query: PageQuery) -> Answer | EncodedAnswer:
    headers = tag_headers(page.tag)
    if isinstance(page, HeldPage):
        return Answer(None, 304, headers)
    return EncodedAnswer(page.body, {**headers, **page_links(query, page.cursor)}, page.forms)
