from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from client.connection import CLOSE_TIMEOUT_S
from client.errors import ConnectionLost, OutcomeUnknown, RequestRefused, Unreachable
from client.http import Credentials
from client.mailbox import Mailbox
from client.mark_sender import MARK_INTERVAL_S
from client.renewal import MemoryLogin
from client.requests import SYNC_TIMEOUT_S
from client.session import Session, open_session
from client.signs import Sign
from client.synchronizer import GAP_PATIENCE_S
from protocol import limits
from protocol.codes import CloseCode
from protocol.errors import LocalProtocolError
from protocol.frames import (
    Bye,
    Cursor,
    Delete,
    Edit,
    Frame,
    Hello,
    History,
    Lag,
    MarkDelivered,
    Message,
    Move,
    Presence,
    Refresh,
    Request,
    Send,
    Sync,
    Tombstone,
    Typing,
    Watch,
)
from tests.client.client_world import (
    CREDENTIALS,
    GATEWAY,
    GROUP,
    HOUR_US,
    ME,
    OTHER,
    SECOND_GATEWAY,
    TALK,
    ClientWorld,
    Link,
    close,
    message,
    no_reply,
    refuse,
)
from tests.waiting import let_pass, wait_until

URLS = [GATEWAY, SECOND_GATEWAY]
PATIENCE_S = 120.0


@asynccontextmanager
async def open_caught_up(**options: Any) -> AsyncGenerator[Session, None]:
    async with open_session(URLS, CREDENTIALS, **options) as session:
        await session.wait_caught_up()
        yield session


async def take_three(session: Session, world: ClientWorld) -> None:
    """Three messages come, and the session holds them."""
    for _ in range(3):
        await world.post(TALK)
    await take(session, 3)


async def take(session: Session, count: int) -> list[Message | Tombstone]:
    """The next messages; fails if they don't come."""
    with trio.fail_after(PATIENCE_S):
        return [await anext(session.messages) for _ in range(count)]


def equals_a_fresh_fetch(session: Session, world: ClientWorld) -> bool:
    return all(list(session.mailbox.messages(key)) == held for key, held in world.history.items())


async def test_a_device_that_holds_nothing_begins_with_the_last_messages(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    conversations = [bytes([number]) * 16 for number in range(5)]
    last = [[world.store(conversation) for _ in range(3)][-1] for conversation in conversations]
    async with open_caught_up() as session:
        assert sorted(await take(session, 5), key=key_of) == sorted(last, key=key_of)
        assert session.mailbox.older_before(conversations[0]) == 3
        assert await session.load_older(conversations[0], 10)
        assert list(session.mailbox.messages(conversations[0])) == world.history[conversations[0]]
        assert not await session.load_older(conversations[0], 10)


def key_of(entry: Message | Tombstone) -> tuple[bytes, int]:
    return entry.conversation, entry.seq


@pytest.mark.parametrize(("messages", "syncs"), [(3, 0), (30, 4)])
async def test_catches_up_over_all_pages_with_the_cursor_that_it_holds(
    world: ClientWorld, autojump_clock: MockClock, messages: int, syncs: int
) -> None:
    """The client gets 16 pages for each round trip, including the one of its hello."""
    conversations = [bytes([number]) * 16 for number in range(5)]
    mailbox = Mailbox(ME)
    async with open_session(URLS, CREDENTIALS, mailbox=mailbox) as session:
        await session.wait_caught_up()
    world.page = 2
    for conversation in conversations:
        for _ in range(messages):
            world.store(conversation)
    asked = len(world.requests)
    async with open_caught_up(mailbox=mailbox) as session:
        assert len(await take(session, 5 * messages)) == 5 * messages
        assert equals_a_fresh_fetch(session, world)
    assert [type(frame) for frame in world.requests[asked:] if not isinstance(frame, MarkDelivered)] == [
        Hello,
        *[Sync] * syncs,
        Bye,
    ]


async def test_a_device_that_resumes_knows_at_once_that_nothing_is_missing(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    """The race: the client reads pushes right behind `welcome` before the session knows of the connection."""
    mailbox = Mailbox(ME)
    async with open_session(URLS, CREDENTIALS, mailbox=mailbox) as session:
        await session.wait_caught_up()
    world.store(TALK)
    async with open_session(URLS, CREDENTIALS, mailbox=mailbox) as session:
        began = trio.current_time()
        await session.wait_caught_up()
        assert trio.current_time() == began
        assert equals_a_fresh_fetch(session, world)


async def test_edits_and_deletions_take_the_place_of_what_is_held(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    async with open_caught_up() as session:
        await take_three(session, world)
        live = world.change(TALK, 1, b"edited")
        await world.push(live)
        assert await take(session, 1) == [live]
        await world.link.close(CloseCode.GOING_AWAY)
        missed = [world.change(TALK, 2, None), world.change(TALK, 3, b"late")]
        assert await take(session, 2) == missed
        assert equals_a_fresh_fetch(session, world)


async def test_own_edits_and_deletions_are_held_at_once_and_survive_a_lost_reply(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    world.faults[Edit].append(close(CloseCode.SERVER_ERROR))
    world.faults[Delete].append(refuse("unavailable", 50))
    async with open_caught_up() as session:
        for content in (b"frist", b"second"):
            await session.send(TALK, content, content_type="text/plain")
        await session.wait_caught_up()
        first, second = session.mailbox.messages(TALK)
        assert isinstance(first, Message)
        assert (await session.edit(first, b"first")).revision == 1
        await session.delete(second, for_everyone=True)
        held = session.mailbox.messages(TALK)
        assert isinstance(held[0], Message)
        assert (held[0].content, held[0].revision) == (b"first", 1)
        assert isinstance(held[1], Tombstone)


async def test_lag_is_answered_by_sync(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_caught_up() as session:
        world.is_deaf = True
        missed = [await world.post(TALK) for _ in range(3)]
        await world.link.say(Lag([(TALK, 3)]))
        assert await take(session, 3) == missed


async def test_a_cursor_of_another_history_is_dropped_with_all_that_came_by_it(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    mailbox = Mailbox(ME)
    async with open_caught_up(mailbox=mailbox) as session:
        await world.post(GROUP)
        await take(session, 1)
    world.begin_anew()
    last = world.store(TALK)
    async with open_session(URLS, CREDENTIALS, mailbox=mailbox) as session:
        assert await take(session, 1) == [last]
        await session.wait_caught_up()
        assert not session.mailbox.messages(GROUP)
    assert [frame.cursor is None for frame in world.requests if isinstance(frame, Sync)] == [True, False, False, True]


async def test_plaintexts_outlive_the_history_that_they_came_by(world: ClientWorld, autojump_clock: MockClock) -> None:
    mailbox = Mailbox(ME)
    async with open_caught_up(mailbox=mailbox) as session:
        said = await world.post(TALK, b"ciphertext")
        await take(session, 1)
    mailbox.plaintexts.keep(said, b"plaintext")
    world.begin_anew()
    for _ in range(2):
        world.store(TALK)
    moved = world.history[TALK][1] = replace(said, seq=2)
    async with open_session(URLS, CREDENTIALS, mailbox=mailbox) as session:
        await session.wait_caught_up()
        assert session.mailbox.messages(TALK) == [moved]
        assert session.mailbox.plaintexts.of(moved) == b"plaintext"


async def test_a_token_is_renewed_before_it_expires_and_used_from_then_on(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    world.lifetime_us = HOUR_US
    kept: list[Credentials] = []

    class RecordedLogin(MemoryLogin):
        def save(self, credentials: Credentials) -> None:
            super().save(credentials)
            kept.append(credentials)

    world.faults[Refresh].append(refuse("unavailable", 50))
    async with open_caught_up(login=RecordedLogin(CREDENTIALS)):
        await let_pass(2 * 3600, why="the token is renewed several times")
        assert world.dialled == [GATEWAY], "the connection lives on"
        latest = kept[-1].token
        await world.link.close(CloseCode.GOING_AWAY)
        await let_pass(60, why="the session reconnects")
    assert [each.token for each in kept] == world.tokens[1:]
    assert 2 <= len(kept) <= 5
    assert [frame.token for frame in world.requests if isinstance(frame, Hello)] == ["token", latest]


@pytest.mark.parametrize(("age_s", "due_s"), [(0.0, 600.0), (200.0, 400.0), (1200.0, 0.0), (None, 0.0)])
async def test_after_a_restart_the_age_of_the_stored_token_counts(
    world: ClientWorld,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    age_s: float | None,
    due_s: float,
) -> None:
    monkeypatch.setattr("client.link.RENEW_S", 600.0)
    now_s = 1_700_000_000
    world.told["created"] = now_s * 1_000_000
    world.lifetime_us = 4_000_000_000_000_000
    login = MemoryLogin(replace(CREDENTIALS, renewed=0.0 if age_s is None else now_s - age_s))
    async with open_session(URLS, login.load() or CREDENTIALS, login=login) as session:
        await session.wait_online()
        if due_s:
            await let_pass(due_s - 60, why="the token is almost old enough")
            assert len(world.tokens) == 1
        await let_pass(120, why="the token is old enough")
        assert len(world.tokens) == 2


@pytest.mark.parametrize("is_renewed", [True, False])
async def test_a_session_that_shows_an_ended_token_goes_on_with_the_stored_one_if_that_is_another(
    world: ClientWorld, autojump_clock: MockClock, is_renewed: bool
) -> None:
    """The connection was not told of the renewal by another program, and ends at the time that it was told."""
    login = MemoryLogin(CREDENTIALS)
    session = Session(URLS, CREDENTIALS, login=login)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(ConnectionLost) as lost:
                await session.run()
            assert lost.value.close_code == CloseCode.TOKEN_EXPIRED.value

        nursery.start_soon(run)
        await session.wait_caught_up()
        if is_renewed:
            login.save(replace(CREDENTIALS, token="by another"))
        await world.link.close(CloseCode.TOKEN_EXPIRED)
        if is_renewed:
            await let_pass(60, why="the session reconnects")
            assert session.is_online
            await world.link.close(CloseCode.TOKEN_EXPIRED)
    shown = [frame.token for frame in world.requests if isinstance(frame, Hello)]
    assert shown == (["token", "by another"] if is_renewed else ["token"])


async def test_a_push_arrives(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_caught_up() as session:
        pushed = await world.post(TALK, b"hello")
        assert await take(session, 1) == [pushed]


async def test_duplicates_and_overtaking_pushes_arrive_once_and_in_order(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    async with open_caught_up() as session:
        asked = len(world.requests)
        stored = [world.store(TALK) for _ in range(3)]
        await world.push(stored[2], stored[0], stored[2], stored[0], stored[1])
        assert await take(session, 3) == stored
        await let_pass(10 * GAP_PATIENCE_S, why="the gap would have been filled from history")
        assert not [frame for frame in world.requests[asked:] if isinstance(frame, History)], "the gap closed by itself"


async def test_a_gap_that_lasts_is_fetched(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_caught_up() as session:
        first = await world.post(TALK)
        assert await take(session, 1) == [first]
        lost = world.store(TALK)
        before = trio.current_time()
        third = await world.post(TALK)
        assert await take(session, 2) == [lost, third]
        assert trio.current_time() - before == pytest.approx(GAP_PATIENCE_S)


async def test_a_push_of_an_unknown_conversation_is_looked_up(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_caught_up() as session:
        for _ in range(4):
            world.store(GROUP)
        world.first_seq[GROUP] = 3
        await world.push(world.history[GROUP][3])
        assert [held.seq for held in await take(session, 2)] == [3, 4]


async def test_a_conversation_that_is_not_ours_to_see_holds_nothing_up(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    async with open_caught_up() as session:
        await world.push(message(GROUP, 5))
        pushed = await world.post(TALK)
        assert await take(session, 1) == [pushed]
        await let_pass(60, why="the client would ask again and again for a conversation that it expects")
        assert not session.mailbox.messages(GROUP)
        assert session.is_caught_up
        assert await world.post(TALK) in await take(session, 1)
        assert len([frame for frame in world.requests if isinstance(frame, Sync)]) == 2, (
            "one at first, one for the push"
        )


async def test_a_gap_that_history_does_not_show_yet_is_asked_for_less_and_less(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    async with open_caught_up() as session:
        await world.post(TALK)
        await world.push(message(TALK, 3))
        asked = len(world.requests)
        await let_pass(60, why="the client asks for the missing message again and again")
        assert 3 < len([frame for frame in world.requests[asked:] if isinstance(frame, History)]) < 40
        world.store(TALK)
        world.store(TALK)
        assert len(await take(session, 3)) == 3


async def test_own_sends_enter_the_mailbox(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_session(URLS, CREDENTIALS) as session:
        sent = await session.send(TALK, b"mine", content_type="text/plain")
        [own] = await take(session, 1)
        assert (own.seq, own.message, own.sender, own.content) == (sent.seq, sent.message, ME, b"mine")
        assert equals_a_fresh_fetch(session, world)


async def test_a_control_message_names_the_one_that_it_follows(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_session(URLS, CREDENTIALS) as session:
        await session.send(TALK, b"commit", follows=7)
        [own] = await take(session, 1)
    assert own.follows == 7
    assert [frame.follows for frame in world.requests if isinstance(frame, Send)] == [7]


async def test_a_send_whose_reply_is_lost_for_good_ends_when_its_message_comes(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    """The session finds the message by its temp_id, which only the sender's devices receive."""

    def store_and_say_nothing(link: Link, frame: Request) -> list[Frame]:
        assert isinstance(frame, Send)
        if not is_stored.is_set():
            world.store(TALK, ME, frame.content, frame.temp_id)
            is_stored.set()
        return []

    is_stored = trio.Event()

    world.faults[Send].extend([store_and_say_nothing] * 100)
    async with open_session(URLS, CREDENTIALS) as session:
        await session.wait_caught_up()

        async def be_told() -> None:
            await is_stored.wait()
            await world.link.close(CloseCode.SERVER_ERROR)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(be_told)
            sent = await session.send(TALK, b"mine", content_type="text/plain")
        assert sent.seq == 1
        assert session.mailbox.sending == {}
        [own] = await take(session, 1)
        assert own.message == sent.message
        assert equals_a_fresh_fetch(session, world)
        world.faults[Send].clear()
        await session.send(TALK, b"another", content_type="text/plain")
        assert [each.seq for each in session.mailbox.messages(TALK)] == [1, 2], "no message comes twice"


async def test_after_a_loss_the_next_gateway_is_tried_and_nothing_is_missing(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    async with open_caught_up() as session:
        await world.link.close(CloseCode.GOING_AWAY)
        missed = world.store(TALK)
        assert await take(session, 1) == [missed]
    assert world.dialled == URLS


async def test_gateways_that_are_down_are_passed_over(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.down.add(GATEWAY)
    async with open_session(URLS, CREDENTIALS) as session:
        with trio.fail_after(PATIENCE_S):
            await session.wait_online()
        assert world.link.url == SECOND_GATEWAY


async def test_the_waits_between_tries_grow(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.down.update(URLS)
    async with open_session(URLS, CREDENTIALS):
        await let_pass(600, why="the session tries to connect")
    assert 600 / 60 < len(world.dialled) < 100


@pytest.mark.parametrize("fault", [close(CloseCode.GOING_AWAY), no_reply, refuse("unavailable", 50)])
async def test_a_send_is_repeated_with_the_same_temp_id_until_it_is_acknowledged(
    world: ClientWorld, autojump_clock: MockClock, fault: object
) -> None:
    world.faults[Send].extend([fault, fault])  # type: ignore[list-item]
    async with open_session(URLS, CREDENTIALS) as session:
        await session.send(TALK, b"once")
    sends = [frame for frame in world.requests if isinstance(frame, Send)]
    assert len(sends) == 3
    assert len({frame.temp_id for frame in sends}) == 1


async def test_a_send_whose_reply_was_lost_is_stored_and_shown_once(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    def serve_and_die(link: Link, frame: Request) -> CloseCode:
        world.reply(link, frame)
        return CloseCode.SERVER_ERROR

    world.faults[Send].append(serve_and_die)
    async with open_session(URLS, CREDENTIALS) as session:
        sent = await session.send(TALK, b"once")
        await session.wait_caught_up()
        assert [held.message for held in await take(session, 1)] == [sent.message]
        assert len(session.mailbox.log) == len(world.history[TALK]) == 1


async def test_a_send_that_is_refused_for_good_raises_at_once(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.faults[Send].append(refuse("not_a_participant"))
    async with open_session(URLS, CREDENTIALS) as session:
        with pytest.raises(RequestRefused, match="not_a_participant"):
            await session.send(TALK, b"")
    assert len([frame for frame in world.requests if isinstance(frame, Send)]) == 1


async def test_a_send_that_breaks_the_protocol_raises_at_once(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_session(URLS, CREDENTIALS) as session:
        with pytest.raises(LocalProtocolError):
            await session.send(TALK, bytes(limits.MAX_CONTENT_BYTES + 1))
        await session.send(TALK, b"")


async def test_no_acknowledgement_in_time_means_that_the_outcome_is_unknown(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    world.faults[Send].extend([no_reply] * 10)
    async with open_session(URLS, CREDENTIALS) as session:
        await session.wait_online()
        before = trio.current_time()
        with pytest.raises(OutcomeUnknown) as caught:
            await session.send(TALK, b"", temp_id=b"i" * 16, timeout_s=40)
        assert caught.value.temp_id == b"i" * 16
        assert trio.current_time() - before == pytest.approx(40)


async def test_no_connection_in_time_means_that_nothing_was_sent(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.down.update(URLS)
    async with open_session(URLS, CREDENTIALS) as session:
        with pytest.raises(Unreachable, match="nothing was sent"):
            await session.send(TALK, b"", timeout_s=40)


@pytest.mark.parametrize(
    ("code", "most_s"),
    [
        (CloseCode.GOING_AWAY, 2.0),
        (CloseCode.SERVER_ERROR, 5.0),
        (CloseCode.UNAVAILABLE, 5.0),
        (CloseCode.TOO_MANY_CONNECTIONS, 60.0),
    ],
)
async def test_a_close_code_says_how_long_to_wait(
    world: ClientWorld, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, code: CloseCode, most_s: float
) -> None:
    ranges: list[float] = []

    def longest(_: float, most: float) -> float:
        ranges.append(most)
        return most

    monkeypatch.setattr("client.backoff.uniform", longest)
    world.faults[Hello].append(close(code))
    before = trio.current_time()
    async with open_session(URLS, CREDENTIALS) as session:
        await session.wait_online()
        assert trio.current_time() - before == pytest.approx(most_s)
    assert ranges[0] == most_s, "a random time up to it"


async def test_a_close_code_that_forbids_reconnecting_ends_the_session(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    world.faults[MarkDelivered].append(close(CloseCode.UNAUTHENTICATED))
    world.store(TALK)
    with pytest.raises(ConnectionLost) as caught:
        async with open_session(URLS, CREDENTIALS):
            await trio.sleep_forever()
    assert caught.value.close_code == CloseCode.UNAUTHENTICATED.value
    assert world.dialled == [GATEWAY]


async def test_catching_up_is_repeated_while_it_fails(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.store(TALK)
    world.faults[Sync].extend([no_reply, refuse("unavailable", 100), close(CloseCode.SERVER_ERROR), refuse("internal")])
    async with open_session(URLS, CREDENTIALS) as session:
        with trio.fail_after(600):
            await session.wait_caught_up()
        assert equals_a_fresh_fetch(session, world)


async def test_messages_that_were_read_are_marked_once(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_caught_up() as session:
        for _ in range(3):
            session.mark_read(TALK, (await world.post(TALK)).seq)
        await let_pass(60, why="marks are sent")
    assert world.read == [{TALK: 3}]
    assert world.marks == [{TALK: 3}]


async def test_marks_are_coalesced_over_time_and_conversations(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_caught_up():
        for _ in range(10):
            await world.post(TALK)
            await world.post(GROUP)
        await let_pass(2 * MARK_INTERVAL_S, why="marks are sent")
        assert world.marks == [{TALK: 10, GROUP: 10}]
        await let_pass(60, why="no further marks are sent")
        assert len(world.marks) == 1


async def test_marks_never_go_past_a_gap(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.faults[History].extend([no_reply] * 5)
    async with open_caught_up():
        await world.post(TALK)
        await world.push(message(TALK, 3))
        await let_pass(2 * MARK_INTERVAL_S, why="marks are sent")
        assert world.marks == [{TALK: 1}]


async def test_marks_that_were_lost_are_sent_again(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.faults[MarkDelivered].extend([close(CloseCode.GOING_AWAY), refuse("overloaded", 100)])
    async with open_caught_up():
        await world.post(TALK)
        await let_pass(30, why="marks are sent again")
    assert world.marks == [{TALK: 1}]


async def test_marks_that_the_server_has_noted_are_the_users_own(world: ClientWorld, autojump_clock: MockClock) -> None:
    """Up to the last message, and also if the push of the user's own receipts is lost."""
    for _ in range(3):
        world.store(TALK)
    async with open_caught_up() as session:
        session.mark_read(TALK, 2)
        assert own_marks(session) == (0, 0)
        await let_pass(2 * MARK_INTERVAL_S, why="marks are sent")
        assert own_marks(session) == (3, 2)
        head = session.mailbox.head(TALK)
        assert head is not None
        assert head.unread_count == 1
        session.mark_read(TALK, 99)
        await let_pass(2 * MARK_INTERVAL_S, why="marks are sent")
        assert own_marks(session) == (3, 3)


async def test_a_mark_that_is_refused_is_not_the_users_own(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.faults[MarkDelivered].append(refuse("not_found"))
    async with open_caught_up() as session:
        await world.post(TALK)
        await let_pass(60, why="marks are sent")
        assert own_marks(session) == (0, 0)
    assert world.marks == []


def own_marks(session: Session) -> tuple[int | None, int | None]:
    """The delivered mark and the read mark of the user."""
    [own] = [each for each in session.mailbox.participants(TALK) if each.user == ME]
    return own.delivered_seq, own.read_seq


async def test_history_plus_pushes_equal_a_fresh_fetch_over_many_losses(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    world.page = 3
    async with open_caught_up() as session:
        for number in range(60):
            conversation = (TALK, GROUP)[number % 2]
            match number % 10:
                case 2:
                    world.is_deaf = True
                case 5:
                    world.is_deaf = False
                case 7 if session.is_online:
                    await world.link.close(CloseCode.SERVER_ERROR)
                case 8:
                    world.change(conversation, 1, b"%d" % number)
                    await session.send(conversation, b"mine", content_type="text/plain")
            await world.post(conversation)
            await let_pass(0.1, why="changes come at intervals")
        world.is_deaf = False
        await world.post(TALK)
        await world.post(GROUP)
        await take(session, sum(map(len, world.history.values())))
        await world.link.close(CloseCode.SERVER_ERROR)
        await wait_all_tasks_blocked()
        await session.wait_caught_up()
        assert equals_a_fresh_fetch(session, world)
        assert {held.sender for held in session.mailbox.log} == {ME, OTHER}


async def test_watched_users_are_watched_on_every_connection(world: ClientWorld, autojump_clock: MockClock) -> None:
    send, signs = trio.open_memory_channel[Sign](10)
    async with open_caught_up(on_sign=send.send_nowait) as session:
        session.watch([OTHER])
        assert await signs.receive() == Presence(OTHER, False)
        await world.push(Typing(TALK, OTHER, True))
        assert await signs.receive() == Typing(TALK, OTHER, True)
        world.online.add(OTHER)
        await world.link.close(CloseCode.GOING_AWAY)
        assert await signs.receive() == Presence(OTHER, True)
    assert len([frame for frame in world.requests if isinstance(frame, Watch)]) == 2


@pytest.mark.parametrize("fault", [close(CloseCode.SERVER_ERROR), no_reply, refuse("unavailable", 50)])
async def test_watching_is_repeated_while_it_fails(
    world: ClientWorld, autojump_clock: MockClock, fault: object
) -> None:
    send, signs = trio.open_memory_channel[Sign](10)
    world.faults[Watch].extend([fault] * 6)  # type: ignore[list-item]
    async with open_session(URLS, CREDENTIALS, on_sign=send.send_nowait) as session:
        session.watch([OTHER])
        with trio.fail_after(10 * PATIENCE_S):
            assert await signs.receive() == Presence(OTHER, False)


async def test_the_latest_who_are_watched_count(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_session(URLS, CREDENTIALS) as session:
        session.watch([bytes([number % 256, number // 256]) * 8 for number in range(limits.MAX_WATCHED + 1)])
        session.watch([OTHER])
        await session.wait_caught_up()
        await wait_all_tasks_blocked()
        session.watch([])
        await wait_all_tasks_blocked()
    assert [frame.users for frame in world.requests if isinstance(frame, Watch)] == [[OTHER], []]


async def test_a_server_that_knows_no_presence_is_asked_once(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.faults[Watch].append(refuse("unknown_frame"))
    async with open_session(URLS, CREDENTIALS) as session:
        session.watch([OTHER])
        await let_pass(600, why="the session stays connected")
    assert len([frame for frame in world.requests if isinstance(frame, Watch)]) == 1


async def test_leaving_the_block_says_the_marks_that_are_due(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_caught_up() as session:
        session.mark_read(TALK, (await world.post(TALK)).seq)
        await take(session, 1)
    assert world.marks == world.read == [{TALK: 1}]


async def test_marks_that_get_no_reply_do_not_hold_up_closing_the_session(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    world.faults[MarkDelivered].extend([no_reply] * 2)
    async with open_caught_up() as session:
        await world.post(TALK)
        await take(session, 1)
        before = trio.current_time()
    assert trio.current_time() - before < 2 * CLOSE_TIMEOUT_S
    await wait_all_tasks_blocked()
    assert isinstance(world.requests[-1], Bye)


async def test_leaving_the_block_says_bye(world: ClientWorld, autojump_clock: MockClock) -> None:
    async with open_session(URLS, CREDENTIALS) as session:
        await session.wait_online()
    await wait_all_tasks_blocked()
    assert isinstance(world.requests[-1], Bye)


async def test_a_move_is_made_before_the_break(world: ClientWorld, autojump_clock: MockClock) -> None:
    """The session leaves the old connection only once the next one is open, and misses no message."""
    async with open_caught_up() as session:
        await world.post(TALK)
        await take(session, 1)
        old = world.link
        await old.say(Move(2000))
        await let_pass(1.9, why="the session may wait for this time")
        assert len(world.links) == 1
        world.store(TALK)
        was_offline = False

        def has_moved() -> bool:
            nonlocal was_offline
            was_offline = was_offline or not session.is_online
            return len(world.links) == 2 and has_said_goodbye(old)

        await wait_until(has_moved, "moved")
        assert not was_offline
        assert (old.url, world.link.url) == (GATEWAY, SECOND_GATEWAY)
        assert [type(frame) for frame in old.batches[-1]] == [Bye], "the session says bye before it leaves"
        await take(session, 1)
        await session.wait_caught_up()
        assert equals_a_fresh_fetch(session, world)


async def test_a_session_stays_online_when_the_gateway_that_it_should_move_to_is_down(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    world.down = {SECOND_GATEWAY}
    async with open_caught_up() as session:
        old = world.link
        await old.say(Move(10))
        await let_pass(60, why="the session moves")
        assert session.is_online
        assert world.dialled.count(SECOND_GATEWAY) >= 1
        assert world.link is not old, "the session returns to the first gateway in turn"
        assert has_said_goodbye(old)


def has_said_goodbye(link: Link) -> bool:
    return isinstance(link.batches[-1][-1], Bye)


async def test_a_cursor_that_was_moved_is_what_the_next_hello_gives(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    async with open_caught_up() as session:
        await take_three(session, world)
        moved = world.cursor()
        await world.push(Cursor(moved, False))
        await wait_all_tasks_blocked()
        assert session.mailbox.cursor == moved
        await world.link.websocket.aclose()
        await let_pass(60, why="the session reconnects")
        hellos = [frame for frame in world.requests if isinstance(frame, Hello)]
        assert [hello.cursor for hello in hellos] == [None, moved]
        later = world.requests[world.requests.index(hellos[1]) :]
        assert not any(isinstance(frame, Sync) for frame in later), "the server sends news without a sync request"


async def test_news_are_asked_for_if_the_server_ignores_the_cursor_of_a_hello(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    world.told = {"features": []}
    async with open_caught_up() as session:
        await take_three(session, world)
        await world.link.websocket.aclose()
        world.store(TALK)
        await take(session, 1)
        assert trio.current_time() < SYNC_TIMEOUT_S, "the session does not wait for news that never come by themselves"


async def test_news_that_do_not_come_by_themselves_are_asked_for(world: ClientWorld, autojump_clock: MockClock) -> None:
    """The server has a new history, and says so in reply to `sync`."""
    async with open_caught_up() as session:
        await world.post(TALK)
        await take(session, 1)
        world.epoch += 1
        await world.link.websocket.aclose()
        await wait_until(lambda: world.link.closed is None and len(world.links) == 2, "connected again")
        with trio.fail_after(PATIENCE_S):
            await session.wait_caught_up()
        syncs = [frame.cursor for frame in world.requests if isinstance(frame, Sync)]
        assert syncs[0] is None
        assert syncs[-1] is None
        assert equals_a_fresh_fetch(session, world)


async def test_a_session_says_its_name_on_each_connection_and_knows_what_the_server_can_do(world: ClientWorld) -> None:
    world.told = {"features": ["edit"], "limits": [("marks", 9)]}
    async with open_session([GATEWAY], CREDENTIALS, client="robot/7") as session:
        assert (session.features, session.limits) == (frozenset(), {})
        await session.wait_online()
        assert (session.features, session.limits) == ({"edit"}, {"marks": 9})
        await world.link.close(CloseCode.GOING_AWAY)
        await wait_until(lambda: len(world.links) == 2 and session.is_online, "connected again")
    assert [frame.client for frame in world.requests if isinstance(frame, Hello)] == ["robot/7"] * 2
