"""The offline notice, from the commit of a message to the webhook's answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
import trio

from client.http import Credentials
from jobs.notifiers import calls
from jobs.tasks import registry
from store import notifiers, outbox
from store.marks import Mark, mark
from store.notifiers import ApnsTarget, FcmTarget, WebhookTarget
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.jobs.jobs_world import Hook, outbox_empty, outbox_rows, send_message
from tests.jobs.push_services import (
    AppleService,
    GoogleService,
    PushService,
    Service,
    Subscription,
    Trust,
    open_services,
)
from tests.people import new_direct, new_group, new_user
from tests.waiting import wait_until

StartWorker = Callable[..., Awaitable[Any]]


async def mark_all(pool: Pool, user: Credentials, conversation: bytes) -> None:
    assert (await mark(pool, [[Mark(user.user, conversation, 2**40)]])).outcomes == [None]


async def work(pool: Pool, start_worker: StartWorker, **settings: Any) -> None:
    """Start a worker; return once it has dealt with all that waits."""
    await start_worker(**settings)
    await outbox_empty(pool)


async def test_notice_comes_after_the_window_and_not_before(
    pool: Pool, hook: Hook, direct: bytes, alice: Credentials, bob: Credentials, start_worker: StartWorker
) -> None:
    await start_worker(window_s=0.7)
    before = trio.current_time()
    await send_message(pool, direct, alice.user)
    await hook.wait_calls(1)
    assert trio.current_time() - before >= 0.7
    assert hook.users == [bob.user]


async def test_a_message_delivered_within_the_window_causes_no_notice(
    pool: Pool, hook: Hook, direct: bytes, alice: Credentials, bob: Credentials, start_worker: StartWorker
) -> None:
    await start_worker(window_s=0.3)
    await send_message(pool, direct, alice.user)
    await mark_all(pool, bob, direct)
    await outbox_empty(pool)
    assert hook.got == []


async def test_a_message_delivered_before_the_job_ran_causes_no_notice(
    pool: Pool, hook: Hook, direct: bytes, alice: Credentials, bob: Credentials, start_worker: StartWorker
) -> None:
    """Enqueued, then delivered: the job checks again."""
    await send_message(pool, direct, alice.user)
    assert await outbox.decide(pool, window_s=0) == (1, 1)
    await mark_all(pool, bob, direct)
    await work(pool, start_worker)
    assert hook.got == []


async def test_all_recipients_without_the_message_are_notified_and_the_sender_is_not(
    pool: Pool, hook: Hook, alice: Credentials, bob: Credentials, carol: Credentials, start_worker: StartWorker
) -> None:
    dave = await new_user(pool, "dave")
    group = await new_group(pool, alice, bob, carol, dave)
    await send_message(pool, group, alice.user)
    await mark_all(pool, bob, group)
    await work(pool, start_worker)
    assert sorted(hook.users) == sorted([carol.user, dave.user])


async def test_participant_who_joined_later_is_not_notified_of_earlier_messages(
    pool: Pool, hook: Hook, alice: Credentials, bob: Credentials, start_worker: StartWorker
) -> None:
    group = await new_group(pool, alice, bob)
    seq = await send_message(pool, group, alice.user)
    await pool.fetch(
        "update participants set joined_seq = %s, since_seq = %s where user_id = %s", (seq, seq, uuid(bob.user))
    )
    await work(pool, start_worker)
    assert hook.got == []


async def test_messages_of_several_conversations_are_one_notice(
    pool: Pool, hook: Hook, alice: Credentials, bob: Credentials, carol: Credentials, start_worker: StartWorker
) -> None:
    dave = await new_user(pool, "dave")
    for sender in (alice, carol, dave):
        await send_message(pool, await new_direct(pool, sender, bob), sender.user, b"1", b"2", b"3")
    await pool.fetch("update outbox set created = created - interval '1 hour'")  # so that all windows end at once
    await work(pool, start_worker)
    assert hook.users == [bob.user]


async def test_notice_says_nothing_of_what_was_sent_or_where(
    pool: Pool, hook: Hook, direct: bytes, alice: Credentials, bob: Credentials, start_worker: StartWorker
) -> None:
    await send_message(pool, direct, alice.user, b"the ciphertext")
    await start_worker()
    [body] = await hook.wait_calls(1)
    told = json.loads(body)
    assert set(told) == {"type", "notice", "user", "unread", "conversations"}
    assert (told["type"], UUID(told["user"]).bytes) == ("offline_notice", bob.user)
    assert (told["unread"], told["conversations"]) == (1, 1)
    everything = body + repr(hook.headers)
    for secret in (direct.hex(), str(UUID(bytes=direct)), alice.user.hex(), "ciphertext"):
        assert secret not in everything


async def test_row_lives_until_the_webhook_has_taken_the_notice(
    pool: Pool, hook: Hook, direct: bytes, alice: Credentials, start_worker: StartWorker
) -> None:
    await send_message(pool, direct, alice.user)
    hook.hanging = trio.Event()
    await start_worker()
    await hook.wait_calls(1)
    assert await outbox_rows(pool) == 1
    hook.hanging.set()
    await outbox_empty(pool)


async def test_refused_notice_is_repeated_under_its_name_with_back_off(
    pool: Pool,
    hook: Hook,
    direct: bytes,
    alice: Credentials,
    start_worker: StartWorker,
) -> None:
    """Any status except 2xx is a refusal, redirects included. The repetition has the same id, so receivers can ignore
    it."""
    await send_message(pool, direct, alice.user)
    hook.answers = [500, 302, 404, 429]
    await work(pool, start_worker)
    assert len(hook.got) == 5
    assert len(set(hook.got)) == 1


@pytest.mark.parametrize("fault", ["hanging", "dripping"])
async def test_webhook_that_does_not_come_to_an_end_is_given_up_in_time(
    pool: Pool,
    hook: Hook,
    direct: bytes,
    alice: Credentials,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """The deadline is for the whole call: an answer that trickles is never silent for long enough to be noticed."""
    monkeypatch.setattr(calls, "TIMEOUT_S", 0.2)
    await send_message(pool, direct, alice.user)
    setattr(hook, fault, trio.Event() if fault == "hanging" else True)
    await start_worker()
    await hook.wait_calls(2)
    hook.hanging, hook.dripping = None, False
    await outbox_empty(pool)
    assert len(set(hook.got)) == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://no-such-host.invalid/", "http://[bad", "http://host:port/", "nonsense"]
)
async def test_webhook_that_cannot_be_called_is_a_failed_attempt(
    pool: Pool, direct: bytes, alice: Credentials, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(registry, "NOTICE_ATTEMPTS", 1)
    await send_message(pool, direct, alice.user)
    await work(pool, start_worker, webhook=url)
    assert await pool.fetch("select task, attempts from dead_jobs") == [("notify", 1)]


async def test_notice_that_fails_for_good_is_buried_with_its_reason_and_the_next_one_lives(
    pool: Pool,
    hook: Hook,
    direct: bytes,
    alice: Credentials,
    bob: Credentials,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "NOTICE_ATTEMPTS", 3)
    await send_message(pool, direct, alice.user)
    hook.answers = [500, 501, 502]
    await work(pool, start_worker)
    assert len(hook.got) == 3
    notice = json.loads(hook.got[0])["notice"]
    assert await pool.fetch("select task, payload, attempts, reason from dead_jobs") == [
        (
            "notify",
            {"user": str(UUID(bytes=bob.user)), "notifier": None, "notice": notice},
            3,
            "NotifyError: status 502",
        )
    ]
    await send_message(pool, direct, alice.user)
    await outbox_empty(pool)
    assert hook.users == [bob.user] * 4
    assert await pool.fetch("select count(*) from dead_jobs") == [(1,)]


async def test_a_message_sent_while_a_notice_is_under_way_is_noticed_after_a_pause(
    pool: Pool, hook: Hook, direct: bytes, alice: Credentials, bob: Credentials, start_worker: StartWorker
) -> None:
    await send_message(pool, direct, alice.user)
    hook.hanging = trio.Event()
    await start_worker(notice_pauses_s="0.3")
    await hook.wait_calls(1)
    await send_message(pool, direct, alice.user)

    async def merged() -> bool:
        return bool(await pool.fetch("select 1 from jobs where task = 'notify' and version = 2"))

    await wait_until(merged, "the second message's window has ended")
    hook.hanging.set()
    await hook.wait_calls(2)
    await outbox_empty(pool)
    assert hook.users == [bob.user] * 2
    assert len({json.loads(body)["notice"] for body in hook.got}) == 2
    assert [json.loads(body)["unread"] for body in hook.got] == [1, 2]


async def test_each_notifier_of_a_user_is_told_once_by_a_worker_that_has_its_keys(
    pool: Pool,
    hook: Hook,
    direct: bytes,
    alice: Credentials,
    bob: Credentials,
    start_worker: StartWorker,
    trust: Trust,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All kinds together; each double checks its calls as the real service does."""
    monkeypatch.setenv("SSL_CERT_FILE", str(trust.authority))
    web, apple, google, own = PushService(), AppleService(), GoogleService(), Service()
    async with open_services(trust, web, apple, google, own) as settings:
        browser = Subscription(f"{web.url}/push/1")
        for target in (browser.target, ApnsTarget("a1b2"), FcmTarget("device-1")):
            await notifiers.add(pool, bob.user, target, device=bob.device)
        await notifiers.add(pool, bob.user, WebhookTarget(f"{own.url}/hook", "whsec_" + "A" * 32))
        await send_message(pool, direct, alice.user, b"1", b"2")
        _, worker = await start_worker(**settings)
        await outbox_empty(pool)
        worker.cancel()
        assert [len(each.calls) for each in (web, apple, own)] == [1, 1, 1]
        assert [call.path for call in google.calls] == ["/token", "/v1/projects/alo/messages:send"]
        notice = json.loads(hook.got[0])["notice"]
        assert browser.read(web.calls[0])["notice"] == apple.calls[0].json["notice"] == notice
        assert google.calls[1].json["message"]["data"]["notice"] == own.calls[0].json["notice"] == notice
    assert [each.last_error for each in await notifiers.notifiers_of(pool, bob.user)] == [None] * 4


async def test_delivered_message_that_stays_unread_is_noticed_after_the_read_window(
    pool: Pool, hook: Hook, direct: bytes, alice: Credentials, bob: Credentials, start_worker: StartWorker
) -> None:
    before = trio.current_time()
    seq = await send_message(pool, direct, alice.user)
    await mark(pool, [[Mark(bob.user, direct, seq, 0, bob.device)]])
    await start_worker(read_notice_after_s=0.7)
    await hook.wait_calls(1)
    assert trio.current_time() - before >= 0.7
    assert hook.users == [bob.user]
    await outbox_empty(pool)


async def test_notice_is_withdrawn_once_its_user_has_read_what_it_was_about(
    pool: Pool, hook: Hook, direct: bytes, alice: Credentials, bob: Credentials, start_worker: StartWorker
) -> None:
    seq = await send_message(pool, direct, alice.user)
    await start_worker()
    await hook.wait_calls(1)
    await mark(pool, [[Mark(bob.user, direct, seq, seq)]])
    told, withdrawn = map(json.loads, await hook.wait_calls(2))
    assert withdrawn == {"type": "withdrawn", "notice": told["notice"], "user": told["user"]}
    await outbox_empty(pool)
    assert len(hook.got) == 2


async def test_two_workers_tell_each_of_many_users_once(
    pool: Pool, hook: Hook, alice: Credentials, start_worker: StartWorker
) -> None:
    users = [await new_user(pool, f"user{n}") for n in range(100)]
    group = await new_group(pool, alice, *users)
    await start_worker()
    await start_worker()
    await send_message(pool, group, alice.user, b"1", b"2", b"3")
    await hook.wait_calls(100)
    await outbox_empty(pool)
    assert sorted(hook.users) == sorted(user.user for user in users)


async def test_window_of_one_message_does_not_hold_up_the_end_of_another(
    pool: Pool, hook: Hook, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    """Windows that are over end, the oldest first; others stay."""
    await send_message(pool, await new_direct(pool, alice, bob), alice.user)
    await pool.fetch("update outbox set created = created - interval '1 hour'")
    await send_message(pool, await new_direct(pool, alice, carol), alice.user)
    assert await outbox.decide(pool, window_s=60) == (1, 1)
    assert await outbox.decide(pool, window_s=60) == (0, 0)
    assert await pool.fetch("select key from jobs where task = 'offline_notice'") == [(str(UUID(bytes=bob.user)),)]
