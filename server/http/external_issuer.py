"""Tokens of an external issuer: JWTs (RFC 7519) that say which of its users logged in there.

The configuration decides all that a token could lie about: the issuer, the audience, where keys come from, and by the
key the algorithm (RFC 8725). A token is checked here, once, and exchanged for the token of a device (decision 46).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import jwt
from jwt.exceptions import InvalidSubjectError
from msgspec import Struct

from runtime.config import Config
from server.http.issuer_keys import IssuerKeys
from server.http.key_set import IssuerKey, fetch_keys

LEEWAY_S: Final = 30.0
"""By which the clocks of issuer and server may differ."""

TYPES: Final = frozenset(("jwt", "at+jwt", "application/at+jwt"))
"""The types (`typ`) of tokens for logins. An issuer signs others with the same keys, such as logout tokens."""

REQUIRED: Final = ["iss", "aud", "sub", "iat", "exp"]

MAX_SUBJECT_CHARACTERS: Final = 255
"""OpenID Connect Core, section 2."""

_NEVER: Final = 2.0**33
"""Seconds since 1970: the year 2242. No login was then."""

_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.InvalidAlgorithmError, "its signature is not one of the issuer"),
    (jwt.InvalidSignatureError, "its signature is not one of the issuer"),
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not valid yet"),
    (jwt.InvalidIssuerError, "it is of another issuer"),
    (jwt.InvalidAudienceError, "it is for another audience"),
    (jwt.MissingRequiredClaimError, f"it must have the claims {', '.join(REQUIRED)}"),
    (InvalidSubjectError, "its `sub` must be a text"),
    (jwt.InvalidIssuedAtError, "its `iat` must be a time"),
)
"""Those about claims are given once the signature is right. The first that fits counts."""


class InvalidExternalToken(Exception):
    """The token does not say that a user has logged in at the issuer. The text says why."""


class ExternalUser(Struct, frozen=True):
    """A user of the issuer, as a good token names them.

    :ivar authenticated: when the user logged in at the issuer, in seconds since 1970: by `auth_time`, or by the times
        in `amr` (Supabase), or else when the token was issued.
    """

    issuer: str
    subject: str
    authenticated: float


class ExternalIssuer:
    """Checks the tokens of one issuer.

    :ivar issuer: its `iss`.
    :param key_of: the key that the header of a token names; None if there is none.
    """

    def __init__(
        self, issuer: str, audience: str, key_of: Callable[[Mapping[str, Any]], Awaitable[IssuerKey | None]]
    ) -> None:
        self.issuer = issuer
        self._audience = audience
        self._key_of = key_of

    async def user_of(self, token: str) -> ExternalUser:
        """The user whom a token names.

        :raises InvalidExternalToken: if it is not good.
        :raises IssuerUnavailable: if the issuer's keys are not known now.
        """
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise InvalidExternalToken("it is no signed JWT") from None
        if "crit" in header or str(header.get("typ", "JWT")).lower() not in TYPES:
            raise InvalidExternalToken("it is no token for logins")
        key = await self._key_of(header)
        if key is None:
            raise InvalidExternalToken("the issuer has no key with its `kid`")
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                issuer=self.issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": REQUIRED},
            )
        except (jwt.PyJWTError, OverflowError) as error:
            raise InvalidExternalToken(_reason_of(error)) from None
        subject = claims["sub"]
        if not 1 <= len(subject) <= MAX_SUBJECT_CHARACTERS or not subject.isprintable():
            raise InvalidExternalToken(f"its `sub` must be 1 to {MAX_SUBJECT_CHARACTERS} characters that can be seen")
        return ExternalUser(self.issuer, subject, _authenticated(claims))


def _reason_of(error: Exception) -> str:
    for type_, reason in _REASONS:
        if isinstance(error, type_):
            return reason
    return "it cannot be read"


def _authenticated(claims: Mapping[str, Any]) -> float:
    """
    :raises InvalidExternalToken: if a time is none.
    """
    methods = claims.get("amr")
    methods = methods if isinstance(methods, list) else []
    of_methods = [each["timestamp"] for each in methods if isinstance(each, dict) and "timestamp" in each]
    times = [claims["auth_time"]] if "auth_time" in claims else of_methods or [claims["iat"]]
    for at in times:
        if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < _NEVER:
            raise InvalidExternalToken("its times must be seconds since 1970")
    return min(float(max(times)), time.time())


def external_issuer_of(config: Config) -> tuple[ExternalIssuer | None, IssuerKeys | None]:
    """The issuer that the operator has configured, and its key set, whose `run` has to run; None: there is none."""
    if not config.external_issuer:
        return None, None
    if config.external_secret:
        secret = IssuerKey("HS256", config.external_secret.encode())

        async def the_secret(_: Mapping[str, Any]) -> IssuerKey:
            return secret

        return ExternalIssuer(config.external_issuer, config.external_audience, the_secret), None
    keys = IssuerKeys(partial(fetch_keys, config.external_jwks_url, ssl.create_default_context()))
    return ExternalIssuer(config.external_issuer, config.external_audience, by_kid(keys)), keys


def by_kid(keys: IssuerKeys) -> Callable[[Mapping[str, Any]], Awaitable[IssuerKey | None]]:
    """The key of a token, by the id in its header."""

    async def key_of(header: Mapping[str, Any]) -> IssuerKey | None:
        kid = header.get("kid")
        return await keys.key(kid) if isinstance(kid, str) else None

    return key_of
