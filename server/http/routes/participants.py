"""Routes: the participants of a conversation."""

from __future__ import annotations

from uuid import UUID

import trio
from quart import Response, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http import answers, bodies, cursors
from server.http.announcements import Announcements
from server.http.frame import (
    answer,
    body_of,
    encoding_asked,
    identify,
    limit_asked,
)
from store import conversations, participants
from store.postgres.pool import Pool


def add_participants(app: QuartTrio, pool: Pool, announcements: Announcements, starts_per_day: int) -> None:
    group = "/v1/conversations/<uuid:conversation>"

    @app.get(f"{group}/participants")
    async def list_participants(conversation: UUID) -> ResponseReturnValue:
        user, limit, cursor = (await identify(pool)).user, limit_asked(), request.args.get("cursor")
        after = bytes(16) if cursor is None else cursors.cursor_parts(cursor, "participants", bytes)[0]
        page = await conversations.participants_of(pool, user, conversation.bytes, limit=limit + 1, after=after)
        following = cursors.cursor_text("participants", page[limit - 1].user) if len(page) > limit else None
        encoding = encoding_asked()
        found = [answers.participant_body(each, encoding) for each in page[:limit]]
        return answer({"participants": found, "cursor": following})

    @app.post(f"{group}/participants")
    async def add_participant(conversation: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        body = await body_of(bodies.AddParticipant)
        with trio.CancelScope(shield=True):
            added = await participants.add(
                pool, user, conversation.bytes, body.user.bytes, starts_per_day=starts_per_day
            )
            await announcements.participant_added(conversation.bytes, body.user.bytes, added)
        return Response(b"", 204)

    @app.patch(f"{group}/participants/<uuid:other>")
    async def change_participant(conversation: UUID, other: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        body = await body_of(bodies.PatchParticipant)
        with trio.CancelScope(shield=True):
            changed = await participants.set_role(pool, user, conversation.bytes, other.bytes, body.role)
            await announcements.role_set(conversation.bytes, other.bytes, changed)
        return Response(b"", 204)

    @app.delete(f"{group}/participants/<uuid:other>")
    async def remove_participant(conversation: UUID, other: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        with trio.CancelScope(shield=True):
            removed = await participants.remove(pool, user, conversation.bytes, other.bytes)
            await announcements.participant_removed(conversation.bytes, other.bytes, removed)
        return Response(b"", 204)

    @app.put(f"{group}/mute")
    async def mute(conversation: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        body = await body_of(bodies.Mute)
        with trio.CancelScope(shield=True):
            await participants.mute(pool, user, conversation.bytes, seconds=body.seconds)
            await announcements.muted(user, conversation.bytes)
        return Response(b"", 204)
