"""Who may register: everybody, users with an invitation, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest
import trio

from server.http.passwords import Passwords
from store import account_deletions, accounts, invitations, security_events
from store.errors import InvitationVoid
from store.postgres.pool import Pool
from tests.server.http.socket_world import open_server, request
from tests.server.http_world import PASSWORD, REGISTER, Api, both_encodings, open_api


async def uses_of(pool: Pool) -> list[int]:
    return [each.uses for each in await invitations.open_invitations(pool)]


async def register(api: Api, name: str, invitation: str | None, **more: Any) -> tuple[int, str | None]:
    body = {
        "username": name,
        "password": PASSWORD,
        **({} if invitation is None else {"invitation": invitation}),
        **more,
    }
    answer = await api.post("/v1/users", body)
    return answer.status, None if answer.status == 201 else answer.code


@both_encodings
@pytest.mark.parametrize("mode", ["open", "invitation", "closed"])
async def test_a_client_learns_the_mode_without_a_token(pool: Pool, redis_url: str, mode: str, encoding: str) -> None:
    async with open_api(pool, redis_url, encoding, registration=mode) as api:
        told = await api.get("/v1/registration")
        assert (told.status, told.body) == (200, {"mode": mode, "external_issuer": None})


@both_encodings
async def test_a_closed_server_takes_no_user_and_says_what_to_do(pool: Pool, redis_url: str, encoding: str) -> None:
    _, code, _ = await invitations.add(pool, uses=1, lifetime_s=60)
    async with open_api(pool, redis_url, encoding, registration="closed") as api:
        for body in (REGISTER, REGISTER | {"invitation": code}, REGISTER | {"username": "a b"}):
            refused = await api.post("/v1/users", body)
            assert (refused.status, refused.code) == (403, "registration_closed")
            assert "log in" in refused.body["detail"]
    assert await pool.fetch("select count(*) from users") == [(0,)]
    assert await uses_of(pool) == [0]


@both_encodings
async def test_an_invitation_registers_as_many_users_as_it_says(pool: Pool, redis_url: str, encoding: str) -> None:
    invitation, code, _ = await invitations.add(pool, uses=2, lifetime_s=60)
    async with open_api(pool, redis_url, encoding, registration="invitation") as api:
        missing = await api.post("/v1/users", REGISTER)
        assert (missing.status, missing.code) == (403, "invitation_required")
        assert missing.body["errors"][0]["pointer"] == "#/invitation"
        assert await register(api, "ann", code) == (201, None)
        assert await register(api, "ben", code) == (201, None)
        assert await register(api, "cyd", code) == (403, "invitation_void")
    [(named,)] = await pool.fetch(
        "select distinct detail->>'invitation' from security_events where kind = 'registered'"
    )
    assert named.replace("-", "") == invitation.hex(), "operators find the users of an invitation that was passed on"


async def test_an_open_server_needs_and_uses_no_invitation(pool: Pool, redis_url: str) -> None:
    _, code, _ = await invitations.add(pool, uses=1, lifetime_s=60)
    async with open_api(pool, redis_url) as api:
        assert await register(api, "ann", code) == (201, None)
        assert await register(api, "ben", "a code that no invitation has") == (201, None)
    assert await uses_of(pool) == [0]


VOID: Final[Mapping[str, str]] = {
    "unknown": "select 1",
    "expired": "update invitations set expires = now()",
    "used up": "update invitations set uses = most_uses",
    "revoked": "delete from invitations",
}
"""Why an invitation is void -> the statement that makes it so."""


@pytest.mark.parametrize("why", VOID)
async def test_a_void_code_tells_nothing_of_names_and_is_refused_before_a_hash_is_made(
    pool: Pool, redis_url: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accounts.add_user(pool, "ann", "a hash")
    _, code, _ = await invitations.add(pool, uses=1, lifetime_s=60)
    await pool.fetch(VOID[why])
    code = code[::-1] if why == "unknown" else code

    async def hash_password(*_: Any, **__: Any) -> str:
        pytest.fail("a hash was made")

    monkeypatch.setattr(Passwords, "hash", hash_password)
    async with open_api(pool, redis_url, registration="invitation") as api:
        answers = []
        for name in ("ann", "ben", "root", "a b"):
            answer = await api.post("/v1/users", REGISTER | {"username": name, "invitation": code})
            answers.append({**answer.body, "instance": None, "code": answer.code})
        assert answers[0]["code"] == "invitation_void"
        assert all(each == answers[0] for each in answers)


async def test_codes_are_guessed_no_faster_than_users_register(pool: Pool, redis_url: str) -> None:
    """The limit of the class `registration`, for an address."""
    async with open_api(pool, redis_url, registration="invitation", rate_limit_factor=0.1) as api:
        seen = [await register(api, "ann", "a guess") for _ in range(3)]
        assert seen == [(403, "invitation_void")] * 2 + [(429, "rate_limited")]


async def test_a_registration_that_fails_leaves_the_invitation_its_use(pool: Pool, redis_url: str) -> None:
    await accounts.add_user(pool, "ann", "a hash")
    gone = await accounts.add_user(pool, "gone", "a hash")
    await account_deletions.close(pool, gone, delay_s=0, deletes_messages=False)
    assert await account_deletions.anonymise(pool, gone)
    _, code, _ = await invitations.add(pool, uses=1, lifetime_s=60)
    async with open_api(pool, redis_url, registration="invitation") as api:
        for name, more, expected in (
            ("ann", {}, (409, "username_taken")),
            ("gone", {}, (409, "username_taken")),
            ("root", {}, (400, "username_reserved")),
            ("a b", {}, (400, "invalid_username")),
            ("ben", {"password": "password1"}, (400, "weak_password")),
            ("ben", {"password": "short"}, (400, "invalid_body")),
        ):
            assert await register(api, name, code, **more) == expected
            assert await uses_of(pool) == [0], name
        assert await register(api, "ben", code) == (201, None)
    assert await uses_of(pool) == []


async def test_an_invitation_with_one_use_registers_one_of_many_users_at_once(pool: Pool, redis_url: str) -> None:
    """The code is good when each of them is checked: a use is taken after the hash of the password is made."""
    _, code, _ = await invitations.add(pool, uses=1, lifetime_s=60)
    outcomes: list[str] = []

    async def add(number: int) -> None:
        try:
            await accounts.add_user(pool, f"user{number}", "a hash", invitation=code)
        except InvitationVoid:
            outcomes.append("void")
        else:
            outcomes.append("added")

    await invitations.check(pool, code)
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(add, number)
    assert sorted(outcomes) == ["added"] + ["void"] * 7
    assert await pool.fetch("select count(*) from users") == [(1,)]
    kinds = [each.kind for each in await security_events.all_events(pool, limit=20)]
    assert sorted(kinds) == ["invitation_made", "registered"]


async def test_a_code_that_is_no_text_is_invalid(pool: Pool, redis_url: str) -> None:
    async with open_server(pool, redis_url, registration="invitation") as server:
        for code, status in ((b"5", 400), (b'"' + b"x" * 65 + b'"', 400), (b'"a\\u0000b"', 403)):
            body = b'{"username": "ann", "password": "nine brown foxes dig", "invitation": ' + code + b"}"
            headers = {"content-type": "application/json", "content-length": str(len(body))}
            assert (await server.exchange(request("POST", "/v1/users", headers, body))).status == status
