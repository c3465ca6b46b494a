"""Messages go out on each connection in the order in which the user wrote them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from client.session import Session, open_session
from protocol import limits
from protocol.codes import CloseCode
from protocol.frames import Hello, Send
from tests.client.client_world import (
    CREDENTIALS,
    GATEWAY,
    TALK,
    ClientWorld,
    Fault,
    close,
    no_reply,
    refuse,
)

CONTENTS = [bytes([number]) for number in range(12)]
"""The scheduler turns the order of tasks around at random, so two messages would be in order by chance."""


async def send_all(session: Session, contents: list[bytes]) -> None:
    """Send messages; each call comes before the next one."""
    async with trio.open_nursery() as nursery:
        for content in contents:
            nursery.start_soon(session.send, TALK, content)
            await wait_all_tasks_blocked()


def sent(world: ClientWorld) -> list[list[bytes]]:
    """The contents that came on each connection, repetitions left out."""
    batches = [[frame for batch in link.batches for frame in batch] for link in world.links]
    return [list(dict.fromkeys(each.content for each in batch if isinstance(each, Send))) for batch in batches]


async def test_messages_that_were_written_offline_go_out_in_their_order(
    world: ClientWorld, autojump_clock: MockClock
) -> None:
    world.down.add(GATEWAY)
    async with open_session([GATEWAY], CREDENTIALS) as session, trio.open_nursery() as nursery:
        nursery.start_soon(send_all, session, CONTENTS)
        await trio.testing.wait_all_tasks_blocked(0.01)
        world.down.clear()
    assert sent(world) == [CONTENTS]


@pytest.mark.parametrize("cut_at", [0, 5, 11])
async def test_messages_whose_connection_was_lost_go_out_again_in_their_order(
    world: ClientWorld, autojump_clock: MockClock, cut_at: int
) -> None:
    world.faults[Send].extend([*[no_reply] * cut_at, close(CloseCode.GOING_AWAY)])
    async with open_session([GATEWAY], CREDENTIALS) as session:
        await session.wait_caught_up()
        with trio.fail_after(limits.HELLO_TIMEOUT_S * 6):
            await send_all(session, CONTENTS)
    first, second = sent(world)
    assert first == CONTENTS[: len(first)]
    assert second == CONTENTS
    assert len([frame for frame in world.requests if isinstance(frame, Hello)]) == 2


@pytest.mark.parametrize("fault", [refuse("overloaded", 60_000), no_reply], ids=["refused", "unanswered"])
async def test_a_message_that_waits_holds_up_no_other(
    world: ClientWorld, autojump_clock: MockClock, fault: Fault
) -> None:
    world.faults[Send].append(fault)
    async with open_session([GATEWAY], CREDENTIALS) as session, trio.open_nursery() as nursery:
        await session.wait_caught_up()
        nursery.start_soon(session.send, TALK, b"waits")
        await wait_all_tasks_blocked()
        with trio.fail_after(1):
            await send_all(session, CONTENTS)
        nursery.cancel_scope.cancel()
    assert sent(world) == [[b"waits", *CONTENTS]]


async def test_a_message_that_is_given_up_holds_up_no_other(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.down.add(GATEWAY)
    async with open_session([GATEWAY], CREDENTIALS) as session, trio.open_nursery() as nursery:
        for content in CONTENTS[:3]:
            with trio.move_on_after(0.001):
                await session.send(TALK, content)
        nursery.start_soon(send_all, session, CONTENTS[3:])
        await wait_all_tasks_blocked(0.01)
        world.down.clear()
    assert sent(world) == [CONTENTS[3:]]
