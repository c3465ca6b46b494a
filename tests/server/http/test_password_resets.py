"""Another password by a mail: to the verified address, once, for an hour; no answer tells who has an account."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from client.http import Credentials
from server.http.passwords import HASHER
from store import accounts, emails, password_resets
from store.errors import ResetExpired
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.people import new_device
from tests.server.http.test_email import page, put
from tests.server.http_world import PASSWORD, Api, open_api

ADDRESS = "alice@example.org"
NEW = "another long password"
LOG_IN = {"username": "alice", "password": PASSWORD, "name": "Phone"}


@pytest.fixture
async def api(pool: Pool, redis_url: str) -> AsyncGenerator[Api, None]:
    async with open_api(pool, redis_url) as api:
        yield api


@pytest.fixture
async def alice(pool: Pool) -> Credentials:
    """With a password and a verified address."""
    alice = await new_device(pool, await accounts.add_user(pool, "alice", HASHER.hash(PASSWORD)))
    wanted = {"wants_digest": False, "wants_device_notice": False, "digest_hour": 8, "zone": "UTC"}
    await emails.put(pool, alice.user, ADDRESS, **wanted)
    await pool.fetch("update emails set verified = now()")
    await pool.fetch("delete from jobs")
    return alice


async def ask(api: Api, **what: str) -> int:
    answer = await api.post("/v1/password-resets", what)
    assert answer.body == {"lifetime_s": 3600}, answer.body
    return answer.status


async def mails(pool: Pool) -> list[password_resets.ResetMail]:
    """Those that the waiting jobs would send, the oldest first."""
    rows = await pool.fetch("select (payload ->> 'reset')::uuid from jobs where task = 'password_reset' order by id")
    found = [await password_resets.mail(pool, reset) for (reset,) in rows]
    return [mail for mail in found if mail is not None]


async def reset_token_of(pool: Pool, address: str) -> str:
    """The token of a mail that the user of this verified address asks for."""
    await pool.fetch("update emails set verified = now() where address = %s", (address,))
    await password_resets.ask(pool, address=address)
    return (await mails(pool))[-1].token


async def own_reset_token_of(pool: Pool, user: Credentials) -> str:
    """The token of a mail that a device of the user asks for."""
    await password_resets.ask(pool, address=ADDRESS, known=user.user)
    return (await mails(pool))[-1].token


async def reset(api: Api, token: str, password: str = NEW) -> str:
    answer = await api.request("PUT", "/v1/password-resets", json={"token": token, "new_password": password})
    return answer.code if answer.status >= 400 else ""


@pytest.mark.parametrize("what", [{"username": "alice"}, {"address": ADDRESS}, {"address": "alice@EXAMPLE.org"}])
async def test_a_user_sets_another_password_by_name_or_address(
    pool: Pool, api: Api, alice: Credentials, what: dict[str, str]
) -> None:
    assert await ask(api, **what) == 202
    [mail] = await mails(pool)
    assert (mail.address, mail.username) == (ADDRESS, "alice")
    assert await reset(api, mail.token) == ""
    assert (await api.of(alice.token).get("/v1/profile")).code == "device_revoked"
    assert (await api.post("/v1/devices", LOG_IN)).code == "wrong_credentials"
    assert (await api.post("/v1/devices", {**LOG_IN, "password": NEW})).status == 201
    assert await reset(api, mail.token) == "unknown_reset", "a token is good once"
    assert await pool.fetch("select 1 from jobs where task = 'password_changed'") != []


@pytest.mark.parametrize(
    "prepare",
    [
        "delete from emails",
        "update emails set verified = null",
        "update emails set address = 'other@example.org', verified = null",
    ],
)
async def test_without_a_verified_address_the_answer_is_the_same_and_no_mail_follows(
    pool: Pool, api: Api, alice: Credentials, prepare: str
) -> None:
    """The writes are the same, too: one row and one job, so that the time tells nothing."""
    await pool.fetch(prepare)
    assert await ask(api, username="alice") == 202
    assert await ask(api, username="nobody") == 202
    assert await ask(api, address=ADDRESS) == 202
    assert await mails(pool) == []
    assert await pool.fetch("select count(*), count(user_id), count(token_hash) from password_resets") == [(3, 0, 0)]
    assert await pool.fetch("select count(*) from jobs") == [(3,)]


async def let_pass(pool: Pool, hours: float) -> None:
    await pool.fetch(
        "update password_resets set asked = asked - make_interval(secs => %s),"
        " expires = expires - make_interval(secs => %s)",
        (hours * 3600, hours * 3600),
    )


async def test_a_stranger_who_asks_all_day_annoys_a_user_little_and_never_keeps_the_user_out(
    pool: Pool, api: Api, alice: Credentials
) -> None:
    """At each moment the user has a mail whose link is good for a while, or gets one for asking."""
    most = 0
    for _ in range(4 * 48):
        assert await ask(api, username="alice") == 202
        [(good, day)] = await pool.fetch(
            "select count(*) filter (where expires > clock_timestamp() + interval '14 minutes'),"
            " count(*) filter (where asked > clock_timestamp() - interval '1 day')"
            " from password_resets where token_hash is not null"
        )
        assert good
        most = max(most, day)
        await let_pass(pool, 0.25)
    assert 3 <= most <= 7


async def test_a_link_is_good_for_an_hour_and_longer_only_under_attack(
    pool: Pool, api: Api, alice: Credentials
) -> None:
    lasts = []
    for _ in range(5):
        assert await ask(api, username="alice") == 202
        assert await ask(api, username="alice") == 202
        [(hours,)] = await pool.fetch(
            "select round(extract(epoch from max(expires) - clock_timestamp()) / 3600)::int from password_resets"
            " where user_id is not null"
        )
        lasts.append(hours)
        await let_pass(pool, hours - 0.2)
    assert lasts == [1, 1, 1, 2, 4]


async def test_a_device_of_the_user_has_mails_of_its_own(
    pool: Pool, api: Api, alice: Credentials, bob: Credentials
) -> None:
    """Also one whose token has expired; that of a different user counts for nothing."""
    assert await ask(api, username="alice") == 202
    assert await ask(api.of(bob.token), username="alice") == 202
    assert len(await mails(pool)) == 1
    await pool.fetch("update devices set expires = now() where id = %s", (uuid(alice.device),))
    for _ in range(password_resets.MAX_OWN + 2):
        assert await ask(api.of(alice.token), username="alice") == 202
    sent = await mails(pool)
    assert len({mail.token for mail in sent}) == 1 + password_resets.MAX_OWN
    await let_pass(pool, 1)
    assert await ask(api, username="alice") == 202
    assert len(await mails(pool)) == 1, "a stranger does not count what the device has asked for"
    await let_pass(pool, 23)
    assert await ask(api.of(alice.token), username="alice") == 202
    assert len(await mails(pool)) == 1


async def test_old_links_are_forgotten(pool: Pool, api: Api, alice: Credentials) -> None:
    token = await reset_token_of(pool, ADDRESS)
    await let_pass(pool, 24)
    assert await password_resets.forget_resets(pool, limit=100) == 1
    assert await reset(api, token) == "unknown_reset"


async def test_a_password_that_was_set_voids_all_links(pool: Pool, api: Api, alice: Credentials) -> None:
    tokens = [await reset_token_of(pool, ADDRESS), await own_reset_token_of(pool, alice)]
    assert await reset(api, tokens[0]) == ""
    assert await reset(api, tokens[1]) == "unknown_reset"


async def test_another_address_voids_all_links(pool: Pool, api: Api, alice: Credentials) -> None:
    token = await reset_token_of(pool, ADDRESS)
    assert (await put(api.of(alice.token), ADDRESS)).status == 200
    await password_resets.check(pool, token)
    assert (await put(api.of(alice.token), "other@example.org")).status == 200
    assert await reset(api, token) == "unknown_reset"


async def test_an_address_that_is_removed_voids_all_links(pool: Pool, api: Api, alice: Credentials) -> None:
    token = await reset_token_of(pool, ADDRESS)
    assert (await api.of(alice.token).request("DELETE", "/v1/email")).status == 204
    assert await reset(api, token) == "unknown_reset"


async def test_a_link_is_good_for_an_hour(pool: Pool, api: Api, alice: Credentials) -> None:
    token = await reset_token_of(pool, ADDRESS)
    await pool.fetch("update password_resets set expires = expires - interval '1 hour'")
    assert await reset(api, token) == "reset_expired"
    assert (await page(api, "POST", f"/v1/password-resets/{token}", form={"new_password": NEW}))[0] == 410
    assert (await api.post("/v1/devices", LOG_IN)).status == 201


async def test_a_link_that_expires_after_its_check_sets_no_password(pool: Pool, api: Api, alice: Credentials) -> None:
    """The request checks the link, and hashes the password for a while, before it sets it."""
    token = await reset_token_of(pool, ADDRESS)
    await password_resets.check(pool, token)
    await pool.fetch("update password_resets set expires = expires - interval '1 hour'")
    with pytest.raises(ResetExpired):
        await password_resets.reset(pool, token, "another hash")
    assert (await api.post("/v1/devices", LOG_IN)).status == 201
    assert (await api.of(alice.token).get("/v1/devices")).status == 200, "no device is logged out"


@pytest.mark.parametrize("token", ["", "x", "é", "A" * 43])
async def test_an_unknown_token_is_refused_by_name(api: Api, token: str) -> None:
    assert await reset(api, token) == "unknown_reset"


async def test_the_body_names_one_account(api: Api) -> None:
    for body in ({}, {"username": "alice", "address": ADDRESS}, {"address": "no address"}):
        assert (await api.post("/v1/password-resets", body)).code == "invalid_body"


async def test_the_page_sets_a_password_without_a_script(pool: Pool, api: Api, alice: Credentials) -> None:
    link = f"/v1/password-resets/{await reset_token_of(pool, ADDRESS)}"
    status, shown = await page(api, "GET", link)
    assert status == 200
    assert '<form method="post">' in shown
    assert 'type="password" name="new_password"' in shown
    assert "<script" not in shown
    for form in ({}, {"new_password": "short"}, {"new_password": "alice2026"}, {"other": NEW}):
        status, shown = await page(api, "POST", link, form=form)
        assert status == 400
        assert '<form method="post">' in shown
    assert (await page(api, "POST", link, data=b"\xff", headers={"Content-Type": "text/plain"}))[0] == 400
    assert (await page(api, "POST", link, form={"new_password": NEW}))[0] == 200
    assert (await page(api, "POST", link, form={"new_password": NEW}))[0] == 404
    assert (await api.post("/v1/devices", {**LOG_IN, "password": NEW})).status == 201


async def test_only_a_hash_of_a_token_is_stored(pool: Pool, alice: Credentials) -> None:
    token = await reset_token_of(pool, ADDRESS)
    raw = emails.token_hash(token)
    stored = await pool.fetch("select token_hash from password_resets where user_id = %s", (uuid(alice.user),))
    assert stored == [(raw,)]
    rows = await pool.fetch("select j::text from jobs j")
    assert all(token not in row for (row,) in rows)
