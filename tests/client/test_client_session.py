from __future__ import annotations

from collections import deque

import httpx
import pytest
import trio
from client_world import (
    CREDENTIALS,
    GATEWAY,
    GROUP,
    ME,
    OTHER,
    SECOND_GATEWAY,
    TALK,
    Link,
    World,
    close,
    message,
    no_reply,
    refusal,
    refuse,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from client.errors import ConnectionLost, HttpRefused, OutcomeUnknown, RequestRefused, Unreachable
from client.mailbox import Mailbox
from client.session import HOLE_PATIENCE_S, MARK_INTERVAL_S, Session, open_session
from protocol import limits
from protocol.codes import CloseCode
from protocol.errors import LocalProtocolError
from protocol.frames import Frame, Hello, MarkDelivered, Message, Request, Send

URLS = [GATEWAY, SECOND_GATEWAY]
PATIENCE_S = 120.0


async def take(session: Session, count: int) -> list[Message]:
    """The next messages; fails if they don't come."""
    with trio.fail_after(PATIENCE_S):
        return [await anext(session.messages) for _ in range(count)]


def equals_a_fresh_fetch(session: Session, world: World) -> bool:
    return all(list(session.mailbox.messages(key)) == held for key, held in world.history.items())


async def test_catches_up_over_all_pages(world: World, autojump_clock: MockClock) -> None:
    world.page = 2
    conversations = [bytes([number]) * 16 for number in range(5)]
    for conversation in conversations:
        for _ in range(3):
            world.store(conversation)
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        assert len(await take(session, 15)) == 15
        assert equals_a_fresh_fetch(session, world)


async def test_what_is_held_already_is_not_fetched_again(world: World, autojump_clock: MockClock) -> None:
    mailbox = Mailbox()
    for _ in range(4):
        mailbox.apply(world.store(TALK))
    newer = world.store(TALK)
    async with open_session(world.http(), URLS, CREDENTIALS, mailbox=mailbox) as session:
        assert await take(session, 1) == [newer]
    assert [asked for asked in world.asked if "after_seq=4" in asked] == [world.asked[-1]]


async def test_a_push_arrives(world: World, autojump_clock: MockClock) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        pushed = await world.post(TALK, b"hello")
        assert await take(session, 1) == [pushed]


async def test_registers_first_then_reads(world: World, autojump_clock: MockClock) -> None:
    """A message that comes after the history was read, but before the answer is here, must not be lost."""
    world.store(TALK)

    def post_behind_the_readers_back(request: httpx.Request) -> None:
        if request.url.path.endswith("/messages") and len(world.history[TALK]) == 1:
            late = world.store(TALK)
            world._nursery.start_soon(world.push, late)

    world.before_answer = post_behind_the_readers_back
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        assert [held.seq for held in await take(session, 2)] == [1, 2]
        assert len([asked for asked in world.asked if "/messages" in asked]) == 1
    assert isinstance(world.requests[0], Hello)


async def test_duplicates_and_overtaking_pushes_arrive_once_and_in_order(
    world: World, autojump_clock: MockClock
) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        asked = len(world.asked)
        stored = [world.store(TALK) for _ in range(3)]
        await world.push(stored[2], stored[0], stored[2], stored[0], stored[1])
        assert await take(session, 3) == stored
        await trio.sleep(10 * HOLE_PATIENCE_S)
        assert len(world.asked) == asked  # a hole that closes by itself is not fetched


async def test_a_hole_that_lasts_is_fetched(world: World, autojump_clock: MockClock) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        first = await world.post(TALK)
        assert await take(session, 1) == [first]
        lost = world.store(TALK)
        before = trio.current_time()
        third = await world.post(TALK)
        assert await take(session, 2) == [lost, third]
        assert trio.current_time() - before == pytest.approx(HOLE_PATIENCE_S)


async def test_a_push_of_an_unknown_conversation_is_looked_up(world: World, autojump_clock: MockClock) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        for _ in range(4):
            world.store(GROUP)
        world.first_seq[GROUP] = 3
        await world.push(world.history[GROUP][3])
        assert [held.seq for held in await take(session, 2)] == [3, 4]


async def test_a_conversation_that_is_not_ours_to_see_holds_nothing_up(world: World, autojump_clock: MockClock) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        await world.push(message(GROUP, 5))
        pushed = await world.post(TALK)
        assert await take(session, 1) == [pushed]
        await session.wait_caught_up()
        assert not session.mailbox.messages(GROUP)


async def test_a_hole_that_history_does_not_show_yet_is_asked_for_less_and_less(
    world: World, autojump_clock: MockClock
) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        await world.post(TALK)
        await world.push(message(TALK, 3))
        asked = len(world.asked)
        await trio.sleep(60)
        assert len(world.asked) - asked < 40
        world.store(TALK)
        world.store(TALK)
        assert len(await take(session, 3)) == 3


async def test_own_sends_enter_the_mailbox(world: World, autojump_clock: MockClock) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        sent = await session.send(TALK, b"mine", content_type="text/plain")
        [own] = await take(session, 1)
        assert (own.seq, own.message, own.sender, own.content) == (sent.seq, sent.message, ME, b"mine")
        assert equals_a_fresh_fetch(session, world)


async def test_after_a_loss_the_next_gateway_is_tried_and_nothing_is_missing(
    world: World, autojump_clock: MockClock
) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        await world.link.close(CloseCode.GOING_AWAY)
        missed = world.store(TALK)
        assert await take(session, 1) == [missed]
    assert world.dialled == URLS


async def test_gateways_that_are_down_are_passed_over(world: World, autojump_clock: MockClock) -> None:
    world.down.add(GATEWAY)
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        with trio.fail_after(PATIENCE_S):
            await session.wait_online()
        assert world.link.url == SECOND_GATEWAY


async def test_the_waits_between_tries_grow(world: World, autojump_clock: MockClock) -> None:
    world.down.update(URLS)
    async with open_session(world.http(), URLS, CREDENTIALS):
        await trio.sleep(600)
    assert 600 / 60 < len(world.dialled) < 100


@pytest.mark.parametrize("fault", [close(CloseCode.GOING_AWAY), no_reply, refuse("unavailable", 50)])
async def test_a_send_is_repeated_with_the_same_temp_id_until_it_is_acknowledged(
    world: World, autojump_clock: MockClock, fault: object
) -> None:
    world.faults[Send].extend([fault, fault])  # type: ignore[list-item]
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.send(TALK, b"once")
    sends = [frame for frame in world.requests if isinstance(frame, Send)]
    assert len(sends) == 3
    assert len({frame.temp_id for frame in sends}) == 1


async def test_a_send_whose_reply_was_lost_is_stored_and_shown_once(world: World, autojump_clock: MockClock) -> None:
    def serve_and_die(link: Link, frame: Request) -> CloseCode:
        world._reply(link, frame)
        return CloseCode.SERVER_ERROR

    world.faults[Send].append(serve_and_die)
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        sent = await session.send(TALK, b"once")
        await session.wait_caught_up()
        assert [held.message for held in await take(session, 1)] == [sent.message]
        assert len(session.mailbox.log) == len(world.history[TALK]) == 1


async def test_a_send_that_is_refused_for_good_raises_at_once(world: World, autojump_clock: MockClock) -> None:
    world.faults[Send].append(refuse("not_a_participant"))
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        with pytest.raises(RequestRefused, match="not_a_participant"):
            await session.send(TALK, b"")
    assert len([frame for frame in world.requests if isinstance(frame, Send)]) == 1


async def test_a_send_that_breaks_the_protocol_raises_at_once(world: World, autojump_clock: MockClock) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        with pytest.raises(LocalProtocolError):
            await session.send(TALK, bytes(limits.MAX_CONTENT_BYTES + 1))
        await session.send(TALK, b"")


async def test_no_acknowledgement_in_time_means_that_the_outcome_is_unknown(
    world: World, autojump_clock: MockClock
) -> None:
    world.faults[Send].extend([no_reply] * 10)
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_online()
        before = trio.current_time()
        with pytest.raises(OutcomeUnknown) as caught:
            await session.send(TALK, b"", temp_id=b"i" * 16, timeout_s=40)
        assert caught.value.temp_id == b"i" * 16
        assert trio.current_time() - before == pytest.approx(40)


async def test_no_connection_in_time_means_that_nothing_was_sent(world: World, autojump_clock: MockClock) -> None:
    world.down.update(URLS)
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        with pytest.raises(Unreachable, match="nothing was sent"):
            await session.send(TALK, b"", timeout_s=40)


async def test_a_close_code_that_forbids_reconnecting_ends_the_session(world: World, autojump_clock: MockClock) -> None:
    world.faults[MarkDelivered].append(close(CloseCode.UNAUTHENTICATED))
    world.store(TALK)
    with pytest.raises(ConnectionLost) as caught:
        async with open_session(world.http(), URLS, CREDENTIALS):
            await trio.sleep_forever()
    assert caught.value.close_code == CloseCode.UNAUTHENTICATED.value
    assert world.dialled == [GATEWAY]


async def test_a_token_that_http_refuses_ends_the_session(world: World, autojump_clock: MockClock) -> None:
    world.refuse.append(refusal(401, "unauthenticated"))
    with pytest.raises(HttpRefused, match="unauthenticated"):
        async with open_session(world.http(), URLS, CREDENTIALS) as session:
            await session.wait_caught_up()


async def test_catching_up_is_repeated_while_http_fails(world: World, autojump_clock: MockClock) -> None:
    world.store(TALK)
    world.refuse = deque(
        [
            httpx.ConnectError("no"),
            refusal(503, "unavailable", 100),
            None,
            refusal(500, "internal"),
            None,
            httpx.ReadError("no"),
        ]
    )
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        with trio.fail_after(PATIENCE_S):
            await session.wait_caught_up()
        assert equals_a_fresh_fetch(session, world)


async def test_marks_are_coalesced_over_time_and_conversations(world: World, autojump_clock: MockClock) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        for _ in range(10):
            await world.post(TALK)
            await world.post(GROUP)
        await trio.sleep(2 * MARK_INTERVAL_S)
        assert world.marks == [{TALK: 10, GROUP: 10}]
        await trio.sleep(60)
        assert len(world.marks) == 1


async def test_marks_never_go_past_a_hole(world: World, autojump_clock: MockClock) -> None:
    world.refuse.extend([None, *[httpx.ConnectError("no")] * 5])
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        await world.post(TALK)
        await world.push(message(TALK, 3))
        await trio.sleep(2 * MARK_INTERVAL_S)
        assert world.marks == [{TALK: 1}]


async def test_marks_that_were_lost_are_sent_again(world: World, autojump_clock: MockClock) -> None:
    world.faults[MarkDelivered].extend([close(CloseCode.GOING_AWAY), refuse("overloaded", 100)])
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        await world.post(TALK)
        await trio.sleep(30)
    assert world.marks == [{TALK: 1}]


async def test_marks_of_one_bad_conversation_do_not_hold_up_the_others(world: World, autojump_clock: MockClock) -> None:
    def refuse_group(link: Link, frame: Request) -> list[Frame]:
        assert isinstance(frame, MarkDelivered)
        is_bad = any(conversation == GROUP for conversation, _ in frame.marks)
        return refuse("not_a_participant")(link, frame) if is_bad else world._reply(link, frame)  # type: ignore[return-value]

    world.faults[MarkDelivered].extend([refuse_group] * 3)
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_caught_up()
        await world.post(TALK)
        await world.post(GROUP)
        await trio.sleep(30)
    assert world.marks == [{TALK: 1}]
    assert len([frame for frame in world.requests if isinstance(frame, MarkDelivered)]) == 3


async def test_history_plus_pushes_equal_a_fresh_fetch_over_many_losses(
    world: World, autojump_clock: MockClock
) -> None:
    world.page = 3
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
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
                    await session.send(conversation, b"mine", content_type="text/plain")
            await world.post(conversation)
            await trio.sleep(0.1)
        world.is_deaf = False
        await world.post(TALK)
        await world.post(GROUP)
        await take(session, sum(map(len, world.history.values())))
        await session.wait_caught_up()
        assert equals_a_fresh_fetch(session, world)
        assert {held.sender for held in session.mailbox.log} == {ME, OTHER}


async def test_leaving_the_block_closes_the_connection(world: World, autojump_clock: MockClock) -> None:
    async with open_session(world.http(), URLS, CREDENTIALS) as session:
        await session.wait_online()
    await wait_all_tasks_blocked()
    assert world.link.closed == 1000
