"""The tasks that send mail, from the commit that enqueues them to the mail, and the cases without a mail."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
import structlog
import trio

from client.http import Credentials
from jobs.engine.job import GiveUp
from jobs.engine.task import Backoff, Task
from jobs.mail.mailer import Mailer
from jobs.mail.smtp import NotSent
from jobs.tasks import mail
from jobs.tasks.mail import MailTasks
from store import account_deletions, accounts, devices, emails, exports, participants, password_resets, tokens
from store.errors import DatabaseError, TokenReused
from store.marks import Mark, mark
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.jobs.jobs_world import a_job, send_message
from tests.mail_server import MailServer, open_mail_server
from tests.people import new_device, new_direct, new_group, new_user
from tests.store.test_tokens import end_overlap
from tests.waiting import wait_until

PUBLIC = "https://chat.example"
LINK = re.compile(rf"{PUBLIC}(/v1/[a-z/-]+/)(alo_[A-Za-z0-9_-]{{43}})(?![A-Za-z0-9_-])")


@pytest.fixture
async def server() -> AsyncGenerator[MailServer, None]:
    async with open_mail_server(MailServer()) as server:
        yield server


@pytest.fixture
def tasks(pool: Pool, server: MailServer) -> MailTasks:
    url = server.url(login="") + "?tls=none"
    return MailTasks(pool, Mailer(url, mail_from="no-reply@chat.example", public_url=PUBLIC))


async def ask(pool: Pool, user: Credentials, address: str = "alice@example.org", **wanted: Any) -> None:
    """Put an address, with everything wanted there."""
    settings = {"wants_digest": True, "wants_device_notice": True, "digest_hour": 8, "zone": "UTC"} | wanted
    await emails.put(pool, user.user, address, **settings)


@pytest.fixture
async def alice(pool: Pool) -> Credentials:
    """With a verified address; nothing is left to be done."""
    alice = await new_user(pool, "alice")
    await ask(pool, alice)
    mail = await emails.take_verification(pool, alice.user)
    assert mail is not None
    await emails.verify(pool, mail.token)
    await pool.fetch("delete from jobs")
    return alice


async def waiting(pool: Pool) -> list[str]:
    return [task for (task,) in await pool.fetch("select task from jobs order by id")]


async def run_jobs(pool: Pool, tasks: MailTasks) -> None:
    """Run each waiting job once, with its payload from Postgres; jobs that succeed are deleted."""
    of_accounts = (tasks.account_closed, tasks.password_reset, tasks.password_changed, tasks.export_ready)
    handlers = (
        *(tasks.verify_email, tasks.new_device, tasks.token_reused, tasks.digests, tasks.digest),
        *of_accounts,
    )
    known = {each.name: each for each in map(Task, handlers)}
    for id, name, payload in await pool.fetch("select id, task, payload::text from jobs order by id"):
        await known[name].call(a_job(name, id=str(id)), payload.encode())
        await pool.fetch("delete from jobs where id = %s", (id,))


async def look_for_digests(tasks: MailTasks) -> list[str]:
    """Run the scheduled task; its progress reports."""
    reports: list[str] = []
    await tasks.digests(a_job("digests", reports=reports))
    return reports


async def digest_hour_comes(pool: Pool, user: Credentials, *, ago_s: float = 0) -> None:
    """Move to the next day."""
    await pool.fetch(
        "update emails set next_digest = clock_timestamp() - make_interval(secs => %s), last_digest = null"
        " where user_id = %s and next_digest is not null",
        (float(ago_s), uuid(user.user)),
    )


async def let_digest_come(pool: Pool, tasks: MailTasks, user: Credentials) -> None:
    """The user's hour has come, and the task that looks for digests has run."""
    await digest_hour_comes(pool, user)
    await look_for_digests(tasks)


def link_in(server: MailServer, path: str) -> str:
    """The token of the one link of this kind in the last mail, which has it in both of its parts."""
    found = [LINK.findall(server.got[-1].part(subtype)) for subtype in ("plain", "html")]
    assert found[0] == found[1]
    [token] = [token for of, token in found[0] if of == path]
    return str(token)


async def test_verification_goes_to_the_address_and_its_link_verifies(
    pool: Pool, server: MailServer, tasks: MailTasks, bob: Credentials
) -> None:
    await ask(pool, bob, "Bob@example.org")
    assert await pool.fetch("select task, payload from jobs") == [("verify_email", {"user": str(UUID(bytes=bob.user))})]
    await run_jobs(pool, tasks)
    [got] = server.got
    assert got.to == ["Bob@example.org"]
    assert "bob" not in got.raw.decode().replace("Bob@example.org", ""), "the mail does not name the account's user"
    await emails.verify(pool, link_in(server, "/v1/email/verifications/"))
    assert (await emails.email_settings_of(pool, bob.user)).is_verified


async def test_verification_that_is_sent_again_is_the_same_mail(
    pool: Pool, server: MailServer, tasks: MailTasks, bob: Credentials
) -> None:
    """Its answer was lost. Providers drop the second by its id, so the link of the first has to work."""
    await ask(pool, bob)
    server.drops = True
    with pytest.raises(NotSent):
        await run_jobs(pool, tasks)
    first = link_in(server, "/v1/email/verifications/")
    await run_jobs(pool, tasks)
    assert link_in(server, "/v1/email/verifications/") == first
    assert len({got.letter["Message-ID"] for got in server.got}) == 1
    await emails.verify(pool, first)


async def test_verification_that_is_asked_for_again_is_another_mail_with_the_same_link(
    pool: Pool, server: MailServer, tasks: MailTasks, bob: Credentials
) -> None:
    links = set()
    for _ in range(2):
        await ask(pool, bob)
        await run_jobs(pool, tasks)
        links.add(link_in(server, "/v1/email/verifications/"))
    assert len(links) == 1
    assert len({got.letter["Message-ID"] for got in server.got}) == 2


async def test_verification_that_is_needed_no_more_is_not_sent(
    pool: Pool, server: MailServer, tasks: MailTasks
) -> None:
    for change in ("none", "verified", "taken away", "expired"):
        user = await new_user(pool, change.replace(" ", "_"))
        await ask(pool, user, f"{user.user.hex()}@example.org")
        mail = await emails.take_verification(pool, user.user)
        assert mail is not None
        if change == "none":
            wanted = mail
        elif change == "verified":
            await emails.verify(pool, mail.token)
        elif change == "taken away":
            await emails.remove(pool, user.user)
        else:
            await pool.fetch(
                "update emails set verification_expires = clock_timestamp() where user_id = %s", (uuid(user.user),)
            )
    assert await waiting(pool) == ["verify_email"] * 4
    await run_jobs(pool, tasks)
    assert [got.to for got in server.got] == [[wanted.address]]


async def test_only_the_later_of_two_addresses_gets_a_verification_mail(
    pool: Pool, server: MailServer, tasks: MailTasks, bob: Credentials
) -> None:
    await ask(pool, bob, "wrong@example.org")
    await ask(pool, bob, "right@example.org")
    await run_jobs(pool, tasks)
    assert [got.to for got in server.got] == [["right@example.org"]]


async def test_address_that_is_refused_for_good_is_given_up(
    pool: Pool, server: MailServer, tasks: MailTasks, bob: Credentials
) -> None:
    await ask(pool, bob)
    server.replies["RCPT"] = ["550 no such user"]
    with pytest.raises(GiveUp):
        await run_jobs(pool, tasks)


async def test_log_in_with_another_device_is_told_by_mail(
    pool: Pool, server: MailServer, tasks: MailTasks, alice: Credentials
) -> None:
    await ask(pool, alice, zone="Asia/Tokyo")
    phone = await new_device(pool, alice.user, "Alice's phone")
    [(created,)] = await pool.fetch(
        "select to_char(created at time zone 'UTC' + interval '9 hours', 'YYYY-MM-DD HH24:MI') from devices"
        " where id = %s",
        (uuid(phone.device),),
    )
    await run_jobs(pool, tasks)
    [got] = server.got
    assert got.to == ["alice@example.org"]
    for text in ("alice", "Alice's phone", created, "Asia/Tokyo"):
        assert text in got.part("plain")
    assert "Alice&#39;s phone" in got.part("html")


async def test_name_of_a_device_is_no_way_to_send_links_to_its_user(
    pool: Pool, server: MailServer, tasks: MailTasks, alice: Credentials
) -> None:
    """A thief of the password chooses the name of the device."""
    await new_device(pool, alice.user, "Locked! See https://evil.example/alice?x=1 <a href='//evil.example'>or</a>")
    await new_device(pool, alice.user, "://")
    await run_jobs(pool, tasks)
    for subtype in ("plain", "html"):
        assert "evil.example" not in server.got[0].part(subtype)
        assert "evil example" in server.got[0].part(subtype)
        assert "a device without a name" in server.got[1].part(subtype)


async def test_notice_of_a_device_is_asked_for_only_where_it_is_wanted(pool: Pool, bob: Credentials) -> None:
    await new_device(pool, bob.user)
    await ask(pool, bob)
    await new_device(pool, bob.user)
    assert await waiting(pool) == ["verify_email"], "no device notice goes to an unverified address"
    mail = await emails.take_verification(pool, bob.user)
    assert mail is not None
    await emails.verify(pool, mail.token)
    await ask(pool, bob, wants_device_notice=False)
    await new_device(pool, bob.user)
    assert await waiting(pool) == ["verify_email"]
    await ask(pool, bob)
    await new_device(pool, bob.user)
    assert await waiting(pool) == ["verify_email", "new_device"]


async def test_very_first_device_causes_no_mail(pool: Pool) -> None:
    """An address that existed before, of a user imported from another system."""
    user = await accounts.add_user(pool, "carol", "x")
    await pool.fetch(
        "insert into emails (user_id, address, verified, seed, verification_hash, verification_expires,"
        " unsubscribe_hash)"
        " values (%s, 'carol@example.org', now(), gen_random_uuid(), sha256('1'), now(), sha256('2'))",
        (uuid(user),),
    )
    await new_device(pool, user)
    assert await waiting(pool) == []
    await new_device(pool, user)
    assert await waiting(pool) == ["new_device"]


async def test_device_and_its_notice_are_one_transaction(pool: Pool, alice: Credentials) -> None:
    await pool.fetch("alter table jobs add check (task <> 'new_device')")
    with pytest.raises(DatabaseError, match="jobs_task_check"):
        await new_device(pool, alice.user)
    assert len(await devices.devices_of(pool, alice.user, limit=9)) == 1


async def test_a_mail_tells_that_a_device_was_revoked_since_a_token_was_reused(
    pool: Pool, server: MailServer, tasks: MailTasks, alice: Credentials
) -> None:
    phone = await new_device(pool, alice.user, "Alice's phone")
    await pool.fetch("delete from jobs")
    new, _, _ = await tokens.renew_token(pool, phone.device, phone.token, lifetime_s=60)
    await tokens.device_by_token(pool, new)
    await end_overlap(pool)
    with pytest.raises(TokenReused):
        await tokens.device_by_token(pool, phone.token)
    assert await waiting(pool) == ["token_reused"]
    await run_jobs(pool, tasks)
    [got] = server.got
    assert "logged out" in got.letter["Subject"]
    for subtype in ("plain", "html"):
        assert "alice" in got.part(subtype)
        assert "s phone" in got.part(subtype)


async def test_notice_comes_even_if_the_device_was_revoked_and_not_if_it_is_wanted_no_more(
    pool: Pool, server: MailServer, tasks: MailTasks, alice: Credentials
) -> None:
    other = await new_device(pool, alice.user)
    await devices.revoke_device(pool, alice.user, other.device)
    await run_jobs(pool, tasks)
    assert len(server.got) == 1
    await new_device(pool, alice.user)
    await ask(pool, alice, wants_device_notice=False)
    await run_jobs(pool, tasks)
    assert len(server.got) == 1


DUE = [
    (8, "UTC", "2026-01-01 07:59", "2026-01-01 08:00"),
    (8, "UTC", "2026-01-01 08:00", "2026-01-02 08:00"),
    (0, "Asia/Kathmandu", "2026-01-01 00:00", "2026-01-01 18:15"),
    (23, "America/Los_Angeles", "2026-01-01 00:00", "2026-01-01 07:00"),
    (8, "Pacific/Kiritimati", "2026-01-01 00:00", "2026-01-01 18:00"),
    # Clocks go forward at 01:00 UTC: 02:00 to 03:00 is left out.
    (2, "Europe/Berlin", "2026-03-28 12:00", "2026-03-29 01:00"),
    (2, "Europe/Berlin", "2026-03-29 01:00", "2026-03-30 00:00"),
    (8, "Europe/Berlin", "2026-03-28 07:00", "2026-03-29 06:00"),
    # Clocks go back at 01:00 UTC: 02:00 to 03:00 comes twice.
    (2, "Europe/Berlin", "2026-10-24 12:00", "2026-10-25 01:00"),
    (2, "Europe/Berlin", "2026-10-25 01:00", "2026-10-26 01:00"),
]
"""Hour and zone, and by the clocks of UTC: after when, and when then."""


async def test_digest_is_due_at_its_hour_where_the_user_is(pool: Pool) -> None:
    sql = "select to_char(digest_after(%s, %s, (%s || '+00')::timestamptz) at time zone 'UTC', 'YYYY-MM-DD HH24:MI')"
    for hour, zone, after, due in DUE:
        assert await pool.fetch(sql, (hour, zone, after)) == [(due,)], (hour, zone, after)


async def test_digest_counts_what_is_unread_where_it_is_not_muted_and_says_no_more(
    pool: Pool, server: MailServer, tasks: MailTasks, alice: Credentials, bob: Credentials
) -> None:
    carol = await new_user(pool, "carol")
    direct, group = await new_direct(pool, alice, bob), await new_group(pool, carol, alice, bob)
    muted, read = await new_group(pool, bob, alice), await new_direct(pool, alice, carol)
    content = secrets.token_bytes(16)
    await send_message(pool, direct, bob.user, content, content)
    await send_message(pool, group, carol.user, content)
    await send_message(pool, muted, bob.user, content)
    await participants.mute(pool, alice.user, muted, seconds=3600)
    seq = await send_message(pool, read, carol.user, content)
    assert (await mark(pool, [[Mark(alice.user, read, seq, seq)]])).outcomes == [None]
    await let_digest_come(pool, tasks, alice)
    assert await pool.fetch("select task, payload from jobs") == [("digest", {"user": str(UUID(bytes=alice.user))})]
    await run_jobs(pool, tasks)
    [got] = server.got
    assert got.letter["Subject"] == "3 unread messages at ALO Shield"
    for subtype, text in (("plain", "3 messages are unread in 2"), ("html", "<b>3</b> messages are unread in 2")):
        assert text in got.part(subtype)
        assert not re.search("bob|carol|Group", got.part(subtype))
    token = link_in(server, "/v1/unsubscribe/")
    assert got.letter["List-Unsubscribe"] == f"<{PUBLIC}/v1/unsubscribe/{token}>"
    assert got.letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


async def test_digest_of_one_is_in_the_singular(
    pool: Pool, server: MailServer, tasks: MailTasks, alice: Credentials, bob: Credentials
) -> None:
    await send_message(pool, await new_direct(pool, alice, bob), bob.user)
    await let_digest_come(pool, tasks, alice)
    await run_jobs(pool, tasks)
    assert server.got[0].letter["Subject"] == "1 unread message at ALO Shield"
    assert "1 message is unread in 1 conversation.\n" in server.got[0].part("plain")


async def test_no_digest_without_a_reason(pool: Pool, tasks: MailTasks, bob: Credentials) -> None:
    users = {}
    for n, why in enumerate(("none", "nothing sent", "muted", "not its hour", "hours late", "unwanted", "changed")):
        user = users[why] = await new_user(pool, f"user{n}")
        await ask(pool, user, f"user{n}@example.org")
        await pool.fetch("update emails set verified = now() where user_id = %s", (uuid(user.user),))
        await ask(pool, user, f"user{n}@example.org")
        conversation = await new_direct(pool, user, bob)
        if why != "nothing sent":
            await send_message(pool, conversation, bob.user)
        if why == "muted":
            await participants.mute(pool, user.user, conversation, seconds=60)
        if why != "not its hour":
            ago_s = emails.LATE_S if why == "hours late" else 0
            await digest_hour_comes(pool, user, ago_s=ago_s)
        if why == "unwanted":
            await ask(pool, user, f"user{n}@example.org", wants_digest=False)
        if why == "changed":
            await ask(pool, user, "other@example.org")
    await pool.fetch("delete from jobs")
    await look_for_digests(tasks)
    assert await pool.fetch("select payload from jobs") == [({"user": str(UUID(bytes=users["none"].user))},)]
    assert await pool.fetch("select count(*) from emails where next_digest <= clock_timestamp()") == [(0,)]
    assert await pool.fetch("select count(*) from emails where next_digest > clock_timestamp()") == [(5,)]


async def test_digest_looks_again_before_it_is_sent(
    pool: Pool, server: MailServer, tasks: MailTasks, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    seq = await send_message(pool, direct, bob.user)
    await let_digest_come(pool, tasks, alice)
    assert (await mark(pool, [[Mark(alice.user, direct, seq, seq)]])).outcomes == [None]
    await run_jobs(pool, tasks)
    assert (server.got, await waiting(pool)) == ([], [])


async def test_digest_comes_once_a_day_however_often_its_job_runs(
    pool: Pool, server: MailServer, tasks: MailTasks, alice: Credentials, bob: Credentials
) -> None:
    await send_message(pool, await new_direct(pool, alice, bob), bob.user)
    await let_digest_come(pool, tasks, alice)
    server.drops = True
    with pytest.raises(NotSent):
        await run_jobs(pool, tasks)
    await run_jobs(pool, tasks)
    assert len({got.letter["Message-ID"] for got in server.got}) == 1, (
        "the mail server recognises a repeated mail by its Message-ID"
    )
    await look_for_digests(tasks)
    assert await waiting(pool) == []
    await pool.fetch("select enqueue('digest', jsonb_build_object('user', %s::uuid))", (uuid(alice.user),))
    await run_jobs(pool, tasks)
    assert len(server.got) == 2
    await let_digest_come(pool, tasks, alice)
    await run_jobs(pool, tasks)
    assert len({got.letter["Message-ID"] for got in server.got}) == 2


async def test_digests_are_found_in_bounded_batches_each_once_by_any_number_of_workers(
    pool: Pool, tasks: MailTasks, bob: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "BATCH", 2)
    for n in range(7):
        user = await new_user(pool, f"user{n}")
        await ask(pool, user, f"user{n}@example.org")
        await send_message(pool, await new_direct(pool, user, bob), bob.user)
    await pool.fetch("update emails set verified = now(), next_digest = now()")
    await pool.fetch("delete from jobs")
    reports: list[list[str]] = []

    async def look() -> None:
        reports.append(await look_for_digests(tasks))

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(look)
    assert await waiting(pool) == ["digest"] * 7
    [(users,)] = await pool.fetch("select count(distinct payload) from jobs")
    assert users == 7
    assert sum(map(len, reports)) == 3, "a run that finds a full batch reports progress and looks again"


async def test_without_a_mail_server_jobs_end_with_one_line_that_says_so(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    tasks = MailTasks(pool, Mailer("", mail_from="", public_url=""))
    await ask(pool, bob)
    await new_device(pool, alice.user)
    await send_message(pool, await new_direct(pool, alice, bob), bob.user)
    await digest_hour_comes(pool, alice)
    with structlog.testing.capture_logs() as logs:
        await look_for_digests(tasks)
        await run_jobs(pool, tasks)
    assert [(line["event"], line["template"]) for line in logs] == [
        ("mail_not_sent", "digest"),
        ("mail_not_sent", "verify_email"),
        ("mail_not_sent", "new_device"),
    ]
    assert await waiting(pool) == []


async def test_worker_tries_again_what_is_put_off_and_buries_what_is_refused_for_good(
    pool: Pool, server: MailServer, tasks: MailTasks, bob: Credentials, start_worker: Callable[..., Awaitable[Any]]
) -> None:
    carol = await new_user(pool, "carol")
    server.replies["DATA"] = ["451 come back later"]
    await start_worker(Task(tasks.verify_email, backoff=Backoff(0.05, 1)))
    await ask(pool, bob, "bob@example.org")
    await wait_until(lambda: len(server.got) == 1, "the mail has come")

    async def buried() -> list[tuple[Any, ...]]:
        return await pool.fetch("select task, payload, attempts, reason, traceback from dead_jobs")

    server.replies["RCPT"] = ["550 <carol@example.org>: no such user"]
    await ask(pool, carol, "carol@example.org")
    [(task, payload, attempts, reason, traceback)] = await wait_until(buried, "the other one is dead")
    assert (task, payload, attempts) == ("verify_email", {"user": str(UUID(bytes=carol.user))}, 1)
    assert reason.endswith("refuses the recipient: 550 <...>: no such user")
    assert "carol@" not in traceback
    assert [got.to for got in server.got] == [["bob@example.org"]]


async def test_a_link_that_sets_another_password_goes_to_the_verified_address(
    pool: Pool, tasks: MailTasks, server: MailServer, alice: Credentials
) -> None:
    await password_resets.ask(pool, username="alice")
    await password_resets.ask(pool, username="nobody")
    assert await waiting(pool) == ["password_reset"] * 2
    await run_jobs(pool, tasks)
    [got] = server.got
    found = LINK.search(got.part("plain"))
    assert found is not None
    path, token = found.groups()
    assert path == "/v1/password-resets/"
    assert "alice" in got.part("plain")
    await password_resets.reset(pool, token, "a hash")
    assert await waiting(pool) == ["password_changed"]
    await run_jobs(pool, tasks)
    assert "password of your account" in server.got[-1].part("plain")


async def test_a_link_that_is_void_by_now_is_not_sent(
    pool: Pool, tasks: MailTasks, server: MailServer, alice: Credentials
) -> None:
    await password_resets.ask(pool, username="alice")
    await emails.remove(pool, alice.user)
    await run_jobs(pool, tasks)
    assert server.got == []


async def test_a_user_who_closes_the_account_gets_one_mail_and_no_others(
    pool: Pool, tasks: MailTasks, server: MailServer, alice: Credentials
) -> None:
    """A thief may have closed it; a digest is of no use."""
    bob = await new_user(pool, "bob")
    await send_message(pool, await new_direct(pool, bob, alice), bob.user, b"hello")
    await pool.fetch("update emails set next_digest = now()")
    await account_deletions.close(pool, alice.user, delay_s=86400, deletes_messages=False)
    await tasks.digests(a_job("digests"))
    await run_jobs(pool, tasks)
    [got] = server.got
    assert "will be deleted" in got.part("plain")


async def test_no_mail_tells_of_a_deletion_that_was_called_off(
    pool: Pool, tasks: MailTasks, server: MailServer, alice: Credentials
) -> None:
    await account_deletions.close(pool, alice.user, delay_s=86400, deletes_messages=False)
    assert await account_deletions.keep(pool, alice.user)
    await run_jobs(pool, tasks)
    assert server.got == []


async def test_a_mail_tells_that_an_export_can_be_fetched(
    pool: Pool, tasks: MailTasks, server: MailServer, alice: Credentials
) -> None:
    export = await exports.ask(pool, alice.user)
    await pool.fetch("delete from jobs")
    assert await exports.note_ready(pool, export, parts=1, size_bytes=1)
    assert not await exports.note_ready(pool, export, parts=1, size_bytes=1)
    assert await waiting(pool) == ["export_ready"]
    await run_jobs(pool, tasks)
    [got] = server.got
    assert "can be fetched" in got.part("plain")


async def test_a_user_is_told_that_the_password_was_changed(
    pool: Pool, tasks: MailTasks, server: MailServer, alice: Credentials
) -> None:
    await password_resets.ask(pool, username="alice")
    await pool.fetch("delete from jobs")
    await accounts.change_password(pool, alice.user, alice.device, "no password", "other", ends_others=False)
    assert await pool.fetch("select count(token_hash) from password_resets") == [(0,)]
    assert await waiting(pool) == ["password_changed"]
    await run_jobs(pool, tasks)
    assert "password of your account" in server.got[-1].part("plain")
