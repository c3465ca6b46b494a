"""The list of devices: when each was used last, by which client, and which one asks."""

from __future__ import annotations

import pytest

from client.http import Credentials
from server.gateway import process
from server.http.passwords import Passwords
from store import accounts, device_uses
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.people import new_device
from tests.server.http_world import PASSWORD, both_encodings, open_api
from tests.server.node_world import open_node
from tests.waiting import wait_until


@both_encodings
async def test_the_list_shows_the_client_of_each_login_and_which_device_asks(
    pool: Pool, redis_url: str, encoding: str
) -> None:
    await accounts.add_user(pool, "alice", await Passwords().hash(PASSWORD, source="a test"))
    async with open_api(pool, redis_url, encoding) as api:
        who = {"username": "alice", "password": PASSWORD}
        tokens = [
            (await api.post("/v1/devices", {**who, "name": name, **client})).body["token"]
            for name, client in (("Phone", {"client": "app/1.0"}), ("Laptop", {}))
        ]
        for index, token in enumerate(tokens):
            listed = (await api.of(token).get("/v1/devices")).body["devices"]
            assert [(each["name"], each["client"]) for each in listed] == [("Laptop", None), ("Phone", "app/1.0")]
            assert [each["is_this"] for each in listed] == [index == 1, index == 0]
            assert all(each["created"] <= each["last_used"] < each["expires"] for each in listed)
        for client in ("", "x" * 65, "a\nb", "é"):
            refused = await api.post("/v1/devices", {**who, "name": "x", "client": client})
            assert (refused.status, refused.code) == (400, "invalid_body")


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_uses, "PATIENCE_S", 0.01)
    monkeypatch.setattr(process, "USES_S", 0.02)


async def age(pool: Pool) -> None:
    await pool.fetch("update devices set last_used = now() - interval '3 days'")


async def last_uses(pool: Pool, *devices: Credentials) -> list[tuple[bool, str | None]]:
    """Of each: whether it was used in the last minute, and its client."""
    found = []
    for each in devices:
        found += await pool.fetch(
            "select last_used > now() - interval '1 minute', client from devices where id = %s", (uuid(each.device),)
        )
    return found  # type: ignore[return-value]


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("path", ["/v1/profile", "/v1/conversations", "/v1/devices"])
async def test_a_request_over_http_is_a_use(pool: Pool, redis_url: str, alice: Credentials, path: str) -> None:
    other = await new_device(pool, alice.user)
    await age(pool)
    async with open_api(pool, redis_url) as api:
        await api.of(alice.token).get(path)
        await wait_until(lambda: is_used(pool, alice), "the use is written")
    assert await last_uses(pool, other) == [(False, None)]


@pytest.mark.usefixtures("_hurried")
async def test_a_connection_is_a_use_as_long_as_it_lasts(
    pool: Pool, redis_url: str, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await new_device(pool, alice.user)
    await age(pool)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token):
        await wait_until(lambda: is_used(pool, alice), "the use is written")
        await age(pool)
        monkeypatch.setattr(device_uses, "ACCURACY_S", 0.02)
        await wait_until(lambda: is_used(pool, alice), "it is written again")
    assert await last_uses(pool, other) == [(False, None)]


async def is_used(pool: Pool, device: Credentials) -> bool:
    return (await last_uses(pool, device))[0][0]
