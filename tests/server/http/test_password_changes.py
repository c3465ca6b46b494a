"""Changing the password, and logging out: which devices stay, whatever happens at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
import trio

from client.http import Credentials
from protocol.codes import CloseCode
from server.http.passwords import Passwords
from store import accounts, devices, notifiers, tokens
from store.errors import DeviceRevoked, PasswordChanged
from store.notifiers import FcmTarget, WebhookTarget
from store.postgres.driver import connected, uuid
from store.postgres.pool import Pool
from tests.people import new_device
from tests.server.http_world import PASSWORD, Api, both_encodings, open_api
from tests.server.node_world import open_node
from tests.waiting import wait_until

NEW_PASSWORD = "nine brown foxes dig"


@pytest.fixture
async def alice(pool: Pool) -> Credentials:
    return await new_device(
        pool, await accounts.add_user(pool, "alice", await Passwords().hash(PASSWORD, source="a test"))
    )


async def put(api: Api, old: str, **more: object) -> tuple[int, str | None]:
    """The status, and the code of a problem."""
    body = {"old_password": old, "new_password": NEW_PASSWORD, **more}
    response = await api.app.test_client().open(
        "/v1/password", method="PUT", json=body, headers={"Authorization": f"Bearer {api.token}"}
    )
    answer = await response.get_json() if response.status_code != 204 else {}
    return response.status_code, answer.get("code")


async def logs_in(api: Api, password: str) -> bool:
    return (await api.post("/v1/devices", {"username": "alice", "password": password, "name": "x"})).status == 201


async def test_the_old_password_changes_it_on_a_device_that_was_not_confirmed(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    other = await new_device(pool, alice.user)
    await pool.fetch("update devices set confirmed = 'epoch' where id = %s", (uuid(alice.device),))
    async with open_api(pool, redis_url) as api:
        mine = api.of(alice.token)
        assert await put(mine, NEW_PASSWORD) == (401, "wrong_credentials")
        assert await put(mine, PASSWORD, new_password="short") == (400, "invalid_body")
        for weak in ("password1", "alicealice", "alice2026"):
            assert await put(mine, PASSWORD, new_password=weak) == (400, "weak_password")
        assert await logs_in(api, PASSWORD)
        assert await put(mine, PASSWORD) == (204, None)
        assert not await logs_in(api, PASSWORD)
        assert await logs_in(api, NEW_PASSWORD)
        assert (await mine.request("DELETE", "/v1/email")).status == 204, "the device has shown the password"
        stays = await api.of(other.token).request("DELETE", "/v1/email")
        assert stays.code == "confirmation_required", "the other device has shown the old one"


async def test_a_change_may_end_the_other_sessions_within_a_second(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    other = await new_device(pool, alice.user)
    async with open_api(pool, redis_url) as api, open_node(pool.url, redis_url) as node:
        async with node.open_websocket(alice.token) as stays, node.open_websocket(other.token) as ends:
            assert await put(api.of(alice.token), PASSWORD, ends_other_sessions=True) == (204, None)
            assert await ends.wait_end() == CloseCode.DEVICE_REVOKED.value
            await stays.nothing_came()
        assert (await api.of(other.token).get("/v1/profile")).code == "device_revoked"
        assert (await api.of(alice.token).get("/v1/profile")).status == 200


@both_encodings
async def test_logging_out_ends_this_device_the_others_or_all(
    pool: Pool, redis_url: str, alice: Credentials, encoding: str
) -> None:
    bob = await new_device(pool, await accounts.add_user(pool, "bob", "x"))
    async with open_api(pool, redis_url, encoding) as api:

        async def good(*devices: Credentials) -> list[bool]:
            return [(await api.of(each.token).get("/v1/profile")).status == 200 for each in devices]

        one, two, three = [await new_device(pool, alice.user) for _ in range(3)]
        assert (await api.of(one.token).request("DELETE", "/v1/devices/this")).status == 204
        assert await good(one, two, three, alice, bob) == [False, True, True, True, True]
        assert (await api.of(two.token).request("DELETE", "/v1/devices/others")).status == 204
        assert await good(one, two, three, alice, bob) == [False, True, False, False, True]
        four = await new_device(pool, alice.user)
        assert (await api.of(four.token).request("DELETE", "/v1/devices")).status == 204
        assert await good(one, two, three, four, alice, bob) == [False, False, False, False, False, True]


@pytest.mark.parametrize("path", ["/v1/devices/this", "/v1/devices/others", "/v1/devices", "/v1/devices/{two}"])
async def test_the_notifiers_of_a_device_end_with_it_and_no_others(
    pool: Pool, redis_url: str, alice: Credentials, path: str
) -> None:
    two = await new_device(pool, alice.user)
    for device in (alice, two):
        await notifiers.add(pool, alice.user, FcmTarget(device.token), device=device.device)
    await notifiers.add(pool, alice.user, WebhookTarget("https://example.org/"))
    async with open_api(pool, redis_url) as api:
        assert (await api.of(alice.token).request("DELETE", path.format(two=UUID(bytes=two.device)))).status == 204
    left = {row[0] for row in await pool.fetch("select device_id from notifiers")}
    stays = {device.device for device in (alice, two)}
    stays -= {"this": {alice.device}, "devices": {alice.device, two.device}}.get(path.split("/")[-1], {two.device})
    assert left == {None, *stays}


async def change(pool: Pool, alice: Credentials) -> None:
    await accounts.change_password(pool, alice.user, alice.device, "old", "new", ends_others=True)


RACES: dict[str, Callable[[Pool, Credentials], Awaitable[object]]] = {
    "a login": lambda pool, alice: devices.add_device(pool, alice.user, "x", lifetime_s=60, password_hash="old"),
    "a confirmation": lambda pool, alice: devices.confirm(pool, alice.user, alice.device, "old"),
    "another change": change,
}


@pytest.mark.parametrize("race", RACES)
async def test_the_old_password_does_nothing_once_the_new_one_is_committed(
    pool: Pool, alice: Credentials, race: str
) -> None:
    """The password was checked before the change; the write comes while the change is being committed, and waits."""
    await pool.fetch("update users set password_hash = 'old'")
    outcomes: list[str] = []

    async def write() -> None:
        try:
            await RACES[race](pool, alice)
        except PasswordChanged:
            outcomes.append("refused")
        else:
            outcomes.append("done")

    async with connected(pool.url) as connection, trio.open_nursery() as nursery:
        await connection.query("begin")
        await connection.query(
            "select change_password(%s, %s, 'old', 'new', true)", (uuid(alice.user), uuid(alice.device))
        )
        nursery.start_soon(write)
        await wait_until(lambda: pool.fetch("select 1 from pg_locks where not granted"), "the other write waits")
        await connection.query("commit")
    assert outcomes == ["refused"]


async def test_a_login_that_is_committed_before_the_change_ends_with_the_others(pool: Pool, alice: Credentials) -> None:
    await pool.fetch("update users set password_hash = 'old'")
    async with connected(pool.url) as connection, trio.open_nursery() as nursery:
        await connection.query("begin")
        await connection.query("select 1 from users where id = %s for share", (uuid(alice.user),))
        nursery.start_soon(change, pool, alice)
        await wait_until(lambda: pool.fetch("select 1 from pg_locks where not granted"), "the other write waits")
        token = "a token of the login under way"
        await connection.query(
            "insert into devices (id, user_id, name, family_hash, token_hash)"
            " values (gen_random_uuid(), %s, 'x', %s, %s)",
            (uuid(alice.user), *tokens.hashes(token).values()),
        )
        await connection.query("commit")
    with pytest.raises(DeviceRevoked):
        await tokens.device_by_token(pool, token)
