"""Conversations: beginning, listing, reading and changing them."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from server.http import bodies, cursors
from server.http.announcements import Announcements
from server.http.answers.conversations import ConversationAnswer, ListAnswer, conversation_body, list_body
from server.http.bodies import NewConversation
from server.http.decoding import InvalidBody
from server.http.hot_reads import first_of_list, one_conversation
from server.http.links import page_links
from server.http.problem_codes import ProblemCode
from server.http.queries import ListQuery
from server.http.routing import Announcement, Answer, Changed, EncodedAnswer, Request, Routes
from store import conversations, participants
from store.rows import Entry
from store.tokens import Identity

routes = Routes()


@routes.write(
    "POST /v1/conversations",
    body=bodies.NEW_CONVERSATION,
    announces=[Announcements.conversation_made],
    answer=ConversationAnswer,
    statuses=[201, 200],
    problems=[ProblemCode.UNKNOWN_USER, ProblemCode.NOT_ACCEPTED, ProblemCode.TOO_MANY_CONVERSATIONS],
)
async def create(identity: Identity, request: Request[NewConversation]) -> Changed:
    """Begin a conversation.

    The answer has the status 200 if it is a direct conversation, or that of your own devices, and was there.
    """
    services, user, body = request.services, identity.user, request.body
    others = [] if isinstance(body, bodies.NewSelf) else [participant.bytes for participant in body.participants]
    if isinstance(body, bodies.NewSelf):
        conversation, is_new = await conversations.add_self(services.pool, user)
    elif isinstance(body, bodies.NewDirect):
        if others == [user]:
            raise InvalidBody("participants: a direct conversation needs another user", "#/participants/0")
        conversation, is_new = await conversations.add_direct(
            services.pool, user, others[0], starts_per_day=services.starts_per_day
        )
    else:
        conversation = await conversations.add_group(
            services.pool, body.name, sorted({user, *others}), admin=user, starts_per_day=services.starts_per_day
        )
        is_new = True
    announcements = [Announcement(Announcements.conversation_made, conversation, [user, *others])] if is_new else []
    return Changed(announcements, partial(_conversation, identity, request, conversation, 201 if is_new else 200))


@routes.read(
    "GET /v1/conversations",
    query=ListQuery,
    admit=first_of_list,
    answer=ListAnswer,
    statuses=[200, 304],
    is_hot=True,
)
async def list_conversations(
    identity: Identity, first: Answer | EncodedAnswer | None, request: Request[ListQuery]
) -> Answer | EncodedAnswer:
    """List your conversations, latest message first."""
    if first is not None:
        return first
    user, query, services = identity.user, request.query, request.services
    limit, cursor, is_request = query.limit, query.cursor, query.requests
    kind, before = "requests" if is_request else "list", None
    if cursor is not None:
        active_at, conversation = cursors.cursor_parts(cursor, kind, int, bytes)
        before = (active_at, conversation)
    page = await conversations.entries_of_list(
        services.pool, user, limit=limit + 1, before=before, is_request=is_request
    )
    body = list_body(page, limit, request.encoding, kind)
    return Answer(body, headers=page_links(query, body.cursor))


@routes.read(
    "GET /v1/conversations/<uuid:conversation>",
    admit=one_conversation,
    answer=ConversationAnswer,
    problems=[ProblemCode.NOT_FOUND],
    is_hot=True,
)
async def get_conversation(_: Identity, found: Entry, request: Request[None], conversation: UUID) -> Answer:
    """Get a conversation."""
    return Answer(conversation_body(found, request.encoding))


@routes.write(
    "PATCH /v1/conversations/<uuid:conversation>",
    body=bodies.PatchConversation,
    announces=[Announcements.settings_changed],
    problems=[
        ProblemCode.NOT_FOUND,
        ProblemCode.NOT_A_GROUP,
        ProblemCode.NOT_AN_ADMINISTRATOR,
        ProblemCode.UNKNOWN_ATTACHMENT,
        ProblemCode.ATTACHMENT_INCOMPLETE,
        ProblemCode.ATTACHMENT_USED,
    ],
)
async def patch_conversation(
    identity: Identity, request: Request[bodies.PatchConversation], conversation: UUID
) -> Changed:
    """Change the settings of a conversation.

    Fields that the body leaves out stay as they are. A direct conversation, and that of
    your own devices, has only `lifetime_s`.
    """
    user, body = identity.user, request.body
    changed, settings = await participants.change_settings(
        request.services.pool,
        user,
        conversation.bytes,
        name=body.name,
        avatar=None if body.avatar is None else body.avatar.bytes,
        joiners_see_all=body.joiners_see_all,
        lifetime_s=body.lifetime_s,
    )
    return Changed([Announcement(Announcements.settings_changed, user, settings, changed)])


@routes.write(
    "PUT /v1/conversations/<uuid:conversation>/mute",
    body=bodies.Mute,
    announces=[Announcements.muted],
    problems=[ProblemCode.NOT_FOUND],
)
async def mute(identity: Identity, request: Request[bodies.Mute], conversation: UUID) -> Changed:
    """Mute a conversation, or end its mute.

    A muted conversation causes no notices, and shown notices do not count it.
    """
    user = identity.user
    await participants.mute(request.services.pool, user, conversation.bytes, seconds=request.body.seconds)
    return Changed([Announcement(Announcements.muted, user, conversation.bytes)])


async def _conversation(identity: Identity, request: Request[Any], conversation: bytes, status: int) -> Answer:
    found = await conversations.entry_of(request.services.pool, identity.user, conversation)
    return Answer(conversation_body(found, request.encoding), status)
