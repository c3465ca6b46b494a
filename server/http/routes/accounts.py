"""Logging in with a device, and other users by name."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from msgspec import Struct

from runtime.usernames import form_of
from server.http import bodies
from server.http.answers.devices import LoggedInAnswer
from server.http.answers.people import UserAnswer, user_body
from server.http.authentication import bearer_token
from server.http.encoding import IDENT
from server.http.guesses import device_key, name_key
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.request_classes import RequestClass
from server.http.routing import NOTHING, Answer, Request, Routes
from server.http.sources import source_of
from server.transport.proxies import address_key
from store import account_deletions, accounts, devices, profiles, security_events, tokens
from store.accounts import Account
from store.errors import UnknownUser
from store.postgres.pool import Pool
from store.security_events import Source
from store.tokens import Identity

routes = Routes()


class NewDevice(Struct, frozen=True):
    user: bytes
    password_hash: str
    name: str
    client: str | None


async def _check_password(request: Request[bodies.LogIn]) -> NewDevice:
    body, services = request.body, request.services
    try:
        account = await accounts.user_by_name(services.pool, form_of(body.username))
    except UnknownUser:
        account = None
    device = await _known_device(request, account)
    guesses = name_key(form_of(body.username) or body.username) if device is None else device_key(device)
    is_right = await services.passwords.check(
        account.password_hash if account else None,
        body.password,
        source=device or address_key(request.address),
        is_known=device is not None,
        admit=partial(services.guesses.admit, guesses),
    )
    if not is_right or account is None:
        # For an unknown name as well: the answer takes as long.
        user = account.user if account else None
        await security_events.note(services.pool, "login_failed", user, source_of(request), is_counted=True)
        raise _wrong()
    await services.guesses.forget(guesses)
    await _check_open(services.pool, account.user, source_of(request), keeps_account=body.keeps_account)
    return NewDevice(account.user, account.password_hash, body.name, body.client)


async def _known_device(request: Request[Any], account: Account | None) -> bytes | None:
    """The device of this account whose token the request shows, also one that has expired; None if it shows none."""
    token = bearer_token(request)
    known = await tokens.device_known_by(request.services.pool, token) if token else None
    return known[1] if known and account and known[0] == account.user else None


def _wrong() -> Problem:
    return Problem(ProblemCode.WRONG_CREDENTIALS, "wrong username or password")


async def _check_open(pool: Pool, user: bytes, source: Source, *, keeps_account: bool) -> None:
    """Called once the password is known to be right: other users are not told what the user has asked for."""
    closing = await account_deletions.closing_of(pool, user)
    if closing is None:
        return
    if closing.has_begun:
        raise _wrong()
    if not keeps_account:
        at = f"{datetime.fromtimestamp(closing.due / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"
        detail = f"the account is deleted at {at}: log in with keeps_account, and it is not"
        raise Problem(ProblemCode.ACCOUNT_CLOSED, detail, due=closing.due)
    await account_deletions.keep(pool, user, source=source)


@routes.open_write(
    "POST /v1/devices",
    body=bodies.LogIn,
    prepare=_check_password,
    announces=NOTHING,
    answer=LoggedInAnswer,
    statuses=[201],
    problems=[ProblemCode.WRONG_CREDENTIALS, ProblemCode.TOO_MANY_GUESSES, ProblemCode.ACCOUNT_CLOSED],
    request_class=RequestClass.LOGIN,
)
async def log_in(request: Request[NewDevice]) -> Answer:
    """Log in, which makes a new device.

    If you have asked to delete the account, say with `keeps_account` that you keep it.
    The token admits this device until it expires; renew it with `POST /v1/tokens`. After five wrong passwords for a
    user the next one is refused for a second, and for twice as long after each further one, up to 15 minutes. Show the
    token of a device that you have, or had until it expired, in `Authorization`: it has guesses of its own.
    """
    services, new = request.services, request.body
    device, token, expires = await devices.add_device(
        services.pool,
        new.user,
        new.name,
        lifetime_s=services.token_lifetime_s,
        password_hash=new.password_hash,
        client=new.client,
        source=source_of(request),
    )
    ident = IDENT[request.encoding]
    return Answer(LoggedInAnswer(ident(new.user), ident(device), token, expires), 201)


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
