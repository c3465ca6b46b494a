"""Admissions of the reads that clients ask for most: what is read comes in the same round trip as the token.

Each raises the errors of `server.http.authentication`, and returns the identity and what the handler needs.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from protocol.frames import Conversation
from server.http.authentication import device, token_shown
from server.http.queries import HistoryQuery, ListQuery
from server.http.routing import Request
from store import conversations
from store.accounts import Identity


async def first_of_list(request: Request[ListQuery]) -> tuple[Identity, bytes | None]:
    """With the first page of the list, encoded; None if the request asks for another page."""
    query, pages = request.query, request.services.first_pages
    if query.cursor is not None or query.requests:
        return *await device(request), None
    return await pages.first_of_list(token_shown(request), query.limit, request.encoding)


async def newest_of_history(request: Request[HistoryQuery], conversation: UUID) -> tuple[Identity, bytes | None]:
    """With the newest page of a conversation's history, encoded; None if the request asks for another page.

    :raises NotAParticipant: if the user may not see the conversation.
    """
    query, pages = request.query, request.services.first_pages
    if query.cursor is not None or query.after_seq is not None or query.around_seq is not None:
        return *await device(request), None
    return await pages.newest_of(token_shown(request), conversation.bytes, query.limit, request.encoding)


async def one_conversation(request: Request[Any], conversation: UUID) -> tuple[Identity, Conversation]:
    """With a conversation.

    :raises NotAParticipant: if the user may not see it.
    """
    return await conversations.one_for(request.services.pool, token_shown(request), conversation.bytes)
