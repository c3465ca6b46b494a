"""What a client has yet to read: one system call per pass, whole frames in order, an end for those who do not read."""

from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from server_sockets import ends, whole_messages
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping

from protocol.websocket import binary_header, close_frame
from server.outbox import MAX_BYTES, MAX_MESSAGE_BYTES, STUCK_S

PING = b"\x89\x04ping"


@pytest.mark.parametrize("sizes", [[3], [100, 0, 25], [40] * 500, [65535], [65536], [30_000] * 4])
def test_a_pass_is_one_system_call_and_one_message(sizes: list[int]) -> None:
    frames = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    with ends() as both:
        first = [both.outbox.offer(frame) for frame in frames]
        assert both.sock.sends == 0
        both.outbox.flush()
        both.outbox.flush()
        assert both.sock.sends == 1
        assert both.outbox.size == 0
        assert both.peer.messages_nowait() == [b"".join(frames)]
    assert first == [True] + [False] * (len(frames) - 1), "the first since the last flush"


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
        assert both.sock.sends == 1
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
    """However little the kernel takes at a time, the other end parses every frame, in the order of the offers."""

    async def main() -> None:
        expected: list[bytes] = []
        number = 0
        async with trio.open_nursery() as nursery:
            with ends(nursery) as both:
                both.sock.most = list(room)
                events = []
                for step in passes:
                    if step == "ping":
                        both.outbox.send_raw(PING)
                        expected.append(b"ping")
                    elif step == "read":
                        await wait_all_tasks_blocked()
                        events += both.peer.events_nowait()
                    else:
                        frames = [bytes([(number := number + 1) % 256]) * int(size) for size in step]
                        for frame in frames:
                            both.outbox.offer(frame)
                        both.outbox.flush()
                        expected.append(b"".join(frames))
                with trio.fail_after(5):
                    await both.outbox.wait_flushed()
                events += both.peer.events_nowait()
                assert both.outbox.size == 0
                assert both.cuts == 0
                got, parts = [], b""
                for event in events:
                    if isinstance(event, Ping):
                        got.append(bytes(event.payload))
                        continue
                    assert isinstance(event, BytesMessage)
                    parts += event.data
                    if event.message_finished:
                        got.append(parts)
                        parts = b""
                assert got == expected

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


async def test_a_reader_that_stops_is_cut_at_the_bound_and_what_comes_later_is_dropped() -> None:
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            frame = b"x" * 10_000
            while not both.cuts:
                both.outbox.offer(frame)
                assert both.outbox.size <= MAX_BYTES + len(frame), "bounded, whatever is offered"
                both.outbox.flush()
            assert both.outbox.cut_reason == "slow_reader"
            assert both.outbox.size == 0
            calls = both.sock.sends
            assert both.outbox.offer(frame) is False
            both.outbox.flush()
            both.outbox.send_raw(PING)
            both.outbox.release(frame)
            assert (both.outbox.size, both.sock.sends, both.cuts) == (0, calls, 1)
            with trio.fail_after(1):
                await both.outbox.wait_flushed()
            nursery.cancel_scope.cancel()


async def test_pongs_alone_cannot_grow_beyond_the_bound() -> None:
    """A peer that sends pings and never reads makes us queue pongs."""
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            for _ in range(MAX_BYTES):
                both.outbox.send_raw(PING)
                assert both.outbox.size <= MAX_BYTES + len(PING)
                if both.cuts:
                    break
            assert both.outbox.cut_reason == "slow_reader"
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
    """Every byte that the kernel takes begins the deadline anew."""
    async with trio.open_nursery() as nursery:
        with ends(nursery, kernel_bytes=4096) as both:
            both.outbox.offer(b"x" * 200_000)
            both.outbox.flush()
            while both.outbox.size:
                await trio.sleep(STUCK_S * 0.9)
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
    """A push may come in the moment after the connection closed its socket."""
    with ends() as both:
        both.ours.close()
        both.outbox.offer(b"frame")
        both.outbox.flush()
        assert both.outbox.cut_reason == "connection_lost"


def test_what_is_held_follows_the_first_frame_and_leaves_with_it() -> None:
    """Pushes that come before the welcome are for the client to see after it."""
    with ends() as both:
        both.outbox.hold()
        for frame in (b"push 1", b"push 2"):
            both.outbox.offer(frame)
            both.outbox.flush()
        both.outbox.send_raw(PING)
        assert both.sock.sends == 1, "only the ping: control frames do not wait"
        both.outbox.release(b"welcome")
        assert both.sock.sends == 2
        assert both.outbox.size == 0
        ping, message = both.peer.events_nowait()
        assert isinstance(ping, Ping)
        assert isinstance(message, BytesMessage)
        assert message.data == b"welcomepush 1push 2"


async def test_after_the_end_what_was_offered_is_sent_and_what_comes_is_dropped() -> None:
    """The close frame is the last one, also behind what the kernel has yet to take (RFC 6455, section 5.5.1)."""
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            both.sock.most = [10, 0, 5]
            for frame in (b"a" * 20, b"b"):
                both.outbox.offer(frame)
            both.outbox.end(close_frame(4500, "é" * 100))
            assert both.outbox.offer(b"late") is False
            both.outbox.flush()
            await both.outbox.wait_flushed()
            message, close = both.peer.events_nowait()
            assert isinstance(message, BytesMessage)
            assert isinstance(close, CloseConnection)
            assert message.data == b"a" * 20 + b"b"
            assert (close.code, close.reason) == (4500, "é" * 61)


def test_what_is_held_is_bounded() -> None:
    """A hello that Postgres lets wait must not gather a crowd's messages."""
    with ends() as both:
        both.outbox.hold()
        for _ in range(MAX_BYTES // 1000 + 1):
            both.outbox.offer(b"x" * 1000)
            both.outbox.flush()
        assert (both.outbox.cut_reason, both.outbox.size, both.sock.sends) == ("slow_reader", 0, 0)


async def test_a_pass_beyond_the_bound_does_not_cut_whom_the_kernel_could_serve() -> None:
    """64 of the largest messages may be one commit, so one pass: their reader reads as fast as it can."""
    async with trio.open_nursery() as nursery:
        with ends(nursery) as both:
            frame = b"x" * 65_000
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
                both.outbox.offer(frame)
            both.outbox.flush()
            with trio.fail_after(5):
                await both.outbox.wait_flushed()
            await wait_all_tasks_blocked()
            assert both.cuts == 0
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
