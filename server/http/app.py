"""The HTTP interface: routes, and errors by name. `docs/http.md` describes it; the one file that meets Quart."""

from __future__ import annotations

from math import ceil
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import structlog
import trio
from quart import Response, has_request_context, request, websocket
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from protocol.frames import Profile
from server.http import answers, bodies, cursors, encoding, mail_pages, notifiers
from server.http.announcements import Announcements
from server.http.encoding import Form
from server.http.notifiers import WEBHOOKS, Offered
from server.http.ops import InvalidQuery, NotAnOperator, Ops, Route
from server.http.pages import Pages
from server.http.passwords import Passwords
from store import accounts, contacts, conversations, emails, marks, messages, participants, profiles, quiet_hours
from store import notifiers as notifiers_store
from store.accounts import Account, Identity
from store.errors import (
    DeviceRevoked,
    GroupFull,
    LastAdministrator,
    Locked,
    NotAccepted,
    NotAnAdministrator,
    NotAParticipant,
    NotARequest,
    Overloaded,
    StoreError,
    TokenExpired,
    TokenUnknown,
    TooManyMails,
    TooManyNotifiers,
    TooManyStarts,
    Unavailable,
    UnknownDevice,
    UnknownMessage,
    UnknownNotifier,
    UnknownUser,
    UnknownZone,
    UnsubscribeUnknown,
    UsernameTaken,
    VerificationExpired,
    VerificationUnknown,
)
from store.page_cursor import InvalidCursor
from store.postgres.pool import Pool
from store.redis.client import Redis, RedisError
from store.redis.directory import is_held

log = structlog.get_logger(__name__)
_T = TypeVar("_T")

MAX_BODY_BYTES = 64 * 1024
"""A group of 999 participants in JSON has 39 KB."""

DEFAULT_LIMIT, MAX_LIMIT = 50, 100
RETRY_AFTER_S = 1


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


def create_app(
    pool: Pool,
    redis: Redis,
    announcements: Announcements,
    *,
    token_lifetime_s: float,
    ops_token: str = "",
    offered: Offered = WEBHOOKS,
    starts_per_day: int = conversations.STARTS_PER_DAY,
) -> QuartTrio:
    """The application; Hypercorn runs it (`server.http.process`).

    :param ops_token: what operators show (`server.http.ops`); empty: there are no routes for them.
    :param offered: which notifiers workers have keys for.
    :param starts_per_day: conversations with strangers that a user may begin in 24 hours.
    """
    app = QuartTrio(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    _add_accounts(app, pool, Passwords(), token_lifetime_s)
    _add_devices(app, pool, token_lifetime_s)
    _add_profiles(app, pool, announcements)
    _add_emails(app, pool)
    _add_mail_links(app, pool)
    _add_notifiers(app, pool, offered)
    _add_quiet_hours(app, pool, announcements)
    _add_contacts(app, pool, redis, announcements)
    pages = Pages(pool)
    _add_conversations(app, pool, pages, announcements, starts_per_day)
    _add_messages(app, pool, pages)
    _add_participants(app, pool, announcements, starts_per_day)
    _add_requests(app, pool, announcements)
    _add_health(app, pool, redis)
    if ops_token:
        _add_ops(app, Ops(pool, ops_token))
    _add_errors(app)
    return app


def _add_accounts(app: QuartTrio, pool: Pool, passwords: Passwords, token_lifetime_s: float) -> None:
    @app.post("/v1/users")
    async def register() -> ResponseReturnValue:
        body = await _body(bodies.Register)
        password_hash = await passwords.hash(body.password)
        # A client that hangs up cancels its handler; a write is finished all the same (its own deadline holds).
        with trio.CancelScope(shield=True):
            user = await accounts.add_user(pool, body.username, password_hash)
        return _answer({"user": UUID(bytes=user), "username": body.username}, 201)

    @app.post("/v1/devices")
    async def log_in() -> ResponseReturnValue:
        body = await _body(bodies.LogIn)
        account = await _account(pool, body.username)
        password_hash = account.password_hash if account else None
        if not await passwords.check(password_hash, body.password) or account is None:
            raise ApiError(401, "wrong_credentials", "no user of that name has that password")
        with trio.CancelScope(shield=True):
            device, token, expires = await accounts.add_device(
                pool, account.user, body.name, lifetime_s=token_lifetime_s
            )
        made = {"user": UUID(bytes=account.user), "device": UUID(bytes=device), "token": token, "expires": expires}
        return _answer(made, 201)

    @app.get("/v1/users/<username>")
    async def user_of(username: str) -> ResponseReturnValue:
        asking = (await _identify(pool)).user
        account = await _user_by_name(pool, username)
        shown = await profiles.shown_to(pool, account.user, asking)
        return _answer(answers.user_body(account.user, shown, _form()))


def _add_profiles(app: QuartTrio, pool: Pool, announcements: Announcements) -> None:
    @app.get("/v1/profile")
    async def get_profile() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        return _answer(answers.profile_body(user, await profiles.settings_of(pool, user), _form()))

    @app.patch("/v1/profile")
    async def patch_profile() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        body = await _body(bodies.PatchProfile)
        with trio.CancelScope(shield=True):
            changed = await profiles.change(
                pool,
                user,
                display_name=body.display_name,
                gives_receipts=body.gives_receipts,
                shows_presence=body.shows_presence,
                messages_from=body.messages_from,
                groups_from=body.groups_from,
            )
            now = changed.settings
            if changed.is_renamed:
                await announcements.profile_changed(Profile(user, now.revision, now.username, now.display_name))
            if changed.is_shown_otherwise:
                announcements.presence_shown_otherwise([user])
            given = (body.gives_receipts, body.shows_presence, body.messages_from, body.groups_from)
            if any(each is not None for each in given):
                await announcements.own_settings_changed(user)
        return _answer(answers.profile_body(user, now, _form()))


def _add_emails(app: QuartTrio, pool: Pool) -> None:
    @app.get("/v1/email")
    async def get_email() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        return _answer(answers.email_body(await emails.settings_of(pool, user)))

    @app.put("/v1/email")
    async def put_email() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        body = await _body(bodies.PutEmail)
        address = bodies.address_in(body)
        with trio.CancelScope(shield=True):
            await emails.put(
                pool,
                user,
                address,
                wants_digest=body.wants_digest,
                wants_device_notice=body.wants_device_notice,
                digest_hour=body.digest_hour,
                zone=body.zone,
            )
            settings = await emails.settings_of(pool, user)
        return _answer(answers.email_body(settings))

    @app.delete("/v1/email")
    async def delete_email() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        with trio.CancelScope(shield=True):
            await emails.remove(pool, user)
        return Response(b"", 204)

    @app.post("/v1/email/verifications")
    async def verify() -> ResponseReturnValue:
        body = await _body(bodies.Verify)
        with trio.CancelScope(shield=True):
            await emails.verify(pool, body.token)
        return Response(b"", 204)


def _add_mail_links(app: QuartTrio, pool: Pool) -> None:
    """What links in mails lead to. A GET changes nothing: programs follow links, to look for harm or to show them."""
    verification, unsubscribing = "/v1/email/verifications/<token>", "/v1/unsubscribe/<token>"

    @app.get(verification)
    async def ask_verify(token: str) -> ResponseReturnValue:
        return _page(mail_pages.VERIFY)

    @app.post(verification)
    async def verify_there(token: str) -> ResponseReturnValue:
        try:
            with trio.CancelScope(shield=True):
                await emails.verify(pool, token)
        except VerificationUnknown:
            return _page(mail_pages.UNKNOWN, 404)
        except VerificationExpired:
            return _page(mail_pages.EXPIRED, 410)
        return _page(mail_pages.VERIFIED)

    @app.get(unsubscribing)
    async def ask_unsubscribe(token: str) -> ResponseReturnValue:
        return _page(mail_pages.UNSUBSCRIBE)

    @app.post(unsubscribing)
    async def unsubscribe(token: str) -> ResponseReturnValue:
        try:
            with trio.CancelScope(shield=True):
                await emails.unsubscribe(pool, token)
        except UnsubscribeUnknown:
            return _page(mail_pages.UNKNOWN, 404)
        return _page(mail_pages.UNSUBSCRIBED)


def _add_notifiers(app: QuartTrio, pool: Pool, offered: Offered) -> None:
    @app.get("/v1/notifiers/keys")
    async def notifier_keys() -> ResponseReturnValue:
        await _identify(pool)
        return _answer({"kinds": sorted(offered.kinds), "vapid_public_key": offered.vapid_public_key})

    @app.get("/v1/notifiers")
    async def list_notifiers() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        form, found = _form(), await notifiers_store.notifiers_of(pool, user)
        return _answer({"notifiers": [notifiers.notifier_body(each, form) for each in found]})

    @app.post("/v1/notifiers")
    async def add_notifier() -> ResponseReturnValue:
        identity = await _identify(pool)
        target = notifiers.target_of(await _body(notifiers.NEW_NOTIFIER))
        kind = notifiers_store.kind_of(target)
        if kind not in offered.kinds:
            has = ", ".join(sorted(offered.kinds))
            raise ApiError(409, "notifier_not_offered", f"this deployment has no {kind}; it has {has}")
        device = identity.device if notifiers.is_of_device(target) else None
        with trio.CancelScope(shield=True):
            added = await notifiers_store.add(pool, identity.user, target, device=device)
        return _answer(notifiers.added_body(added, target, _form()), 201 if added.is_new else 200)

    @app.delete("/v1/notifiers/<uuid:notifier>")
    async def remove_notifier(notifier: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        with trio.CancelScope(shield=True):
            await notifiers_store.remove(pool, user, notifier.bytes)
        return Response(b"", 204)


def _add_quiet_hours(app: QuartTrio, pool: Pool, announcements: Announcements) -> None:
    @app.get("/v1/quiet-hours")
    async def get_quiet_hours() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        return _answer(notifiers.quiet_hours_body(await quiet_hours.quiet_hours_of(pool, user)))

    @app.put("/v1/quiet-hours")
    async def put_quiet_hours() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        quiet = notifiers.quiet_hours_of(await _body(notifiers.PutQuietHours))
        with trio.CancelScope(shield=True):
            await quiet_hours.set_quiet_hours(pool, user, quiet)
            await announcements.own_settings_changed(user)
        return Response(b"", 204)

    @app.delete("/v1/quiet-hours")
    async def delete_quiet_hours() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        with trio.CancelScope(shield=True):
            await quiet_hours.set_quiet_hours(pool, user, None)
            await announcements.own_settings_changed(user)
        return Response(b"", 204)


def _add_devices(app: QuartTrio, pool: Pool, token_lifetime_s: float) -> None:
    @app.get("/v1/devices")
    async def list_devices() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        form, devices = _form(), await accounts.devices_of(pool, user)
        return _answer({"devices": [answers.device_body(each, form) for each in devices]})

    @app.delete("/v1/devices/<uuid:device>")
    async def revoke(device: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        with trio.CancelScope(shield=True):
            await accounts.revoke_device(pool, user, device.bytes)
        return Response(b"", 204)

    @app.post("/v1/tokens")
    async def refresh() -> ResponseReturnValue:
        device, token = (await _identify(pool)).device, _token()
        with trio.CancelScope(shield=True):
            new, expires, _ = await accounts.refresh_token(pool, device, token, lifetime_s=token_lifetime_s)
        return _answer({"token": new, "expires": expires}, 201)


def _add_contacts(app: QuartTrio, pool: Pool, redis: Redis, announcements: Announcements) -> None:
    @app.get("/v1/contacts")
    async def list_contacts() -> ResponseReturnValue:
        user, limit, cursor = (await _identify(pool)).user, _limit(), request.args.get("cursor")
        after = bytes(16) if cursor is None else cursors.cursor_parts(cursor, "contacts", bytes)[0]
        listed = await contacts.list_of(pool, user, limit=limit + 1, after=after)
        page = listed.contacts
        following = cursors.cursor_text("contacts", page[limit - 1].user) if len(page) > limit else None
        form = _form()
        found = [answers.contact_body(each, form) for each in page[:limit]]
        return _answer({"contacts": found, "cursor": following, "revision": listed.revision})

    @app.put("/v1/contacts/<uuid:other>")
    async def put_contact(other: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        body = await _body(bodies.PutContact)
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
        user = (await _identify(pool)).user
        with trio.CancelScope(shield=True):
            await contacts.remove(pool, user, other.bytes)
            await announcements.contact_changed(user, other.bytes)
        return Response(b"", 204)


def _add_participants(app: QuartTrio, pool: Pool, announcements: Announcements, starts_per_day: int) -> None:
    group = "/v1/conversations/<uuid:conversation>"

    @app.get(f"{group}/participants")
    async def list_participants(conversation: UUID) -> ResponseReturnValue:
        user, limit, cursor = (await _identify(pool)).user, _limit(), request.args.get("cursor")
        after = bytes(16) if cursor is None else cursors.cursor_parts(cursor, "participants", bytes)[0]
        page = await conversations.participants_of(pool, user, conversation.bytes, limit=limit + 1, after=after)
        following = cursors.cursor_text("participants", page[limit - 1].user) if len(page) > limit else None
        form = _form()
        found = [answers.participant_body(each, form) for each in page[:limit]]
        return _answer({"participants": found, "cursor": following})

    @app.post(f"{group}/participants")
    async def add_participant(conversation: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        body = await _body(bodies.AddParticipant)
        with trio.CancelScope(shield=True):
            added = await participants.add(
                pool, user, conversation.bytes, body.user.bytes, starts_per_day=starts_per_day
            )
            await announcements.participant_added(conversation.bytes, body.user.bytes, added)
        return Response(b"", 204)

    @app.patch(f"{group}/participants/<uuid:other>")
    async def change_participant(conversation: UUID, other: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        body = await _body(bodies.PatchParticipant)
        with trio.CancelScope(shield=True):
            changed = await participants.set_role(pool, user, conversation.bytes, other.bytes, body.role)
            await announcements.role_set(conversation.bytes, other.bytes, changed)
        return Response(b"", 204)

    @app.delete(f"{group}/participants/<uuid:other>")
    async def remove_participant(conversation: UUID, other: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        with trio.CancelScope(shield=True):
            removed = await participants.remove(pool, user, conversation.bytes, other.bytes)
            await announcements.participant_removed(conversation.bytes, other.bytes, removed)
        return Response(b"", 204)

    @app.put(f"{group}/mute")
    async def mute(conversation: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        body = await _body(bodies.Mute)
        with trio.CancelScope(shield=True):
            await participants.mute(pool, user, conversation.bytes, seconds=body.seconds)
            await announcements.muted(user, conversation.bytes)
        return Response(b"", 204)


def _add_requests(app: QuartTrio, pool: Pool, announcements: Announcements) -> None:
    @app.post("/v1/conversations/<uuid:conversation>/accept")
    async def accept(conversation: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        with trio.CancelScope(shield=True):
            accepted = await participants.accept(pool, user, conversation.bytes)
            await announcements.request_accepted(conversation.bytes, user, accepted)
        return Response(b"", 204)

    @app.post("/v1/conversations/<uuid:conversation>/decline")
    async def decline(conversation: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        with trio.CancelScope(shield=True):
            announcements.request_declined(user, await participants.decline(pool, user, conversation.bytes))
        return Response(b"", 204)


def _add_conversations(
    app: QuartTrio, pool: Pool, pages: Pages, announcements: Announcements, starts_per_day: int
) -> None:
    @app.post("/v1/conversations")
    async def create() -> ResponseReturnValue:
        user = (await _identify(pool)).user
        body = await _body(bodies.NEW_CONVERSATION)
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
        return _answer(answers.conversation_body(made, _form()), 201 if is_new else 200)

    @app.get("/v1/conversations")
    async def list_conversations() -> ResponseReturnValue:
        user, limit, cursor = (await _identify(pool)).user, _limit(), request.args.get("cursor")
        is_request = _flag("requests")
        if cursor is None and not is_request:
            return _answer_encoded(await pages.first_of_list(user, limit, _form()))
        kind, before = "requests" if is_request else "list", None
        if cursor is not None:
            active_at, conversation = cursors.cursor_parts(cursor, kind, int, bytes)
            before = (active_at, conversation)
        page = await conversations.list_of(pool, user, limit=limit + 1, before=before, is_request=is_request)
        return _answer(answers.list_body(page, limit, _form(), kind))

    @app.get("/v1/conversations/<uuid:conversation>")
    async def one(conversation: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        return _answer(answers.conversation_body(await conversations.one(pool, user, conversation.bytes), _form()))

    @app.patch("/v1/conversations/<uuid:conversation>")
    async def change(conversation: UUID) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        body = await _body(bodies.PatchConversation)
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


def _add_messages(app: QuartTrio, pool: Pool, pages: Pages) -> None:
    @app.get("/v1/conversations/<uuid:conversation>/messages/<int:seq>/status")
    async def status(conversation: UUID, seq: int) -> ResponseReturnValue:
        user = (await _identify(pool)).user
        if not 1 <= seq < 2**63:
            raise UnknownMessage
        return _answer(answers.status_body(await marks.status(pool, user, conversation.bytes, seq), seq, _form()))

    @app.get("/v1/conversations/<uuid:conversation>/messages")
    async def history(conversation: UUID) -> ResponseReturnValue:
        user, limit = (await _identify(pool)).user, _limit()
        if "around_seq" in request.args:
            return await _history_around(pool, user, conversation, limit)
        before, after = _history_bounds(conversation)
        if before is None and after is None:
            return _answer_encoded(await pages.newest_of(user, conversation.bytes, limit, _form()))
        page = await messages.history(
            pool, user, conversation.bytes, limit=limit, before=before, after=after, max_bytes=answers.MAX_CONTENT_BYTES
        )
        direction: Literal["before", "after"] = "before" if after is None else "after"
        return _answer(answers.history_body(page, conversation.bytes, direction, _form()))


async def _history_around(pool: Pool, user: bytes, conversation: UUID, limit: int) -> ResponseReturnValue:
    if "cursor" in request.args or "after_seq" in request.args:
        raise ApiError(400, "invalid_query", "give around_seq without cursor and after_seq")
    around = _number("around_seq", request.args["around_seq"], 0, 2**63 - 2)
    page = await messages.history_around(pool, user, conversation.bytes, around=around, limit=limit)
    older = cursors.cursor_text("before", conversation.bytes, page.messages[0].seq) if page.has_older else None
    newer = cursors.cursor_text("after", conversation.bytes, page.messages[-1].seq) if page.has_newer else None
    form = _form()
    found = [answers.message_body(message, form) for message in page.messages]
    return _answer({"messages": found, "cursor": newer, "older": older})


def _history_bounds(conversation: UUID) -> tuple[int | None, int | None]:
    """(before, after), at most one of them given."""
    cursor, after_seq = request.args.get("cursor"), request.args.get("after_seq")
    if cursor is not None and after_seq is not None:
        raise ApiError(400, "invalid_query", "give cursor or after_seq, not both")
    if after_seq is not None:
        return None, _number("after_seq", after_seq, 0, 2**63 - 1)
    if cursor is None:
        return None, None
    try:
        of, seq = cursors.cursor_parts(cursor, "before", bytes, int)
        bounds = (seq, None)
    except InvalidCursor:
        of, seq = cursors.cursor_parts(cursor, "after", bytes, int)
        bounds = (None, seq)
    if of != conversation.bytes:
        raise InvalidCursor
    return bounds


def _add_health(app: QuartTrio, pool: Pool, redis: Redis) -> None:
    @app.get("/healthz")
    async def healthz() -> ResponseReturnValue:
        return _answer({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> ResponseReturnValue:
        await pool.fetch("select 1")
        await redis.call("PING")
        return _answer({"status": "ok"})


def _add_ops(app: QuartTrio, ops: Ops) -> None:
    def add(path: str, route: Route) -> None:
        @app.get(path, endpoint=path)
        async def answer() -> ResponseReturnValue:
            ops.admit(request.headers.get("Authorization", ""))
            return _answer(await route(request.args))

    for path, route in ops.routes().items():
        add(path, route)


def _add_errors(app: QuartTrio) -> None:
    @app.errorhandler(ApiError)
    async def api_error(error: ApiError) -> ResponseReturnValue:
        return _refuse(error.status, error.code, error.detail)

    @app.errorhandler(encoding.InvalidBody)
    async def invalid_body(error: encoding.InvalidBody) -> ResponseReturnValue:
        return _refuse(400, "invalid_body", str(error))

    @app.errorhandler(InvalidCursor)
    async def invalid_cursor(_: InvalidCursor) -> ResponseReturnValue:
        return _refuse(400, "invalid_cursor", "give back a cursor of this endpoint, as it came")

    @app.errorhandler(InvalidQuery)
    async def invalid_query(error: InvalidQuery) -> ResponseReturnValue:
        return _refuse(400, "invalid_query", str(error))

    @app.errorhandler(NotAnOperator)
    async def not_an_operator(_: NotAnOperator) -> ResponseReturnValue:
        return _refuse(401, "unauthenticated", "give the operators' token: Authorization: Bearer OPS_TOKEN")

    @app.errorhandler(StoreError)
    async def store_error(error: StoreError) -> ResponseReturnValue:
        return _store_error(error)

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> ResponseReturnValue:
        code = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(error.code or 500)
        if code is None:
            return _refuse(400, "invalid_body", error.description or "the request cannot be read")
        return _refuse(error.code or 500, code, error.description or code)

    @app.errorhandler(Exception)
    async def fault(error: Exception) -> ResponseReturnValue:
        return _fault(error)


def _fault(error: Exception) -> Response:
    log.error("request_failed", path=request.path, exc_info=error)
    return _refuse(500, "internal", "a fault of the server, which has logged it", retry_after_s=RETRY_AFTER_S)


_REFUSALS: Final[dict[type[StoreError], tuple[int, str, str]]] = {
    NotAParticipant: (404, "not_found", "no such conversation, or you are not a participant"),
    TokenUnknown: (401, "unauthenticated", "give the device's token: Authorization: Bearer TOKEN"),
    TokenExpired: (401, "token_expired", "the token has expired: log in again"),
    DeviceRevoked: (401, "device_revoked", "the user has revoked this device: log in again"),
    UnknownMessage: (404, "unknown_message", "there is no such message, or it is not yours to see"),
    UnknownNotifier: (404, "unknown_notifier", "you have no such notifier"),
    TooManyNotifiers: (409, "too_many_notifiers", f"at most {notifiers_store.MAX_NOTIFIERS}: remove one first"),
    UnknownDevice: (404, "unknown_device", "you have no such device"),
    UnknownUser: (404, "unknown_user", "there is no such user"),
    NotAnAdministrator: (403, "not_an_administrator", "only an administrator of the group may do that"),
    LastAdministrator: (409, "last_administrator", "a group has at least one administrator: name another one first"),
    GroupFull: (409, "group_full", "the group has as many participants as it may"),
    NotARequest: (409, "not_a_request", "the conversation is no request any more: leave it, or block"),
    UsernameTaken: (409, "username_taken", "choose another username"),
    UnknownZone: (400, "invalid_body", "zone must be a time zone of the IANA database, such as Europe/Berlin"),
    VerificationUnknown: (404, "unknown_verification", "no address was sent that token, or it is another one by now"),
    VerificationExpired: (410, "verification_expired", "that token is too old: put the address again to get another"),
}


def _store_error(error: StoreError) -> Response:
    if refusal := _REFUSALS.get(type(error)):
        return _refuse(*refusal)
    if isinstance(error, NotAccepted):
        users = [encoding.ident(user, _form()) for user in error.users]
        return _refuse(403, "not_accepted", "these users take no messages, or no groups, from you", users=users)
    if isinstance(error, TooManyStarts):
        detail = "you have begun as many conversations with strangers as you may in 24 hours"
        return _refuse(429, "too_many_conversations", detail, retry_after_s=error.wait_s)
    if isinstance(error, TooManyMails):
        return _refuse(429, "too_many_mails", "too many mails were asked for", retry_after_s=error.wait_s)
    if isinstance(error, (Unavailable, Overloaded, Locked, RedisError)):
        log.warning("request_refused", path=request.path, error=str(error))
        return _refuse(503, "unavailable", "try again", retry_after_s=RETRY_AFTER_S)
    return _fault(error)


async def _is_online(redis: Redis, user: bytes) -> bool:
    """Whether others see the user online; if Redis cannot say it, likely: whoever blocks somebody is looking."""
    try:
        return await is_held(redis, user)
    except (Unavailable, RedisError):
        return True


async def _account(pool: Pool, username: str) -> Account | None:
    try:
        return await _user_by_name(pool, username)
    except UnknownUser:
        return None


async def _user_by_name(pool: Pool, username: str) -> Account:
    # Postgres has no text with NUL, so it cannot even be asked for one.
    if "\0" in username:
        raise UnknownUser
    return await accounts.user_by_name(pool, username)


async def _identify(pool: Pool) -> Identity:
    return await accounts.device_by_token(pool, _token())


def _token() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenUnknown
    return token


async def _body(type_: type[_T]) -> _T:
    data: Any = await request.get_data()
    return encoding.decode(data, request.headers.get("Content-Type", ""), type_)


def _limit() -> int:
    return _number("limit", request.args.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)


def _number(name: str, text: str, least: int, most: int) -> int:
    # isdecimal alone admits other scripts' digits, and int() thousands of them.
    if text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise ApiError(400, "invalid_query", f"{name} must be a number from {least} to {most}")


def _flag(name: str) -> bool:
    text = request.args.get(name, "false")
    if text in ("true", "false"):
        return text == "true"
    raise ApiError(400, "invalid_query", f"{name} must be true or false")


def _form() -> Form:
    # A WebSocket handshake, which belongs to `socket` and finds nothing here, is answered outside of a request.
    asked = request if has_request_context() else websocket
    return "cbor" if encoding.CBOR in asked.headers.get("Accept", "") else "json"


def _answer(body: Any, status: int = 200) -> Response:
    return _answer_encoded(encoding.encode(body, _form()), status)


def _answer_encoded(body: bytes, status: int = 200) -> Response:
    return Response(body, status, content_type=encoding.CBOR if _form() == "cbor" else encoding.JSON)


def _page(page: str, status: int = 200) -> Response:
    response = Response(page, status, content_type="text/html; charset=utf-8")
    response.headers.update(mail_pages.HEADERS)
    return response


def _refuse(status: int, code: str, detail: str, *, retry_after_s: float | None = None, **more: Any) -> Response:
    error: dict[str, Any] = {"code": code, "detail": detail, **more}
    if retry_after_s is not None:
        error["retry_after_ms"] = ceil(retry_after_s * 1000)
    response = _answer({"error": error}, status)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(ceil(retry_after_s))
    return response
