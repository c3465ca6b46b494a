"""Logging in, and confirming a device, by the token of an external issuer."""

from __future__ import annotations

from typing import Any

from server.http.external_issuer import ExternalUser, InvalidExternalToken
from server.http.problem_codes import ProblemCode
from server.http.problems import Problem
from server.http.routing import Request
from server.http.sources import source_of
from store import accounts, security_events
from store.accounts import ExternalIdentity
from store.tokens import Identity

BY_TOKEN = {"by": "external_token"}
"""The detail of events of wrong tokens."""


async def external_user(request: Request[Any], token: str) -> ExternalUser:
    """The user of the issuer whom a token names. A token that is not good is a security event.

    :raises Problem: if this deployment takes no such tokens, or the token is not good.
    :raises IssuerUnavailable: if the issuer's keys are not known now.
    """
    issuer = request.services.external_issuer
    if issuer is None:
        detail = "this server takes no tokens of another issuer: log in with username and password"
        raise Problem(ProblemCode.EXTERNAL_LOGIN_NOT_OFFERED, detail)
    try:
        return await issuer.user_of(token)
    except InvalidExternalToken as error:
        raise Problem(
            ProblemCode.INVALID_EXTERNAL_TOKEN, f"the external token is refused: {error}", pointer="#/external_token"
        ) from None


def identity_of(user: ExternalUser) -> ExternalIdentity:
    return ExternalIdentity(user.issuer, user.subject)


async def confirming_user(identity: Identity, request: Request[Any], token: str) -> ExternalUser:
    """The user of the issuer who is the user of this device.

    :raises Problem: as `external_user`; also if the token names another user.
    :raises IssuerUnavailable: as `external_user`.
    """
    try:
        named = await external_user(request, token)
        owner = await accounts.user_by_identity(request.services.pool, identity_of(named))
        if owner is None or owner[0] != identity.user:
            detail = "the external token is refused: it names another user"
            raise Problem(ProblemCode.INVALID_EXTERNAL_TOKEN, detail, pointer="#/external_token")
    except Problem as problem:
        if problem.code is ProblemCode.INVALID_EXTERNAL_TOKEN:
            source = source_of(request, identity)
            pool = request.services.pool
            await security_events.note(pool, "confirmation_failed", identity.user, source, BY_TOKEN, is_counted=True)
        raise
    return named
