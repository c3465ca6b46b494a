"""What needs the password again: the routes, how long it counts, and on which device."""

from __future__ import annotations

from uuid import UUID

import pytest

from client.http import Credentials
from server.http.authentication import CONFIRMED_S
from server.http.passwords import Passwords
from server.http.routes import ROUTES
from server.http.routing import Access
from store import accounts, devices
from store.errors import PasswordChanged
from store.postgres.pool import Pool
from store.tokens import device_by_token
from tests.people import new_device
from tests.rows import checked_rows
from tests.server.http.test_routes import filled
from tests.server.http_world import PASSWORD, both_encodings, open_api

SENSITIVE = {
    "DELETE /v1/devices": "a thief throws the owner out",
    "DELETE /v1/devices/others": "a thief throws the owner out",
    "DELETE /v1/devices/<uuid:device>": "a thief throws the owner out",
    "PUT /v1/email": "a thief leads the owner's mails, and a new password, elsewhere",
    "PUT /v1/account/deletion": "a thief logs the owner out, and deletes the account unless the owner keeps it",
    "POST /v1/exports": "a thief takes out everything at once",
    "GET /v1/exports/<uuid:export>/parts/<int:part>": "a thief takes out everything at once",
    "DELETE /v1/email": "a thief keeps warnings from the owner",
}
"""Each route that needs a confirmed device -> the harm without it."""


@pytest.fixture
async def alice(pool: Pool) -> Credentials:
    return await new_device(
        pool, await accounts.add_user(pool, "alice", await Passwords().hash(PASSWORD, source="a test"))
    )


async def age(pool: Pool, device: bytes, seconds: float) -> None:
    """Let the password have been shown on the device so long ago."""
    await pool.fetch(
        "update devices set confirmed = clock_timestamp() - make_interval(secs => %s) where id = %s",
        (seconds, UUID(bytes=device)),
    )


def test_the_routes_that_need_the_password_again_are_those_of_the_table() -> None:
    assert {route.rule for route in ROUTES if route.access is Access.CONFIRMED_DEVICE} == SENSITIVE.keys()


async def test_a_device_without_the_password_is_told_to_show_it_by_those_routes_alone(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    await age(pool, alice.device, CONFIRMED_S + 1)
    async with open_api(pool, redis_url) as api:
        with checked_rows() as rows:
            for route in [route for route in ROUTES if route.is_for_devices]:
                with rows.row(route.rule):
                    # A parameter that no route has: a request that is admitted is refused after that.
                    answer = await api.of(alice.token).request(route.method, filled(route.path) + "?limt=5")
                    refused = (403, "confirmation_required") if route.rule in SENSITIVE else (400, "invalid_query")
                    assert (answer.status, answer.code) == refused
                    if route.rule in SENSITIVE:
                        assert "POST /v1/confirmations" in answer.body["detail"]


@both_encodings
async def test_the_password_counts_for_ten_minutes_on_the_device_that_shows_it(
    pool: Pool, redis_url: str, alice: Credentials, encoding: str
) -> None:
    other = await new_device(pool, alice.user)
    async with open_api(pool, redis_url, encoding) as api:
        mine = api.of(alice.token)

        async def code() -> str | None:
            answer = await mine.request("DELETE", "/v1/email")
            return None if answer.status == 204 else answer.code

        assert await code() is None, "a login shows the password"
        await age(pool, alice.device, CONFIRMED_S - 60)
        assert await code() is None
        await age(pool, alice.device, CONFIRMED_S)
        assert await code() == "confirmation_required"

        wrong = await mine.post("/v1/confirmations", {"password": PASSWORD + "r"})
        assert (wrong.status, wrong.code) == (401, "wrong_credentials")
        assert await code() == "confirmation_required"
        shown = await api.of(other.token).post("/v1/confirmations", {"password": PASSWORD})
        assert shown.status == 200
        assert await code() == "confirmation_required", "another device has shown it"

        shown = await mine.post("/v1/confirmations", {"password": PASSWORD})
        identity = await device_by_token(pool, alice.token)
        assert (shown.status, shown.body) == (200, {"expires": identity.confirmed + CONFIRMED_S * 1e6})
        assert 0 <= identity.now - identity.confirmed < 60e6
        assert await code() is None


async def test_a_password_that_has_changed_since_it_was_checked_confirms_nothing(
    pool: Pool, alice: Credentials
) -> None:
    before = (await device_by_token(pool, alice.token)).confirmed
    with pytest.raises(PasswordChanged):
        await devices.confirm(pool, alice.user, alice.device, "the hash of another password")
    right = await accounts.password_hash_of(pool, alice.user)
    assert await devices.confirm(pool, alice.user, alice.device, right) > before


async def test_a_device_logs_out_without_the_password(pool: Pool, redis_url: str, alice: Credentials) -> None:
    other = await new_device(pool, alice.user)
    await age(pool, alice.device, CONFIRMED_S + 1)
    async with open_api(pool, redis_url) as api:
        assert (await api.of(alice.token).request("DELETE", "/v1/devices/this")).status == 204
        assert (await api.of(alice.token).get("/v1/devices")).code == "device_revoked"
        assert len((await api.of(other.token).get("/v1/devices")).body["devices"]) == 1
