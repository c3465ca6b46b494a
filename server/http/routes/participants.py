"""The participants of a conversation."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from server.http import bodies, cursors
from server.http.announcements import Announcements
from server.http.answers.conversations import ParticipantsAnswer, participant_body
from server.http.links import page_links
from server.http.problem_codes import ProblemCode
from server.http.queries import PageQuery
from server.http.routing import Announcement, Answer, Changed, Request, Routes
from store import conversations, participants
from store.tokens import Identity

routes = Routes()

_REFUSALS: Final = (
    ProblemCode.NOT_FOUND,
    ProblemCode.NOT_A_GROUP,
    ProblemCode.NOT_AN_ADMINISTRATOR,
    ProblemCode.UNKNOWN_USER,
)


@routes.read(
    "GET /v1/conversations/<uuid:conversation>/participants",
    query=PageQuery,
    answer=ParticipantsAnswer,
    problems=[ProblemCode.NOT_FOUND],
)
async def list_participants(identity: Identity, request: Request[PageQuery], conversation: UUID) -> Answer:
    """List the participants of a conversation, by their ids.

    Above 32 participants the marks of the others are null.
    """
    limit, cursor = request.query.limit, request.query.cursor
    after = bytes(16) if cursor is None else cursors.cursor_parts(cursor, "participants", bytes)[0]
    page = await conversations.participants_of(
        request.services.pool, identity.user, conversation.bytes, limit=limit + 1, after=after
    )
    following = cursors.cursor_text("participants", page[limit - 1].user) if len(page) > limit else None
    found = [participant_body(each, request.encoding) for each in page[:limit]]
    return Answer(ParticipantsAnswer(found, following), headers=page_links(request.query, following))


@routes.write(
    "POST /v1/conversations/<uuid:conversation>/participants",
    body=bodies.AddParticipant,
    announces=[Announcements.participant_added],
    problems=[
        *_REFUSALS,
        ProblemCode.GROUP_FULL,
        ProblemCode.NOT_ACCEPTED,
        ProblemCode.TOO_MANY_CONVERSATIONS,
    ],
)
async def add_participant(identity: Identity, request: Request[bodies.AddParticipant], conversation: UUID) -> Changed:
    """Add a user to a group."""
    services, other = request.services, request.body.user.bytes
    added = await participants.add(
        services.pool, identity.user, conversation.bytes, other, starts_per_day=services.starts_per_day
    )
    return Changed([Announcement(Announcements.participant_added, conversation.bytes, other, added)])


@routes.write(
    "PATCH /v1/conversations/<uuid:conversation>/participants/<uuid:other>",
    body=bodies.PatchParticipant,
    announces=[Announcements.role_set],
    problems=[*_REFUSALS, ProblemCode.LAST_ADMINISTRATOR],
)
async def patch_participant(
    identity: Identity, request: Request[bodies.PatchParticipant], conversation: UUID, other: UUID
) -> Changed:
    """Give a participant of a group a role."""
    changed = await participants.set_role(
        request.services.pool, identity.user, conversation.bytes, other.bytes, request.body.role
    )
    return Changed([Announcement(Announcements.role_set, conversation.bytes, other.bytes, changed)])


@routes.write(
    "DELETE /v1/conversations/<uuid:conversation>/participants/<uuid:other>",
    announces=[Announcements.participant_removed],
    problems=_REFUSALS,
)
async def remove_participant(identity: Identity, request: Request[None], conversation: UUID, other: UUID) -> Changed:
    """Remove a participant from a group.

    You may always remove yourself.
    """
    removed = await participants.remove(request.services.pool, identity.user, conversation.bytes, other.bytes)
    return Changed([Announcement(Announcements.participant_removed, conversation.bytes, other.bytes, removed)])
