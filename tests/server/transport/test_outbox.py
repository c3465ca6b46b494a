"""The outbox: one system call per batch, whole frames in order, and a cut for clients that do not read."""

from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping

from protocol.codec import decode_from_server, encode
from protocol.frames import Done, Lag, Message, Push, Reply, Typing
from protocol.websocket import binary_header, close_frame
from server.transport.outbox import (
    MAX_BYTES,
    MAX_LATEST,
    MAX_MESSAGE_BYTES,
    MAX_REPLY_BYTES,
    ROOM_BYTES,
    STUCK_S,
    Whole,
)
from tests.rows import each_row
from tests.server.sockets import Ends, ends, whole_messages
from tests.waiting import let_pass

PING = b"\x89\x04ping"


@each_row("sizes", [[3], [100, 0, 25], [40] * 500, [65535], [65536], [30_000] * 4])
def test_a_pass_is_one_system_call_and_one_message(sizes: list[int]) -> None:
    frames = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    with ends() as both:
        for frame in frames:
            both.outbox.offer(frame)
        assert both.sock.sends == 0
        both.outbox.flush()
        both.outbox.flush()
        assert both.sock.sends == 1
        assert both.outbox.size == 0
        assert both.peer.messages_nowait() == [b"".join(frames)]


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=12))
@settings(max_examples=30)
def test_messages_are_begun_anew_at_their_limit_and_keep_whole_frames_in_order(sizes: list[int]) -> None:
    frames = [bytes([n]) * size for n, size in enumerate(sizes)]
    with ends() as both:
        for frame in frames:
            both.outbox.offer(frame)
        sent = bytearray()
        both.sock.send = lambda data: sent.extend(data) or len(data)  # type: ignore[method-assign, func-returns-value]
        both.outbox.flush()
    peer = Connection(ConnectionType.CLIENT)
    peer.receive_data(bytes(sent))
    messages = whole_messages(list(peer.events()))
    assert b"".join(messages) == b"".join(frames)
    assert all(len(message) <= MAX_MESSAGE_BYTES for message in messages)
    borders, at = {0}, 0
    for frame in frames:
        at += len(frame)
        borders.add(at)
    at = 0
    for message in messages:
        at += len(message)
        assert at in borders, "no frame is torn in two"


def test_a_frame_larger_than_the_message_limit_goes_alone() -> None:
    frames = [b"a" * 10, b"b" * (MAX_MESSAGE_BYTES + 1), b"c" * 10]
    with ends() as both:
        for frame in frames:
            both.outbox.offer(frame)
        both.outbox.flush()
        assert both.peer.messages_nowait() == frames


@given(st.integers(0, 2**40))
def test_headers_are_the_shortest_that_rfc_6455_allows(size: int) -> None:
    made = binary_header(size)
    assert made[0] == 0x82
    assert len(made) == (2 if size < 126 else 4 if size < 2**16 else 10)
    assert int.from_bytes(made[1:] if size < 126 else made[2:]) == size


@given(
    st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=4) | st.just("ping") | st.just("read"), max_size=15),
    st.lists(st.sampled_from([0, 1, 3, 100]), max_size=15),
)
@settings(max_examples=60, deadline=None)
def test_partial_sends_keep_order_and_control_frames_never_land_inside_a_frame(
    passes: list[list[int] | str], room: list[int]
) -> None:
    """The kernel takes a few bytes at a time; the other end still parses every frame, in the order offered."""

    async def main() -> None:
        expected = b""
        number = pings = 0
        async with trio.open_nursery() as nursery:
            with ends(nursery) as both:
                both.sock.most = list(room)
                events = []
                for step in passes:
                    if step == "ping":
                        both.outbox.send_raw(PING)
                        pings += 1
                    elif step == "read":
                        await wait_all_tasks_blocked()
                        events += both.peer.events_nowait()
                    else:
                        frames = [bytes([(number := number + 1) % 256]) * int(size) for size in step]
                        for frame in frames:
                            both.outbox.offer(frame)
                        both.outbox.flush()
                        expected += b"".join(frames)
                with trio.fail_after(5):
                    await both.outbox.wait_flushed()
                events += both.peer.events_nowait()
                assert both.outbox.size == 0
                assert both.cuts == 0
                assert [event.payload for event in events if isinstance(event, Ping)] == [b"ping"] * pings
                # Frames that wait for the kernel leave together, so messages and batches have different borders.
                messages = whole_messages([event for event in events if not isinstance(event, Ping)])
                assert b"".join(messages) == expected

    trio.run(main)


async def test_a_reader_that_comes_back_gets_everything_in_order() -> None:
    async with trio.open_nursery() as nursery:
        with ends(nursery, kernel_bytes=4096) as both:
            frames = [b"%06d" % n * 100 for n in range(1000)]
            for frame in frames:
                both.outbox.offer(frame)
                both.outbox.flush()
            sent_while_full = both.sock.sends
            got: list[bytes] = []
            with trio.fail_after(10):
                while len(b"".join(got)) < 600_000:
                    await trio.lowlevel.wait_readable(both.peer.sock)
                    got += [bytes(event.data) for event in both.peer.events_nowait() if isinstance(event, BytesMessage)]
            await both.outbox.wait_flushed()
            assert b"".join(got) == b"".join(frames)
            assert both.cuts == 0
            assert sent_while_full < 30, "a full kernel is not asked again for each frame"


def new_push(seq: int, size: int = 10_000, *, conversation: bytes = b"c" * 16) -> bytes:
    return encode(Message(conversation, seq, b"m" * 16, 1, b"s" * 16, "text", bytes(size), None, None))


async def read_all(both: Ends) -> list[Reply | Push]:
    """Read all bytes that wait, and decode them."""
    frames: list[Reply | Push] = []
    with trio.fail_after(10):
        while both.outbox.size:
            await trio.lowlevel.wait_readable(both.peer.sock)
            both.peer.keep(both.peer.events_nowait())
            await wait_all_tasks_blocked()
    both.peer.keep(both.peer.events_nowait())
    for message in whole_messages(both.peer.take()):
        frames += decode_from_server(message)
    return frames


async def test_a_reader_that_falls_behind_is_told_so_once_and_gets_no_pushes_until_it_asks() -> None:
    """The client fetches the dropped messages by its cursor; the outbox keeps the replies, in order."""
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            seq = 0
            while not both.outbox.is_lagging:
                seq += 1
                both.outbox.push(new_push(seq, conversation=bytes([seq % 3]) * 16))
                assert both.outbox.size <= MAX_BYTES, "the outbox stays bounded"
                if seq % 10 == 0:
                    both.outbox.offer(encode(Done(seq)))
                both.outbox.flush()
            assert both.outbox.size < MAX_MESSAGE_BYTES + 1000, (
                "the outbox keeps only replies and a message that was begun"
            )
            for _ in range(1000):
                both.outbox.push(new_push(99))
            frames = await read_all(both)
            pushes = [frame for frame in frames if isinstance(frame, Message)]
            assert [push.seq for push in pushes] == list(range(1, len(pushes) + 1)), (
                "pushes before the lag are complete"
            )
            assert len(pushes) < seq
            assert [frame.request for frame in frames if isinstance(frame, Done)] == list(range(10, seq, 10))
            [lag] = [frame for frame in frames if isinstance(frame, Lag)]
            assert lag is frames[-1]
            assert sorted(lag.heads) == [
                (bytes([n % 3]) * 16, n) for n in sorted((seq - 2, seq - 1, seq), key=lambda n: n % 3)
            ]
            both.outbox.resume()
            both.outbox.push(new_push(seq + 1))
            both.outbox.flush()
            assert [frame.seq for frame in await read_all(both) if isinstance(frame, Message)] == [seq + 1]
            assert both.cuts == 0


async def test_the_pushes_within_a_reply_are_not_dropped() -> None:
    """The pushes of a `sync` come before its reply, and the cursor in the reply counts them as received."""
    async with trio.open_nursery() as nursery:
        with ends(nursery, kernel_bytes=4096) as both:
            both.outbox.push(new_push(1, 60_000))
            both.outbox.flush()
            both.outbox.offer(Whole(new_push(2) + encode(Done(2))))
            seq = 2
            while not both.outbox.is_lagging:
                seq += 1
                both.outbox.push(new_push(seq, 60_000))
            frames = await read_all(both)
            assert [frame.seq for frame in frames if isinstance(frame, Message)] == [1, 2]
            assert isinstance(frames[2], Done)
            assert isinstance(frames[3], Lag)
            assert frames[3].heads == [(b"c" * 16, seq)]


async def test_only_the_latest_ephemeral_push_of_each_user_waits() -> None:
    """Two users type while a reader is slow: after the messages it gets the last typing push of each."""
    async with trio.open_nursery() as nursery:
        with ends(nursery, kernel_bytes=4096) as both:
            both.outbox.push(new_push(1, 60_000))
            both.outbox.flush()
            size = both.outbox.size
            for n in range(100):
                for user in (b"a" * 16, b"b" * 16):
                    both.outbox.push_latest(user, encode(Typing(b"c" * 16, user, n % 2 == 0)))
                    both.outbox.flush()
            assert both.outbox.size == size, "one push of each user waits"
            both.outbox.push(new_push(2))
            frames = await read_all(both)
            assert [frame.seq for frame in frames if isinstance(frame, Message)] == [1, 2]
            typing = [frame for frame in frames if isinstance(frame, Typing)]
            assert [(frame.user, frame.is_typing) for frame in typing] == [(b"a" * 16, False), (b"b" * 16, False)]


def test_an_ephemeral_push_is_sent_at_once_where_there_is_room() -> None:
    with ends() as both:
        both.outbox.push_latest(b"key", encode(Typing(b"c" * 16, b"u" * 16, True)))
        both.outbox.push(new_push(1, 10))
        both.outbox.flush()
        [message] = both.peer.messages_nowait()
        assert [type(frame) for frame in decode_from_server(message)] == [Message, Typing]


async def test_ephemeral_pushes_are_bounded_in_number() -> None:
    with ends() as both:
        both.outbox.hold()
        for n in range(2 * MAX_LATEST):
            both.outbox.push_latest(n.to_bytes(2, "big"), encode(Typing(b"c" * 16, n.to_bytes(16, "big"), True)))
        both.outbox.release(encode(Done(1)))
        [message] = both.peer.messages_nowait()
        _, *typing = decode_from_server(message)
        assert [int.from_bytes(frame.user, "big") for frame in typing if isinstance(frame, Typing)] == list(
            range(MAX_LATEST, 2 * MAX_LATEST)
        )


async def test_a_task_that_waits_for_room_goes_on_when_half_of_the_room_is_free() -> None:
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            while not both.outbox.is_full:
                both.outbox.offer(bytes(50_000))
                both.outbox.flush()
            sizes = []

            async def wait() -> None:
                await both.outbox.wait_room()
                sizes.append(both.outbox.size)

            nursery.start_soon(wait)
            with trio.fail_after(10):
                while not sizes:
                    await trio.lowlevel.wait_readable(both.peer.sock)
                    both.peer.events_nowait()
                    await wait_all_tasks_blocked()
            assert 0 < sizes[0] <= ROOM_BYTES
            nursery.cancel_scope.cancel()


async def test_a_task_that_waits_for_room_goes_on_when_the_peer_is_cut() -> None:
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            while not both.outbox.is_full:
                both.outbox.offer(bytes(50_000))
                both.outbox.flush()
            went_on = trio.Event()

            async def wait() -> None:
                await both.outbox.wait_room()
                went_on.set()

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert not went_on.is_set()
            both.outbox.cut("closed")
            with trio.fail_after(1):
                await went_on.wait()
            nursery.cancel_scope.cancel()


async def test_replies_and_pongs_far_beyond_the_bound_are_a_fault_and_end_the_connection() -> None:
    """A connection that stops reading in time never gets there; if one does, the node's memory matters more."""
    for offer in (lambda outbox: outbox.offer(bytes(10_000)), lambda outbox: outbox.send_raw(PING * 2000)):
        async with trio.open_nursery() as nursery:
            with ends(nursery) as both:
                while not both.cuts:
                    offer(both.outbox)
                    both.outbox.flush()
                    assert both.outbox.size <= MAX_REPLY_BYTES + 20_000
                assert (both.outbox.cut_reason, both.outbox.size) == ("slow_reader", 0)
                calls = both.sock.sends
                both.outbox.offer(b"frame")
                both.outbox.push(new_push(1))
                both.outbox.push_latest(b"key", b"frame")
                both.outbox.flush()
                both.outbox.send_raw(PING)
                both.outbox.release(b"frame")
                assert (both.outbox.size, both.sock.sends, both.cuts) == (0, calls, 1)
                with trio.fail_after(1):
                    await both.outbox.wait_flushed()
                nursery.cancel_scope.cancel()


async def test_a_kernel_that_takes_nothing_for_the_deadline_is_stuck(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        with ends(nursery, kernel_bytes=4096) as both:
            both.outbox.offer(b"x" * 500_000)
            both.outbox.flush()
            began = trio.current_time()
            await both.outbox.wait_flushed()
            assert both.outbox.cut_reason == "stuck_reader"
            assert trio.current_time() - began == pytest.approx(STUCK_S)
            assert both.cuts == 1


async def test_a_slow_reader_is_not_stuck(autojump_clock: MockClock) -> None:
    """Every byte that the kernel takes restarts the deadline."""
    async with trio.open_nursery() as nursery:
        with ends(nursery, kernel_bytes=4096) as both:
            both.outbox.offer(b"x" * 200_000)
            both.outbox.flush()
            while both.outbox.size:
                await let_pass(STUCK_S * 0.9, why="the peer reads just in time")
                both.peer.events_nowait()
                await wait_all_tasks_blocked()
            assert both.cuts == 0


async def test_a_peer_that_is_gone_is_cut_once() -> None:
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            both.peer.sock.close()
            for _ in range(3):
                both.outbox.offer(b"frame")
                both.outbox.flush()
            assert (both.outbox.cut_reason, both.cuts) == ("connection_lost", 1)


async def test_a_peer_that_goes_while_we_wait_for_it_is_cut() -> None:
    async with trio.open_nursery() as nursery:
        with ends(nursery, kernel_bytes=4096) as both:
            both.outbox.offer(b"x" * 500_000)
            both.outbox.flush()
            both.peer.sock.close()
            with trio.fail_after(5):
                await both.outbox.wait_flushed()
            assert (both.outbox.cut_reason, both.cuts) == ("connection_lost", 1)


def test_a_closed_socket_of_our_own_is_no_crash() -> None:
    """A push may come just after the connection closed its socket."""
    with ends() as both:
        both.ours.close()
        both.outbox.offer(b"frame")
        both.outbox.flush()
        assert both.outbox.cut_reason == "connection_lost"


def test_held_pushes_follow_the_first_frame_and_leave_with_it() -> None:
    """The client must see pushes that come before the welcome after it."""
    with ends() as both:
        both.outbox.hold()
        for frame in (b"push 1", b"push 2"):
            both.outbox.offer(frame)
            both.outbox.flush()
        both.outbox.send_raw(PING)
        assert both.sock.sends == 1, "only the ping comes: control frames do not wait"
        both.outbox.release(b"welcome")
        assert both.sock.sends == 2
        assert both.outbox.size == 0
        ping, message = both.peer.events_nowait()
        assert isinstance(ping, Ping)
        assert isinstance(message, BytesMessage)
        assert message.data == b"welcomepush 1push 2"


async def test_after_the_end_what_was_offered_is_sent_and_what_comes_is_dropped() -> None:
    """The close frame is the last one, behind all bytes that the kernel has yet to take (RFC 6455, section 5.5.1)."""
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            both.sock.most = [10, 0, 5]
            for frame in (b"a" * 20, b"b"):
                both.outbox.offer(frame)
            both.outbox.end(close_frame(4500, "é" * 100))
            both.outbox.offer(b"late")
            both.outbox.flush()
            await both.outbox.wait_flushed()
            message, close = both.peer.events_nowait()
            assert isinstance(message, BytesMessage)
            assert isinstance(close, CloseConnection)
            assert message.data == b"a" * 20 + b"b"
            assert (close.code, close.reason) == (4500, "é" * 61)


def test_the_pushes_that_an_outbox_holds_are_bounded() -> None:
    """While a hello waits for Postgres, the outbox must not gather pushes without bound."""
    with ends() as both:
        both.outbox.hold()
        for seq in range(1, 2 * MAX_BYTES // 10_000):
            both.outbox.push(new_push(seq))
            both.outbox.flush()
            assert both.outbox.size <= MAX_BYTES
        both.outbox.release(encode(Done(1)))
        [message] = both.peer.messages_nowait()
        assert [type(frame) for frame in decode_from_server(message)] == [Done, Lag]


async def test_a_pass_beyond_the_bound_is_no_lag_of_whom_the_kernel_could_serve() -> None:
    """One commit, and so one batch, may hold 64 of the largest messages; this reader reads as fast as it can."""
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            frame = new_push(1, 65_000)
            total = 0

            async def read() -> None:
                nonlocal total
                while True:
                    await trio.lowlevel.wait_readable(both.peer.sock)
                    total += sum(
                        len(event.data) for event in both.peer.events_nowait() if isinstance(event, BytesMessage)
                    )

            nursery.start_soon(read)
            for _ in range(MAX_BYTES // len(frame) + 1):
                both.outbox.push(frame)
            both.outbox.flush()
            with trio.fail_after(5):
                await both.outbox.wait_flushed()
            await wait_all_tasks_blocked()
            assert not both.outbox.is_lagging
            assert total == (MAX_BYTES // len(frame) + 1) * len(frame)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.EBADF, errno.ENOBUFS])
def test_any_error_of_the_kernel_ends_this_connection_alone(number: int) -> None:
    with ends() as both:

        def fail(_: bytes) -> int:
            raise OSError(number, "")

        both.sock.send = fail  # type: ignore[method-assign, assignment]
        both.outbox.offer(b"frame")
        both.outbox.flush()
        assert (both.outbox.cut_reason, both.cuts) == ("connection_lost", 1)
