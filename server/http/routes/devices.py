"""A user's devices, and the token of the device that asks."""

from __future__ import annotations

from uuid import UUID

from server.http import cursors
from server.http.answers.devices import DevicesAnswer, TokenAnswer, device_body
from server.http.authentication import token_shown
from server.http.links import page_links
from server.http.problem_codes import ProblemCode
from server.http.queries import PageQuery
from server.http.routing import NO_CONTENT, NOTHING, Answer, Request, Routes
from server.http.sources import source_of
from store import devices, tokens
from store.tokens import Identity

routes = Routes()


@routes.read("GET /v1/devices", query=PageQuery, answer=DevicesAnswer)
async def list_devices(identity: Identity, request: Request[PageQuery]) -> Answer:
    """List your devices that are logged in, the newest first."""
    limit, cursor, before = request.query.limit, request.query.cursor, None
    if cursor is not None:
        created, device = cursors.cursor_parts(cursor, "devices", int, bytes)
        before = (created, device)
    page = await devices.devices_of(request.services.pool, identity.user, limit=limit + 1, before=before)
    last = page[limit - 1] if len(page) > limit else None
    following = cursors.cursor_text("devices", last.created, last.device) if last else None
    body = DevicesAnswer([device_body(each, identity.device, request.encoding) for each in page[:limit]], following)
    return Answer(body, headers=page_links(request.query, following))


@routes.write("DELETE /v1/devices/this", announces=NOTHING)
async def log_out(identity: Identity, request: Request[None]) -> Answer:
    """Log out: revoke this device.

    Its token is void, its connections end within a second, and its notifiers are gone.
    """
    source = source_of(request, identity)
    await devices.revoke_device(request.services.pool, identity.user, identity.device, source=source)
    return NO_CONTENT


@routes.write("DELETE /v1/devices/others", announces=NOTHING, confirmed=True)
async def log_out_others(identity: Identity, request: Request[None]) -> Answer:
    """Log out everywhere else: revoke your other devices.

    Their tokens are void, their connections end within a second, and their notifiers are gone.
    """
    source = source_of(request, identity)
    await devices.revoke_devices(request.services.pool, identity.user, keep=identity.device, source=source)
    return NO_CONTENT


@routes.write("DELETE /v1/devices", announces=NOTHING, confirmed=True)
async def log_out_everywhere(identity: Identity, request: Request[None]) -> Answer:
    """Log out everywhere: revoke all your devices, this one too."""
    await devices.revoke_devices(request.services.pool, identity.user, source=source_of(request, identity))
    return NO_CONTENT


@routes.write(
    "DELETE /v1/devices/<uuid:device>", announces=NOTHING, problems=[ProblemCode.UNKNOWN_DEVICE], confirmed=True
)
async def revoke(identity: Identity, request: Request[None], device: UUID) -> Answer:
    """Revoke a device.

    The device's token is void, its connections end within a second, and its notifiers are gone.
    """
    source = source_of(request, identity)
    await devices.revoke_device(request.services.pool, identity.user, device.bytes, source=source)
    return NO_CONTENT


@routes.write(
    "POST /v1/tokens",
    announces=NOTHING,
    answer=TokenAnswer,
    statuses=[201],
    problems=[ProblemCode.TOKEN_RENEWED],
)
async def refresh(identity: Identity, request: Request[None]) -> Answer:
    """Renew the token of this device.

    Do so once a day, and store the new token before you use it. The old one ends a minute after the new one was shown
    for the first time; showing it later revokes this device.
    """
    services = request.services
    token, expires, _ = await tokens.renew_token(
        services.pool, identity.device, token_shown(request), lifetime_s=services.token_lifetime_s
    )
    return Answer(TokenAnswer(token, expires), 201)
