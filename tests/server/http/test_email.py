"""E-mail addresses over HTTP: setting and verifying one, limits of mails, and the links in mails."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import pytest

from client.http import Credentials
from jobs.engine.job import Job
from jobs.mail.mailer import Mailer
from jobs.tasks.mail import MailTasks
from store import emails
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.mail_server import MailServer, open_mail_server
from tests.people import new_direct, new_user
from tests.server.http_world import PASSWORD, Answer, Api, both_encodings, open_api, say

NOBODYS = "A" * 43
DEFAULTS = {
    "address": None,
    "is_verified": False,
    "wants_digest": False,
    "wants_device_notice": True,
    "digest_hour": 8,
    "zone": "UTC",
}


@pytest.fixture
async def api(pool: Pool, redis_url: str) -> AsyncGenerator[Api, None]:
    async with open_api(pool, redis_url) as api:
        yield api


async def put(api: Api, address: str = "alice@example.org", **wanted: Any) -> Answer:
    return await api.request("PUT", "/v1/email", json={"address": address, **wanted})


async def token_of(pool: Pool, user: Credentials) -> str:
    """The token that the verification mail would have."""
    mail = await emails.take_verification(pool, user.user)
    assert mail is not None
    return mail.token


async def unsubscribe_token_of(pool: Pool, user: Credentials) -> str:
    [(token,)] = await pool.fetch(
        "select 'alo_' || replace(translate(encode(mail_token(seed, 'unsubscribe'), 'base64'), '+/', '-_'), '=', '')"
        " from emails where user_id = %s",
        (uuid(user.user),),
    )
    return str(token)


async def verify(api: Api, token: str) -> tuple[int, str]:
    answer = await api.post("/v1/email/verifications", {"token": token})
    return answer.status, answer.code if answer.status >= 400 else ""


async def page(api: Api, method: str, path: str, **what: Any) -> tuple[int, str]:
    """Status and text of a page for a browser, which shows no token of a device."""
    response = await api.app.test_client().open(path, method=method, **what)
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "Location" not in response.headers
    return response.status_code, str(await response.get_data(as_text=True))


async def jobs(pool: Pool) -> list[tuple[str, str]]:
    return await pool.fetch("select task, key from jobs order by id")


@both_encodings
async def test_address_is_put_shown_verified_and_taken_away(
    pool: Pool, redis_url: str, alice: Credentials, encoding: str
) -> None:
    async with open_api(pool, redis_url, encoding) as api:
        mine = api.of(alice.token)
        assert (await mine.get("/v1/email")).body == DEFAULTS
        wanted = {"wants_digest": True, "wants_device_notice": False, "digest_hour": 21, "zone": "Europe/Berlin"}
        answer = await put(mine, "Alice@Bücher.example", **wanted)
        expected = {"address": "Alice@xn--bcher-kva.example", "is_verified": False, **wanted}
        assert (answer.status, answer.body) == (200, expected | {"sends_mail": True})
        assert [task for task, _ in await jobs(pool)] == ["verify_email"]
        assert await verify(api, await token_of(pool, alice)) == (204, "")
        assert (await mine.get("/v1/email")).body == expected | {"is_verified": True}
        for _ in range(2):
            assert (await mine.request("DELETE", "/v1/email")).status == 204
        assert (await mine.get("/v1/email")).body["address"] is None


async def test_addresses_are_their_users_alone(pool: Pool, api: Api, alice: Credentials) -> None:
    bob = await new_user(pool, "bob")
    await put(api.of(alice.token))
    assert (await api.of(bob.token).get("/v1/email")).body == DEFAULTS
    await api.of(bob.token).request("DELETE", "/v1/email")
    assert (await api.of(alice.token).get("/v1/email")).body["address"] == "alice@example.org"
    for method in ("GET", "PUT", "DELETE"):
        assert (await api.request(method, "/v1/email", json={"address": "a@b.example"})).code == "unauthenticated"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "address"),
    ({"address": "alice"}, "address must have an @"),
    ({"address": "a@b.example\r\nBcc: c@d.example"}, "address must have"),
    ({"address": "a@b.example, c@d.example"}, "address must have"),
    ({"address": f"{'a' * 320}@b.example"}, "$.address"),
    ({"address": "a@b.example", "zone": "Europe/Atlantis"}, "zone"),
    ({"address": "a@b.example", "zone": "Foo/Bar3"}, "zone"),
    ({"address": "a@b.example", "zone": "EST5EDT"}, "zone"),
    ({"address": "a@b.example", "zone": "../../etc/passwd"}, "zone"),
    ({"address": "a@b.example", "digest_hour": 24}, "digest_hour"),
    ({"address": "a@b.example", "wants_digest": "yes"}, "wants_digest"),
]
"""Body -> a part of the error."""


async def test_a_wrong_address_or_setting_is_refused_by_name_and_changes_nothing(
    pool: Pool, api: Api, alice: Credentials
) -> None:
    mine = api.of(alice.token)
    for body, what in WRONG:
        answer = await mine.request("PUT", "/v1/email", json=body)
        assert (answer.status, answer.code) == (400, "invalid_body"), body
        assert what in answer.body["detail"], body
    assert (await mine.get("/v1/email")).body == DEFAULTS
    assert await jobs(pool) == []


async def test_every_kind_of_zone_is_taken(api: Api, alice: Credentials) -> None:
    for zone in ("UTC", "Etc/GMT+12", "America/Argentina/Buenos_Aires", "America/Port-au-Prince"):
        answer = await put(api.of(alice.token), zone=zone)
        assert (answer.status, answer.body["zone"]) == (200, zone)


async def test_address_and_the_mail_to_it_are_one_transaction(pool: Pool, api: Api, alice: Credentials) -> None:
    await pool.fetch("alter table jobs add check (task <> 'verify_email')")
    assert (await put(api.of(alice.token))).status == 500
    assert (await api.of(alice.token).get("/v1/email")).body == DEFAULTS


async def test_mails_are_limited_however_the_address_is_put(pool: Pool, api: Api, alice: Credentials) -> None:
    mine = api.of(alice.token)
    for n in range(emails.MAX_ASKED):
        assert (await put(mine, f"victim{n % 2}@example.org")).status == 200
        await mine.request("DELETE", "/v1/email")
    answer = await put(mine)
    assert (answer.status, answer.code) == (429, "too_many_mails")
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert 3500e3 < answer.body["retry_after_ms"] <= 3600e3
    assert (await mine.get("/v1/email")).body["address"] is None
    await pool.fetch("update emails set asked_since = asked_since - interval '1 hour'")
    assert (await put(mine)).status == 200


@pytest.mark.parametrize("change", ["keep", "remove", "replace"])
async def test_many_users_cannot_have_one_mailbox_flooded_however_they_write_it(
    pool: Pool, api: Api, change: str
) -> None:
    """Nor by taking the address away again."""
    for n in range(emails.MAX_TO_MAILBOX):
        user = await new_user(pool, f"user{n}")
        mine = api.of(user.token)
        assert (await put(mine, f"{'vV'[n % 2]}ictim+{n}@EXAMPLE.org")).body["sends_mail"]
        assert await emails.take_verification(pool, user.user) is not None
        assert await emails.take_verification(pool, user.user) is not None, "a job that runs again counts once"
        if change == "remove":
            await mine.request("DELETE", "/v1/email")
        elif change == "replace":
            assert (await put(mine, f"user{n}@example.org")).status == 200
    late = await new_user(pool, "late")
    for address in ("victim+new@example.org", "Victim@example.org"):
        answer = await put(api.of(late.token), address)
        assert answer.code == "too_many_mails"
        assert 86_000 < int(answer.headers["Retry-After"]) <= 86_400
    assert (await put(api.of(late.token), "late@example.org")).status == 200
    await pool.fetch("update mailboxes set sent_since = sent_since - interval '1 day'")
    assert (await put(api.of(late.token), "victim+new@example.org")).status == 200


async def test_a_mail_that_is_asked_for_again_counts_again(pool: Pool, api: Api, alice: Credentials) -> None:
    """Its token is the same."""
    for n in range(1, 3):
        await put(api.of(alice.token), "alice@example.org")
        await token_of(pool, alice)
        assert await pool.fetch("select sent from mailboxes") == [(n,)]


async def use_up(pool: Pool, api: Api, *addresses: str) -> list[str]:
    """Have strangers use up the mails to a mailbox, and then take the addresses away; the tokens of the mails."""
    tokens = []
    for n in range(emails.MAX_TO_MAILBOX):
        stranger = await new_user(pool, f"stranger{n}")
        assert (await put(api.of(stranger.token), addresses[n % len(addresses)])).body["sends_mail"]
        tokens.append(await token_of(pool, stranger))
        await api.of(stranger.token).request("DELETE", "/v1/email")
    return tokens


async def test_strangers_who_use_up_the_mails_to_a_mailbox_do_not_keep_its_owner_from_verifying_it(
    pool: Pool, api: Api, alice: Credentials, bob: Credentials
) -> None:
    """The owner has their mails, and only the owner: the token of any does for a user who has that address."""
    [token, *_] = await use_up(pool, api, "alice@example.org")
    mine, others = api.of(alice.token), api.of(bob.token)
    answer = await put(mine)
    assert (answer.status, answer.body["sends_mail"], answer.body["is_verified"]) == (200, False, False)
    assert await token_of_none(pool, alice)
    assert (await put(others, "bob@example.org")).status == 200
    assert await verify(api, token) == (404, "unknown_verification"), "no user is known, and the stranger has left"
    assert await verify(others, token) == (404, "unknown_verification"), "it did not go to this user's address"
    assert await verify(mine, token) == (204, "")
    assert (await mine.get("/v1/email")).body["is_verified"]
    assert not (await others.get("/v1/email")).body["is_verified"]


async def token_of_none(pool: Pool, user: Credentials) -> bool:
    """Whether no verification mail goes to the user."""
    return await emails.take_verification(pool, user.user) is None


async def test_other_spellings_leave_a_mail_to_the_plain_one(pool: Pool, api: Api, alice: Credentials) -> None:
    await use_up(pool, api, "alice+1@example.org", "Alice@example.org")
    mine = api.of(alice.token)
    assert (await put(mine, "alice+2@example.org")).code == "too_many_mails"
    assert (await put(mine, "alice@example.org")).body["sends_mail"]
    token = await token_of(pool, alice)
    stranger = await new_user(pool, "one_more")
    assert not (await put(api.of(stranger.token), "alice@example.org")).body["sends_mail"], "one, and not one for each"
    assert await token_of_none(pool, stranger)
    assert await verify(mine, token) == (204, "")


async def test_an_old_token_takes_the_place_of_no_mail(pool: Pool, api: Api, alice: Credentials) -> None:
    [token, *_] = await use_up(pool, api, "alice@example.org")
    await pool.fetch("update sent_verifications set expires = clock_timestamp() + interval '10 minutes'")
    mine = api.of(alice.token)
    assert (await put(mine)).body["sends_mail"]
    assert await token_of(pool, alice) != token
    await pool.fetch("update sent_verifications set expires = clock_timestamp()")
    assert await verify(mine, token) == (410, "verification_expired")


@pytest.mark.parametrize("shown", ["nonsense", "revoked"])
async def test_a_wrong_token_of_a_device_takes_nothing_from_that_of_a_mail(
    pool: Pool, api: Api, alice: Credentials, shown: str
) -> None:
    await put(api.of(alice.token))
    token = await token_of(pool, alice)
    if shown == "revoked":
        await pool.fetch("update devices set revoked = now() where id = %s", (uuid(alice.device),))
    assert await verify(api.of(alice.token if shown == "revoked" else shown), token) == (204, "")


async def test_wishes_change_without_another_mail_and_an_address_does_not(
    pool: Pool, api: Api, alice: Credentials
) -> None:
    mine = api.of(alice.token)
    await put(mine)
    former = await token_of(pool, alice)
    await verify(api, former)
    await pool.fetch("delete from jobs")
    for hour in range(emails.MAX_ASKED + 1):
        answer = await put(mine, wants_digest=True, digest_hour=hour)
        assert (answer.body["is_verified"], answer.body["digest_hour"]) == (True, hour)
    assert await jobs(pool) == []
    answer = await put(mine, "other@example.org")
    assert not answer.body["is_verified"]
    assert [task for task, _ in await jobs(pool)] == ["verify_email"]
    assert await verify(api, former) == (404, "unknown_verification"), "the token was sent to the former address"


async def test_verification_ends_with_its_time_and_may_be_repeated(pool: Pool, api: Api, alice: Credentials) -> None:
    await put(api.of(alice.token))
    token = await token_of(pool, alice)
    await pool.fetch("update emails set verification_expires = clock_timestamp()")
    assert await verify(api, token) == (410, "verification_expired")
    await put(api.of(alice.token))
    for _ in range(2):
        assert await verify(api, token) == (204, "")
    await pool.fetch("update emails set verification_expires = clock_timestamp()")
    assert await verify(api, token) == (204, ""), "the address stays verified when the token comes again"


async def test_an_unknown_token_verifies_nothing(api: Api, alice: Credentials) -> None:
    await put(api.of(alice.token))
    for token in ("", "x", NOBODYS, "é", "\0", "a" * 64):
        assert await verify(api, token) == (404, "unknown_verification"), token


async def test_token_is_good_for_one_thing_only(pool: Pool, api: Api, alice: Credentials) -> None:
    await put(api.of(alice.token), wants_digest=True)
    verifying, unsubscribing = await token_of(pool, alice), await unsubscribe_token_of(pool, alice)
    assert await verify(api, unsubscribing) == (404, "unknown_verification")
    assert (await page(api, "POST", f"/v1/unsubscribe/{verifying}"))[0] == 404


async def test_no_token_is_kept_in_postgres(pool: Pool, api: Api, alice: Credentials) -> None:
    """A leak of the table opens nothing: the seed alone, without the key, makes no token."""
    await put(api.of(alice.token))
    [(row, *tokens)] = await pool.fetch(
        "select e::text, encode(mail_token(seed, 'verify'), 'hex'), encode(mail_token(seed, 'unsubscribe'), 'hex')"
        " from emails e"
    )
    [(key,)] = await pool.fetch("select encode(key, 'hex') from mail_key")
    for secret in (*tokens, key):
        assert len(secret) == 64
        assert secret not in row


async def test_following_a_link_changes_nothing_before_the_button_is_pressed(
    pool: Pool, api: Api, alice: Credentials
) -> None:
    await put(api.of(alice.token), wants_digest=True)
    link = f"/v1/email/verifications/{await token_of(pool, alice)}"
    status, shown = await page(api, "GET", link)
    assert status == 200
    assert '<form method="post">' in shown
    assert not (await api.of(alice.token).get("/v1/email")).body["is_verified"]
    assert (await page(api, "POST", link))[0] == 200
    assert (await api.of(alice.token).get("/v1/email")).body["is_verified"]
    assert (await page(api, "POST", f"/v1/email/verifications/{NOBODYS}"))[0] == 404
    await put(api.of(alice.token), "other@example.org")
    link = f"/v1/email/verifications/{await token_of(pool, alice)}"
    await pool.fetch("update emails set verification_expires = clock_timestamp()")
    status, shown = await page(api, "POST", link)
    assert status == 410
    assert "too old" in shown


async def test_one_post_unsubscribes_without_logging_in(pool: Pool, api: Api, alice: Credentials) -> None:
    await put(api.of(alice.token), wants_digest=True)
    await verify(api, await token_of(pool, alice))
    link = f"/v1/unsubscribe/{await unsubscribe_token_of(pool, alice)}"
    status, shown = await page(api, "GET", link)
    assert status == 200
    assert "Unsubscribe</button>" in shown
    one_click: dict[str, Any] = {"form": {"List-Unsubscribe": "One-Click"}}
    parts = b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n'
    in_parts = {"data": parts, "headers": {"Content-Type": "multipart/form-data; boundary=x"}}
    for body in (one_click, in_parts, {}):
        assert (await put(api.of(alice.token), wants_digest=True)).body["wants_digest"]
        for _ in range(2):
            assert (await page(api, "POST", link, **body))[0] == 200
        settings = (await api.of(alice.token).get("/v1/email")).body
        assert (settings["wants_digest"], settings["is_verified"]) == (False, True)
        assert await pool.fetch("select next_digest from emails") == [(None,)]
    assert (await page(api, "POST", f"/v1/unsubscribe/{NOBODYS}"))[0] == 404


async def test_log_in_asks_for_the_notice_of_its_device(pool: Pool, api: Api) -> None:
    who = {"username": "carol", "password": PASSWORD}
    await api.post("/v1/users", who)
    first = (await api.post("/v1/devices", {**who, "name": "Phone"})).body
    carol = Credentials(first["user"], first["device"], first["token"])
    await put(api.of(carol.token))
    await verify(api, await token_of(pool, carol))
    await pool.fetch("delete from jobs")
    assert (await api.post("/v1/devices", {**who, "password": "wrong horse", "name": "Laptop"})).status == 401
    second = (await api.post("/v1/devices", {**who, "name": "Laptop"})).body
    payload = {"user": str(UUID(bytes=second["user"])), "device": str(UUID(bytes=second["device"]))}
    assert await pool.fetch("select task, payload from jobs") == [("new_device", payload)]


async def test_links_in_mails_lead_where_they_should_from_log_in_to_unsubscribing(
    pool: Pool, api: Api, alice: Credentials
) -> None:
    """From log-in to unsubscribing, by the links in the mails that a mail server receives."""

    async def report(_: str) -> None:
        pass

    async with open_mail_server(MailServer()) as server:
        url = server.url(login="") + "?tls=none"
        tasks = MailTasks(pool, Mailer(url, mail_from="no-reply@chat.example", public_url="https://chat.example/"))
        await put(api.of(alice.token), wants_digest=True)
        await tasks.verify_email(Job("1", "verify_email", 1, report), UUID(bytes=alice.user))
        text = server.got[-1].part("plain")
        [link] = [line for line in text.splitlines() if line.startswith("https://")]
        assert (await page(api, "POST", link.removeprefix("https://chat.example")))[0] == 200
        assert (await api.of(alice.token).get("/v1/email")).body["is_verified"]
        bob = await new_user(pool, "bob")
        await say(pool, await new_direct(pool, alice, bob), bob.user, b"x")
        await tasks.digest(Job("2", "digest", 1, report), UUID(bytes=alice.user))
        letter = server.got[-1].letter
        link = letter["List-Unsubscribe"].strip("<>").removeprefix("https://chat.example")
        key, _, value = letter["List-Unsubscribe-Post"].partition("=")
        assert (await page(api, "POST", link, form={key: value}))[0] == 200
        assert not (await api.of(alice.token).get("/v1/email")).body["wants_digest"]
