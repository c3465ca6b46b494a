"""The key set of an external issuer (JWKS, RFC 7517): fetched from the operator's URL, and which of its keys count.

The type of a key decides the one algorithm that it verifies. What a token or a key says of algorithms can only refuse
it. Addresses of keys and certificates in tokens and keys (`jku`, `x5u`) are never followed.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import httpx
import jwt
import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from msgspec import UNSET, Struct, UnsetType

TIMEOUT_S: Final = 5.0
"""For the whole fetch, with names, connection and TLS: a login may wait for it."""

MAX_BYTES: Final = 256 * 1024
"""The most bytes of a key set. An issuer has a handful of keys, with a certificate chain of some KB each at most."""

MAX_KEYS: Final = 100

RSA_BITS: Final = range(2048, 8193)
"""Shorter keys can be broken (RFC 7518, section 3.3); longer ones cost a millisecond for each token."""

ALGORITHMS: Final = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""Type and curve of a key -> its algorithm."""


class IssuerUnavailable(Exception):
    """The issuer's keys are not known, and cannot be fetched now."""


class IssuerKey(Struct, frozen=True):
    """A key that verifies tokens.

    :ivar algorithm: the only one that it verifies.
    :ivar key: as PyJWT takes it.
    """

    algorithm: str
    key: Any


KeySet: TypeAlias = Mapping[str, IssuerKey]
"""Keys by their ids (`kid`)."""


class _Key(Struct, frozen=True, omit_defaults=True):
    kty: str
    kid: str
    crv: str | None = None
    use: str = "sig"
    alg: str | None = None
    key_ops: list[str] | UnsetType = UNSET
    n: str | None = None
    e: str | None = None
    x: str | None = None
    y: str | None = None
    # Only a private or a secret key has these.
    d: msgspec.Raw | UnsetType = UNSET
    k: msgspec.Raw | UnsetType = UNSET


class _Keys(Struct, frozen=True):
    keys: list[msgspec.Raw]


async def fetch_keys(url: str, context: ssl.SSLContext, *, timeout_s: float = TIMEOUT_S) -> KeySet:
    """Fetch the key set. Redirects are not followed, and proxies of the environment are not used.

    :raises IssuerUnavailable: if no key set with a usable key comes within `timeout_s`.
    """
    body = b""
    try:
        with trio.fail_after(timeout_s):
            async with (
                httpx.AsyncClient(verify=context, trust_env=False, timeout=None) as client,  # noqa: S113
                client.stream("GET", url, headers={"accept": "application/json", "accept-encoding": "identity"}) as got,
            ):
                if got.status_code != 200:
                    raise IssuerUnavailable(f"status {got.status_code}")
                # Cancelled instead of left: this ends all nested generators of httpx.
                with trio.CancelScope() as reading:
                    async for piece in got.aiter_raw():
                        body += piece
                        if len(body) > MAX_BYTES:
                            reading.cancel()
    except trio.TooSlowError:
        raise IssuerUnavailable(f"no answer within {timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise IssuerUnavailable(f"no answer: {str(error) or 'the connection was lost'}") from None
    if len(body) > MAX_BYTES:
        raise IssuerUnavailable(f"more than {MAX_BYTES} bytes")
    return keys_in(body)


def keys_in(body: bytes) -> KeySet:
    """The keys of a key set that verify tokens. Others are left out, and so are those that share an id.

    :raises IssuerUnavailable: if there is none.
    """
    try:
        raw = msgspec.json.decode(body, type=_Keys).keys[:MAX_KEYS]
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise IssuerUnavailable("no key set of JSON") from None
    keys = [found for each in raw if (found := _key_in(each)) is not None]
    named = Counter(kid for kid, _ in keys)
    usable = {kid: key for kid, key in keys if named[kid] == 1}
    if not usable:
        raise IssuerUnavailable("a key set without a usable key")
    return usable


def _key_in(raw: msgspec.Raw) -> tuple[str, IssuerKey] | None:
    """The id and the key; None if it verifies no tokens."""
    try:
        key = msgspec.json.decode(raw, type=_Key)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    algorithm = ALGORITHMS.get((key.kty, None if key.kty == "RSA" else key.crv))
    is_for_signatures = key.use == "sig" and (key.key_ops is UNSET or "verify" in key.key_ops)
    is_public = key.d is UNSET and key.k is UNSET
    if algorithm is None or key.alg not in (None, algorithm) or not is_for_signatures or not is_public:
        return None
    try:
        made = jwt.PyJWK(msgspec.to_builtins(key), algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(made, RSAPublicKey) and made.key_size not in RSA_BITS:
        return None
    return key.kid, IssuerKey(algorithm, made)
