"""Registering, logging in, tokens and devices over HTTP, and each refusal."""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID, uuid4

import trio
import trio.testing

from client.http import Credentials
from store import account_deletions
from store.postgres.pool import Pool
from store.security_events import Source
from store.suspensions import set_suspended
from tests.people import new_device, new_direct, new_user
from tests.server.http_world import PASSWORD, REGISTER, both_encodings, open_api
from tests.store.test_tokens import end_overlap


@both_encodings
async def test_a_request_without_a_good_token_is_unauthenticated(
    pool: Pool, redis_url: str, alice: Credentials, encoding: str
) -> None:
    """On routes that need a token. The server checks neither body nor query first, and the answer tells nothing."""
    conversation = UUID(bytes=await new_direct(pool, alice, await new_user(pool, "bob")))
    revoked = await new_device(pool, alice.user)
    await pool.fetch("update devices set revoked = now() where id = %s", (UUID(bytes=revoked.device),))
    async with open_api(pool, redis_url, encoding) as api:
        for header in (
            "",
            "Bearer",
            "Bearer ",
            "Bearer x",
            f"Basic {alice.token}",
            alice.token,
            f"Bearer {alice.token} x",
            "Bearer \xff\xe9",
            "Bearer " + "x" * 5000,
        ):
            headers = {"Authorization": header} if header else {}
            for method, path in (
                ("GET", "/v1/users/bob"),
                ("GET", "/v1/conversations?limit=none"),
                ("POST", "/v1/conversations"),
                ("GET", f"/v1/conversations/{conversation}"),
                ("GET", f"/v1/conversations/{conversation}/messages?cursor=x"),
            ):
                answer = await api.request(method, path, headers=headers)
                assert (answer.status, answer.code) == (401, "unauthenticated"), (header, method, path)


@both_encodings
async def test_names_and_passwords(pool: Pool, redis_url: str, encoding: str) -> None:
    async with open_api(pool, redis_url, encoding) as api:
        assert (await api.post("/v1/users", REGISTER)).status == 201
        taken = await api.post("/v1/users", REGISTER | {"password": "another long one"})
        assert (taken.status, taken.code) == (409, "username_taken")
        for name, password in (
            ("carol", "wrong"),
            ("carol", ""),
            ("nobody", PASSWORD),
            ("", PASSWORD),
            ("a\0b", PASSWORD),
            ("x" * 10_000, PASSWORD),
            ("carol", "x" * 10_000),
            ("carol", "a\0"),
        ):
            wrong = await api.post("/v1/devices", {"username": name, "password": password, "name": "Phone"})
            assert (wrong.status, wrong.code) == (401, "wrong_credentials"), name
        assert await pool.fetch("select count(*) from devices") == [(0,)]


@both_encodings
async def test_a_name_is_the_same_however_it_is_typed(pool: Pool, redis_url: str, encoding: str) -> None:
    """In capitals, in full width, decomposed: one user registers, logs in and is found."""
    spellings = ("zo\u00eb", "ZO\u00cb", "zoe\u0308", "\uff3a\uff4f\u00eb")
    async with open_api(pool, redis_url, encoding) as api:
        made = await api.post("/v1/users", {"username": "Zoe\u0308", "password": PASSWORD})
        assert (made.status, made.body["username"]) == (201, "zo\u00eb")
        mine = api.of((await new_user(pool, "alice")).token)
        for name in spellings:
            taken = await api.post("/v1/users", {"username": name, "password": PASSWORD})
            assert (taken.status, taken.code) == (409, "username_taken")
            device = await api.post("/v1/devices", {"username": name, "password": PASSWORD, "name": "Phone"})
            assert (device.status, device.body["user"]) == (201, made.body["user"])
            found = await mine.get(f"/v1/users/{quote(name)}")
            assert (found.status, found.body["user"], found.body["username"]) == (200, made.body["user"], "zo\u00eb")


@both_encodings
async def test_a_name_that_no_user_can_have_is_refused_by_name(pool: Pool, redis_url: str, encoding: str) -> None:
    async with open_api(pool, redis_url, encoding) as api:
        for name, code in (
            *(
                (name, "invalid_username")
                for name in ("-a", "a b", "a\0", "carol\n", "\ncarol", "a" * 33, "a/b", "a@b")
            ),
            *((name, "invalid_username") for name in ("\u0430nn", "\u0430\u0440\u0435", "a\u202e")),
            *((name, "username_reserved") for name in ("admin", "Admin", "\uff41dmin", "adm1n", "root", "alo_")),
        ):
            refused = await api.post("/v1/users", {"username": name, "password": PASSWORD})
            assert (refused.status, refused.code) == (400, code), ascii(name)
            assert refused.body["errors"][0]["pointer"] == "#/username"
        assert await pool.fetch("select count(*) from users") == [(0,)]


@both_encodings
async def test_a_weak_password_is_refused_with_advice(pool: Pool, redis_url: str, encoding: str) -> None:
    async with open_api(pool, redis_url, encoding) as api:
        for password in ("password1", "carolcarol", "aaaaaaaaaaaa"):
            weak = await api.post("/v1/users", REGISTER | {"password": password})
            assert (weak.status, weak.code) == (400, "weak_password")
            assert weak.body["errors"] == [{"detail": weak.body["detail"], "pointer": "#/password"}]
            assert "Add another word" in weak.body["detail"]
        assert await pool.fetch("select count(*) from users") == [(0,)]


@both_encodings
async def test_a_password_that_another_keyboard_composes_logs_in(pool: Pool, redis_url: str, encoding: str) -> None:
    composed, decomposed = "pass\u00e9 compos\u00e9 et plus", "passe\u0301 compose\u0301\u00a0et plus"
    async with open_api(pool, redis_url, encoding) as api:
        assert (await api.post("/v1/users", REGISTER | {"password": composed})).status == 201
        for password in (composed, decomposed):
            device = {"username": "carol", "password": password, "name": "Phone"}
            assert (await api.post("/v1/devices", device)).status == 201


async def test_a_name_is_given_once_to_users_who_register_at_once(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        statuses: list[int] = []

        async def register() -> None:
            statuses.append((await api.post("/v1/users", REGISTER)).status)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(register)
        assert sorted(statuses) == [201, 409, 409, 409, 409]


async def test_an_unused_name_is_unknown(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        mine = api.of((await new_user(pool, "alice")).token)
        for name in ("nobody", "a%00b", "%00", "%ff", "%ed%a0%80", "a%20b", "x" * 3000, "%E2%80%AE"):
            answer = await mine.get(f"/v1/users/{name}")
            assert (answer.status, answer.code) == (404, "unknown_user"), name


@both_encodings
async def test_devices_are_listed_refreshed_and_revoked(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, encoding: str
) -> None:
    tablet = await new_device(pool, alice.user, "Tablet")
    async with open_api(pool, redis_url, encoding) as api:
        mine, others = api.of(alice.token), api.of(bob.token)
        listed = await mine.get("/v1/devices")
        assert listed.status == 200
        assert [(each["device"], each["name"]) for each in listed.body["devices"]] == [
            (tablet.device, "Tablet"),
            (alice.device, "test"),
        ]
        assert all(each["created"] < each["expires"] for each in listed.body["devices"])

        fresh = await mine.post("/v1/tokens", {})
        assert fresh.status == 201
        assert fresh.body["expires"] > listed.body["devices"][1]["expires"]
        for token in (fresh.body["token"], alice.token):
            assert (await api.of(token).get("/v1/devices")).status == 200

        path = f"/v1/devices/{UUID(bytes=tablet.device)}"
        for who, where in ((others, path), (mine, f"/v1/devices/{uuid4()}")):
            refused = await who.request("DELETE", where)
            assert (refused.status, refused.code) == (404, "unknown_device")
        for _ in range(2):
            response = await api.app.test_client().open(
                path, method="DELETE", headers={"Authorization": f"Bearer {alice.token}"}
            )
            assert (response.status_code, await response.get_data()) == (204, b"")
        assert [each["device"] for each in (await mine.get("/v1/devices")).body["devices"]] == [alice.device]
        revoked = await api.of(tablet.token).get("/v1/devices")
        assert (revoked.status, revoked.code) == (401, "device_revoked")
        await pool.fetch("update devices set expires = now() where id = %s", (UUID(bytes=alice.device),))
        for token in (fresh.body["token"], alice.token):
            expired = await api.of(token).post("/v1/tokens", {})
            assert (expired.status, expired.code) == (401, "token_expired")


@both_encodings
async def test_a_token_that_was_renewed_and_one_that_has_ended_are_told_apart(
    pool: Pool, redis_url: str, alice: Credentials, encoding: str
) -> None:
    async with open_api(pool, redis_url, encoding) as api:
        old = api.of(alice.token)
        new = api.of((await old.post("/v1/tokens", {})).body["token"])
        assert (await new.get("/v1/profile")).status == 200
        assert (await old.get("/v1/profile")).status == 200
        renewed = await old.post("/v1/tokens", {})
        assert (renewed.status, renewed.code) == (409, "token_renewed")
        await end_overlap(pool)
        for shown in (old, new):
            reused = await shown.get("/v1/profile")
            assert (reused.status, reused.code) == (401, "token_reused")


@both_encodings
async def test_a_suspended_user_is_refused_by_name_and_logs_in_again_once_that_is_lifted(
    pool: Pool, redis_url: str, encoding: str
) -> None:
    source = Source("operator", operator="ops")
    async with open_api(pool, redis_url, encoding) as api:
        await api.post("/v1/users", REGISTER)
        login = {"username": "carol", "password": PASSWORD, "name": "Phone"}
        phone = await api.post("/v1/devices", login)
        mine, user = api.of(phone.body["token"]), phone.body["user"]
        assert await set_suspended(pool, user, is_suspended=True, source=source)
        for refused in (
            await mine.get("/v1/profile"),
            await mine.get("/v1/conversations"),
            await mine.post("/v1/tokens", {}),
            await api.post("/v1/devices", login),
        ):
            assert (refused.status, refused.code) == (403, "account_suspended")
        # Of a wrong password nothing is said but that.
        assert (await api.post("/v1/devices", {**login, "password": f"{PASSWORD}!"})).code == "wrong_credentials"
        assert await set_suspended(pool, user, is_suspended=False, source=source)
        assert (await mine.get("/v1/profile")).status == 200
        assert (await api.post("/v1/devices", login)).status == 201


async def test_a_login_of_a_suspended_user_keeps_no_account_that_is_to_be_deleted(pool: Pool, redis_url: str) -> None:
    async with open_api(pool, redis_url) as api:
        await api.post("/v1/users", REGISTER)
        login = {"username": "carol", "password": PASSWORD, "name": "Phone", "keeps_account": True}
        user = (await api.post("/v1/devices", login)).body["user"]
        await account_deletions.close(pool, user, delay_s=3600, deletes_messages=False)
        await set_suspended(pool, user, is_suspended=True, source=Source("operator"))
        assert (await api.post("/v1/devices", login)).code == "account_suspended"
        assert await account_deletions.closing_of(pool, user) is not None
