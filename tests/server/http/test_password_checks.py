"""Who counts for a hash, over HTTP: the known device that asks, and else the address of the client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

from client.http import Credentials
from server.http.passwords import HASHER, Passwords
from server.transport.proxies import TrustedProxies
from store import accounts, emails, password_resets
from store.postgres.pool import Pool
from tests.people import new_device
from tests.server.http_world import PASSWORD, Answer, Api, open_api

FORWARDED = "2001:db8:7::1"
ADDRESS = "2001:db8:7::/64"
"""The client's, as its proxy names it, and the network by which it counts."""


@pytest.fixture
async def api(pool: Pool, redis_url: str) -> AsyncGenerator[Api, None]:
    async with open_api(pool, redis_url, proxies=TrustedProxies.parse("127.0.0.0/8")) as api:
        yield api


@pytest.fixture
async def alice(pool: Pool) -> Credentials:
    """With a password and a verified address."""
    alice = await new_device(pool, await accounts.add_user(pool, "alice", HASHER.hash(PASSWORD)))
    wanted = {"wants_digest": False, "wants_device_notice": False, "digest_hour": 8, "zone": "UTC"}
    await emails.put(pool, alice.user, "alice@example.org", **wanted)
    await pool.fetch("update emails set verified = now()")
    await pool.fetch("delete from jobs")
    return alice


async def reset_token(pool: Pool) -> str:
    await password_resets.ask(pool, username="alice")
    [(reset,)] = await pool.fetch("select id from password_resets")
    mail = await password_resets.mail(pool, reset)
    assert mail is not None
    return mail.token


async def ask(api: Api, method: str, path: str, **what: Any) -> Answer:
    headers = {"X-Forwarded-For": FORWARDED}
    return await api.request(method, path, headers=headers, scope_base={"client": ("127.0.0.1", 1)}, **what)


LOGIN = {"username": "alice", "password": PASSWORD, "name": "Phone"}
NEW = "another long password"


async def log_in(pool: Pool, api: Api, alice: Credentials) -> Answer:
    return await ask(api, "POST", "/v1/devices", json=LOGIN)


async def log_in_on_a_known_device(pool: Pool, api: Api, alice: Credentials) -> Answer:
    return await ask(api.of(alice.token), "POST", "/v1/devices", json=LOGIN)


async def log_in_on_a_device_of_another(pool: Pool, api: Api, alice: Credentials) -> Answer:
    other = await new_device(pool, await accounts.add_user(pool, "mallory", "x"))
    return await ask(api.of(other.token), "POST", "/v1/devices", json=LOGIN)


async def register(pool: Pool, api: Api, alice: Credentials) -> Answer:
    return await ask(api, "POST", "/v1/users", json={"username": "nova", "password": NEW})


async def confirm(pool: Pool, api: Api, alice: Credentials) -> Answer:
    return await ask(api.of(alice.token), "POST", "/v1/confirmations", json={"password": PASSWORD})


async def change(pool: Pool, api: Api, alice: Credentials) -> Answer:
    return await ask(api.of(alice.token), "PUT", "/v1/password", json={"old_password": PASSWORD, "new_password": NEW})


async def reset(pool: Pool, api: Api, alice: Credentials) -> Answer:
    body = {"token": await reset_token(pool), "new_password": NEW}
    return await ask(api, "PUT", "/v1/password-resets", json=body)


HASHES: dict[str, tuple[Callable[[Pool, Api, Credentials], Awaitable[Answer]], int]] = {
    "a login": (log_in, 0),
    "a login on a known device": (log_in_on_a_known_device, 1),
    "a login on a device of another user": (log_in_on_a_device_of_another, 0),
    "a registration": (register, 0),
    "a confirmation": (confirm, 1),
    "another password": (change, 2),
    "another password by mail": (reset, 0),
}
"""What hashes a password -> the hashes that count for a known device; 0: one, which counts for the address."""


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, bool]]:
    """The sources of all hashes, and whether each is a known device."""
    found: list[tuple[object, bool]] = []
    check, make = Passwords.check, Passwords.hash

    async def noted_check(self: Passwords, *what: Any, source: object, is_known: bool = False, **more: Any) -> Any:
        found.append((source, is_known))
        return await check(self, *what, source=source, is_known=is_known, **more)

    async def noted_hash(self: Passwords, *what: Any, source: object, is_known: bool = False, **more: Any) -> Any:
        found.append((source, is_known))
        return await make(self, *what, source=source, is_known=is_known, **more)

    monkeypatch.setattr(Passwords, "check", noted_check)
    monkeypatch.setattr(Passwords, "hash", noted_hash)
    return found


@pytest.mark.parametrize("name", HASHES)
async def test_a_hash_counts_for_the_known_device_or_the_address(
    pool: Pool, api: Api, alice: Credentials, sources: list[tuple[object, bool]], name: str
) -> None:
    cause, of_device = HASHES[name]
    answer = await cause(pool, api, alice)
    assert answer.status < 300, answer.body
    assert sources == ([(alice.device, True)] * of_device or [(ADDRESS, False)])


async def test_a_password_set_on_the_page_of_a_mail_counts_for_the_address(
    pool: Pool, api: Api, alice: Credentials, sources: list[tuple[object, bool]]
) -> None:
    response = await api.app.test_client().open(
        f"/v1/password-resets/{await reset_token(pool)}",
        method="POST",
        form={"new_password": NEW},
        headers={"X-Forwarded-For": FORWARDED},
        scope_base={"client": ("127.0.0.1", 1)},
    )
    assert response.status_code == 200
    assert sources == [(ADDRESS, False)]
