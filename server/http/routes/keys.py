"""What devices publish so that others can encrypt for them."""

from __future__ import annotations

from uuid import UUID

from server.http import cursors
from server.http.answers.keys import KeysAnswer, UserDevicesAnswer, keys_body, listed_body
from server.http.key_bodies import NewKeys
from server.http.links import page_links
from server.http.queries import PageQuery
from server.http.routing import NOTHING, Answer, Request, Routes
from store import keys
from store.tokens import Identity

routes = Routes()


@routes.write("PUT /v1/keys", body=NewKeys, announces=NOTHING, answer=KeysAnswer)
async def put_keys(identity: Identity, request: Request[NewKeys]) -> Answer:
    """Publish the identity of this device: public bytes that others need in order to encrypt for it.

    Until then others do not see the device. Repeating it changes nothing.
    """
    published = await keys.put(request.services.pool, identity.device, request.body.identity)
    return Answer(keys_body(published))


@routes.read("GET /v1/users/<uuid:user>/devices", query=PageQuery, answer=UserDevicesAnswer)
async def list_user_devices(identity: Identity, request: Request[PageQuery], user: UUID) -> Answer:
    """List the devices of a user, with their identities.

    The list is empty if you neither share a conversation with the user nor are a contact of the user, or if there is no
    such user.
    """
    query, after = request.query, None
    if query.cursor is not None:
        [after] = cursors.cursor_parts(query.cursor, "identities", bytes)
    page = await keys.devices_of(request.services.pool, identity.user, [user.bytes], after=after, limit=query.limit)
    following = cursors.cursor_text("identities", page.devices[-1].device) if page.more else None
    body = UserDevicesAnswer([listed_body(each, request.encoding) for each in page.devices], following)
    return Answer(body, headers=page_links(query, following))
