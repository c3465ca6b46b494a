"""Showing again who one is, by the password or an external token; and changing the password."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from server.http import bodies
from server.http.answers.devices import ConfirmedAnswer
from server.http.authentication import confirmed_until
from server.http.external_logins import confirming_user
from server.http.password_checks import check_password
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.request_classes import RequestClass
from server.http.routing import NO_CONTENT, NOTHING, Answer, Request, Routes
from server.http.sources import source_of
from store import accounts, devices, profiles
from store.tokens import Identity

routes = Routes()


class NewPassword(Struct, frozen=True):
    old_hash: str
    new_hash: str
    ends_others: bool


async def _hash_of(password: str, identity: Identity, request: Request[Any]) -> str:
    """The hash of the user's password, which this one fits."""
    password_hash = await accounts.password_hash_of(request.services.pool, identity.user)
    if password_hash is None:
        detail = "the account has no password, and gets none here: its user logs in by the external issuer"
        raise Problem(ProblemCode.NO_PASSWORD, detail)
    kept_hash = await check_password(
        request,
        password_hash,
        password,
        user=identity.user,
        device=identity.device,
        failure="confirmation_failed",
        source=source_of(request, identity),
    )
    if kept_hash is None:
        raise Problem(ProblemCode.WRONG_CREDENTIALS, "wrong password")
    return password_hash


async def _check_shown(identity: Identity, request: Request[bodies.Confirm]) -> str | float:
    """The hash of the user's password; or when the user logged in at the external issuer, in seconds since 1970."""
    body = request.body
    if body.external_token is None:
        assert body.password is not None
        return await _hash_of(body.password, identity, request)
    return (await confirming_user(identity, request, body.external_token)).authenticated


@routes.write(
    "POST /v1/confirmations",
    body=bodies.Confirm,
    prepare=_check_shown,
    announces=NOTHING,
    answer=ConfirmedAnswer,
    problems=[
        ProblemCode.WRONG_CREDENTIALS,
        ProblemCode.TOO_MANY_GUESSES,
        ProblemCode.NO_PASSWORD,
        ProblemCode.EXTERNAL_LOGIN_NOT_OFFERED,
        ProblemCode.INVALID_EXTERNAL_TOKEN,
        ProblemCode.REAUTHENTICATION_REQUIRED,
    ],
    request_class=RequestClass.LOGIN,
)
async def confirm(identity: Identity, request: Request[str | float]) -> Answer:
    """Show your password again, or a token of a new login at the external issuer.

    For 10 minutes after that, or after the login there, this device may do what a thief of its token must not. Logging
    in shows the password, too.
    """
    pool, shown = request.services.pool, request.body
    if isinstance(shown, str):
        return _confirmed(await devices.confirm(pool, identity.user, identity.device, shown))
    confirmed = await devices.confirm_externally(pool, identity.user, identity.device, shown)
    if confirmed_until(confirmed) <= identity.now:
        detail = "the user logged in at the issuer more than 10 minutes ago: have the user log in there again"
        raise Problem(ProblemCode.REAUTHENTICATION_REQUIRED, detail)
    return _confirmed(confirmed)


def _confirmed(at: int) -> Answer:
    return Answer(ConfirmedAnswer(confirmed_until(at)))


async def _hash_passwords(identity: Identity, request: Request[bodies.ChangePassword]) -> NewPassword:
    body, services = request.body, request.services
    old_hash = await _hash_of(body.old_password, identity, request)
    own = await profiles.profile_of(services.pool, identity.user)
    new_hash = await services.passwords.hash(
        body.new_password, own.username, source=identity.device, is_known=True, field="new_password"
    )
    return NewPassword(old_hash, new_hash, body.ends_other_sessions)


@routes.write(
    "PUT /v1/password",
    body=bodies.ChangePassword,
    prepare=_hash_passwords,
    announces=NOTHING,
    problems=[
        ProblemCode.WEAK_PASSWORD,
        ProblemCode.WRONG_CREDENTIALS,
        ProblemCode.TOO_MANY_GUESSES,
        ProblemCode.NO_PASSWORD,
    ],
    request_class=RequestClass.LOGIN,
)
async def change_password(identity: Identity, request: Request[NewPassword]) -> Answer:
    """Change your password.

    Tokens stay as they are. Your other devices are revoked if you ask for it; otherwise they have to show the new
    password before they may do what needs it.
    """
    new = request.body
    await accounts.change_password(
        request.services.pool,
        identity.user,
        identity.device,
        new.old_hash,
        new.new_hash,
        ends_others=new.ends_others,
        source=source_of(request, identity),
    )
    return NO_CONTENT
