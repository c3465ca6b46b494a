"""Routes: conversations."""

from __future__ import annotations

from uuid import UUID

import trio
from quart import Response, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http import answers, bodies, cursors
from server.http.announcements import Announcements
from server.http.first_pages import FirstPages
from server.http.frame import (
    ApiError,
    answer,
    answer_encoded,
    body_of,
    encoding_asked,
    flag,
    identify,
    limit_asked,
)
from store import conversations, participants
from store.postgres.pool import Pool


def add_conversations(
    app: QuartTrio, pool: Pool, pages: FirstPages, announcements: Announcements, starts_per_day: int
) -> None:
    @app.post("/v1/conversations")
    async def create() -> ResponseReturnValue:
        user = (await identify(pool)).user
        body = await body_of(bodies.NEW_CONVERSATION)
        others = [participant.bytes for participant in body.participants]
        with trio.CancelScope(shield=True):
            if isinstance(body, bodies.NewDirect):
                if others == [user]:
                    raise ApiError(400, "invalid_body", "participants: a direct conversation needs another user")
                conversation, is_new = await conversations.add_direct(
                    pool, user, others[0], starts_per_day=starts_per_day
                )
            else:
                conversation = await conversations.add_group(
                    pool, body.name, sorted({user, *others}), admin=user, starts_per_day=starts_per_day
                )
                is_new = True
            with announcements.telling():
                made = await conversations.one(pool, user, conversation)
            if is_new:
                await announcements.conversation_made(conversation, [user, *others])
        return answer(answers.conversation_body(made, encoding_asked()), 201 if is_new else 200)

    @app.get("/v1/conversations")
    async def list_conversations() -> ResponseReturnValue:
        user, limit, cursor = (await identify(pool)).user, limit_asked(), request.args.get("cursor")
        is_request = flag("requests")
        if cursor is None and not is_request:
            return answer_encoded(await pages.first_of_list(user, limit, encoding_asked()))
        kind, before = "requests" if is_request else "list", None
        if cursor is not None:
            active_at, conversation = cursors.cursor_parts(cursor, kind, int, bytes)
            before = (active_at, conversation)
        page = await conversations.list_of(pool, user, limit=limit + 1, before=before, is_request=is_request)
        return answer(answers.list_body(page, limit, encoding_asked(), kind))

    @app.get("/v1/conversations/<uuid:conversation>")
    async def one(conversation: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        return answer(
            answers.conversation_body(await conversations.one(pool, user, conversation.bytes), encoding_asked())
        )

    @app.patch("/v1/conversations/<uuid:conversation>")
    async def change(conversation: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        body = await body_of(bodies.PatchConversation)
        with trio.CancelScope(shield=True):
            changed, settings = await participants.change_settings(
                pool,
                user,
                conversation.bytes,
                name=body.name,
                joiners_see_all=body.joiners_see_all,
                lifetime_s=body.lifetime_s,
            )
            announcements.settings_changed(user, settings, changed)
        return Response(b"", 204)
