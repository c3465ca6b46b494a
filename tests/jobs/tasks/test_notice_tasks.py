"""The tasks of offline notices, job by job, on a real Postgres: which notifiers are told, and when none is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
import structlog

from client.http import Credentials
from jobs.engine.job import GiveUp, Snooze
from jobs.notifiers.notifier import Notice, NotifyError, TargetGone
from jobs.tasks import notices as notices_module
from protocol.frames import Message
from store import devices, emails, participants
from store import notifiers as store
from store.marks import Mark, mark
from store.notifiers import ApnsTarget, EmailTarget, FcmTarget, Target, WebhookTarget
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.quiet_hours import QuietHours, set_quiet_hours
from store.sync import sync
from tests.jobs.jobs_world import a_job, send_message
from tests.jobs.notice_world import NoticeWorld, RecordingNotifier, night_now
from tests.people import new_device, new_direct, new_group

FIRST, SECOND = WebhookTarget("https://first.example/", "whsec_"), WebhookTarget("https://second.example/", "whsec_")


@pytest.fixture
def world(pool: Pool) -> NoticeWorld:
    return NoticeWorld(pool)


@pytest.fixture
async def direct(pool: Pool, direct: bytes, bob: Credentials) -> bytes:
    """The direct conversation of alice and bob, who has one notifier."""
    await store.add(pool, bob.user, FIRST)
    return direct


Begin = Callable[[NoticeWorld, Pool, Credentials], Awaitable[None]]


async def end_window(world: NoticeWorld, pool: Pool, user: Credentials) -> None:
    """The job of the user's window waits now."""
    await world.end_window(user)


async def enqueue_notices(world: NoticeWorld, pool: Pool, user: Credentials) -> None:
    """The job of the user's window has run; the job of each notifier waits now."""
    await end_window(world, pool, user)
    await world.notices.offline_notice(a_job("offline_notice"), UUID(bytes=user.user))
    await pool.fetch("delete from jobs where task = 'offline_notice'")


async def delivered(pool: Pool, user: Credentials, conversation: bytes) -> None:
    assert (await mark(pool, [[Mark(user.user, conversation, 2**40)]])).outcomes == [None]


async def test_each_notifier_of_a_user_gets_one_notice_for_a_window(
    world: NoticeWorld, pool: Pool, people: list[Credentials]
) -> None:
    """One notice for any number of messages and conversations, and no notifier of other users."""
    alice, bob, carol = people
    for user, target in ((bob, FIRST), (bob, SECOND), (bob, ApnsTarget("a1b2")), (carol, FcmTarget("carols"))):
        device = user.device if isinstance(target, ApnsTarget | FcmTarget) else None
        await store.add(pool, user.user, target, device=device)
    await send_message(pool, await new_direct(pool, alice, bob), alice.user, b"1", b"2")
    await send_message(pool, await new_group(pool, carol, bob), carol.user, b"3")
    await world.notice(bob)
    assert world.recorder.places == ["a1b2", "https://first.example/", "https://second.example/"]
    assert {notice.user for _, notice in world.recorder.told} == {UUID(bytes=bob.user)}
    assert len({notice.id for _, notice in world.recorder.told}) == 1
    assert await world.waiting() == []


async def test_notifier_that_fails_neither_repeats_nor_delays_the_others(
    world: NoticeWorld, pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    for target in (FIRST, SECOND):
        await store.add(pool, bob.user, target)
    world.recorder.faults[FIRST.url] = [NotifyError("status 500"), NotifyError("status 501")]
    await send_message(pool, await new_direct(pool, alice, bob), alice.user)
    await world.notice(bob)
    assert world.recorder.places == [SECOND.url]
    for _ in range(2):
        await world.hurry()
        await world.run_due()
    assert world.recorder.places == [FIRST.url, SECOND.url]
    [(_, first), (_, second)] = world.recorder.told
    assert first == second


@pytest.mark.parametrize("when", ["before the window's end", "before the notifier's turn", "between two attempts"])
async def test_notice_is_cancelled_if_the_messages_were_delivered_meanwhile(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials, when: str
) -> None:
    await send_message(pool, direct, alice.user)
    await (end_window if when == "before the window's end" else enqueue_notices)(world, pool, bob)
    if when == "between two attempts":
        world.recorder.faults[FIRST.url] = [NotifyError("status 500")]
        await world.run_due()
        await world.hurry()
    await delivered(pool, bob, direct)
    assert [outcome for _, outcome in await world.run_due()] == ["done"]
    assert world.recorder.told == []
    assert await world.waiting() == []


async def test_user_who_comes_back_syncs_all_messages_and_is_not_notified_again(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials
) -> None:
    """The notice has no content, so it needs none."""
    held = await sync(pool, bob.user, None)
    assert not held.more
    await send_message(pool, direct, alice.user, b"1", b"2")
    await world.notice(bob)
    await send_message(pool, direct, alice.user, b"3")
    page = await sync(pool, bob.user, held.cursor)
    assert [push.content for push in page.pushes if isinstance(push, Message)] == [b"1", b"2", b"3"]
    await delivered(pool, bob, direct)
    await world.notice(bob)
    assert len(world.recorder.told) == 1


async def test_muted_conversations_and_unreadable_messages_cause_no_notice(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials
) -> None:
    muted, hidden = direct, await new_group(pool, alice, bob)
    await participants.mute(pool, bob.user, muted, seconds=3600)
    await send_message(pool, muted, alice.user)
    last = await send_message(pool, hidden, alice.user)
    await pool.fetch("update conversations set floor_seq = %s where id = %s", (last, uuid(hidden)))
    await world.notice(bob)
    assert world.recorder.told == []
    await participants.mute(pool, bob.user, muted, seconds=0)
    await world.notice(bob)
    assert world.recorder.places == [FIRST.url]


@pytest.mark.parametrize(
    "begin", [end_window, enqueue_notices], ids=["before the window's end", "before the notifier's turn"]
)
async def test_in_quiet_hours_a_notice_waits_for_their_end(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials, begin: Begin
) -> None:
    await send_message(pool, direct, alice.user)
    await begin(world, pool, bob)
    await set_quiet_hours(pool, bob.user, night_now(lasts=60))
    [(_, outcome)] = await world.run_due()
    assert isinstance(outcome, Snooze)
    assert 58 * 60 < outcome.delay_s <= 60 * 60
    if begin is end_window:
        # Messages of later windows wait with it.
        await world.end_window(bob)
    assert await world.run_due() == []
    await pool.fetch("delete from quiet_hours")
    await world.hurry()
    await world.run_due()
    assert world.recorder.places == [FIRST.url]


@pytest.mark.parametrize("other", [None, QuietHours(0, 1, "UTC")], ids=["none", "others"])
async def test_notice_that_waits_for_the_end_of_quiet_hours_looks_again_when_they_are_changed(
    world: NoticeWorld, pool: Pool, people: list[Credentials], other: QuietHours | None
) -> None:
    alice, bob, carol = people
    for user in (bob, carol):
        await store.add(pool, user.user, FIRST if user is bob else SECOND)
        await set_quiet_hours(pool, user.user, night_now(lasts=600))
        await send_message(pool, await new_direct(pool, alice, user), alice.user)
        await world.notice(user)
    if other is not None:
        now = datetime.now(UTC)
        minute = (now.hour * 60 + now.minute + 720) % 1440
        other = QuietHours(minute, (minute + 1) % 1440, "UTC")
    await set_quiet_hours(pool, bob.user, other)
    await world.run_due()
    assert world.recorder.places == [FIRST.url]
    [(_, left_s)] = await world.waiting()
    assert left_s > 9 * 3600


async def test_repeated_window_causes_no_second_notice_and_the_next_window_does(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials
) -> None:
    """A worker dies between enqueuing notices and ending its job; another worker runs the job again."""
    await send_message(pool, direct, alice.user)
    await world.end_window(bob)
    [(job,)] = await pool.fetch("select id from jobs")
    for _ in range(2):
        await world.notices.offline_notice(a_job("offline_notice", id=str(job)), UUID(bytes=bob.user))
        await pool.fetch("update jobs set due = 'infinity' where task = 'offline_notice'")
        await world.run_due()
    assert len(world.recorder.told) == 1
    # Messages come while the job runs, after the user was back: it runs again, under the same id.
    await delivered(pool, bob, direct)
    await send_message(pool, direct, alice.user)
    await world.end_window(bob)
    await world.hurry()
    await world.run_due()
    assert len({notice.id for _, notice in world.recorder.told}) == len(world.recorder.told) == 2


async def test_windows_of_a_notifier_that_is_away_are_one_notice_when_it_is_back(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials
) -> None:
    world.recorder.faults[FIRST.url] = [NotifyError("away")] * 3
    for _ in range(3):
        await send_message(pool, direct, alice.user)
        await world.end_window(bob)
        await world.hurry()
        await world.run_due()
    assert [task for task, _ in await world.waiting()] == ["notify"]
    await world.hurry()
    await world.run_due()
    assert len(world.recorder.told) == 1


async def test_target_that_is_gone_is_forgotten_unless_there_is_another_by_then(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials
) -> None:
    await store.add(pool, bob.user, SECOND)
    await send_message(pool, direct, alice.user)
    renewed = WebhookTarget(SECOND.url, "whsec_another")

    class Renewing(RecordingNotifier):
        async def notify(self, target: Target, notice: Notice) -> None:
            if target == SECOND:
                await store.add(pool, bob.user, renewed)
            raise TargetGone("status 410")

    world = NoticeWorld(pool, recorder=Renewing())
    await world.end_window(bob)
    assert [outcome for _, outcome in await world.run_due()] == ["done"] * 3
    assert [each.target for each in await store.notifiers_of(pool, bob.user)] == [renewed]


async def test_failures_are_kept_for_the_user_to_see_until_a_notice_is_taken(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials
) -> None:
    await send_message(pool, direct, alice.user)
    world.recorder.faults[FIRST.url] = [NotifyError("status 500"), NotifyError("status 501\0" + "x" * 1000)]
    await world.notice(bob)
    [first] = await store.notifiers_of(pool, bob.user)
    assert (first.last_error, first.failing_since is not None) == ("status 500", True)
    assert first.failing_since is not None
    assert first.failing_since % 60_000_000 == 0, "the minute alone: a time tells of names in the network"
    await world.hurry()
    await world.run_due()
    [second] = await store.notifiers_of(pool, bob.user)
    assert second.failing_since == first.failing_since
    assert second.last_error is not None
    assert second.last_error.startswith("status 501x")
    await world.hurry()
    await world.run_due()
    [third] = await store.notifiers_of(pool, bob.user)
    assert (third.failing_since, third.last_error) == (None, None)


@pytest.mark.parametrize(
    ("retry_after_s", "delay_s"), [(1, notices_module.MIN_RETRY_AFTER_S), (120, 120), (86400, 3600)]
)
async def test_service_that_asks_to_be_left_alone_is_and_that_is_no_failed_attempt(
    world: NoticeWorld,
    pool: Pool,
    direct: bytes,
    alice: Credentials,
    bob: Credentials,
    retry_after_s: float,
    delay_s: float,
) -> None:
    await send_message(pool, direct, alice.user)
    world.recorder.faults[FIRST.url] = [NotifyError("status 429", retry_after_s=retry_after_s) for _ in range(2)]
    await world.end_window(bob)
    outcomes = await world.run_due()
    assert isinstance(outcomes[-1][1], Snooze)
    assert outcomes[-1][1].delay_s == delay_s
    # But not for ever: each notice ends.
    await pool.fetch("update notifiers set failing_since = failing_since - interval '6 hours'")
    await world.hurry()
    [(_, outcome)] = await world.run_due()
    assert isinstance(outcome, NotifyError)


async def test_refusal_that_no_attempt_would_change_ends_the_job_and_keeps_the_notifier(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials
) -> None:
    await send_message(pool, direct, alice.user)
    world.recorder.faults[FIRST.url] = [NotifyError("status 403", is_final=True)]
    await world.end_window(bob)
    outcomes = await world.run_due()
    assert isinstance(outcomes[-1][1], GiveUp)
    assert [each.last_error for each in await store.notifiers_of(pool, bob.user)] == ["status 403"]


async def test_notifier_that_has_failed_for_a_fortnight_and_often_is_forgotten(
    world: NoticeWorld, pool: Pool, direct: bytes, alice: Credentials, bob: Credentials
) -> None:
    await send_message(pool, direct, alice.user)
    world.recorder.faults[FIRST.url] = [NotifyError("status 500")] * 3
    await world.notice(bob)
    await pool.fetch("update notifiers set failing_since = failing_since - interval '15 days'")
    await world.hurry()
    await world.run_due()
    assert len(await store.notifiers_of(pool, bob.user)) == 1
    await pool.fetch("update notifiers set failures = 19")
    await world.hurry()
    assert await world.run_due() == [("notify", "done")]
    assert await store.notifiers_of(pool, bob.user) == []


async def test_without_notifiers_and_webhook_the_log_names_the_user(
    world: NoticeWorld, pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    await send_message(pool, await new_direct(pool, alice, bob), alice.user)
    await world.end_window(bob)
    with structlog.testing.capture_logs() as logs:
        await world.run_due()
    assert [entry["user"] for entry in logs if entry["event"] == "offline_notice"] == [str(UUID(bytes=bob.user))]


async def test_deployments_webhook_is_told_of_each_user_besides_their_own_notifiers(
    pool: Pool, people: list[Credentials]
) -> None:
    """A failing notifier of one user does not delay those of others."""
    world = NoticeWorld(pool, deployment="https://deployment.example/")
    alice, bob, carol = people
    await store.add(pool, bob.user, FIRST)
    for user in (bob, carol):
        await send_message(pool, await new_direct(pool, alice, user), alice.user)
        await world.end_window(user)
    world.recorder.faults["https://deployment.example/"] = [NotifyError("status 500")]
    await world.run_due()
    await world.hurry()
    await world.run_due()
    told = [(place, notice.user.bytes) for place, notice in world.recorder.told]
    assert sorted(told) == sorted(
        [
            (FIRST.url, bob.user),
            ("https://deployment.example/", bob.user),
            ("https://deployment.example/", carol.user),
        ]
    )


async def test_notice_goes_to_the_address_that_the_user_has_verified_at_that_time(
    world: NoticeWorld, pool: Pool, people: list[Credentials]
) -> None:
    alice, bob, _ = people
    await store.add(pool, bob.user, EmailTarget())
    conversation = await new_direct(pool, alice, bob)
    settings = {"wants_digest": False, "wants_device_notice": False, "digest_hour": 8, "zone": "UTC"}
    for address, is_verified in (("", False), ("old@alo.example", True), ("new@alo.example", False)):
        if address:
            await emails.put(pool, bob.user, address, **settings)
        if is_verified:
            mail = await emails.take_verification(pool, bob.user)
            assert mail is not None
            await emails.verify(pool, mail.token)
        await send_message(pool, conversation, alice.user)
        await pool.fetch("delete from jobs where task = 'verify_email'")
        await world.notice(bob)
    assert [(to, template, values) for to, template, _, values in world.mailer.sent] == [
        ("old@alo.example", "offline_notice", {"unread": "2", "conversations": "1"})
    ]


async def test_device_that_was_revoked_is_told_nothing(
    world: NoticeWorld, pool: Pool, people: list[Credentials]
) -> None:
    """Even if its notice was enqueued before."""
    alice, bob, _ = people
    phone = await new_device(pool, bob.user)
    await store.add(pool, bob.user, ApnsTarget("a1b2"), device=phone.device)
    await send_message(pool, await new_direct(pool, alice, bob), alice.user)
    await enqueue_notices(world, pool, bob)
    await devices.revoke_device(pool, bob.user, phone.device)
    await world.run_due()
    assert world.recorder.told == []
    assert await store.notifiers_of(pool, bob.user) == []


async def test_notice_for_a_user_or_notifier_that_is_not_there_ends(world: NoticeWorld) -> None:
    nobody, job = UUID(int=1), a_job("notify")
    await world.notices.offline_notice(job, nobody)
    await world.notices.notify(job, nobody, nobody, "1-1")


def test_payload_names_user_and_notifier_and_has_no_content(world: NoticeWorld) -> None:
    """A job carries only the arguments of its handler."""
    fields = {name: set(task.argument_names) for name, task in world.tasks.items()}
    assert fields == {
        "offline_notice": {"user"},
        "notify": {"notifier", "user", "notice"},
    }
