"""Contacts and blocked users."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from server.http import bodies, cursors
from server.http.announcements import Announcements
from server.http.answers.people import ContactsAnswer, contact_body
from server.http.links import page_links
from server.http.problem_codes import ProblemCode
from server.http.queries import PageQuery
from server.http.routing import NO_CONTENT, Announcement, Answer, Changed, Request, Routes
from store import contacts
from store.errors import Unavailable
from store.postgres.pool import Pool
from store.redis.client import Redis, RedisError
from store.redis.directory import is_held
from store.tokens import Identity

routes = Routes()


@routes.read("GET /v1/contacts", query=PageQuery, answer=ContactsAnswer)
async def list_contacts(identity: Identity, request: Request[PageQuery]) -> Answer:
    """List your contacts, by their ids."""
    limit, cursor = request.query.limit, request.query.cursor
    after = bytes(16) if cursor is None else cursors.cursor_parts(cursor, "contacts", bytes)[0]
    listed = await contacts.list_of(request.services.pool, identity.user, limit=limit + 1, after=after)
    page = listed.contacts
    following = cursors.cursor_text("contacts", page[limit - 1].user) if len(page) > limit else None
    found = [contact_body(each, request.encoding) for each in page[:limit]]
    return Answer(ContactsAnswer(found, following, listed.revision), headers=page_links(request.query, following))


@routes.write(
    "PUT /v1/contacts/<uuid:other>",
    body=bodies.PutContact,
    announces=[Announcements.contact_changed, Announcements.blocked, Announcements.contact_added],
    problems=[ProblemCode.UNKNOWN_USER],
)
async def put_contact(identity: Identity, request: Request[bodies.PutContact], other: UUID) -> Changed:
    """Make a user your contact, or block the user.

    A new contact's requests are accepted. A blocked user gets the same answers as before, and reaches you nowhere.
    """
    services, user, is_blocked = request.services, identity.user, request.body.is_blocked
    is_online = is_blocked and await _is_online(services.redis, user)
    blocked = await contacts.set_blocked(services.pool, user, other.bytes, is_blocked=is_blocked, is_online=is_online)
    announcements = []
    if blocked is not None:
        announcements.append(Announcement(Announcements.contact_changed, user, other.bytes))
        announcements.append(Announcement(Announcements.blocked, user, other.bytes, blocked))
    # A device that counts the changes needs every number, so the first write is announced before the second begins.
    return Changed(announcements, NO_CONTENT if is_blocked else partial(_add, services.pool, user, other.bytes))


async def _add(pool: Pool, user: bytes, other: bytes) -> Changed:
    added = await contacts.add(pool, user, other)
    announcements = [Announcement(Announcements.contact_changed, user, other)] if added.is_new else []
    return Changed([*announcements, Announcement(Announcements.contact_added, user, added)])


@routes.write("DELETE /v1/contacts/<uuid:other>", announces=[Announcements.contact_changed])
async def delete_contact(identity: Identity, request: Request[None], other: UUID) -> Changed:
    """Remove a contact.

    A blocked user stays blocked.
    """
    await contacts.remove(request.services.pool, identity.user, other.bytes)
    return Changed([Announcement(Announcements.contact_changed, identity.user, other.bytes)])


async def _is_online(redis: Redis, user: bytes) -> bool:
    """Whether others see the user online. If Redis does not answer, likely: the user is using the app to block."""
    try:
        return await is_held(redis, user)
    except (Unavailable, RedisError):
        return True
