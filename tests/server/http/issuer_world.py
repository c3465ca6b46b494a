"""A small issuer of JWTs: its keys, its tokens, and its key set behind a loopback socket."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final, TypeAlias

import jwt
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from server.http.external_issuer import ExternalIssuer, by_kid
from server.http.issuer_keys import IssuerKeys
from server.http.key_set import fetch_keys

ISSUER: Final = "https://issuer.example/auth/v1"
AUDIENCE: Final = "authenticated"
SUBJECT: Final = "5f0c3a0e-2f7e-4f6e-9c43-1f2b5a2b6a51"

PATIENT_S: Final = 60.0
"""The time for a fetch in tests that are not about it: the machine may be busy."""

CONTEXT: Final = ssl.create_default_context()

Private: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ALGORITHMS: Final[Mapping[str, Any]] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key of RSA, made once: it takes a tenth of a second.

    :param number: of two keys with different numbers none verifies what the other signs.
    """
    return rsa.generate_private_key(65537, bits)


def private_key(algorithm: str) -> Private:
    match algorithm:
        case "RS256":
            return rsa_key()
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public_jwk(key: Private, algorithm: str, kid: str, **more: Any) -> dict[str, Any]:
    """The public key as an entry of a key set."""
    shown = json.loads(ALGORITHMS[algorithm].to_jwk(key.public_key()))
    return {**shown, "kid": kid, "use": "sig", "alg": algorithm, **more}


@dataclass
class Issuer:
    """An issuer with one key.

    :ivar keys: its key set.
    :ivar fetches: how often the key set was fetched.
    """

    algorithm: str = "RS256"
    kid: str = "key-1"
    keys: list[dict[str, Any]] = field(default_factory=list)
    fetches: int = 0

    def __post_init__(self) -> None:
        self.private = private_key(self.algorithm)
        self.keys = [public_jwk(self.private, self.algorithm, self.kid)]

    def token(self, *, headers: Mapping[str, Any] | None = None, signed_by: Any = None, **changes: Any) -> str:
        """A token, with these claims instead of good ones.

        :param changes: None leaves the claim out.
        """
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + 3600, **changes}
        return jwt.encode(
            {name: value for name, value in claims.items() if value is not None},
            signed_by or self.private,
            algorithm=self.algorithm,
            headers={"kid": self.kid, **(headers or {})},
        )

    def rotate(self, kid: str, *, keeps: bool = True) -> None:
        """Sign with another key from now on.

        :param keeps: the key set has the former one still.
        """
        self.kid, self.private = kid, private_key(self.algorithm)
        self.keys = [*(self.keys if keeps else []), public_jwk(self.private, self.algorithm, kid)]

    async def serve_keys(self, stream: trio.SocketStream) -> None:
        """Answer one request with the key set."""
        self.fetches += 1
        await answer(stream, json.dumps({"keys": self.keys}).encode())


async def answer(stream: trio.SocketStream, body: bytes, status: str = "200 OK", *headers: str) -> None:
    """Read the head of a request, and answer it."""
    async with stream:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some()
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
        await stream.send_all("\r\n".join(lines).encode() + body)


@asynccontextmanager
async def serving(handle: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncGenerator[str, None]:
    """A server on a loopback socket; its URL."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        yield f"http://127.0.0.1:{port}/jwks.json"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def trusting(issuer: Issuer) -> AsyncGenerator[ExternalIssuer, None]:
    """What checks the tokens of this issuer, by the key set that it fetches from it."""
    async with serving(issuer.serve_keys) as url, trio.open_nursery() as nursery:
        keys = IssuerKeys(partial(fetch_keys, url, CONTEXT, timeout_s=PATIENT_S))
        nursery.start_soon(keys.run)
        yield ExternalIssuer(ISSUER, AUDIENCE, by_kid(keys))
        nursery.cancel_scope.cancel()
