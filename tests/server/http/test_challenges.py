"""401 tells what to show: on each route, for no token and for tokens that are not good."""

from __future__ import annotations

import pytest

from server.http.routes import OPEN, ROUTES
from store import devices
from store.postgres.pool import Pool
from tests.people import new_device, new_user
from tests.rows import checked_rows
from tests.server.http.test_routes import filled
from tests.server.http_world import PASSWORD, open_api

OPS_TOKEN = "the operators' token"
CHALLENGE = 'Bearer realm="alo"'
INVALID = f'{CHALLENGE}, error="invalid_token"'


async def test_an_answer_401_tells_a_missing_token_from_a_wrong_one(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    revoked = await new_device(pool, alice.user)
    await devices.revoke_device(pool, alice.user, revoked.device)
    expired = await new_device(pool, alice.user, lifetime_s=-1.0)
    shown = {
        None: CHALLENGE,
        "Basic YTpi": CHALLENGE,
        "Bearer": CHALLENGE,
        alice.token: CHALLENGE,
        f"Bearer {'A' * 43}": INVALID,
        f"bearer {'A' * 43}": INVALID,
        f"Bearer  {'A' * 43}": INVALID,
        f"Bearer {revoked.token}": INVALID,
        f"Bearer {expired.token}": INVALID,
    }
    async with open_api(pool, redis_url, ops_token=OPS_TOKEN) as api:
        with checked_rows() as rows:
            for route in ROUTES:
                for authorization, challenge in shown.items() if route.rule not in OPEN else ():
                    with rows.row((route.rule, authorization)):
                        headers = {} if authorization is None else {"Authorization": authorization}
                        answer = await api.request(route.method, filled(route.path), headers=headers)
                        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, challenge)


async def test_a_wrong_password_is_no_wrong_token(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        body = {"username": "nobody", "password": PASSWORD, "name": "Phone"}
        answer = await api.post("/v1/devices", body)
        assert (answer.status, answer.code) == (401, "wrong_credentials")
        assert answer.headers["WWW-Authenticate"] == CHALLENGE


async def test_no_other_answer_has_a_challenge(pool: Pool, redis_url: str) -> None:
    alice = await new_user(pool, "alice")
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        for method, path in (("GET", "/v1/profile"), ("GET", "/v1/nothing"), ("PUT", "/v1/email"), ("PUT", "/healthz")):
            assert "WWW-Authenticate" not in (await mine.request(method, path)).headers


@pytest.mark.parametrize("between", [" ", "  ", "   "])
async def test_a_good_token_is_admitted_after_any_number_of_spaces(pool: Pool, redis_url: str, between: str) -> None:
    """RFC 9110, section 11.4: one space or more."""
    alice = await new_user(pool, "alice")
    async with open_api(pool, redis_url) as api:
        answer = await api.request("GET", "/v1/profile", headers={"Authorization": f"Bearer{between}{alice.token}"})
        assert (answer.status, answer.body["username"]) == (200, "alice")
