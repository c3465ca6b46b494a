"""Bad input on a WebSocket: a named error or a close code, no traceback, no leftovers, other clients undisturbed."""

from __future__ import annotations

import struct
from typing import Any
from uuid import uuid4

import cbor2
import pytest
import trio

from protocol import limits
from protocol.codec import encode
from protocol.codes import CloseCode, ErrorCode
from protocol.frames import Done, Error, Hello, MarkDelivered, Message, Push, Reply, Send, Sent, Welcome
from server.gateway import budgets
from server.transport import outbox
from server.transport.outbox import Outbox
from store.postgres.pool import Pool
from tests.people import new_direct, new_user
from tests.server.node_world import TestNode, open_node, undisturbed
from tests.waiting import wait_until

HELLO = Hello(0, "t" * 43, 1)
MARK = MarkDelivered(5, [(b"c" * 16, 1)])


def new_send(request: int = 7, *, conversation: bytes = b"c" * 16, content: bytes = b"x", temp_id: bytes = b"") -> Send:
    return Send(request, conversation, "text", content, None, None, temp_id or uuid4().bytes)


def masked(opcode: int, payload: bytes, *, first: int = 0x80) -> bytes:
    """A client's frame with any opcode and flags; the mask is zero, which is a mask."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    return bytes([first | opcode]) + length + bytes(4) + payload


def error_of(frame: Any) -> tuple[int, ErrorCode]:
    assert isinstance(frame, Error), frame
    code = ErrorCode(frame.code)
    assert (frame.retry_after_ms is not None) == code.info.retry
    return frame.request, code


NO_BEGINNING: dict[str, tuple[bytes | str, CloseCode]] = {
    "unknown token": (encode(HELLO), CloseCode.UNAUTHENTICATED),
    "version 0": (encode(Hello(0, "t" * 43, 0)), CloseCode.UNSUPPORTED_VERSION),
    "send before hello": (encode(new_send()), CloseCode.HELLO_EXPECTED),
    "marks before hello": (encode(MARK), CloseCode.HELLO_EXPECTED),
    "empty message": (b"", CloseCode.BAD_FRAME),
    "truncated CBOR": (encode(HELLO)[:-1], CloseCode.BAD_FRAME),
    "no map": (b"\x83\x01\x02\x03", CloseCode.BAD_FRAME),
    "no request number": (b"\xa1\x00\x01", CloseCode.BAD_FRAME),
    "a tag": (b"\xc1\xa0", CloseCode.BAD_FRAME),
    "JSON": (b"{}", CloseCode.BAD_FRAME),
    "breaks": (b"\xff" * 1000, CloseCode.BAD_FRAME),
    "text": ("hello", CloseCode.TEXT_MESSAGE),
    "long text": ("é" * 100_000, CloseCode.TEXT_MESSAGE),
}


async def test_a_first_message_that_is_no_hello_gets_a_close_code_that_says_why(pool: Pool, redis_url: str) -> None:
    codes = {}
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node):

        async def say(name: str, said: bytes | str) -> None:
            async with node.open_websocket() as client:
                await client.write(masked(1, said.encode()) if isinstance(said, str) else masked(2, said))
                codes[name] = await client.wait_end()
                assert client.close_reason, name

        async with trio.open_nursery() as nursery:
            for name, (said, _) in NO_BEGINNING.items():
                nursery.start_soon(say, name, said)
    assert codes == {name: code.value for name, (_, code) in NO_BEGINNING.items()}


NO_REQUEST: dict[str, tuple[dict[int, Any], ErrorCode]] = {
    "unknown frame": ({0: 99, 1: 3}, ErrorCode.UNKNOWN_FRAME),
    "a reply": ({0: 66, 1: 3, 3: 1}, ErrorCode.UNEXPECTED_FRAME),
    "a push": ({0: 128, 1: 3}, ErrorCode.UNEXPECTED_FRAME),
    "no token": ({0: 1, 1: 3, 18: 1}, ErrorCode.INVALID_FRAME),
    "empty token": ({0: 1, 1: 3, 15: "", 18: 1}, ErrorCode.INVALID_FRAME),
    "token with NUL": ({0: 1, 1: 3, 15: "a\0", 18: 1}, ErrorCode.INVALID_FRAME),
    "invalid send": ({0: 2, 1: 3, 2: b"short"}, ErrorCode.INVALID_FRAME),
}


async def test_a_request_that_cannot_be_served_is_answered_and_hello_may_follow(pool: Pool, redis_url: str) -> None:
    errors = {}
    async with (
        open_node(pool.url, redis_url) as node,
        undisturbed(pool, node) as somebody,
        node.open_websocket() as client,
    ):
        for name, (said, _) in NO_REQUEST.items():
            await client.send(cbor2.dumps(said))
            [error] = await client.read(1)
            errors[name] = error_of(error)
        assert errors == {name: (3, code) for name, (_, code) in NO_REQUEST.items()}
        await client.send(Hello(4, somebody.token, 1))
        [welcome] = await client.read(1)
        assert isinstance(welcome, Welcome)
        assert (welcome.request, welcome.user) == (4, somebody.user)


NO_FRAME: dict[str, tuple[bytes, int]] = {
    "unmasked": (b"\x82\x03abc", 1002),
    "reserved opcode": (masked(3, b""), 1002),
    "reserved control opcode": (masked(11, b""), 1002),
    "reserved bit": (masked(2, b"x", first=0xC0), 1002),
    "fragmented ping": (masked(9, b"", first=0), 1002),
    "long ping": (masked(9, b"x" * 126), 1002),
    "continuation of nothing": (masked(0, b"x"), 1002),
    "message in a message": (masked(2, b"x", first=0) + masked(2, b"x"), 1002),
    "length longer than needed": (b"\x82\xfe\x00\x01" + bytes(5), 1002),
    "close of one byte": (masked(8, b"x"), 1002),
    "close with a code that may not be sent": (masked(8, b"\x03\xed"), 1002),
    "close with a reason that is no text": (masked(8, b"\x03\xe8\xff"), 1007),
    "text that is none": (masked(1, b"\xff"), 1003),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", 1002),
}


async def test_a_bad_websocket_frame_ends_the_connection_with_its_close_code(pool: Pool, redis_url: str) -> None:
    codes = {}
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node):

        async def say(name: str, raw: bytes) -> None:
            async with node.open_websocket() as client:
                await client.write(raw)
                codes[name] = await client.wait_end()

        async with trio.open_nursery() as nursery:
            for name, (raw, _) in NO_FRAME.items():
                nursery.start_soon(say, name, raw)
    assert codes == {name: code for name, (_, code) in NO_FRAME.items()}


@pytest.mark.parametrize("how", ["one frame", "fragments", "small fragments", "declared only"])
async def test_a_message_beyond_the_limit_is_refused_with_1009(pool: Pool, redis_url: str, how: str) -> None:
    """10 MB that the node neither keeps nor reads to the end; the client still learns why."""
    size = 10 * 1024 * 1024
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node), node.open_websocket() as client:

        async def write() -> None:
            try:
                if how == "one frame":
                    await client.write(masked(2, bytes(size)))
                elif how == "declared only":
                    await client.write(masked(2, bytes(size))[: limits.MAX_WEBSOCKET_MESSAGE_BYTES + 100])
                else:
                    part = 65536 if how == "fragments" else 100
                    await client.write(masked(2, bytes(part), first=0))
                    for _ in range(size // part):
                        await client.write(masked(0, bytes(part), first=0))
            except trio.BrokenResourceError:
                pass  # The node has closed the connection.

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            assert await client.wait_end() == 1009
            nursery.cancel_scope.cancel()


async def test_a_message_of_the_greatest_length_is_served(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        other = await new_user(pool, "other")
        conversation = await new_direct(pool, somebody, other)
        sends = [new_send(n, conversation=conversation, content=bytes(65536)) for n in range(3)]
        sends.append(new_send(3, conversation=conversation, content=bytes(65000)))
        room = limits.MAX_WEBSOCKET_MESSAGE_BYTES - len(b"".join(map(encode, sends)))
        assert room >= 0
        async with node.open_websocket(somebody.token) as client:
            await client.send(*sends)
            assert [type(frame) for frame in await client.read(4)] == [Sent] * 4


async def test_empty_fragments_do_not_gather(pool: Pool, redis_url: str) -> None:
    """A message's size is bounded; the number of its empty fragments must be bounded as well."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node), node.open_websocket() as client:
        await client.write(masked(2, b"", first=0))
        fragments = masked(0, b"", first=0) * 10_000
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                try:
                    for _ in range(40):
                        await client.write(fragments)
                except trio.BrokenResourceError:
                    pass

            nursery.start_soon(write)
            assert await client.wait_end(timeout_s=1) in (1002, 1009)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["bytes", "fragments", "fragments and pings"])
async def test_hello_in_the_smallest_pieces_is_a_hello(pool: Pool, redis_url: str, how: str) -> None:
    async with (
        open_node(pool.url, redis_url) as node,
        undisturbed(pool, node) as somebody,
        node.open_websocket() as client,
    ):
        hello = encode(Hello(0, somebody.token, 1))
        if how == "bytes":
            raw = client.message(hello)
            pieces = [raw[n : n + 1] for n in range(len(raw))]
        else:
            pieces = [client.message(hello[n : n + 1], finished=n == len(hello) - 1) for n in range(len(hello))]
        client.stream.setsockopt(6, 1, 1)  # TCP_NODELAY: each piece a packet
        for piece in pieces:
            if how == "fragments and pings":
                await client.write(masked(9, b"p"))
            await client.write(piece)
        [welcome] = await client.read(1)
        assert isinstance(welcome, Welcome)
        assert len(client.pongs) == (len(pieces) if how == "fragments and pings" else 0)


async def test_a_second_hello_is_refused_and_changes_nothing(pool: Pool, redis_url: str) -> None:
    """Refused in the message of the first hello, while its token is looked up, later, and with another user's token."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        other = await new_user(pool, "other")
        conversation = await new_direct(pool, somebody, other)
        async with node.open_websocket() as client:
            await client.send(Hello(1, somebody.token, 1), Hello(2, other.token, 1), new_send(3), MARK)
            replies = {frame.request: frame for frame in await client.read(4) if not isinstance(frame, Message)}
            assert isinstance(replies[1], Welcome)
            for number in (2, 3, 5):
                assert error_of(replies[number]) == (number, ErrorCode.UNEXPECTED_FRAME)
            await client.send(Hello(6, other.token, 1))
            [error] = await client.read(1)
            assert error_of(error) == (6, ErrorCode.UNEXPECTED_FRAME)
            await client.send(new_send(7, conversation=conversation))
            [sent] = await client.read(1)
            assert isinstance(sent, Sent)
        assert await pool.fetch("select sender_id from messages where conversation_id = %s", (conversation.hex(),)) == [
            (somebody.user,)
        ]


async def test_a_conversation_of_others_looks_like_none(pool: Pool, redis_url: str) -> None:
    """Sends and marks to a foreign conversation and to a missing one get the same answer, and nothing happens."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        alice, bob = await new_user(pool, "alice"), await new_user(pool, "bob")
        theirs = await new_direct(pool, alice, bob)
        async with node.open_websocket(bob.token) as listener, node.open_websocket(somebody.token) as client:
            await client.send(new_send(1, conversation=theirs), new_send(2, conversation=b"n" * 16))
            one, other = await client.read(2)
            assert error_of(one) == (1, ErrorCode.NOT_A_PARTICIPANT)
            assert error_of(other) == (2, ErrorCode.NOT_A_PARTICIPANT)
            assert isinstance(one, Error)
            assert isinstance(other, Error)
            assert one.detail == other.detail
            await client.send(MarkDelivered(3, [(theirs, 1), (b"n" * 16, 9)]))
            assert await client.read(1) == [Done(3)]
            await listener.send(MarkDelivered(4, [(theirs, 1)]))
            assert await listener.read(1) == [Done(4)], "no push comes before the reply"
        assert await pool.fetch("select last_seq from conversations where id = %s", (theirs.hex(),)) == [(0,)]


async def test_a_repeated_temp_id_is_answered_as_before_or_refused(pool: Pool, redis_url: str) -> None:
    """Equal content: the first ack again, also within one message. Other content or conversation: a conflict."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        other = await new_user(pool, "other")
        conversation = await new_direct(pool, somebody, other)
        elsewhere = await new_direct(pool, somebody, await new_user(pool, "third"))
        temp_id = uuid4().bytes
        same = new_send(1, conversation=conversation, temp_id=temp_id)
        async with node.open_websocket(other.token) as listener, node.open_websocket(somebody.token) as client:
            await client.send(same, Send(2, *[getattr(same, name) for name in same.__struct_fields__[1:]]))
            first, again = await client.read(2)
            assert isinstance(first, Sent)
            assert again == Sent(2, first.seq, first.message, first.created)
            for changed in (
                new_send(3, conversation=conversation, content=b"y", temp_id=temp_id),
                new_send(3, conversation=elsewhere, temp_id=temp_id),
                Send(3, conversation, "text2", b"x", None, None, temp_id),
                Send(3, conversation, "text", b"x", b"", None, temp_id),
            ):
                await client.send(changed)
                [error] = await client.read(1)
                assert error_of(error) == (3, ErrorCode.TEMP_ID_CONFLICT)
            await client.send(same)
            assert await client.read(1) == [first]
            [push] = await listener.read(1)
            assert isinstance(push, Message)
            await listener.send(MarkDelivered(9, [(conversation, 1)]))
            assert await listener.read(1) == [Done(9)], "the message was pushed once"


async def test_sends_beyond_the_bound_are_refused_and_all_are_answered_once(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,500 in one turn: exactly those beyond MAX_IN_FLIGHT are refused; afterwards there is room again."""
    monkeypatch.setattr(budgets, "TURN_COST", limits.MAX_COST_AT_ONCE)
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        other = await new_user(pool, "other")
        conversation = await new_direct(pool, somebody, other)
        async with node.open_websocket(somebody.token) as client:
            sends = [new_send(n, conversation=conversation) for n in range(1500)]
            await client.send(*sends)
            replies: list[Reply | Push] = []
            while len(replies) < 1500:
                # A node that has just started catches up, and may push earlier messages.
                replies += [reply for reply in await client.read(1) if not isinstance(reply, Message)]
            assert len(replies) == 1500
            sent = [reply for reply in replies if isinstance(reply, Sent)]
            refused = [error_of(reply) for reply in replies if isinstance(reply, Error)]
            assert [reply.request for reply in sent] == list(range(limits.MAX_IN_FLIGHT))
            assert refused == [(n, ErrorCode.TOO_MANY_IN_FLIGHT) for n in range(limits.MAX_IN_FLIGHT, 1500)]
            await client.send(*sends[limits.MAX_IN_FLIGHT :])
            again: list[int] = []
            while len(again) < 1500 - limits.MAX_IN_FLIGHT:
                again += [reply.request for reply in await client.read(1) if not isinstance(reply, Message)]
            assert again == list(range(limits.MAX_IN_FLIGHT, 1500))
            [connection] = [each for each in node.gateway.connections if each.user == somebody.user]
            assert connection.in_flight == 0
        assert await pool.fetch("select count(*) from messages where conversation_id = %s", (conversation.hex(),)) == [
            (1500,)
        ]


async def test_refusals_of_one_turn_leave_in_one_system_call(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a message of many small frames costs its sender nothing and the node a system call for each."""
    calls: list[int] = []
    send_raw = Outbox.send_raw

    def counted(outbox: Outbox, data: bytes) -> None:
        calls.append(len(data))
        send_raw(outbox, data)

    async with open_node(pool.url, redis_url) as node, node.open_websocket() as client:
        monkeypatch.setattr(Outbox, "send_raw", counted)
        await client.send(*[cbor2.dumps({0: 99, 1: n}) for n in range(60)])
        assert len(await client.read(60)) == 60
    assert len(calls) == 0


async def test_a_client_that_goes_in_the_middle_leaves_nothing(pool: Pool, redis_url: str) -> None:
    """The client goes between messages, in a header, a frame or a message; by a FIN or a reset; with sends pending."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        other = await new_user(pool, "other")
        conversation = await new_direct(pool, somebody, other)
        for last in (b"", b"\x82", b"\x82\xfe\xff\xff" + bytes(5000), masked(2, encode(HELLO)[:9], first=0)):
            for is_reset in (True, False) * 3:
                async with node.open_websocket(somebody.token) as client:
                    await client.send(*[new_send(n, conversation=conversation) for n in range(20)])
                    await client.write(last)
                    if is_reset:
                        client.reset()
                    else:
                        await client.stream.send_eof()


async def test_a_closing_handshake_is_answered_with_the_same_code(pool: Pool, redis_url: str) -> None:
    async with (
        open_node(pool.url, redis_url) as node,
        undisturbed(pool, node) as somebody,
        node.open_websocket(somebody.token) as client,
    ):
        await client.write(masked(8, b"\x0f\xa0bye"))
        assert await client.wait_end() == 4000


async def test_a_peer_that_never_answers_the_closing_handshake_is_gone_within_a_moment(
    pool: Pool, redis_url: str
) -> None:
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node), node.open_websocket() as client:
        client.answers_close = False
        began = trio.current_time()
        await client.write(masked(2, b""))
        await wait_until(lambda: client_count(node) == 2, "only the bystanders are left")
        assert trio.current_time() - began < 3.5
        assert await client.wait_end() == CloseCode.BAD_FRAME.value


def client_count(node: TestNode) -> int:
    return len(node.gateway.connections)


# With two reasons to close, or when both sides close, the first code counts.
WHILE_WE_CLOSE: dict[str, tuple[bytes, set[int | None]]] = {
    "ping": (masked(9, b"ping"), {4500}),
    "messages": (masked(2, encode(new_send())) * 50, {4500}),
    "a message beyond the limit": (masked(2, bytes(300_000)), {4500, 1009}),
    "unmasked": (b"\x82\x03abc", {4500, 1002}),
    "text that is none": (masked(1, b"\xff"), {4500, 1003}),
    "closes": (masked(8, b"\x03\xe8") * 3, {4500, 1000, None}),
}


@pytest.mark.parametrize("together", [True, False], ids=["in the same packet", "after the close frame"])
async def test_frames_that_come_while_the_server_closes_are_no_fault(
    pool: Pool, redis_url: str, together: bool
) -> None:
    """A peer that has not yet read our close frame goes on as before: pings at the moment of a drain, for instance."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node):

        async def say(name: str, then: bytes, codes: set[int | None]) -> None:
            async with node.open_websocket() as client:
                client.answers_close = False
                await client.write(masked(2, b"") + (then if together else b""))
                if not together:
                    with trio.fail_after(3):
                        while client.close_code is None:
                            assert await client.receive()
                    await client.write(then)
                assert await client.wait_end() in codes, name

        async with trio.open_nursery() as nursery:
            for name, (then, codes) in WHILE_WE_CLOSE.items():
                nursery.start_soon(say, name, then, codes)


async def test_a_ping_is_answered_while_everything_else_waits(pool: Pool, redis_url: str) -> None:
    async with (
        open_node(pool.url, redis_url) as node,
        undisturbed(pool, node) as somebody,
        node.open_websocket(somebody.token) as client,
    ):
        other = await new_user(pool, "other")
        conversation = await new_direct(pool, somebody, other)
        async with pool.connection() as lock:
            await lock.query("begin")
            await lock.query("select 1 from conversations where id = %s for update", (conversation.hex(),))
            await client.send(new_send(1, conversation=conversation))
            await client.write(masked(9, b"still there?"))
            with trio.fail_after(3):
                while not client.pongs:
                    assert await client.receive()
            assert client.pongs == [b"still there?"]
            await lock.query("rollback")
        [sent] = await client.read(1)
        assert isinstance(sent, Sent)


async def test_a_reader_that_stops_is_cut_and_delays_no_other_client(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped reader costs a bounded number of bytes: its outbox and the kernel's buffers."""
    monkeypatch.setattr(outbox, "STUCK_S", 1.0)
    monkeypatch.setattr(limits, "MAX_COST_PER_S", 10**9)
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        reader = await new_user(pool, "reader")
        conversation = await new_direct(pool, somebody, reader)
        async with node.open_websocket(reader.token), node.open_websocket(somebody.token) as client:
            [stuck] = [each for each in node.gateway.connections if each.user == reader.user]
            number = 0
            with trio.fail_after(20):
                while stuck in node.gateway.connections:
                    sends = [new_send(number + n, conversation=conversation, content=bytes(60_000)) for n in range(4)]
                    number += 4
                    await client.send(*sends)
                    assert {type(frame) for frame in await client.read(4)} == {Sent}
                    assert stuck.outbox.size <= outbox.MAX_BYTES
            assert stuck.outbox.cut_reason == "stuck_reader"


async def test_one_commit_larger_than_an_outbox_does_not_cut_a_good_reader(pool: Pool, redis_url: str) -> None:
    """The largest messages, as many at once as a client may have in flight within reason: their reader reads all."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        reader = await new_user(pool, "reader")
        conversation = await new_direct(pool, somebody, reader)
        async with node.open_websocket(reader.token) as listener, node.open_websocket(somebody.token) as client:
            pushes: list[Any] = []

            async def listen() -> None:
                while len(pushes) < 60:
                    pushes.extend(await listener.read(1))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                for n in range(0, 60, 3):
                    await client.send(
                        *[new_send(n + i, conversation=conversation, content=bytes(65_536)) for i in range(3)]
                    )
                assert {type(frame) for frame in await client.read(60)} == {Sent}
            assert [push.seq for push in pushes] == list(range(1, 61))


async def test_hundreds_who_come_and_go_leave_nothing(pool: Pool, redis_url: str) -> None:
    """Clients are welcomed and leave, by every kind of end, all at once."""
    async with open_node(pool.url, redis_url) as node, undisturbed(pool, node) as somebody:
        people = [somebody, *[await new_user(pool, name) for name in ("second", "third")]]

        async def visit(number: int) -> None:
            async with node.open_websocket(people[number % len(people)].token) as client:
                match number % 4:
                    case 0:
                        await client.write(masked(8, b"\x03\xe8"))
                        await client.wait_end()
                    case 1:
                        client.reset()
                    case 2:
                        await client.stream.send_eof()
                    case 3:
                        await client.write(masked(2, b""))

        for _ in range(4):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(visit, number)
