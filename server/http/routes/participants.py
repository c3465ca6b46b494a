"""The participants of a conversation."""

from __future__ import annotations

from uuid import UUID

from server.http import bodies, cursors
from server.http.announcements import Announcements
from server.http.answers.conversations import ParticipantsAnswer, participant_body
from server.http.queries import limit_of
from server.http.routing import Announcement, Answer, Changed, Request, Routes
from store import conversations, participants
from store.accounts import Identity

routes = Routes()


@routes.read("GET /v1/conversations/<uuid:conversation>/participants")
async def list_participants(identity: Identity, request: Request[None], conversation: UUID) -> Answer:
    limit, cursor = limit_of(request.query), request.query.get("cursor")
    after = bytes(16) if cursor is None else cursors.cursor_parts(cursor, "participants", bytes)[0]
    page = await conversations.participants_of(
        request.services.pool, identity.user, conversation.bytes, limit=limit + 1, after=after
    )
    following = cursors.cursor_text("participants", page[limit - 1].user) if len(page) > limit else None
    found = [participant_body(each, request.encoding) for each in page[:limit]]
    return Answer(ParticipantsAnswer(found, following))


@routes.write(
    "POST /v1/conversations/<uuid:conversation>/participants",
    body=bodies.AddParticipant,
    announces=[Announcements.participant_added],
)
async def add_participant(identity: Identity, request: Request[bodies.AddParticipant], conversation: UUID) -> Changed:
    services, other = request.services, request.body.user.bytes
    added = await participants.add(
        services.pool, identity.user, conversation.bytes, other, starts_per_day=services.starts_per_day
    )
    return Changed([Announcement(Announcements.participant_added, conversation.bytes, other, added)])


@routes.write(
    "PATCH /v1/conversations/<uuid:conversation>/participants/<uuid:other>",
    body=bodies.PatchParticipant,
    announces=[Announcements.role_set],
)
async def patch_participant(
    identity: Identity, request: Request[bodies.PatchParticipant], conversation: UUID, other: UUID
) -> Changed:
    changed = await participants.set_role(
        request.services.pool, identity.user, conversation.bytes, other.bytes, request.body.role
    )
    return Changed([Announcement(Announcements.role_set, conversation.bytes, other.bytes, changed)])


@routes.write(
    "DELETE /v1/conversations/<uuid:conversation>/participants/<uuid:other>",
    announces=[Announcements.participant_removed],
)
async def remove_participant(identity: Identity, request: Request[None], conversation: UUID, other: UUID) -> Changed:
    removed = await participants.remove(request.services.pool, identity.user, conversation.bytes, other.bytes)
    return Changed([Announcement(Announcements.participant_removed, conversation.bytes, other.bytes, removed)])
