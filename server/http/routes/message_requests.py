"""Message requests: conversations that strangers have begun, which the user accepts or declines."""

from __future__ import annotations

from uuid import UUID

from server.http.announcements import Announcements
from server.http.problem_codes import ProblemCode
from server.http.routing import Announcement, Changed, Request, Routes
from store import participants
from store.tokens import Identity

routes = Routes()


@routes.write(
    "POST /v1/conversations/<uuid:conversation>/accept",
    announces=[Announcements.request_accepted],
    problems=[ProblemCode.NOT_FOUND],
)
async def accept(identity: Identity, request: Request[None], conversation: UUID) -> Changed:
    """Accept a request."""
    accepted = await participants.accept(request.services.pool, identity.user, conversation.bytes)
    return Changed([Announcement(Announcements.request_accepted, conversation.bytes, identity.user, accepted)])


@routes.write(
    "POST /v1/conversations/<uuid:conversation>/decline",
    announces=[Announcements.request_declined],
    problems=[ProblemCode.NOT_FOUND, ProblemCode.NOT_A_REQUEST],
)
async def decline(identity: Identity, request: Request[None], conversation: UUID) -> Changed:
    """Decline a request.

    You leave the conversation, and no other user is told.
    """
    departed = await participants.decline(request.services.pool, identity.user, conversation.bytes)
    return Changed([Announcement(Announcements.request_declined, identity.user, departed)])
