"""What devices publish so that others can encrypt for them."""

from __future__ import annotations

from uuid import UUID

from protocol.uploaded_keys import key_fault_of
from server.http import cursors
from server.http.announcements import Announcements
from server.http.answers.keys import (
    ClaimedKeysAnswer,
    HeldKeysAnswer,
    UserDevicesAnswer,
    keys_body,
    listed_body,
)
from server.http.key_bodies import ClaimKeys, NewKeys, keys_in
from server.http.links import page_links
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.queries import PageQuery
from server.http.routing import NOTHING, Announcement, Answer, Changed, Request, Routes
from store import keys
from store.tokens import Identity

routes = Routes()


@routes.write(
    "PUT /v1/keys",
    body=NewKeys,
    announces=[Announcements.devices_changed],
    answer=HeldKeysAnswer,
    problems=[ProblemCode.KEY_HISTORY_FOREIGN, ProblemCode.QUOTA_EXCEEDED],
)
async def put_keys(identity: Identity, request: Request[NewKeys]) -> Changed:
    """Publish the identity of this device and keys of it: public bytes that others need in order to encrypt for it.

    Others do not see the device before it has an identity. Repeating it changes nothing.
    """
    body = request.body
    one_time_keys, last_resort_keys = keys_in(body.one_time_keys), keys_in(body.last_resort_keys)
    fault = key_fault_of(one_time_keys, last_resort_keys, is_anew=body.is_anew)
    if fault is not None:
        raise Problem(ProblemCode.INVALID_BODY, fault)
    held = await keys.put(
        request.services.pool,
        identity.device,
        body.identity,
        one_time_keys,
        last_resort_keys,
        is_anew=body.is_anew,
        history=body.key_history,
    )
    told = [] if body.identity is None else [Announcement(Announcements.devices_changed, identity.user)]
    return Changed(told, Answer(keys_body(held)))


@routes.read("GET /v1/keys", answer=HeldKeysAnswer)
async def get_key_status(identity: Identity, request: Request[None]) -> Answer:
    """Get what the server holds of this device: its identity, and of its keys how many are left."""
    return Answer(keys_body(await keys.status(request.services.pool, identity.device)))


@routes.write("POST /v1/keys/claims", body=ClaimKeys, announces=NOTHING, answer=ClaimedKeysAnswer)
async def claim_keys(identity: Identity, request: Request[ClaimKeys]) -> Answer:
    """Claim a one-time key of each kind of each device of some users, in order to encrypt for them.

    No other claim gets the same key. Where there is none, you get the last-resort key. Users whose devices you may not
    see are left out.
    """
    body = request.body
    users = [each.bytes for each in body.users]
    after = None if body.after is None else body.after.bytes
    page = await request.services.key_claims.claim(identity.user, users, body.kinds, after=after)
    devices = [listed_body(each, request.encoding) for each in page.devices]
    return Answer(ClaimedKeysAnswer(devices, page.more))


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
