"""Logging in with a device, and other users by name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from runtime.usernames import form_of
from server.http import bodies
from server.http.answers.devices import LoggedInAnswer
from server.http.answers.people import UserAnswer, user_body
from server.http.authentication import bearer_token
from server.http.encoding import IDENT
from server.http.external_issuer import ExternalUser
from server.http.external_logins import BY_TOKEN, external_user, identity_of
from server.http.password_checks import check_password
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.request_classes import RequestClass
from server.http.routes.registration import check_may_register
from server.http.routing import NOTHING, Answer, Request, Routes
from server.http.sources import source_of
from store import account_deletions, accounts, devices, profiles, security_events, suspensions, tokens
from store.accounts import Account
from store.errors import AccountSuspended, IdentityTaken, UnknownUser
from store.tokens import Identity

routes = Routes()


class NewDevice(Struct, frozen=True):
    """A device of a user who has shown a password or an external token.

    :ivar password_hash: the one that the shown password fits.
    :ivar authenticated: when the user logged in at the external issuer, in seconds since 1970.
    """

    user: bytes
    username: str
    name: str
    client: str | None
    password_hash: str | None = None
    authenticated: float | None = None


class FirstDevice(Struct, frozen=True):
    """A device of a user of the external issuer who is to be registered."""

    external: ExternalUser
    username: str
    invitation: str | None
    name: str
    client: str | None


async def _check_login(request: Request[bodies.LogIn]) -> NewDevice | FirstDevice:
    body = request.body
    if body.external_token is not None:
        return await _check_external_token(request, body.external_token)
    assert body.username is not None
    assert body.password is not None
    return await _check_password(request, body.username, body.password)


async def _check_external_token(request: Request[bodies.LogIn], token: str) -> NewDevice | FirstDevice:
    body, services = request.body, request.services
    try:
        external = await external_user(request, token)
    except Problem as problem:
        if problem.code is ProblemCode.INVALID_EXTERNAL_TOKEN:
            await security_events.note(
                services.pool, "login_failed", None, source_of(request), BY_TOKEN, is_counted=True
            )
        raise
    owner = await accounts.user_by_identity(services.pool, identity_of(external))
    if owner is None:
        await services.limits.count_address(RequestClass.REGISTRATION, request.address)
        invitation = await check_may_register(services, body.invitation)
        if body.username is None:
            detail = "no user here has this identity yet: ask for a username, and send it in `username`"
            raise Problem(ProblemCode.USERNAME_REQUIRED, detail, pointer="#/username")
        return FirstDevice(external, bodies.username_in(body.username), invitation, body.name, body.client)
    user, username = owner
    await _check_open(request, user, keeps_account=body.keeps_account)
    return NewDevice(user, username, body.name, body.client, authenticated=external.authenticated)


async def _check_password(request: Request[bodies.LogIn], typed: str, password: str) -> NewDevice:
    body, services = request.body, request.services
    try:
        account = await accounts.user_by_name(services.pool, form_of(typed))
    except UnknownUser:
        account = None
    device = await _known_device(request, account)
    kept_hash = await check_password(
        request,
        account.password_hash if account else None,
        password,
        user=account.user if account else None,
        name=form_of(typed) or typed,
        device=device,
        failure="login_failed",
        source=source_of(request),
    )
    if kept_hash is None or account is None:
        # For an unknown name as well: the answer takes as long.
        raise _wrong()
    is_replaced = kept_hash != account.password_hash
    if is_replaced and not await accounts.replace_hash(
        services.pool, account.user, account.password_hash or "", kept_hash
    ):
        # Another login was faster, or the user has another password by now. No hash of bcrypt follows one of Argon2id.
        return await _check_password(request, typed, password)
    await _check_open(request, account.user, keeps_account=body.keeps_account)
    return NewDevice(account.user, account.username, body.name, body.client, password_hash=kept_hash)


async def _known_device(request: Request[Any], account: Account | None) -> bytes | None:
    """The device of this account whose token the request shows, also one that has expired; None if it shows none."""
    token = bearer_token(request)
    known = await tokens.device_known_by(request.services.pool, token) if token else None
    return known[1] if known and account and known[0] == account.user else None


def _wrong() -> Problem:
    return Problem(ProblemCode.WRONG_CREDENTIALS, "wrong username or password")


async def _check_open(request: Request[bodies.LogIn], user: bytes, *, keeps_account: bool) -> None:
    """Called once the user is known to be the one: other users are not told what the user or an operator has done."""
    pool = request.services.pool
    if await suspensions.is_suspended(pool, user):
        raise AccountSuspended
    closing = await account_deletions.closing_of(pool, user)
    if closing is None:
        return
    if closing.has_begun:
        raise _wrong()
    if not keeps_account:
        at = f"{datetime.fromtimestamp(closing.due / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"
        detail = f"the account is deleted at {at}: log in with keeps_account, and it is not"
        raise Problem(ProblemCode.ACCOUNT_CLOSED, detail, due=closing.due)
    await account_deletions.keep(pool, user, source=source_of(request))


async def _register(request: Request[Any], first: FirstDevice) -> NewDevice:
    """Register a user of the external issuer, unless another request has done so meanwhile."""
    pool, identity = request.services.pool, identity_of(first.external)
    username = first.username
    try:
        user = await accounts.add_user(
            pool, username, None, identity=identity, invitation=first.invitation, source=source_of(request)
        )
    except IdentityTaken:
        owner = await accounts.user_by_identity(pool, identity)
        if owner is None:
            # Registered and deleted since.
            raise _wrong() from None
        user, username = owner
    return NewDevice(user, username, first.name, first.client, authenticated=first.external.authenticated)


@routes.open_write(
    "POST /v1/devices",
    body=bodies.LogIn,
    prepare=_check_login,
    announces=NOTHING,
    answer=LoggedInAnswer,
    statuses=[201],
    problems=[
        ProblemCode.WRONG_CREDENTIALS,
        ProblemCode.TOO_MANY_GUESSES,
        ProblemCode.ACCOUNT_CLOSED,
        ProblemCode.ACCOUNT_SUSPENDED,
        ProblemCode.EXTERNAL_LOGIN_NOT_OFFERED,
        ProblemCode.INVALID_EXTERNAL_TOKEN,
        ProblemCode.USERNAME_REQUIRED,
        ProblemCode.REGISTRATION_CLOSED,
        ProblemCode.INVITATION_REQUIRED,
        ProblemCode.INVITATION_VOID,
        ProblemCode.INVALID_USERNAME,
        ProblemCode.USERNAME_RESERVED,
        ProblemCode.USERNAME_TAKEN,
    ],
    request_class=RequestClass.LOGIN,
)
async def log_in(request: Request[NewDevice | FirstDevice]) -> Answer:
    """Log in, which makes a new device.

    If you have asked to delete the account, say with `keeps_account` that you keep it.
    The token admits this device until it expires; renew it with `POST /v1/tokens`. After five wrong passwords for a
    user the next one is refused for a second, and for twice as long after each further one, up to 15 minutes. Show the
    token of a device that you have, or had until it expired, in `Authorization`: it has guesses of its own.

    Where `GET /v1/registration` names an external issuer, its token does instead of username and password. The first
    one of a user registers the user: then give a username, and the code of an invitation if one is needed.
    """
    services, new = request.services, request.body
    if isinstance(new, FirstDevice):
        new = await _register(request, new)
    device, token, expires = await devices.add_device(
        services.pool,
        new.user,
        new.name,
        lifetime_s=services.token_lifetime_s,
        password_hash=new.password_hash,
        authenticated=new.authenticated,
        client=new.client,
        source=source_of(request),
    )
    ident = IDENT[request.encoding]
    return Answer(LoggedInAnswer(ident(new.user), new.username, ident(device), token, expires), 201)


@routes.read(
    "GET /v1/users/<username>",
    answer=UserAnswer,
    problems=[ProblemCode.UNKNOWN_USER],
    request_class=RequestClass.SEARCH,
)
async def get_user(identity: Identity, request: Request[None], username: str) -> Answer:
    """Find a user by name."""
    pool = request.services.pool
    account = await accounts.user_by_name(pool, form_of(username))
    shown = await profiles.shown_to(pool, account.user, identity.user)
    return Answer(user_body(account.user, shown, request.encoding))
