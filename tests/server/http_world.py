"""The HTTP interface in this process, in both encodings."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import cbor2
import msgspec
import pytest
import trio
from quart_trio import QuartTrio

from runtime.health import Health
from server.cluster.writer import Writer
from server.http.announcements import Announcements
from server.http.app import create_app
from server.http.problem_codes import ProblemCode
from server.http.services import Services, services_of
from server.http.web_client import WebClient
from store.messages import Committed, NewMessage, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.people import TOKEN_LIFETIME_S
from tests.planted import PLANTED
from tests.server.http_contract import check_declared

CBOR = "application/cbor"
PASSWORD = f"{PLANTED} correct horse"
REGISTER = {"username": "carol", "password": PASSWORD}
WEB_CLIENT = WebClient(["ws://127.0.0.1:1"])
"""Of an application that serves all routes. Without the npm packages its page says that they are missing."""
both_encodings = pytest.mark.parametrize("encoding", ["json", "cbor"])


class Answer:
    """An answer with ids as 16 bytes and byte fields as bytes, in either encoding."""

    def __init__(self, status: int, headers: Any, data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data
        if status == 204:
            assert data == b""
            self.body = None
        elif headers.get("Content-Type") == CBOR:
            self.body = cbor2.loads(data)
        else:
            expected = "application/json" if status < 400 else "application/problem+json"
            assert headers.get("Content-Type") == expected, (status, headers, data)
            self.body = _natural(msgspec.json.decode(data))

    @property
    def code(self) -> str:
        """The code of an error, after checks that hold for all errors."""
        code = ProblemCode(self.body["code"])
        assert self.status == self.body["status"] == code.info.status
        assert self.body["type"] == f"/docs#problem-{code.value}"
        assert self.body["title"] == code.info.title
        assert self.body["detail"]
        assert ("retry_after_ms" in self.body) == ("Retry-After" in self.headers) == code.info.retry
        return code.value


_IDS = {"user", "asked_by", "device", "conversation", "message", "sender", "notifier"}
_BYTES = {"content", "nonce", "ephemeral_public_key", "envelope"}


def _natural(value: Any) -> Any:
    if isinstance(value, list):
        return [_natural(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for key, each in value.items():
        if key in _IDS and isinstance(each, str):
            made[key] = UUID(each).bytes
        elif key in _BYTES and each is not None:
            made[key] = b64decode(each, validate=True)
        else:
            made[key] = _natural(each)
    return made


class Api:
    """A client.

    :param encoding: "json" or "cbor".
    """

    def __init__(self, app: QuartTrio, encoding: str = "json", token: str = "") -> None:
        self.app = app
        self.encoding = encoding
        self.token = token

    def of(self, token: str) -> Api:
        """A client with the same encoding and this token."""
        return Api(self.app, self.encoding, token)

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.request("GET", path, **({"query_string": query} if query else {}))

    async def post(self, path: str, body: Any) -> Answer:
        if self.encoding == "cbor":
            return await self.request("POST", path, data=cbor2.dumps(body), headers={"Content-Type": CBOR})
        return await self.request(
            "POST", path, data=msgspec.json.encode(_with_texts(body)), headers={"Content-Type": "application/json"}
        )

    async def request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **what: Any) -> Answer:
        headers = dict(headers or {})
        if self.encoding == "cbor":
            headers.setdefault("Accept", CBOR)
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        response = await self.app.test_client().open(path, method=method, headers=headers, **what)
        data = await response.get_data()
        media_type = response.headers.get("Content-Type", "")
        check_declared(self.app, method, path, response.status_code, media_type, data)
        return Answer(response.status_code, response.headers, data)


def _with_texts(value: Any) -> Any:
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if len(value) == 16 else value
    if isinstance(value, list):
        return [_with_texts(each) for each in value]
    if isinstance(value, dict):
        return {key: _with_texts(each) for key, each in value.items()}
    return value


@asynccontextmanager
async def open_api(pool: Pool, redis_url: str, encoding: str = "json", **settings: Any) -> AsyncGenerator[Api, None]:
    """
    :param settings: of `services_of`.
    """
    async with open_services(pool, redis_url, **settings) as services:
        yield Api(create_app(services), encoding)


def started_health(pool: Pool, redis: Redis) -> Health:
    """The health of a process that serves."""
    health = Health({"Postgres": lambda: pool.fetch("select 1"), "Redis": lambda: redis.call("PING")})
    health.started()
    return health


@asynccontextmanager
async def open_services(pool: Pool, redis_url: str, **settings: Any) -> AsyncGenerator[Services, None]:
    """Services of a process of its own.

    :param settings: of `services_of`.
    """
    redis = Redis(redis_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(redis.run)
        writer = Writer(redis, pool)
        nursery.start_soon(writer.run)
        announcements = Announcements(pool, writer.broadcast)
        # All clients of a test come from one address: tests about limits say so.
        usual = {"token_lifetime_s": TOKEN_LIFETIME_S, "rate_limit_factor": 1000.0, "limited_pause_s": 0.0}
        health = started_health(pool, redis)
        services = services_of(pool, redis, announcements, **{**usual, "health": health, **settings})
        nursery.start_soon(services.uses.run)
        nursery.start_soon(services.request_log.run)
        yield services
        nursery.cancel_scope.cancel()


async def say(
    pool: Pool, conversation: bytes, sender: bytes, *contents: bytes, device: bytes | None = None
) -> list[Committed]:
    """Write messages directly into the store.

    :param device: the device that sends them.
    """
    batch = [
        NewMessage(
            conversation,
            sender,
            bytes([n]) + conversation[:7] + content.rjust(8, b"\0")[-8:],
            "text",
            content,
            None,
            b"key",
            device=device,
        )
        for n, content in enumerate(contents)
    ]
    outcomes = await send(pool, ParticipantsCache(), batch)
    committed = [outcome for outcome in outcomes if isinstance(outcome, Committed)]
    assert len(committed) == len(contents), outcomes
    return committed
