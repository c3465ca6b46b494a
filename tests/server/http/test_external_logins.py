"""Logging in by the token of an external issuer: first and later ones, names, registration, confirmation."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
import trio

from client.http import Credentials
from server.http.authentication import CONFIRMED_S
from server.http.passwords import HASHER, Passwords
from store import account_deletions, accounts, devices, emails, invitations, password_resets, security_events, tokens
from store.accounts import ExternalIdentity
from store.errors import DeviceRevoked, IdentityTaken
from store.postgres.pool import Pool
from tests.people import new_device
from tests.server.http.issuer_world import ISSUER, SUBJECT, Issuer, trusting
from tests.server.http_world import PASSWORD, Answer, Api, both_encodings, open_api

IDENTITY: Final = ExternalIdentity(ISSUER, SUBJECT)


@dataclass
class TrustingServer:
    """A server, and the issuer that it trusts."""

    api: Api
    issuer: Issuer

    async def log_in(self, token: str | None = None, username: str | None = "ann", **more: Any) -> Answer:
        body = {"external_token": token or self.issuer.token(), "name": "Phone", **more}
        return await self.api.post("/v1/devices", body | ({} if username is None else {"username": username}))


@asynccontextmanager
async def opened(
    pool: Pool, redis_url: str, encoding: str = "json", **settings: Any
) -> AsyncGenerator[TrustingServer, None]:
    issuer = Issuer("ES256")
    async with (
        trusting(issuer) as trusted,
        open_api(pool, redis_url, encoding, external_issuer=trusted, **settings) as api,
    ):
        yield TrustingServer(api, issuer)


async def verify_address(pool: Pool, user: bytes, address: str) -> None:
    await emails.put(pool, user, address, wants_digest=False, wants_device_notice=True, digest_hour=8, zone="UTC")
    await pool.fetch("update emails set verified = now()")


@both_encodings
async def test_the_first_login_registers_the_user_and_later_ones_do_not(
    pool: Pool, redis_url: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hash_password(*_: Any, **__: Any) -> None:
        pytest.fail("a password was hashed or checked")

    monkeypatch.setattr(Passwords, "hash", hash_password)
    monkeypatch.setattr(Passwords, "check", hash_password)
    async with opened(pool, redis_url, encoding) as world:
        told = await world.api.get("/v1/registration")
        assert told.body == {"mode": "open", "external_issuer": ISSUER}
        nameless = await world.log_in(username=None)
        assert (nameless.status, nameless.code) == (400, "username_required")
        assert nameless.body["errors"][0]["pointer"] == "#/username"
        first = await world.log_in(username="Ann")
        assert (first.status, first.body["username"]) == (201, "ann")
        for name in ("ann", "another", None):
            later = await world.log_in(username=name)
            assert (later.status, later.body["user"], later.body["username"]) == (201, first.body["user"], "ann")
        own = world.api.of(first.body["token"])
        assert (await own.get("/v1/profile")).body["username"] == "ann"
        assert len((await own.get("/v1/devices")).body["devices"]) == 4
        events = (await own.get("/v1/security-events")).body["events"]
        assert [each["kind"] for each in events] == ["new_device"] * 3 + ["login", "registered"]
        assert {each["detail"]["by"] for each in events} == {"external_token"}
        assert await pool.fetch("select username, password_hash from users") == [("ann", None)]


async def test_a_token_gives_no_name_that_another_user_has(pool: Pool, redis_url: str) -> None:
    """Whatever the issuer says of names and addresses: a user of it who is called like one here is another user."""
    bob = await accounts.add_user(pool, "bob", HASHER.hash(PASSWORD))
    names = {"preferred_username": "bob", "email": "bob@example.org", "email_verified": True, "name": "bob"}
    await verify_address(pool, bob, "bob@example.org")
    async with opened(pool, redis_url) as world:
        token = world.issuer.token(**names)
        assert (await world.log_in(token, None)).code == "username_required"
        taken = await world.log_in(token, "bob")
        assert (taken.status, taken.code) == (409, "username_taken")
        for name, code in (("root", "username_reserved"), ("a b", "invalid_username")):
            assert (await world.log_in(token, name)).code == code
        assert (await world.log_in(token, "bob2")).status == 201
        other = await world.log_in(world.issuer.token(sub="another"), "bob3")
        assert other.body["username"] == "bob3"
    assert await pool.fetch("select user_id from external_identities where user_id = %s", (UUID(bytes=bob),)) == []


async def test_requests_at_once_register_one_user(pool: Pool, redis_url: str) -> None:
    async with opened(pool, redis_url) as world:
        answers: list[Answer] = []

        async def log_in(number: int) -> None:
            answers.append(await world.log_in(username=f"ann{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(log_in, number)
        assert [answer.status for answer in answers] == [201] * 5
        assert len({answer.body["user"] for answer in answers}) == 1
        assert await pool.fetch("select count(*) from users") == [(1,)]
        with pytest.raises(IdentityTaken):
            await accounts.add_user(pool, "other", None, identity=IDENTITY)


async def test_the_mode_of_registration_counts_for_new_users_alone(pool: Pool, redis_url: str) -> None:
    _, code, _ = await invitations.add(pool, uses=1, lifetime_s=60)
    async with opened(pool, redis_url, registration="invitation") as world:
        assert (await world.log_in()).code == "invitation_required"
        assert (await world.log_in(invitation="made up")).code == "invitation_void"
        assert (await world.log_in(username=None, invitation=code)).code == "username_required"
        assert (await world.log_in(invitation=code)).status == 201
        assert (await world.log_in()).status == 201
        void = await world.log_in(world.issuer.token(sub="another"), "ben", invitation=code)
        assert (void.status, void.code) == (403, "invitation_void")
    async with opened(pool, redis_url, registration="closed") as world:
        assert (await world.log_in()).status == 201
        closed = await world.log_in(world.issuer.token(sub="another"), "ann")
        assert (closed.status, closed.code) == (403, "registration_closed"), "nothing is told of names"


async def test_new_users_count_as_registrations_and_known_ones_do_not(pool: Pool, redis_url: str) -> None:
    async with opened(pool, redis_url, rate_limit_factor=0.1) as world:
        codes = []
        for number in range(3):
            answer = await world.log_in(world.issuer.token(sub=str(number)), None)
            codes.append(answer.code)
    assert codes == ["username_required"] * 2 + ["rate_limited"]


@both_encodings
async def test_a_wrong_token_is_refused_and_noted_without_its_text(pool: Pool, redis_url: str, encoding: str) -> None:
    async with opened(pool, redis_url, encoding) as world:
        token = world.issuer.token(aud="anon")
        for _ in range(2):
            wrong = await world.log_in(token)
            assert (wrong.status, wrong.code) == (401, "invalid_external_token")
            assert wrong.body["detail"] == "the external token is refused: it is for another audience"
            assert "error" not in wrong.headers["WWW-Authenticate"]
    [event] = await security_events.all_events(pool, limit=9)
    assert (event.kind, event.user, event.detail, event.times) == ("login_failed", None, {"by": "external_token"}, 2)
    assert await pool.fetch("select count(*) from users") == [(0,)]


async def test_the_subject_of_another_issuer_is_another_user(pool: Pool, redis_url: str) -> None:
    """The operator has changed the issuer: the same `sub` may be a different person there."""
    await accounts.add_user(pool, "ann", None, identity=ExternalIdentity("https://former.example", SUBJECT))
    async with opened(pool, redis_url) as world:
        assert (await world.log_in(username=None)).code == "username_required"
        assert (await world.log_in(username="ann")).code == "username_taken"


async def test_without_an_issuer_a_token_is_not_taken(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        assert (await api.get("/v1/registration")).body["external_issuer"] is None
        refused = await api.post("/v1/devices", {"external_token": "x", "name": "Phone"})
        assert (refused.status, refused.code) == (409, "external_login_not_offered")


WRONG_BODIES: Final[list[Mapping[str, Any]]] = [
    {"name": "Phone"},
    {"name": "Phone", "username": "ann"},
    {"name": "Phone", "password": PASSWORD},
    {"name": "Phone", "username": "ann", "password": PASSWORD, "external_token": "x"},
    {"name": "Phone", "external_token": "x" * 8193},
    {"name": "Phone", "external_token": None, "username": None, "password": None},
    {"external_token": "x"},
]


@both_encodings
async def test_a_login_shows_a_password_or_a_token(pool: Pool, redis_url: str, encoding: str) -> None:
    async with opened(pool, redis_url, encoding) as world:
        for body in WRONG_BODIES:
            answer = await world.api.post("/v1/devices", body)
            assert (answer.status, answer.code) == (400, "invalid_body"), body


async def test_an_issuer_that_cannot_be_reached_is_unavailable(pool: Pool, redis_url: str) -> None:
    async with opened(pool, redis_url) as world:
        world.issuer.keys = []
        answer = await world.log_in()
        assert (answer.status, answer.code) == (503, "unavailable")


async def new_user(pool: Pool, name: str = "ann") -> Credentials:
    return await new_device(pool, await accounts.add_user(pool, name, None, identity=IDENTITY))


async def test_a_user_without_a_password_is_told_so(pool: Pool, redis_url: str) -> None:
    ann = await new_user(pool)
    async with opened(pool, redis_url) as world:
        own = world.api.of(ann.token)
        shown = await own.post("/v1/confirmations", {"password": PASSWORD})
        assert (shown.status, shown.code) == (409, "no_password")
        body = {"old_password": PASSWORD, "new_password": f"{PASSWORD} battery"}
        changed = await own.request("PUT", "/v1/password", json=body)
        assert (changed.status, changed.code) == (409, "no_password")
        # Strangers are not told, by answer or time: the hash of no user is checked.
        wrong = await world.api.post("/v1/devices", {"username": "ann", "password": PASSWORD, "name": "Phone"})
        assert (wrong.status, wrong.code) == (401, "wrong_credentials")


async def test_a_user_without_a_password_gets_none_by_mail(pool: Pool) -> None:
    """The issuer decides how its users log in; a mailbox is no way around it."""
    ann = await new_user(pool)
    await verify_address(pool, ann.user, "ann@example.org")
    await password_resets.ask(pool, username="ann")
    await password_resets.ask(pool, address="ann@example.org")
    assert await pool.fetch("select count(*), count(token_hash) from password_resets") == [(2, 0)]


async def test_a_login_confirms_its_device_as_of_the_login_at_the_issuer(pool: Pool, redis_url: str) -> None:
    async with opened(pool, redis_url) as world:
        for age_s, is_confirmed in ((0, True), (CONFIRMED_S - 60, True), (CONFIRMED_S + 5, False)):
            made = await world.log_in(world.issuer.token(auth_time=int(time.time() - age_s)))
            answer = await world.api.of(made.body["token"]).request("DELETE", "/v1/email")
            assert (answer.status == 204) == is_confirmed, age_s


async def test_a_new_login_at_the_issuer_confirms_and_showing_it_again_adds_nothing(pool: Pool, redis_url: str) -> None:
    ann = await new_user(pool)
    await pool.fetch("update devices set confirmed = clock_timestamp() - interval '1 hour'")
    async with opened(pool, redis_url) as world:
        own = world.api.of(ann.token)
        assert (await own.request("DELETE", "/v1/email")).code == "confirmation_required"
        at = int(time.time()) - 300
        token = world.issuer.token(auth_time=at)
        for _ in range(2):
            shown = await own.post("/v1/confirmations", {"external_token": token})
            assert (shown.status, shown.body) == (200, {"expires": (at + CONFIRMED_S) * 1e6})
        assert (await own.request("DELETE", "/v1/email")).status == 204
        # A token of an earlier login takes nothing back.
        earlier = await own.post("/v1/confirmations", {"external_token": world.issuer.token(auth_time=at - 60)})
        assert earlier.body == {"expires": (at + CONFIRMED_S) * 1e6}


async def test_a_token_that_is_old_wrong_or_of_another_user_confirms_nothing(pool: Pool, redis_url: str) -> None:
    ann = await new_user(pool)
    await pool.fetch("update devices set confirmed = 'epoch'")
    async with opened(pool, redis_url) as world:
        assert (await world.log_in(world.issuer.token(sub="another"), "ben")).status == 201
        old = world.issuer.token(iat=int(time.time() - CONFIRMED_S) - 5)
        for token, expected in (
            (old, (403, "reauthentication_required")),
            (world.issuer.token(auth_time=int(time.time() - CONFIRMED_S) - 5), (403, "reauthentication_required")),
            (world.issuer.token(sub="another"), (401, "invalid_external_token")),
            (world.issuer.token(sub="nobody here"), (401, "invalid_external_token")),
            (world.issuer.token(iss="https://former.example"), (401, "invalid_external_token")),
            ("x", (401, "invalid_external_token")),
        ):
            shown = await world.api.of(ann.token).post("/v1/confirmations", {"external_token": token})
            assert (shown.status, shown.code) == expected
            answer = await world.api.of(ann.token).request("DELETE", "/v1/email")
            assert answer.code == "confirmation_required"
    events = await security_events.events_of(pool, ann.user, limit=9)
    [failed] = [each for each in events if each.kind == "confirmation_failed"]
    assert (failed.detail, failed.times) == ({"by": "external_token"}, 4)


async def test_a_user_with_a_password_is_not_confirmed_by_a_token(pool: Pool, redis_url: str) -> None:
    bob = await new_device(pool, await accounts.add_user(pool, "bob", HASHER.hash(PASSWORD)))
    await pool.fetch("update devices set confirmed = 'epoch'")
    async with opened(pool, redis_url) as world:
        shown = await world.api.of(bob.token).post("/v1/confirmations", {"external_token": world.issuer.token()})
        assert (shown.status, shown.code) == (401, "invalid_external_token")
    assert (await tokens.device_by_token(pool, bob.token)).confirmed == 0


async def test_a_closed_account_is_kept_by_a_login_that_says_so(pool: Pool, redis_url: str) -> None:
    ann = await new_user(pool)
    await account_deletions.close(pool, ann.user, delay_s=600, deletes_messages=False)
    async with opened(pool, redis_url) as world:
        closed = await world.log_in()
        assert (closed.status, closed.code) == (403, "account_closed")
        assert (await world.log_in(keeps_account=True)).status == 201
        assert (await world.log_in()).status == 201


async def test_the_identity_of_a_deleted_account_is_free_and_the_name_is_not(pool: Pool, redis_url: str) -> None:
    ann = await new_user(pool)
    await account_deletions.close(pool, ann.user, delay_s=0, deletes_messages=False)
    assert await account_deletions.anonymise(pool, ann.user)
    async with opened(pool, redis_url) as world:
        assert (await world.log_in(username="ann")).code == "username_taken"
        again = await world.log_in(username="ann2")
        assert (again.status, again.body["user"] != ann.user) == (201, True)


async def test_a_device_that_was_revoked_is_not_confirmed(pool: Pool) -> None:
    ann = await new_user(pool)
    await devices.revoke_device(pool, ann.user, ann.device)
    for device in (ann.device, uuid4().bytes):
        with pytest.raises(DeviceRevoked):
            await devices.confirm_externally(pool, ann.user, device, time.time())
