"""Identities, keys and envelopes of devices come to those who may have them, and are in no log, metric or job (P19)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from client.connection import connect
from client.errors import RequestRefused
from client.http import Credentials
from embedded.redis import RedisServer
from protocol.codec import encode
from protocol.frames import KeysLow, Message, Push
from store import keys
from store.postgres.pool import Pool
from store.redis.client import Redis
from tests.people import new_device
from tests.planted import PLANTED
from tests.processes import open_cluster, three_free_ports
from tests.store.key_world import IDENTITY, KIND, a_last_resort, some_keys
from tests.store.store_world import running
from tests.waiting import wait_until

ALLOWED: Final = {("devices", "identity"), ("key_pools", "last_resort"), ("one_time_keys", "keys")}
"""The columns that have them."""

NEEDLES: Final = (
    PLANTED.encode(),
    PLANTED.encode().hex().encode(),
    *(b64encode(b" " * shift + PLANTED.encode())[4 * (shift > 0) : 16] for shift in range(3)),
)
"""The bytes of keys begin with a planted secret: as they are, in hex, and in base64 wherever they begin."""


def has_secret(data: bytes) -> bool:
    return any(needle in data for needle in NEEDLES)


async def columns_with_secrets(pool: Pool) -> set[tuple[str, str]]:
    """Tables and columns that hold a key, or an identity."""
    tables = await pool.fetch(
        "select relname::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    found: set[tuple[str, str]] = set()
    for (table,) in tables:
        for (row,) in await pool.fetch(f"select to_jsonb(t)::text from {table} t"):
            found |= {(table, name) for name, value in json.loads(row).items() if has_secret(str(value).encode())}
    return found


async def in_redis(redis: Redis) -> bytes:
    """Everything that Redis holds."""
    read: dict[bytes, Any] = {
        b"string": lambda key: ("GET", key),
        b"hash": lambda key: ("HGETALL", key),
        b"set": lambda key: ("SMEMBERS", key),
        b"zset": lambda key: ("ZRANGE", key, "0", "-1"),
        b"list": lambda key: ("LRANGE", key, "0", "-1"),
        b"stream": lambda key: ("XRANGE", key, "-", "+"),
    }
    texts = []
    for key in await redis.call("KEYS", "*"):
        kind = await redis.call("TYPE", key)
        if kind != b"none":
            texts.append(b"%s %r" % (key, await redis.call(*read[kind](key))))
    return b"\n".join(texts)


class SearchedCluster:
    """All processes; every line of them is searched as it comes (`tests/processes.py`), at the level debug, too.

    :ivar url: of the gateway.
    :ivar pushes: those of connections that `note` them.
    """

    def __init__(self, pool: Pool, redis_url: str, first_port: int, http_url: str, url: str) -> None:
        self._pool = pool
        self._redis_url = redis_url
        self._first_port = first_port
        self.http_url = http_url
        self.url = url
        self.pushes: list[Push] = []

    async def note(self, push: Push) -> None:
        self.pushes.append(push)

    async def places_with_secrets(self, http: httpx.AsyncClient) -> set[tuple[str, str]]:
        """Tables and columns. Metrics and Redis must have none."""
        for step in range(3):
            page = await http.get(f"http://127.0.0.1:{self._first_port + step}/metrics")
            assert page.status_code == 200
            assert not has_secret(page.content)
        async with running(self._redis_url) as redis:
            assert not has_secret(await in_redis(redis))
        return await columns_with_secrets(self._pool)


@asynccontextmanager
async def searched_cluster(pool: Pool, redis_url: str) -> AsyncGenerator[SearchedCluster, None]:
    first = three_free_ports()
    async with open_cluster(pool.url, redis_url, METRICS_PORT=str(first), LOG_LEVEL="debug") as cluster:
        await cluster.start_web()
        _, url = await cluster.start_socket()
        await cluster.start_worker()
        yield SearchedCluster(pool, redis_url, first, cluster.http_url, url)


def test_the_search_finds_a_key_in_each_form() -> None:
    _, _, key = some_keys([1])[0]
    for shift in range(3):
        assert has_secret(b64encode(b"x" * shift + key)), shift
    for text in (key, key.hex().encode(), repr(key).encode()):
        assert has_secret(text)
    assert not has_secret(b"a text without it")


async def test_keys_are_in_no_log_metric_job_push_or_other_table(
    pool: Pool, own_redis: RedisServer, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    async with searched_cluster(pool, own_redis.url) as cluster, httpx.AsyncClient() as http:
        pushes = cluster.pushes
        async with (
            connect(cluster.url, alice.token, on_push=cluster.note) as phone,
            connect(cluster.url, bob.token, on_push=cluster.note) as other,
        ):
            history = (await phone.key_status()).key_history
            one_time = some_keys(range(1, 12)) + some_keys([1], "kept")
            await phone.put_keys(IDENTITY, one_time, [a_last_resort(1)], key_history=history)
            for _ in range(14):
                await other.devices([alice.user], kinds=[KIND])
            answer = await http.put(
                f"{cluster.http_url}/v1/keys",
                headers={"Authorization": f"Bearer {alice.token}"},
                json={"identity": b64encode(IDENTITY).decode(), "one_time_keys": PLANTED},
            )
            assert answer.status_code == 400
            assert not has_secret(answer.content), "an error repeats no key"
            with pytest.raises(RequestRefused):
                await phone.put_keys(IDENTITY, some_keys([20]), key_history=b"another")
            await other.send(direct, b"hello", temp_id=uuid4().bytes)
            told = lambda: any(isinstance(each, KeysLow) for each in pushes)  # noqa: E731
            await wait_until(told, "the device is told", timeout_s=30)
            assert not [push for push in pushes if has_secret(encode(push))]
            assert await cluster.places_with_secrets(http) == ALLOWED


ENVELOPE: Final = PLANTED.encode() + b" envelope"


async def test_envelopes_and_states_of_groups_are_in_no_log_metric_job_error_or_other_table(
    pool: Pool, own_redis: RedisServer, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    """Beside their own column they are in the streams of nodes that hold their device, as contents are."""
    second = await new_device(pool, bob.user)
    for device in (bob.device, second.device):
        await keys.put(pool, device, b"identity")
    async with searched_cluster(pool, own_redis.url) as cluster, httpx.AsyncClient() as http:
        pushes = cluster.pushes
        async with connect(cluster.url, alice.token) as phone, connect(cluster.url, bob.token, on_push=cluster.note):
            given = [(bob.device, ENVELOPE + b" of bob"), (second.device, ENVELOPE + b" of another")]
            await phone.send(direct, b"", temp_id=uuid4().bytes, envelopes=given, follows=0)
            await put_states(http, f"{cluster.http_url}/v1/conversations/{UUID(bytes=direct)}/state", alice)
            await phone.edit(direct, 1, b"edited", revision=0, envelopes=given)
            for bad in ([(uuid4().bytes, ENVELOPE)], [(bob.device, ENVELOPE)] * 2, [(alice.device, ENVELOPE)]):
                with pytest.raises(RequestRefused) as refused:
                    await phone.send(direct, b"", temp_id=uuid4().bytes, envelopes=bad)
                assert not has_secret(str(refused.value).encode())
            told = lambda: sum(isinstance(each, Message) for each in pushes) == 2  # noqa: E731
            await wait_until(told, "the device is told")
            assert not [push for push in pushes if given[1][1] in encode(push)]
            history = await http.get(
                f"{cluster.http_url}/v1/conversations/{UUID(bytes=direct)}/messages",
                headers={"Authorization": f"Bearer {bob.token}"},
            )
            assert b64encode(given[0][1]) in history.content
            assert await cluster.places_with_secrets(http) == {("envelopes", "body"), ("group_states", "body")}


async def put_states(http: httpx.AsyncClient, url: str, who: Credentials) -> None:
    """Put a state that is accepted, and one that is not; no answer but that of a read repeats it."""
    headers, state = {"Authorization": f"Bearer {who.token}"}, b64encode(ENVELOPE).decode()
    for control_seq, status in ((1, 204), (2, 409), (0, 400)):
        answer = await http.put(url, headers=headers, json={"control_seq": control_seq, "state": state})
        assert answer.status_code == status
        assert not has_secret(answer.content)
    assert (await http.get(url, headers=headers)).json()["state"] == state
