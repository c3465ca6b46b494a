"""How often a user is notified, when other devices are, and when a notice is withdrawn. Time passes in Postgres
alone."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import UUID

import pytest
import trio

from client.http import Credentials
from jobs.notifiers.notifier import Notice, NotifyError
from store import contacts, conversations, devices, emails, outbox, participants, profiles, revisions
from store import notifiers as store
from store.marks import Mark, mark
from store.notifiers import ApnsTarget, EmailTarget, FcmTarget, Target, WebhookTarget
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.quiet_hours import set_quiet_hours
from tests.jobs.jobs_world import a_job, send_message
from tests.jobs.notice_world import PAUSES_S, READ_AFTER_S, WINDOW_S, NoticeWorld, night_now
from tests.people import new_device, new_direct, new_group, new_user

HOOK: Final = WebhookTarget("https://hook.example/", "whsec_")
PHONE: Final = ApnsTarget("a1b2")
DEPLOYMENT: Final = "https://deployment.example/"
MAIL: Final = "bob@alo.example"
A_WHILE_S: Final = WINDOW_S + 1


class NotifiedConversation(NamedTuple):
    """Alice writes to Bob, who has a desktop, a phone, and a notifier of each kind."""

    world: NoticeWorld
    pool: Pool
    alice: Credentials
    bob: Credentials
    phone: Credentials
    conversation: bytes

    async def say(self, *contents: bytes) -> int:
        return await send_message(self.pool, self.conversation, self.alice.user, *contents)

    async def mark(self, device: Credentials, *, read: bool = False, upto: int = 2**40, where: bytes = b"") -> None:
        given = Mark(self.bob.user, where or self.conversation, upto, upto if read else 0, device.device)
        assert (await mark(self.pool, [[given]])).outcomes == [None]

    @property
    def told(self) -> dict[str, list[int]]:
        """The unread counts in Bob's notices, by place, in order."""
        told: dict[str, list[int]] = {}
        for place, notice in self.world.recorder.told:
            if notice.user.bytes == self.bob.user:
                told.setdefault(place, []).append(notice.unread)
        for address, _, _, values in self.world.mailer.sent:
            told.setdefault(address, []).append(int(values["unread"]))
        return told

    async def shown(self) -> int:
        """How many notices are shown, and checked again."""
        shown = "select count(*) from notices where user_id = %s and look is not null"
        [(count,)] = await self.pool.fetch(shown, (uuid(self.bob.user),))
        return int(count)

    @property
    def withdrawn(self) -> list[str]:
        return sorted(place for place, notice in self.world.recorder.withdrawn if notice.user.bytes == self.bob.user)

    def forget(self) -> None:
        """Forget the notices so far."""
        self.world.recorder.told.clear()
        self.world.recorder.withdrawn.clear()
        self.world.mailer.sent.clear()


def told_in(places: Iterable[str], *counts: int) -> dict[str, list[int]]:
    """The value of `NotifiedConversation.told` if each of these places got notices with these counts."""
    return {place: list(counts) for place in places}


EVERYWHERE: Final = (DEPLOYMENT, HOOK.place, PHONE.place, "desktop", MAIL)


@pytest.fixture
async def talk(pool: Pool) -> NotifiedConversation:
    alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
    phone = await new_device(pool, bob.user, "phone")
    await verify(pool, bob, MAIL)
    targets: list[tuple[Target, bytes | None]] = [
        (HOOK, None),
        (EmailTarget(), None),
        (PHONE, phone.device),
        (FcmTarget("desktop"), bob.device),
    ]
    for target, device in targets:
        await store.add(pool, bob.user, target, device=device)
    await pool.fetch("delete from jobs")
    return NotifiedConversation(
        NoticeWorld(pool, deployment=DEPLOYMENT), pool, alice, bob, phone, await new_direct(pool, alice, bob)
    )


async def verify(pool: Pool, user: Credentials, address: str) -> None:
    await emails.put(pool, user.user, address, wants_digest=False, wants_device_notice=False, digest_hour=8, zone="UTC")
    mail = await emails.take_verification(pool, user.user)
    assert mail is not None
    await emails.verify(pool, mail.token)


async def read_in_private(talk: NotifiedConversation) -> None:
    await profiles.change(talk.pool, talk.bob.user, display_name=None, gives_receipts=False, shows_presence=None)


# One notice, then none


async def test_twelve_messages_in_36_s_are_one_notice_to_each_notifier_and_one_more_after_the_first_pause(
    talk: NotifiedConversation,
) -> None:
    for _ in range(12):
        await talk.say()
        await talk.world.later(3)
    assert talk.told == told_in(EVERYWHERE, 4)
    await talk.world.later(PAUSES_S[0] - 36)
    assert talk.told == told_in(EVERYWHERE, 4)
    await talk.world.later(WINDOW_S + 3)
    assert talk.told == told_in(EVERYWHERE, 4, 12)


async def test_pause_grows_while_nothing_is_taken_and_stays_what_it_was_last(talk: NotifiedConversation) -> None:
    """A message every sixth of a pause. The last pause repeats."""
    notices_at: list[float] = []
    now = 0.0
    for pause_s in (*PAUSES_S, PAUSES_S[-1], PAUSES_S[-1]):
        before = len(talk.told.get(PHONE.place, []))
        while len(talk.told.get(PHONE.place, [])) == before:
            await talk.say()
            await talk.world.later(pause_s / 6)
            now += pause_s / 6
        notices_at.append(now)
    gaps = [later - earlier for earlier, later in pairwise(notices_at)]
    for gap_s, pause_s in zip(gaps, (*PAUSES_S, PAUSES_S[-1]), strict=True):
        assert pause_s <= gap_s <= pause_s * 1.5 + WINDOW_S
    assert {place: len(counts) for place, counts in talk.told.items()} == dict.fromkeys(EVERYWHERE, len(notices_at))


async def test_after_the_pause_messages_that_the_notice_counted_cause_no_further_notice(
    talk: NotifiedConversation,
) -> None:
    """Messages that the notice counted cause no further notice, though their windows ended after it."""
    await talk.say(b"1")
    await talk.world.later(WINDOW_S - 1)
    await talk.say(b"2")
    await talk.world.later(2)
    assert talk.told == told_in(EVERYWHERE, 2)
    for _ in range(4):
        await talk.world.later(PAUSES_S[-1])
    assert talk.told == told_in(EVERYWHERE, 2)


async def takes(talk: NotifiedConversation) -> None:
    await talk.mark(talk.phone)


async def reads(talk: NotifiedConversation) -> None:
    await talk.mark(talk.phone, read=True)


async def reads_in_private(talk: NotifiedConversation) -> None:
    await read_in_private(talk)
    await talk.mark(talk.phone)
    await talk.mark(talk.phone, read=True)


async def answers(talk: NotifiedConversation) -> None:
    await send_message(talk.pool, talk.conversation, talk.bob.user)


async def reads_elsewhere(talk: NotifiedConversation) -> None:
    """A conversation other than that of the notice."""
    other = await new_group(talk.pool, talk.alice, talk.bob)
    await send_message(talk.pool, other, talk.alice.user)
    await talk.mark(talk.phone, read=True, where=other)


@pytest.mark.parametrize("comes_back", [takes, reads, reads_in_private, answers, reads_elsewhere])
async def test_user_who_was_back_is_notified_again_at_the_end_of_the_next_window(
    talk: NotifiedConversation, comes_back: Callable[[NotifiedConversation], Awaitable[None]]
) -> None:
    """The pauses begin with the first again."""
    for _ in range(2):
        await talk.say()
        await talk.world.later(PAUSES_S[0] + A_WHILE_S)
    assert [len(each) for each in talk.told.values()] == [2] * len(EVERYWHERE)
    await talk.say()
    await talk.world.later(A_WHILE_S)  # waits for the second pause, with a job that is due in ten minutes
    await comes_back(talk)
    talk.forget()
    await talk.say()
    await talk.world.later(A_WHILE_S)
    assert set(talk.told) == set(EVERYWHERE)
    await talk.say()
    await talk.world.later(PAUSES_S[0])
    await talk.world.later(A_WHILE_S)
    assert [len(each) for each in talk.told.values()] == [2] * len(EVERYWHERE)


async def is_added_and_removed(talk: NotifiedConversation) -> None:
    group = await new_group(talk.pool, talk.alice, await new_user(talk.pool, "carol"))
    await send_message(talk.pool, group, talk.alice.user, b"1", b"2", b"3")
    await participants.add(talk.pool, talk.alice.user, group, talk.bob.user)
    await talk.world.later(0)
    await participants.remove(talk.pool, talk.alice.user, group, talk.bob.user)


async def is_written_to_by_whom_he_blocks(talk: NotifiedConversation) -> None:
    eve = await new_user(talk.pool, "eve")
    silenced = await new_direct(talk.pool, eve, talk.bob)
    await contacts.set_blocked(talk.pool, talk.bob.user, eve.user, is_blocked=True)
    await send_message(talk.pool, silenced, eve.user, b"1", b"2")


async def others_mark(talk: NotifiedConversation) -> None:
    assert (await mark(talk.pool, [[Mark(talk.alice.user, talk.conversation, 2**40, 2**40)]])).outcomes == [None]


@pytest.mark.parametrize("happens", [is_added_and_removed, is_written_to_by_whom_he_blocks, others_mark])
async def test_actions_of_other_users_do_not_end_a_pause(
    talk: NotifiedConversation, happens: Callable[[NotifiedConversation], Awaitable[None]]
) -> None:
    """Otherwise a sender could make a user's phone ring at will."""
    await talk.say()
    await talk.world.later(A_WHILE_S)
    await happens(talk)
    await talk.say()
    await talk.world.later(A_WHILE_S)
    assert talk.told == told_in(EVERYWHERE, 1)


async def test_mark_that_comes_while_a_notice_is_sent_counts_as_coming_back_after_it(
    talk: NotifiedConversation,
) -> None:
    class Marking(type(talk.world.recorder)):  # type: ignore[misc]
        async def notify(self, target: Target, notice: Notice) -> None:
            await talk.mark(talk.phone)
            await super().notify(target, notice)

    talk.world.recorder.__class__ = Marking
    await talk.say()
    await talk.world.later(A_WHILE_S)
    [first] = talk.told.keys() - {MAIL}
    talk.world.recorder.__class__ = Marking.__base__
    await talk.say()
    await talk.world.later(A_WHILE_S)
    assert talk.told[first] == [1, 2]


async def test_each_notifier_has_pauses_of_its_own(talk: NotifiedConversation) -> None:
    """A notifier that was away is told once it is back; the others are not told again."""
    talk.world.recorder.faults[HOOK.place] = [NotifyError("status 500")] * 2
    await talk.say()
    await talk.world.later(A_WHILE_S)
    await talk.say()
    await talk.world.later(WINDOW_S + 51)
    assert HOOK.place not in talk.told
    talk.world.recorder.faults.clear()
    await talk.world.later(61)
    assert talk.told[HOOK.place] == [2]
    assert talk.told[PHONE.place] == [1, 2]


async def test_notifier_that_fails_is_not_called_more_often_for_the_windows_that_end_meanwhile(
    talk: NotifiedConversation,
) -> None:
    talk.world.recorder.faults[HOOK.place] = [NotifyError(f"status {n}") for n in range(500, 520)]
    await talk.say()
    await talk.world.later(A_WHILE_S)
    for _ in range(5):
        await talk.say()
        await talk.world.later(A_WHILE_S / 2)
    assert len(talk.world.recorder.faults[HOOK.place]) == 19


# Causes of no notice


async def delete_for_all(talk: NotifiedConversation, seq: int) -> None:
    await revisions.delete_for_everyone(talk.pool, talk.alice.user, talk.conversation, seq)


async def delete_for_oneself(talk: NotifiedConversation, seq: int) -> None:
    await revisions.delete_for_me(talk.pool, talk.bob.user, talk.conversation, seq)


async def read_it(talk: NotifiedConversation, seq: int) -> None:
    await talk.mark(talk.bob, read=True)


async def read_it_in_private(talk: NotifiedConversation, seq: int) -> None:
    await read_in_private(talk)
    await talk.mark(talk.bob, read=True)


async def block_the_sender(talk: NotifiedConversation, seq: int) -> None:
    await contacts.set_blocked(talk.pool, talk.bob.user, talk.alice.user, is_blocked=True)


async def mute_the_conversation(talk: NotifiedConversation, seq: int) -> None:
    await participants.mute(talk.pool, talk.bob.user, talk.conversation, seconds=3600)


async def leave(talk: NotifiedConversation, seq: int) -> None:
    await talk.pool.fetch("delete from participants where user_id = %s", (uuid(talk.bob.user),))


CAUSE_NONE: Final = [
    delete_for_all,
    delete_for_oneself,
    read_it,
    read_it_in_private,
    block_the_sender,
    mute_the_conversation,
    leave,
]


@pytest.mark.parametrize("window", ["debounce", "read"])
@pytest.mark.parametrize("happens", CAUSE_NONE)
async def test_message_that_is_gone_or_read_before_a_window_ends_causes_no_notice(
    talk: NotifiedConversation, happens: Callable[[NotifiedConversation, int], Awaitable[None]], window: str
) -> None:
    seq = await talk.say()
    if window == "read":
        await talk.mark(talk.bob)
        await talk.world.later(A_WHILE_S)
    await happens(talk, seq)
    for _ in range(3):
        await talk.world.later(READ_AFTER_S)
    assert talk.told == {}
    assert await talk.world.waiting() == []
    assert await talk.pool.fetch("select count(*) from read_windows") == [(0,)]


async def test_messages_of_a_sender_who_is_blocked_and_of_oneself_cause_no_notice(talk: NotifiedConversation) -> None:
    await send_message(talk.pool, talk.conversation, talk.bob.user)
    await contacts.set_blocked(talk.pool, talk.bob.user, talk.alice.user, is_blocked=True)
    await talk.say()
    for _ in range(3):
        await talk.world.later(READ_AFTER_S)
    assert talk.told == {}


async def test_first_message_that_is_deleted_does_not_keep_the_second_from_being_told_of(
    talk: NotifiedConversation,
) -> None:
    first = await talk.say()
    await talk.say()
    await delete_for_all(talk, first)
    await talk.world.later(A_WHILE_S)
    assert {place: len(counts) for place, counts in talk.told.items()} == dict.fromkeys(EVERYWHERE, 1)


# The read window


ELSEWHERE: Final = tuple(place for place in EVERYWHERE if place != "desktop")


async def test_other_devices_are_notified_of_delivered_messages_that_stay_unread_after_the_read_window(
    talk: NotifiedConversation,
) -> None:
    await talk.say(b"1", b"2")
    await talk.mark(talk.bob)
    await talk.world.later(A_WHILE_S)
    await talk.world.later(READ_AFTER_S - A_WHILE_S - 2)
    assert talk.told == {}
    await talk.world.later(3)
    assert talk.told == told_in(ELSEWHERE, 2)
    for _ in range(3):
        await talk.world.later(PAUSES_S[-1])
    assert talk.told == told_in(ELSEWHERE, 2)


async def test_a_message_that_the_phone_has_received_is_noticed_on_the_other_devices(
    talk: NotifiedConversation,
) -> None:
    await talk.say()
    await talk.mark(talk.phone)
    await talk.world.later(A_WHILE_S)
    await talk.world.later(READ_AFTER_S)
    assert set(talk.told) == set(EVERYWHERE) - {PHONE.place}


async def test_messages_that_a_desktop_takes_one_by_one_are_one_notice_to_the_phone_until_the_user_reads(
    talk: NotifiedConversation,
) -> None:
    """Deliveries to the desktop do not show that the user is back: they end no pause while messages are unread."""
    for _ in range(40):
        await talk.say()
        await talk.mark(talk.bob)
        await talk.world.later(4)
    assert len(talk.told[PHONE.place]) == 1
    await talk.mark(talk.bob, read=True)
    await talk.say()
    await talk.mark(talk.bob)
    await talk.world.later(A_WHILE_S)
    await talk.world.later(READ_AFTER_S - A_WHILE_S - 2)
    assert len(talk.told[PHONE.place]) == 1
    await talk.world.later(3)
    assert talk.told[PHONE.place][1:] == [1]
    assert "desktop" not in talk.told


@pytest.mark.parametrize("comes", ["before the notice is decided", "while it waits for its turn"])
async def test_delivery_before_a_notice_could_be_given_does_not_silence_it_for_good(
    talk: NotifiedConversation, comes: str
) -> None:
    """Undelivered at the end of the first window, so no second one was opened; then a desktop takes it."""
    await talk.say()
    await talk.pool.fetch("update outbox set created = created - interval '11 s'")
    assert await outbox.decide(talk.pool, window_s=WINDOW_S) == (1, 1)
    if comes == "while it waits for its turn":
        await talk.world.notices.offline_notice(a_job("offline_notice"), UUID(bytes=talk.bob.user))
        await talk.pool.fetch("delete from jobs where task = 'offline_notice'")
    await talk.mark(talk.bob)
    await talk.world.later(0)
    assert talk.told == {}
    await talk.world.later(READ_AFTER_S + 1)
    assert talk.told == told_in(ELSEWHERE, 1)
    for _ in range(3):
        await talk.world.later(PAUSES_S[-1])
    assert talk.told == told_in(ELSEWHERE, 1)
    assert await talk.world.waiting() == []
    assert await talk.pool.fetch("select count(*) from read_windows") == [(0,)]


async def ask_bob(talk: NotifiedConversation) -> bytes:
    stranger = await new_user(talk.pool, "stranger")
    conversation, _ = await conversations.add_direct(talk.pool, stranger.user, talk.bob.user)
    await send_message(talk.pool, conversation, stranger.user, b"first")
    return conversation


async def write_to_whom_one_blocks(talk: NotifiedConversation) -> bytes:
    await contacts.set_blocked(talk.pool, talk.alice.user, talk.bob.user, is_blocked=True)
    await talk.say(b"hello")
    return talk.conversation


@pytest.mark.parametrize("comes", [ask_bob, write_to_whom_one_blocks])
@pytest.mark.parametrize("is_put_off", [False, True])
async def test_a_message_that_one_device_receives_in_private_is_noticed_on_the_others_as_well(
    talk: NotifiedConversation, comes: Callable[[NotifiedConversation], Awaitable[bytes]], is_put_off: bool
) -> None:
    """In a request, and from a user who blocks this one: a silent phone would reveal the block."""
    where = await comes(talk)
    if is_put_off:
        await talk.world.end_window(talk.bob)
    await talk.mark(talk.bob, where=where)
    await talk.world.later(A_WHILE_S)
    assert talk.told == {}
    await talk.world.later(READ_AFTER_S)
    assert talk.told == told_in(set(EVERYWHERE) - {"desktop"}, 1)


async def test_notice_of_a_request_counts_it_as_one_message_whatever_follows(talk: NotifiedConversation) -> None:
    where = await ask_bob(talk)
    await talk.world.later(A_WHILE_S)
    assert talk.told == told_in(EVERYWHERE, 1)
    await talk.say(b"from a contact")
    [(stranger,)] = await talk.pool.fetch("select sender_id from messages where conversation_id = %s", (uuid(where),))
    for _ in range(3):
        await send_message(talk.pool, where, stranger, b"more")
    await talk.world.later(PAUSES_S[0])
    assert talk.told == told_in(EVERYWHERE, 1, 2)
    for _ in range(3):
        await send_message(talk.pool, where, stranger, b"still more")
        await talk.world.end_window(talk.bob)
        await talk.world.later(PAUSES_S[-1])
    assert talk.told == told_in(EVERYWHERE, 1, 2), "later messages of a request cause no notice"
    await talk.mark(talk.phone, read=True, where=where)
    await talk.say(b"once more")
    await talk.world.later(A_WHILE_S)
    assert talk.told == told_in(EVERYWHERE, 1, 2, 2)


async def test_in_quiet_hours_the_other_devices_are_told_at_their_end(talk: NotifiedConversation) -> None:
    await set_quiet_hours(talk.pool, talk.bob.user, night_now(lasts=600))
    await talk.say()
    await talk.mark(talk.bob)
    await talk.world.later(A_WHILE_S)
    await talk.world.later(READ_AFTER_S)
    assert talk.told == {}
    await set_quiet_hours(talk.pool, talk.bob.user, None)
    await talk.world.look()
    assert talk.told == told_in(ELSEWHERE, 1)


async def test_in_a_group_exactly_the_participants_with_unread_messages_are_notified(
    talk: NotifiedConversation,
) -> None:
    carol = await new_user(talk.pool, "carol")
    await store.add(talk.pool, carol.user, WebhookTarget("https://carol.example/", "whsec_"))
    group = await new_group(talk.pool, talk.alice, talk.bob, carol)
    await send_message(talk.pool, group, talk.alice.user, b"1", b"2")
    for user in (talk.bob, carol):
        given = Mark(user.user, group, 2**40, 2**40 if user is carol else 0, user.device)
        assert (await mark(talk.pool, [[given]])).outcomes == [None]
    await talk.world.later(A_WHILE_S)
    await talk.world.later(READ_AFTER_S)
    told = {place: notice for place, notice in talk.world.recorder.told if place != DEPLOYMENT}
    assert set(told) == {HOOK.place, PHONE.place}
    assert [notice.user.bytes for place, notice in talk.world.recorder.told if place == DEPLOYMENT] == [talk.bob.user]


async def test_workers_that_end_windows_at_once_decide_each_message_once(talk: NotifiedConversation) -> None:
    group = await new_group(talk.pool, talk.alice, talk.bob)
    for _ in range(30):
        await send_message(talk.pool, group, talk.alice.user)
    await talk.mark(talk.bob, where=group)
    decided: list[tuple[int, int]] = []

    async def run(step: Callable[..., Awaitable[tuple[int, int]]]) -> None:
        while (ended := await step(talk.pool, window_s=0))[0]:
            decided.append(ended)

    for step in (outbox.decide, outbox.end_read_windows):
        decided.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(run, step)
        assert sum(count for count, _ in decided) == 30
    assert await talk.pool.fetch("select task, key from jobs") == [("offline_notice", str(UUID(bytes=talk.bob.user)))]


# The counts


async def test_notice_says_how_many_messages_wait_in_how_many_conversations_as_the_list_does(
    talk: NotifiedConversation,
) -> None:
    """Without muted conversations."""
    group, muted = await new_group(talk.pool, talk.alice, talk.bob), await new_group(talk.pool, talk.alice, talk.bob)
    await participants.mute(talk.pool, talk.bob.user, muted, seconds=3600)
    await talk.say(*[secrets.token_bytes(8) for _ in range(5)])
    await talk.mark(talk.phone, read=True, upto=2)
    for _ in range(7):
        await send_message(talk.pool, group, talk.alice.user)
        await send_message(talk.pool, muted, talk.alice.user)
    await talk.world.later(A_WHILE_S)
    listed = await conversations.list_of(talk.pool, talk.bob.user, limit=9)
    counts = {each.conversation: each.unread_count for each in listed}
    assert counts == {talk.conversation: 3, group: 7, muted: 7}
    assert {(notice.unread, notice.conversations) for _, notice in talk.world.recorder.told} == {(10, 2)}
    assert [values for _, _, _, values in talk.world.mailer.sent] == [{"unread": "10", "conversations": "2"}]


# Withdrawals


WITHDRAWABLE: Final = sorted(place for place in EVERYWHERE if place != MAIL)


async def read_all(talk: NotifiedConversation) -> None:
    await talk.mark(talk.bob, read=True)


async def answer(talk: NotifiedConversation) -> None:
    await send_message(talk.pool, talk.conversation, talk.bob.user)


async def delete_all(talk: NotifiedConversation) -> None:
    for seq in (1, 2):
        await delete_for_all(talk, seq)


async def mute(talk: NotifiedConversation) -> None:
    await mute_the_conversation(talk, 0)


async def block(talk: NotifiedConversation) -> None:
    await block_the_sender(talk, 0)


@pytest.mark.parametrize("happens", [read_all, reads_in_private, answer, delete_all, mute, block, leave])
async def test_notice_is_withdrawn_everywhere_once_nothing_that_it_was_about_waits(
    talk: NotifiedConversation, happens: Callable[..., Awaitable[None]]
) -> None:
    """Once, under its name; a mail cannot be withdrawn."""
    await talk.say(b"1", b"2")
    await talk.world.later(A_WHILE_S)
    names = {notice.id for _, notice in talk.world.recorder.told}
    await (happens(talk, 0) if happens is leave else happens(talk))
    for _ in range(4):
        await talk.world.later(3600)
    assert talk.withdrawn == WITHDRAWABLE
    assert {notice.id for _, notice in talk.world.recorder.withdrawn} == names
    assert len(talk.world.mailer.sent) == 1
    assert await talk.world.waiting() == []
    assert await talk.shown() == 0


async def test_notice_stays_while_something_that_it_was_about_is_unread(talk: NotifiedConversation) -> None:
    group = await new_group(talk.pool, talk.alice, talk.bob)
    await send_message(talk.pool, group, talk.alice.user)
    await talk.say(b"1", b"2")
    await talk.world.later(A_WHILE_S)
    await talk.mark(talk.bob)
    await talk.mark(talk.bob, read=True, where=group)
    await talk.mark(talk.bob, read=True, upto=1)
    await talk.world.later(3600)
    assert talk.withdrawn == []
    await talk.mark(talk.bob, read=True)
    await talk.world.later(3600)
    assert talk.withdrawn == WITHDRAWABLE


async def test_notice_is_withdrawn_although_something_newer_waits(talk: NotifiedConversation) -> None:
    """The notice of that message comes at the end of its own window, and not before."""
    await talk.say()
    await talk.world.later(A_WHILE_S)
    await talk.mark(talk.bob, read=True)
    await talk.world.later(6)
    assert talk.withdrawn == WITHDRAWABLE
    talk.forget()
    await talk.say()
    await talk.mark(talk.bob)
    await talk.world.later(A_WHILE_S)
    assert talk.told == {}


async def test_withdrawal_in_quiet_hours_waits_for_nothing(talk: NotifiedConversation) -> None:
    await talk.say()
    await talk.world.later(A_WHILE_S)
    await set_quiet_hours(talk.pool, talk.bob.user, night_now(lasts=600))
    await talk.mark(talk.bob, read=True)
    await talk.world.later(6)
    assert talk.withdrawn == WITHDRAWABLE


async def test_withdrawal_that_fails_is_tried_again_and_no_notice_is_lost_for_it(talk: NotifiedConversation) -> None:
    await talk.say()
    await talk.world.later(A_WHILE_S)
    await talk.mark(talk.bob, read=True)
    talk.world.recorder.faults[HOOK.place] = [NotifyError("status 500")] * 2
    await talk.world.later(6)
    assert HOOK.place not in talk.withdrawn
    # Meanwhile another message comes: its notice replaces the one to be withdrawn.
    await talk.say()
    talk.forget()
    await talk.world.later(A_WHILE_S)
    await talk.world.later(61)
    await talk.world.later(61)
    assert talk.told == told_in(EVERYWHERE, 1)
    assert talk.withdrawn == []


async def test_withdrawal_that_was_given_up_is_asked_for_again_ever_less_often(talk: NotifiedConversation) -> None:
    await talk.say()
    await talk.world.later(A_WHILE_S)
    await talk.mark(talk.bob, read=True)
    final = [NotifyError("status 403", is_final=True) for _ in range(100)]
    talk.world.recorder.faults[HOOK.place] = list(final)
    for step_s in (*[3600] * 24, *[86400] * 50):
        await talk.world.later(step_s)
    asked = len(final) - len(talk.world.recorder.faults[HOOK.place])
    assert 2 <= asked <= 12
    assert await talk.shown() == 0


async def test_repeated_run_neither_tells_nor_withdraws_twice(talk: NotifiedConversation) -> None:
    """A worker dies after the call and before its job ends; another worker runs the job again."""
    await talk.say()
    await talk.world.later(A_WHILE_S)
    [(name, notifier)] = await talk.pool.fetch(
        "select s.name, n.id from notices s join notifiers n on n.id = s.notifier_id where n.kind = 'webhook'"
    )
    job = a_job("notify", id="7", attempt=2)
    await talk.world.notices.notify(job, UUID(bytes=notifier), UUID(bytes=talk.bob.user), name)
    assert talk.told[HOOK.place] == [1]
    await talk.mark(talk.bob, read=True)
    for _ in range(3):
        await talk.world.notices.notify(job, UUID(bytes=notifier), UUID(bytes=talk.bob.user), f"{name}-after")
    assert talk.withdrawn == [HOOK.place]


async def test_workers_that_look_at_notices_at_once_ask_for_each_withdrawal_once(talk: NotifiedConversation) -> None:
    await talk.say()
    await talk.world.later(A_WHILE_S)
    await talk.mark(talk.bob, read=True)
    await talk.pool.fetch("update notices set look = now() where look is not null")
    found: list[tuple[int, int]] = []

    async def look() -> None:
        found.append(await store.enqueue_withdrawals(talk.pool, limit=2))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(look)
    found.append(await store.enqueue_withdrawals(talk.pool, limit=100))
    assert [sum(each) for each in zip(*found, strict=True)] == [len(WITHDRAWABLE)] * 2


async def test_old_notices_are_looked_at_seldom(talk: NotifiedConversation) -> None:
    """Users who do not come back cost little: a tenth of a notice's age, at most an hour, at least 5 s."""
    await talk.say()
    for age_s, most_s in ((A_WHILE_S, 5.1), (100, 12), (86400, 3601)):
        await talk.world.later(age_s)
        await talk.pool.fetch("update notices set look = now() - interval '1 ms' where look is not null")
        await store.enqueue_withdrawals(talk.pool, limit=100)
        looks = "select extract(epoch from look - now())::float8 from notices where look is not null"
        left = [left_s for (left_s,) in await talk.pool.fetch(looks)]
        assert len(left) == len(WITHDRAWABLE)
        assert most_s * 0.7 <= min(left) <= max(left) <= most_s


async def test_notifier_that_is_removed_takes_what_it_was_told_along(talk: NotifiedConversation) -> None:
    await talk.say()
    await talk.world.later(A_WHILE_S)
    [hook] = [each for each in await store.notifiers_of(talk.pool, talk.bob.user) if each.target == HOOK]
    await store.remove(talk.pool, talk.bob.user, hook.notifier)
    await devices.revoke_device(talk.pool, talk.bob.user, talk.phone.device)
    await talk.mark(talk.bob, read=True)
    await talk.world.later(3600)
    assert talk.withdrawn == sorted({*WITHDRAWABLE} - {HOOK.place, PHONE.place})
    assert await talk.world.waiting() == []


async def test_notice_that_was_taken_by_a_notifier_that_is_gone_leaves_nothing(talk: NotifiedConversation) -> None:
    class Removing(type(talk.world.recorder)):  # type: ignore[misc]
        async def notify(self, target: Target, notice: Notice) -> None:
            await talk.pool.fetch("delete from notifiers where kind = 'webhook'")
            await super().notify(target, notice)

    talk.world.recorder.__class__ = Removing
    await talk.say()
    await talk.world.later(A_WHILE_S)
    assert await talk.pool.fetch(
        "select count(*) from notices s where s.notifier_id is not null and not exists"
        " (select from notifiers n where n.id = s.notifier_id)"
    ) == [(0,)]
