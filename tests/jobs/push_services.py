"""Doubles of push services: real servers for HTTP/2 over TLS, which check what they are sent as the real ones do."""

from __future__ import annotations

import json
import ssl
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import http_ece  # type: ignore[import-untyped]
import jwt
import trio
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypercorn.config import Config
from hypercorn.trio import serve
from py_vapid import Vapid02  # type: ignore[import-untyped]

from store.notifiers import WebPushTarget


@dataclass
class Call:
    """A request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    http_version: str
    peer: tuple[str, int]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ScriptedAnswer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


VAPID_KEY = urlsafe_b64encode(bytes(31) + b"\x05").rstrip(b"=").decode()


class Service:
    """A server.

    :ivar calls: in the order in which they came.
    :ivar answers: the next answers to any request; after these, `answer` decides.
    :ivar hanging: paths whose calls are not answered, each until its event.
    """

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[Call] = []
        self.answers: list[ScriptedAnswer] = []
        self.hanging: dict[str, trio.Event] = {}

    @property
    def settings(self) -> dict[str, str]:
        """The settings to reach it."""
        return {}

    def answer(self, call: Call) -> ScriptedAnswer:
        return ScriptedAnswer(200)

    async def app(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", True
        while more:
            event = await receive()
            body += event.get("body", b"")
            more = event.get("more_body", False)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        call = Call(scope["method"], scope["path"], headers, body, scope["http_version"], scope["client"])
        self.calls.append(call)
        if call.path in self.hanging:
            await self.hanging[call.path].wait()
        answer = self.answers.pop(0) if self.answers else self.answer(call)
        fields = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": answer.body})


@asynccontextmanager
async def open_service(service: Service, cert: Path, key: Path) -> AsyncGenerator[None, None]:
    """Serve until the end of the block; `service.url` is where."""
    config = Config()
    config.bind = ["localhost:0"]
    config.certfile, config.keyfile = str(cert), str(key)
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 0
    async with trio.open_nursery() as nursery:
        [bound] = await nursery.start(partial(serve, mode="asgi"), service.app, config)
        service.url = f"https://localhost:{urlsplit(bound).port}"
        yield
        nursery.cancel_scope.cancel()


@dataclass
class Trust:
    """Certificates for localhost and rebound.example, and a context that trusts them."""

    cert: Path
    key: Path
    authority: Path
    context: ssl.SSLContext


def make_trust(folder: Path) -> Trust:
    ca = trustme.CA()
    issued = ca.issue_cert("localhost", "rebound.example")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return Trust(folder / "cert.pem", folder / "key.pem", folder / "ca.pem", context)


@asynccontextmanager
async def open_services(trust: Trust, *services: Service) -> AsyncGenerator[dict[str, str], None]:
    """Serve all of them until the end of the block; yields the configuration to reach them with."""
    settings = {"notifier_networks": "127.0.0.0/8,::1/128"}
    async with AsyncExitStack() as running:
        for service in services:
            await running.enter_async_context(open_service(service, trust.cert, trust.key))
            settings |= service.settings
        yield settings


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Subscription:
    """A browser: the private half of a subscription."""

    def __init__(self, endpoint: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._auth = b"sixteen bytes..."
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.target = WebPushTarget(endpoint, base64url(point), base64url(self._auth))

    def read(self, call: Call) -> Any:
        """The decrypted body of a call."""
        assert call.headers["content-encoding"] == "aes128gcm"
        return json.loads(
            http_ece.decrypt(call.body, private_key=self._key, auth_secret=self._auth, version="aes128gcm")
        )


class PushService(Service):
    """A push service of Web Push; takes what an application server signed for it."""

    @property
    def settings(self) -> dict[str, str]:
        return {"vapid_private_key": VAPID_KEY, "vapid_contact": "mailto:ops@alo.example"}

    def answer(self, call: Call) -> ScriptedAnswer:
        authorization = call.headers.get("authorization", "")
        assert Vapid02.verify(authorization), authorization
        fields = dict(each.split("=", 1) for each in authorization.removeprefix("vapid ").split(","))
        claims = jwt.decode(fields["t"], options={"verify_signature": False})
        assert claims["aud"] == self.url
        assert 0 < claims["exp"] - time.time() <= 24 * 3600
        assert int(call.headers["ttl"]) > 0
        return ScriptedAnswer(201)


class AppleService(Service):
    """APNs. Knows one app, one account with one key, and the devices in `devices`."""

    def __init__(self) -> None:
        super().__init__()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.devices = {"a1b2"}
        self.tokens: set[str] = set()

    @property
    def settings(self) -> dict[str, str]:
        ids = {"apns_key_id": "KEYIDKEYID", "apns_team_id": "TEAMIDTEAM", "apns_topic": "app.alo.shield"}
        return {"apns_url": self.url, "apns_key": self.key, **ids}

    def answer(self, call: Call) -> ScriptedAnswer:
        """As Apple documents it, in this order."""
        token = call.headers.get("authorization", "").removeprefix("bearer ")
        if call.http_version != "2":
            return self._no(505, "HTTPVersion")
        if not token:
            return self._no(403, "MissingProviderToken")
        try:
            claims = jwt.decode(token, self._key.public_key(), algorithms=["ES256"], options={"verify_iat": False})
        except jwt.InvalidTokenError:
            return self._no(403, "InvalidProviderToken")
        if jwt.get_unverified_header(token)["kid"] != "KEYIDKEYID" or claims["iss"] != "TEAMIDTEAM":
            return self._no(403, "InvalidProviderToken")
        self.tokens.add(token)
        return self._take(call)

    def _take(self, call: Call) -> ScriptedAnswer:
        if call.headers.get("apns-topic") != "app.alo.shield":
            return self._no(400, "TopicDisallowed")
        if call.headers.get("apns-push-type") not in ("alert", "background"):
            return self._no(400, "InvalidPushType")
        if call.headers["apns-push-type"] == "background" and call.headers.get("apns-priority") != "5":
            return self._no(400, "BadPriority")
        if len(call.headers.get("apns-collapse-id", "")) > 64:
            return self._no(400, "BadCollapseId")
        if int(call.headers.get("apns-expiration", "0")) < time.time():
            return self._no(400, "BadExpirationDate")
        if "aps" not in call.json:
            return self._no(400, "PayloadEmpty")
        if call.path.removeprefix("/3/device/") not in self.devices:
            return self._no(410, "Unregistered")
        return ScriptedAnswer(200)

    @staticmethod
    def _no(status: int, reason: str) -> ScriptedAnswer:
        return ScriptedAnswer(status, json.dumps({"reason": reason}).encode())


@cache
def _rsa_key() -> rsa.RSAPrivateKey:
    """The account's key, one for all tests: it takes 0.1 s."""
    return rsa.generate_private_key(65537, 2048)


class GoogleService(Service):
    """FCM and the tokens for it. Knows one project, one account with one key, and the devices in `devices`.

    :ivar granted: access tokens that are good.
    """

    def __init__(self) -> None:
        super().__init__()
        self.devices = {"device-1"}
        self.granted: list[str] = []

    @property
    def settings(self) -> dict[str, str]:
        return {"fcm_url": self.url, "fcm_credentials": self.credentials}

    @property
    def credentials(self) -> str:
        key = _rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "alo",
                "private_key_id": "key-1",
                "private_key": key,
                "client_email": "push@alo.example",
                "token_uri": f"{self.url}/token",
            }
        )

    def answer(self, call: Call) -> ScriptedAnswer:
        if call.path == "/token":
            return self._grant(call)
        assert call.path == "/v1/projects/alo/messages:send"
        if call.headers.get("authorization", "").removeprefix("Bearer ") not in self.granted:
            return self.no(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR")
        message = call.json["message"]
        assert set(message) <= {"token", "data", "android", "apns", "webpush", "notification"}
        assert all(isinstance(value, str) for value in message["data"].values())
        assert not {"from", "message_type"} & set(message["data"])
        if message["token"] not in self.devices:
            return self.no(404, "NOT_FOUND", "UNREGISTERED")
        return ScriptedAnswer(200, b'{"name": "projects/alo/messages/1"}')

    def _grant(self, call: Call) -> ScriptedAnswer:
        form = parse_qs(call.body.decode())
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        claims = jwt.decode(
            form["assertion"][0],
            _rsa_key().public_key(),
            algorithms=["RS256"],
            audience=f"{self.url}/token",
            issuer="push@alo.example",
            # Tests put the clock forward.
            options={"verify_iat": False},
        )
        assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"
        assert claims["exp"] - claims["iat"] <= 3600
        self.granted.append(f"access-{len(self.granted)}")
        body = {"access_token": self.granted[-1], "expires_in": 3599, "token_type": "Bearer"}
        return ScriptedAnswer(200, json.dumps(body).encode())

    @staticmethod
    def no(status: int, canonical: str, code: str) -> ScriptedAnswer:
        detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
        error = {"code": status, "message": "No.", "status": canonical, "details": [detail]}
        return ScriptedAnswer(status, json.dumps({"error": error}).encode())
