from __future__ import annotations

from typing import Any

import cbor2
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from client import VERSION
from client.connection import connect, open_raw
from client.errors import ConnectionLost, NoReply, RequestRefused, Unreachable
from client.requests import REPLY_TIMEOUT_S
from protocol import limits
from protocol.codec import encode
from protocol.codes import CloseCode
from protocol.errors import LocalProtocolError
from protocol.frames import Bye, Done, Frame, Hello, MarkDelivered, Message, Request, Send, Sent
from tests.client.client_world import (
    DEVICE,
    GATEWAY,
    ME,
    OTHER,
    TALK,
    ClientWorld,
    Link,
    close,
    message,
    no_reply,
    refuse,
)
from tests.waiting import let_pass

TEMP_ID = b"i" * 16


async def test_says_hello_first_and_keeps_the_welcome(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret") as connection:
        assert (connection.welcome.user, connection.welcome.device) == (ME, DEVICE)
    assert world.requests[0] == Hello(0, "secret", limits.PROTOCOL_VERSION, client=f"alo-python/{VERSION}")


async def test_says_the_name_of_the_program_that_it_is_in(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret", client="robot/7"):
        pass
    assert isinstance(hello := world.requests[0], Hello)
    assert hello.client == "robot/7"


@pytest.mark.parametrize(
    ("told", "features", "allowed"),
    [
        ({}, frozenset(), {}),
        ({"features": ["edit", "later"], "limits": [("marks", 9)]}, {"edit", "later"}, {"marks": 9}),
    ],
)
async def test_knows_what_the_server_can_do_and_allows(
    world: ClientWorld, told: dict[str, Any], features: frozenset[str], allowed: dict[str, int]
) -> None:
    world.told = told
    async with connect(GATEWAY, "secret") as connection:
        assert connection.features == features
        assert connection.limits == allowed


@pytest.mark.parametrize("version", [limits.OLDEST_VERSION - 1, limits.PROTOCOL_VERSION + 1])
async def test_leaves_a_server_whose_version_it_does_not_speak(world: ClientWorld, version: int) -> None:
    world.told = {"version": version}
    with pytest.raises(ConnectionLost) as lost:
        async with connect(GATEWAY, "secret"):
            raise AssertionError("connected")
    assert (lost.value.close_code, lost.value.reconnect) == (4503, False)
    assert f"version {version}" in lost.value.reason
    assert isinstance(world.requests[-1], Bye)


async def test_leaving_says_bye(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret"):
        pass
    await wait_all_tasks_blocked()
    assert isinstance(world.requests[-1], Bye)


async def test_a_message_is_sent_and_acknowledged(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret") as connection:
        sent = await connection.send(TALK, b"hello", temp_id=TEMP_ID, content_type="text/plain")
        assert isinstance(world.requests[-1], Send)
        assert world.requests[-1].content == b"hello"
        assert (sent.seq, connection.in_flight) == (1, 0)


async def test_marks_are_sent_and_acknowledged(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret") as connection:
        await connection.mark_delivered([(TALK, 3)])
    assert world.marks == [{TALK: 3}]


async def test_replies_in_another_order_reach_those_who_asked(world: ClientWorld) -> None:
    asked: list[Request] = []

    def hold(_: Link, frame: Request) -> list[Frame]:
        asked.append(frame)
        if len(asked) < 3:
            return []
        return [Sent(held.request, int(held.content), OTHER, 0) for held in reversed(asked) if isinstance(held, Send)]

    world.faults[Send].extend([hold] * 3)
    seqs: dict[int, int] = {}

    async with connect(GATEWAY, "secret") as connection, trio.open_nursery() as nursery:

        async def send(number: int) -> None:
            seqs[number] = (await connection.send(TALK, str(number).encode(), temp_id=TEMP_ID)).seq

        for number in range(1, 4):
            nursery.start_soon(send, number)
    assert seqs == {1: 1, 2: 2, 3: 3}


async def test_requests_of_one_pass_share_a_websocket_message(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret") as connection, trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(lambda n=number: connection.send(TALK, b"", temp_id=bytes([n]) * 16))
    assert [len(batch) for batch in world.link.batches] == [1, 5, 1]


async def test_a_websocket_message_stays_within_the_limit(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret") as connection, trio.open_nursery() as nursery:
        for number in range(5):
            content = bytes(limits.MAX_CONTENT_BYTES)
            nursery.start_soon(lambda n=number, c=content: connection.send(TALK, c, temp_id=bytes([n]) * 16))
    assert [len(batch) for batch in world.link.batches] == [1, 3, 2, 1]


async def test_an_error_reply_is_raised_and_the_connection_goes_on(world: ClientWorld) -> None:
    world.faults[Send].append(refuse("overloaded", 250))
    async with connect(GATEWAY, "secret") as connection:
        with pytest.raises(RequestRefused) as caught:
            await connection.send(TALK, b"", temp_id=TEMP_ID)
        assert (caught.value.code, caught.value.retry_after_ms) == ("overloaded", 250)
        await connection.send(TALK, b"", temp_id=TEMP_ID)


async def test_an_error_in_the_block_comes_out_as_itself(world: ClientWorld) -> None:
    world.faults[Send].append(refuse("not_a_participant"))
    with pytest.raises(RequestRefused):
        async with connect(GATEWAY, "secret") as connection:
            await connection.send(TALK, b"", temp_id=TEMP_ID)
    await wait_all_tasks_blocked()
    assert world.link.closed == 1000


async def test_a_request_that_the_server_would_refuse_is_not_sent(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret") as connection:
        with pytest.raises(LocalProtocolError):
            await connection.send(TALK, bytes(limits.MAX_CONTENT_BYTES + 1), temp_id=TEMP_ID)
        assert connection.in_flight == 0
        await connection.send(TALK, b"", temp_id=TEMP_ID)
    assert [type(frame) for frame in world.requests] == [Hello, Send, Bye]


async def test_cancelling_a_request_leaves_the_connection_usable(world: ClientWorld) -> None:
    held: list[Request] = []

    def hold(_: Link, frame: Request) -> list[Frame]:
        held.append(frame)
        return []

    world.faults[Send].append(hold)
    async with connect(GATEWAY, "secret") as connection:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: connection.send(TALK, b"", temp_id=TEMP_ID))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        # The reply to the abandoned request must not be taken for that of the next one.
        await world.link.say(Sent(held[0].request, 99, OTHER, 0))
        assert (await connection.send(TALK, b"", temp_id=TEMP_ID)).seq == 1
        assert connection.in_flight == 0


async def test_no_reply_in_time(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.faults[Send].append(no_reply)
    async with connect(GATEWAY, "secret") as connection:
        before = trio.current_time()
        with pytest.raises(NoReply):
            await connection.send(TALK, b"", temp_id=TEMP_ID)
        assert trio.current_time() - before == pytest.approx(REPLY_TIMEOUT_S)
        assert connection.in_flight == 1
        await connection.send(TALK, b"", temp_id=TEMP_ID)


async def test_beyond_the_limit_requests_wait_for_a_place(world: ClientWorld) -> None:
    world.faults[Send].extend([no_reply] * limits.MAX_IN_FLIGHT)
    async with connect(GATEWAY, "secret") as connection, trio.open_nursery() as nursery:
        for _ in range(limits.MAX_IN_FLIGHT + 1):
            nursery.start_soon(lambda: connection.send(TALK, b"", temp_id=TEMP_ID))
        await wait_all_tasks_blocked()
        sends = [frame for frame in world.requests if isinstance(frame, Send)]
        assert len(sends) == connection.in_flight == limits.MAX_IN_FLIGHT

        await world.link.say(Sent(sends[0].request, 1, OTHER, 0))
        await wait_all_tasks_blocked()
        assert len([frame for frame in world.requests if isinstance(frame, Send)]) == limits.MAX_IN_FLIGHT + 1
        nursery.cancel_scope.cancel()


async def test_the_end_wakes_all_that_wait_those_without_a_place_too(world: ClientWorld) -> None:
    world.faults[Send].extend([no_reply] * limits.MAX_IN_FLIGHT)
    lost: list[ConnectionLost] = []
    async with connect(GATEWAY, "secret") as connection, trio.open_nursery() as nursery:

        async def send() -> None:
            try:
                await connection.send(TALK, b"", temp_id=TEMP_ID)
            except ConnectionLost as error:
                lost.append(error)

        for _ in range(limits.MAX_IN_FLIGHT + 3):
            nursery.start_soon(send)
        await wait_all_tasks_blocked()
        await world.link.close(CloseCode.GOING_AWAY, "restart")
    assert len(lost) == limits.MAX_IN_FLIGHT + 3
    assert {(error.close_code, error.reason, error.reconnect) for error in lost} == {(1012, "restart", True)}


async def test_after_the_end_requests_raise_why(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret") as connection:
        await world.link.close(CloseCode.UNAUTHENTICATED, "revoked")
        lost = await connection.wait_lost()
        assert (lost.close_code, lost.reconnect) == (4501, False)
        with pytest.raises(ConnectionLost, match="4501: revoked"):
            await connection.mark_delivered([(TALK, 1)])


async def test_a_connection_that_breaks_is_1006(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret") as connection:
        await trio.aclose_forcefully(world.link.stream)
        lost = await connection.wait_lost()
        assert (lost.close_code, lost.reconnect) == (1006, True)


async def test_a_close_instead_of_welcome_is_raised(world: ClientWorld) -> None:
    world.faults[Hello].append(close(CloseCode.UNAUTHENTICATED))
    with pytest.raises(ConnectionLost) as caught:
        async with connect(GATEWAY, "secret"):
            pytest.fail("not welcomed")
    assert not caught.value.reconnect


async def test_no_welcome_in_time_is_unreachable(world: ClientWorld, autojump_clock: MockClock) -> None:
    world.faults[Hello].append(no_reply)
    with pytest.raises(Unreachable):
        async with connect(GATEWAY, "secret", timeout_s=3):
            pytest.fail("not welcomed")


async def test_an_address_without_a_server_is_unreachable(world: ClientWorld) -> None:
    world.down.add(GATEWAY)
    with pytest.raises(Unreachable, match="nobody answers"):
        async with connect(GATEWAY, "secret"):
            pytest.fail("not connected")


async def test_a_server_without_the_subprotocol_is_unreachable(world: ClientWorld) -> None:
    world.subprotocol = None
    with pytest.raises(Unreachable, match=r"alo\.v1"):
        async with connect(GATEWAY, "secret"):
            pytest.fail("it does not speak the protocol")


async def test_pushes_come_in_order_and_right_after_welcome(world: ClientWorld) -> None:
    pushes = [message(TALK, seq) for seq in range(1, 6)]
    got: list[Message] = []

    async def take(push: Message) -> None:
        got.append(push)

    def welcome_and_push(link: Link, frame: Request) -> list[Frame]:
        return [*world.reply(link, frame), *pushes[:3]]

    world.faults[Hello].append(welcome_and_push)
    async with connect(GATEWAY, "secret", on_push=take):
        await world.push(*pushes[3:])
        await wait_all_tasks_blocked()
    assert got == pushes


async def test_while_a_push_is_being_handled_nothing_is_read(world: ClientWorld) -> None:
    sender, receiver = trio.open_memory_channel[Message](0)
    async with connect(GATEWAY, "secret", on_push=sender.send) as connection, trio.open_nursery() as nursery:
        await world.push(message(TALK, 1))
        await wait_all_tasks_blocked()
        nursery.start_soon(lambda: connection.mark_delivered([(TALK, 1)]))
        await wait_all_tasks_blocked()
        assert (len(world.marks), connection.in_flight) == (1, 1)
        assert await receiver.receive() == message(TALK, 1)


async def test_silence_is_tried_with_a_ping_and_then_is_the_end(world: ClientWorld, autojump_clock: MockClock) -> None:
    """The client pings after the silence that welcome names, and closes after the same time again."""
    async with connect(GATEWAY, "secret") as connection:
        keep_alive_s = connection.welcome.keep_alive_ms / 1000
        await let_pass(5 * keep_alive_s, why="silence")
        await connection.mark_delivered([(TALK, 1)])
        before = trio.current_time()
        world.link.stream.is_forgotten = True
        lost = await connection.wait_lost()
        assert (lost.close_code, lost.reconnect) == (1006, True)
        assert trio.current_time() - before <= 2 * keep_alive_s + 1


async def test_any_byte_is_a_sign_of_life(world: ClientWorld, autojump_clock: MockClock) -> None:
    """Pushes without a pong keep the connection open, and the client sends no ping while they come."""
    async with connect(GATEWAY, "secret") as connection:
        keep_alive_s = connection.welcome.keep_alive_ms / 1000
        before = world.link.stream.received_bytes
        for seq in range(1, 20):
            await let_pass(0.9 * keep_alive_s, why="pushes come just in time")
            await world.push(message(TALK, seq))
        assert world.link.stream.received_bytes == before
        await let_pass(1.1 * keep_alive_s, why="silence")
        assert world.link.stream.received_bytes > before


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("text", CloseCode.TEXT_MESSAGE),
        (b"", CloseCode.BAD_FRAME),
        (b"\xff", CloseCode.BAD_FRAME),
        (encode(Done(0))[:-1], CloseCode.BAD_FRAME),
        (cbor2.dumps({0: 66, 1: 1}), CloseCode.BAD_FRAME),
    ],
)
async def test_a_server_that_breaks_the_protocol_is_closed_on(
    world: ClientWorld, said: str | bytes, code: CloseCode
) -> None:
    async with connect(GATEWAY, "secret") as connection:
        await world.link.websocket.send_message(said)
        lost = await connection.wait_lost()
        assert (lost.close_code, lost.reconnect) == (code.value, False)
        await wait_all_tasks_blocked()
        assert world.link.closed == code.value


async def test_a_message_that_is_too_big_ends_the_connection(world: ClientWorld) -> None:
    async with connect(GATEWAY, "secret") as connection:
        await world.link.websocket.send_message(bytes(limits.MAX_WEBSOCKET_MESSAGE_BYTES + 1))
        assert (await connection.wait_lost()).close_code == CloseCode.MESSAGE_TOO_BIG.value


async def test_anything_can_be_said_on_a_raw_connection(world: ClientWorld) -> None:
    async with open_raw(GATEWAY) as connection:
        await connection.send_bytes(encode(Hello(7, "secret", 1)) + encode(MarkDelivered(8, [(TALK, 2)])))
        assert isinstance(await connection.receive_bytes(), bytes)
        await connection.receive_bytes()
        await world.link.close(CloseCode.GOING_AWAY)
        with pytest.raises(ConnectionLost, match="1012"):
            await connection.receive_bytes()
    assert [frame.request for frame in world.requests] == [7, 8]
