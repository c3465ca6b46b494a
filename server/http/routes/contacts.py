"""Routes: contacts and blocking."""

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
from store import contacts
from store.errors import (
    Unavailable,
)
from store.postgres.pool import Pool
from store.redis.client import Redis, RedisError
from store.redis.directory import is_held


def add_contacts(app: QuartTrio, pool: Pool, redis: Redis, announcements: Announcements) -> None:
    @app.get("/v1/contacts")
    async def list_contacts() -> ResponseReturnValue:
        user, limit, cursor = (await identify(pool)).user, limit_asked(), request.args.get("cursor")
        after = bytes(16) if cursor is None else cursors.cursor_parts(cursor, "contacts", bytes)[0]
        listed = await contacts.list_of(pool, user, limit=limit + 1, after=after)
        page = listed.contacts
        following = cursors.cursor_text("contacts", page[limit - 1].user) if len(page) > limit else None
        encoding = encoding_asked()
        found = [answers.contact_body(each, encoding) for each in page[:limit]]
        return answer({"contacts": found, "cursor": following, "revision": listed.revision})

    @app.put("/v1/contacts/<uuid:other>")
    async def put_contact(other: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        body = await body_of(bodies.PutContact)
        with trio.CancelScope(shield=True):
            # One after the other, each told by itself: a device that counts the changes needs every number.
            is_online = body.is_blocked and await _is_online(redis, user)
            blocked = await contacts.set_blocked(
                pool, user, other.bytes, is_blocked=body.is_blocked, is_online=is_online
            )
            if blocked is not None:
                await announcements.contact_changed(user, other.bytes)
                await announcements.blocked(user, other.bytes, blocked)
            if not body.is_blocked:
                added = await contacts.add(pool, user, other.bytes)
                if added.is_new:
                    await announcements.contact_changed(user, other.bytes)
                await announcements.contact_added(user, added)
        return Response(b"", 204)

    @app.delete("/v1/contacts/<uuid:other>")
    async def delete_contact(other: UUID) -> ResponseReturnValue:
        user = (await identify(pool)).user
        with trio.CancelScope(shield=True):
            await contacts.remove(pool, user, other.bytes)
            await announcements.contact_changed(user, other.bytes)
        return Response(b"", 204)


async def _is_online(redis: Redis, user: bytes) -> bool:
    """Whether others see the user online; if Redis cannot say it, likely: whoever blocks somebody is looking."""
    try:
        return await is_held(redis, user)
    except (Unavailable, RedisError):
        return True
