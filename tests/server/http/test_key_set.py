"""Key sets of issuers: which keys count, and answers of servers that are slow, huge, or no key set."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from server.http.key_set import MAX_BYTES, MAX_KEYS, IssuerUnavailable, fetch_keys, keys_in
from tests.rows import each_row
from tests.server.http.issuer_world import CONTEXT, PATIENT_S, answer, private_key, public_jwk, rsa_key, serving

RSA: Final = public_jwk(rsa_key(), "RS256", "a")
"""A good key."""

P384: Final = {**json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key())), "kid": "b"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in RSA.items() if key != name}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_the_type_of_a_key_decides_its_algorithm(algorithm: str) -> None:
    shown = public_jwk(private_key(algorithm), algorithm, "a")
    for jwk in (shown, {**shown, "key_ops": ["verify"]}, {k: v for k, v in shown.items() if k not in ("alg", "use")}):
        assert {kid: key.algorithm for kid, key in keys_in(json.dumps({"keys": [jwk]}).encode()).items()} == {
            "a": algorithm
        }


LEFT_OUT: Final[dict[str, dict[str, Any]]] = {
    "a secret": {"kty": "oct", "kid": "b", "k": "AAAA", "alg": "HS256"},
    "a secret beside a public key": {**RSA, "kid": "b", "k": "AAAA"},
    "a private key": {**RSA, "kid": "b", "d": "AAAA"},
    "another algorithm": {**RSA, "kid": "b", "alg": "RS512"},
    "an algorithm of another type": {**RSA, "kid": "b", "alg": "HS256"},
    "for encryption": {**RSA, "kid": "b", "use": "enc"},
    "for signing": {**RSA, "kid": "b", "key_ops": ["sign"]},
    "without an id": without("kid"),
    "an id that is a number": {**RSA, "kid": 5},
    "a short key of RSA": public_jwk(rsa_key(2, 1024), "RS256", "b"),
    "another curve": P384,
    "half a key of RSA": {**without("e"), "kid": "b"},
    "a point that is on no curve": {"kty": "EC", "crv": "P-256", "kid": "b", "x": "AAAA", "y": "AAAA"},
    "no type": {**without("kty"), "kid": "b"},
    "no number": {**RSA, "kid": "b", "n": "not base64!"},
    "a number of JSON": {**RSA, "kid": "b", "n": 5},
}


@each_row("name", LEFT_OUT)
def test_a_key_that_verifies_no_tokens_is_left_out_and_others_count(name: str) -> None:
    assert keys_in(json.dumps({"keys": [LEFT_OUT[name], RSA]}).encode()).keys() == {"a"}
    with pytest.raises(IssuerUnavailable, match="without a usable key"):
        keys_in(json.dumps({"keys": [LEFT_OUT[name]]}).encode())


def test_keys_that_share_an_id_do_not_count() -> None:
    """Which of them would verify a token is anybody's guess."""
    other = public_jwk(rsa_key(1), "RS256", "b")
    assert keys_in(json.dumps({"keys": [RSA, {**other, "kid": "a"}, other]}).encode()).keys() == {"b"}


def test_a_key_set_is_read_up_to_a_number_of_keys() -> None:
    many = [{**RSA, "kid": str(number)} for number in range(MAX_KEYS + 1)]
    assert len(keys_in(json.dumps({"keys": many}).encode())) == MAX_KEYS


_key_sets = st.lists(st.dictionaries(st.sampled_from([*RSA]), st.text(max_size=9)), max_size=3).map(
    lambda keys: json.dumps({"keys": keys}).encode()
)


@given(st.binary(max_size=200) | _key_sets)
def test_any_bytes_are_a_key_set_or_none(body: bytes) -> None:
    try:
        keys_in(body)
    except IssuerUnavailable:
        return


async def endless(stream: trio.SocketStream) -> None:
    """An answer that trickles: each read of it succeeds."""
    async with stream:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"1\r\n \r\n")


async def silent(stream: trio.SocketStream) -> None:
    async with stream:
        await trio.sleep_forever()


async def hung_up(stream: trio.SocketStream) -> None:
    await stream.aclose()


GOOD: Final = json.dumps({"keys": [RSA]}).encode()

FAULTS: Final[dict[str, tuple[Callable[[trio.SocketStream], Awaitable[None]], str]]] = {
    "slow": (silent, "no answer within"),
    "trickling": (endless, "no answer within|more than"),
    "huge": (partial(answer, body=GOOD + b" " * MAX_BYTES), "more than"),
    "garbage": (partial(answer, body=b"<html>"), "no key set"),
    "another JSON": (partial(answer, body=b'{"error": "gone"}'), "no key set"),
    "nested without end": (partial(answer, body=b'{"keys": ' + b"[" * 60_000), "no key set"),
    "no keys": (partial(answer, body=b'{"keys": []}'), "without a usable key"),
    "an error": (partial(answer, body=GOOD, status="500 Internal"), "status 500"),
    "a redirect": (partial(answer, body=GOOD, status="302 Found"), "status 302"),
    "hung up": (hung_up, "no answer: "),
}
"""What the server does -> a part of the reason in the log."""


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fetch_that_fails_says_why(name: str) -> None:
    handle, reason = FAULTS[name]
    timeout_s = 0.5 if handle in (silent, endless) else PATIENT_S
    async with serving(handle) as url:
        with pytest.raises(IssuerUnavailable, match=reason):
            await fetch_keys(url, CONTEXT, timeout_s=timeout_s)


async def test_a_key_set_is_fetched() -> None:
    async with serving(partial(answer, body=GOOD)) as url:
        assert (await fetch_keys(url, CONTEXT, timeout_s=PATIENT_S)).keys() == {"a"}


async def test_no_server_is_a_reason() -> None:
    async with serving(hung_up) as url:
        pass
    with pytest.raises(IssuerUnavailable, match="no answer: "):
        await fetch_keys(url, CONTEXT, timeout_s=PATIENT_S)
