"""Routes: conversations that strangers begin."""

from __future__ import annotations

from uuid import UUID

import trio
from quart import Response
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from server.http.announcements import Announcements
from server.http.frame import (
    identify,
)
from store import participants
from store.postgres.pool import Pool


def add_requests(app: QuartTrio, pool: Pool, announcements: Announcements) -> None:
    @app.post("/v1/conversations/<uuid:conversation>/accept")
    async def accept(conversation: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        with trio.CancelScope(shield=True):
            accepted = await participants.accept(pool, user, conversation.bytes)
            await announcements.request_accepted(conversation.bytes, user, accepted)
        return Response(b"", 204)

    @app.post("/v1/conversations/<uuid:conversation>/decline")
    async def decline(conversation: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        with trio.CancelScope(shield=True):
            announcements.request_declined(user, await participants.decline(pool, user, conversation.bytes))
        return Response(b"", 204)
