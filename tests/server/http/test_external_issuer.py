"""Tokens of an external issuer: those that are good, and attacks on the check (RFC 8725)."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from runtime.config import Config
from server.http.external_issuer import (
    LEEWAY_S,
    ExternalIssuer,
    ExternalUser,
    InvalidExternalToken,
    external_issuer_of,
)
from server.http.key_set import IssuerKey
from tests.rows import each_row
from tests.server.http.issuer_world import AUDIENCE, ISSUER, SUBJECT, Issuer, rsa_key, trusting

SECRET: Final = "a secret that two servers share, as long as the keys of HS512 should be"


def encoded(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + 3600, **changes}


def made_by_hand(header: dict[str, Any], signature: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A token as no library makes it."""
    signed = f"{encoded(header)}.{encoded(claims())}"
    return f"{signed}.{encoded(signature(signed.encode()))}"


def by_hand_signed(issuer: Issuer, **changes: Any) -> str:
    """A token with claims that PyJWT refuses to write."""
    body = json.dumps(claims(**changes)).encode()
    return jwt.api_jws.encode(body, issuer.private, algorithm="RS256", headers={"kid": issuer.kid})


def signed_with_the_public_key(issuer: Issuer) -> str:
    """HS256 with the text of the RSA key that everybody can read (RFC 8725, section 2.1)."""
    public = issuer.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "typ": "JWT", "kid": issuer.kid}
    return made_by_hand(header, lambda signed: hmac.digest(public, signed, "sha256"))


def with_a_key_of_its_own(issuer: Issuer) -> str:
    """The header has the attacker's key (`jwk`), and where it is (`jku`, `x5u`)."""
    own = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(1).public_key()))
    headers = {"jwk": own, "jku": "https://attacker.example/jwks.json", "x5u": "https://attacker.example/x5u"}
    return issuer.token(headers=headers, signed_by=rsa_key(1))


def tampered(issuer: Issuer) -> str:
    header, _, signature = issuer.token().split(".")
    return f"{header}.{encoded(claims(sub='another'))}.{signature}"


ATTACKS: Final[dict[str, tuple[Callable[[Issuer], str], str]]] = {
    "alg none": (lambda it: made_by_hand({"alg": "none", "kid": it.kid}), "signature"),
    "alg None": (lambda it: made_by_hand({"alg": "None", "kid": it.kid}), "signature"),
    "no alg": (lambda it: made_by_hand({"kid": it.kid}), "signature"),
    "no signature": (lambda it: it.token().rpartition(".")[0] + ".", "signature"),
    "HS256 by the public key": (signed_with_the_public_key, "signature"),
    "HS256 by an empty key": (
        lambda it: made_by_hand({"alg": "HS256", "kid": it.kid}, lambda signed: hmac.digest(b"", signed, "sha256")),
        "signature",
    ),
    "RS512 by the right key": (
        lambda it: jwt.encode(claims(), it.private, algorithm="RS512", headers={"kid": it.kid}),
        "signature",
    ),
    "PS256 by the right key": (
        lambda it: jwt.encode(claims(), it.private, algorithm="PS256", headers={"kid": it.kid}),
        "signature",
    ),
    "another key under the same id": (lambda it: it.token(signed_by=rsa_key(1)), "signature"),
    "a key in the header": (with_a_key_of_its_own, "signature"),
    "other claims under a signature": (tampered, "signature"),
    "an unknown key": (lambda it: it.token(headers={"kid": "key-2"}), "no key with its `kid`"),
    "no key id": (lambda it: jwt.encode(claims(), it.private, algorithm="RS256"), "no key with its `kid`"),
    "another issuer": (lambda it: it.token(iss="https://issuer.example/auth/v1/"), "another issuer"),
    "an issuer that begins alike": (lambda it: it.token(iss=ISSUER + ".attacker.example"), "another issuer"),
    "issuers in a list": (lambda it: by_hand_signed(it, iss=[ISSUER]), "another issuer"),
    "no issuer": (lambda it: it.token(iss=None), "must have the claims"),
    "another audience": (lambda it: it.token(aud="anon"), "another audience"),
    "no audience": (lambda it: it.token(aud=None), "must have the claims"),
    "an empty list of audiences": (lambda it: it.token(aud=[]), "must have the claims"),
    "expired": (lambda it: it.token(exp=int(time.time() - LEEWAY_S) - 5), "expired"),
    "no expiry": (lambda it: it.token(exp=None), "must have the claims"),
    "not valid yet": (lambda it: it.token(nbf=int(time.time() + LEEWAY_S) + 60), "not valid yet"),
    "issued in the future": (lambda it: it.token(iat=int(time.time() + LEEWAY_S) + 60), "not valid yet"),
    "no time of issue": (lambda it: it.token(iat=None), "must have the claims"),
    "no subject": (lambda it: it.token(sub=None), "must have the claims"),
    "an empty subject": (lambda it: it.token(sub=""), "1 to 255"),
    "a long subject": (lambda it: it.token(sub="x" * 256), "1 to 255"),
    "a subject with NUL": (lambda it: it.token(sub="a\0"), "1 to 255"),
    "an expiry without end": (lambda it: it.token(exp=float("inf")), "cannot be read"),
    "a login in the year 9999": (lambda it: it.token(auth_time=253402300799), "seconds since 1970"),
    "a login at no number": (lambda it: it.token(auth_time=float("nan")), "seconds since 1970"),
    "a login at a truth": (lambda it: it.token(auth_time=True), "seconds since 1970"),
    "a login before all": (lambda it: it.token(amr=[{"method": "password", "timestamp": -1}]), "seconds since 1970"),
    "a logout token": (lambda it: it.token(headers={"typ": "logout+jwt"}), "no token for logins"),
    "an extension": (lambda it: made_by_hand({"alg": "RS256", "kid": it.kid, "crit": ["exp"]}), "no signed JWT"),
    "a detached payload": (
        lambda it: it.token(headers={"b64": False, "crit": ["b64"]}),
        "no token for logins",
    ),
    "two tokens": (lambda it: f"{it.token()}.{it.token()}", "no signed JWT"),
    "an encrypted token": (lambda it: ".".join([encoded({"alg": "dir", "enc": "A256GCM"}), *"abcd"]), "no signed JWT"),
    "no token": (lambda _: "", "no signed JWT"),
    "nested without end": (lambda _: f"{encoded(b'[' * 6000)}.{encoded(b'{}')}.", "no signed JWT"),
}
"""An attack -> its token, and a part of the reason for the refusal."""


@each_row("name", ATTACKS)
async def test_an_attack_is_refused_with_its_reason(name: str) -> None:
    make, reason = ATTACKS[name]
    issuer = Issuer()
    async with trusting(issuer) as trusted:
        assert (await trusted.user_of(issuer.token())).subject == SUBJECT
        with pytest.raises(InvalidExternalToken, match=reason):
            await trusted.user_of(make(issuer))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_names_its_user_and_when_the_user_logged_in(algorithm: str) -> None:
    issuer = Issuer(algorithm)
    before = int(time.time()) - 500
    async with trusting(issuer) as trusted:
        for given, expected in (
            ({"iat": before}, before),
            ({"auth_time": before}, before),
            (
                {"amr": [{"method": "password", "timestamp": before}, {"method": "totp", "timestamp": before + 9}]},
                before + 9,
            ),
            ({"amr": ["pwd"], "iat": before}, before),
            ({"aud": ["other", AUDIENCE], "iat": before}, before),
            ({"auth_time": before, "iat": before + 300}, before),
        ):
            assert await trusted.user_of(issuer.token(**given)) == ExternalUser(ISSUER, SUBJECT, float(expected)), given
        # A clock that is fast by less than the leeway: no login is in the future.
        fast = await trusted.user_of(issuer.token(iat=int(time.time() + LEEWAY_S) - 5))
        assert fast.authenticated <= time.time()


def by_secret() -> ExternalIssuer:
    config = Config(external_issuer=ISSUER, external_audience=AUDIENCE, external_secret=SECRET)
    issuer, keys = external_issuer_of(config)
    assert issuer is not None
    assert keys is None
    return issuer


async def test_a_shared_secret_verifies_hs256_alone() -> None:
    issuer = by_secret()
    good = jwt.encode(claims(), SECRET, algorithm="HS256")
    assert (await issuer.user_of(good)).subject == SUBJECT
    for wrong in (
        jwt.encode(claims(), SECRET + "x", algorithm="HS256"),
        jwt.encode(claims(), SECRET, algorithm="HS512"),
        jwt.encode(claims(), rsa_key(), algorithm="RS256"),
        made_by_hand({"alg": "none"}),
    ):
        with pytest.raises(InvalidExternalToken, match="signature"):
            await issuer.user_of(wrong)


async def test_without_an_issuer_there_is_no_check() -> None:
    assert external_issuer_of(Config()) == (None, None)


async def test_a_key_of_one_kind_never_verifies_by_another_algorithm() -> None:
    """Also if the key set gave a secret, which `keys_in` leaves out."""
    issuer = Issuer()

    async def key_of(_: object) -> IssuerKey:
        return IssuerKey("RS256", issuer.private.public_key())

    trusted = ExternalIssuer(ISSUER, AUDIENCE, key_of)
    with pytest.raises(InvalidExternalToken):
        await trusted.user_of(signed_with_the_public_key(issuer))


@given(st.text(max_size=80) | st.lists(st.binary(max_size=60).map(encoded), max_size=4).map(".".join))
async def test_any_text_is_a_token_or_an_invalid_one(text: str) -> None:
    with pytest.raises(InvalidExternalToken):
        await by_secret().user_of(text)


VALUES: Final = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.integers(), max_size=2)
)


@given(st.dictionaries(st.sampled_from([*claims(), "nbf", "auth_time", "amr"]), VALUES, max_size=4))
async def test_any_claims_of_the_issuer_are_a_user_or_an_invalid_token(changes: dict[str, Any]) -> None:
    """The issuer may have faults: they are not ours."""
    token = jwt.api_jws.encode(json.dumps(claims(**changes)).encode(), SECRET, algorithm="HS256")
    try:
        user = await by_secret().user_of(token)
    except InvalidExternalToken:
        return
    assert 0 <= user.authenticated <= time.time()
