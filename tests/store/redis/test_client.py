"""One pipelined Redis connection for all tasks: each gets its own reply, or an error if there is none."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from embedded.redis import RedisServer
from store.errors import Unavailable
from store.redis import connection, link, servers
from store.redis.client import Redis, RedisError
from store.redis.servers import Servers
from store.redis.url import Address
from tests.rows import each_row
from tests.store.store_world import no_longer_than, running, silent_server
from tests.waiting import DEADLINE_S, wait_until


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis, None]:
    async with running(redis_url) as redis:
        yield redis


@asynccontextmanager
async def paused(server: RedisServer) -> AsyncGenerator[None, None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


async def test_each_of_many_tasks_gets_its_own_reply(redis: Redis) -> None:
    async def talk(number: int) -> None:
        for turn in range(20):
            word = f"{number} {turn}".encode()
            assert await redis.call("ECHO", word) == word
            assert await redis.pipeline([("ECHO", word), ("ECHO", b"x" + word)]) == [word, b"x" + word]

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(talk, number)


async def test_reply_of_a_cancelled_call_is_dropped_and_the_next_ones_are_right(redis: Redis) -> None:
    """Commands in flight are cancelled at every moment of their lives; the other tasks get their own replies."""
    chance = random.Random(5)

    async def talk(number: int) -> None:
        for turn in range(30):
            word = f"{number} {turn}".encode()
            with trio.move_on_after(chance.choice((0, 0.0001, 0.0003, 0.001, 60))):
                assert await redis.pipeline([("ECHO", word)] * 3) == [word] * 3
            assert await redis.call("ECHO", word) == word

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(talk, number)
    assert redis.connects == 1


async def test_cancelled_call_has_taken_effect_all_the_same(redis: Redis) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await redis.call("INCR", "counter")
    assert scope.cancelled_caught
    assert await redis.call("GET", "counter") == b"1"


async def test_values_of_all_kinds_come_through(redis: Redis) -> None:
    big = random.Random(1).randbytes(20_000_000)
    await redis.call("SET", "big", big)
    assert await redis.call("GET", "big") == big
    assert await redis.pipeline(
        [("SET", b"\r\n$", "é"), ("GET", b"\r\n$"), ("SET", "n", 2**63 - 1), ("INCRBY", "n", -1)]
    ) == [
        b"OK",
        "é".encode(),
        b"OK",
        2**63 - 2,
    ]
    assert await redis.call("GET", "nothing") is None
    assert await redis.call("HMGET", "nothing", "a", "b") == [None, None]
    assert await redis.call("XREAD", "STREAMS", "nothing", "0") is None
    assert await redis.call("LRANGE", "nothing", 0, -1) == []
    assert await redis.call("SET", "empty", b"") == b"OK"
    assert await redis.call("GET", "empty") == b""


async def test_many_big_values_at_once_do_not_stall_each_other_for_ever(redis: Redis) -> None:
    """Both directions are full: the reader reads while the writer cannot write."""
    value = bytes(1_000_000)

    async def echo() -> None:
        assert await redis.call("ECHO", value) == value

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(echo)


async def test_error_reply_is_raised_to_its_caller_alone(redis: Redis) -> None:
    await redis.call("SET", "word", "x")

    async def fail() -> None:
        with pytest.raises(RedisError, match="not an integer"):
            await redis.call("INCR", "word")

    async def succeed() -> None:
        assert await redis.call("GET", "word") == b"x"

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(fail)
            nursery.start_soon(succeed)
    assert redis.connects == 1


async def test_failing_command_in_a_pipeline_is_a_value_among_the_replies(redis: Redis) -> None:
    first, failed, last = await redis.pipeline([("SET", "word", "x"), ("INCR", "word"), ("GET", "word")])
    assert (first, last) == (b"OK", b"x")
    assert isinstance(failed, RedisError)
    [unknown] = await redis.pipeline([("NOSUCHCOMMAND",)])
    assert isinstance(unknown, RedisError)
    assert unknown.code == "ERR"


@each_row(
    ("text", "code"),
    [
        ("OOM", "OOM"),
        ("NOGROUP No such key 'stream' or consumer group 'workers'", "NOGROUP"),
        (
            "ERR Error running script (call to f_8b): @user_script:1: @user_script: 1: -READONLY You can't write",
            "READONLY",
        ),
        ("ERR Error running script (call to f_8b): @user_script:1: user_script:1: attempt to index nil -X", "ERR"),
        ("ERR unknown command 'X', with args beginning with: -READONLY ", "ERR"),
        ("", ""),
        ("a reply that names no code", ""),
        ("Mixed case", ""),
    ],
)
def test_the_code_of_an_error_is_the_first_word_of_the_reply(text: str, code: str) -> None:
    assert RedisError(text).code == code


async def test_pipeline_of_nothing_is_nothing(redis: Redis) -> None:
    """A node that knows no others publishes nothing, which must not be an error."""
    assert await redis.pipeline([]) == []


async def test_argument_that_cannot_be_packed_fails_its_own_caller_only(redis: Redis) -> None:
    async def succeed() -> None:
        assert await redis.call("ECHO", "x") == b"x"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(succeed)
        with pytest.raises(TypeError):
            await redis.call("ECHO", object())  # type: ignore[arg-type]
        nursery.start_soon(succeed)
    assert redis.connects == 1


async def test_blocking_command_does_not_hold_up_the_others(redis: Redis) -> None:
    async with redis.blocking() as call, trio.open_nursery() as nursery:
        replies = []

        async def follow() -> None:
            replies.append(await call("BLPOP", "queue", 0, wait_s=60))

        nursery.start_soon(follow)
        await wait_until(lambda: blocked(redis), "the follower is blocked")
        with no_longer_than(2):
            assert await redis.call("ECHO", "x") == b"x"
        await redis.call("RPUSH", "queue", "word")
    assert replies == [[b"queue", b"word"]]


async def test_cancelled_blocking_connection_is_closed(redis: Redis) -> None:
    """Otherwise Redis would go on blocking for a client that has gone."""
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            async with redis.blocking() as call:
                await call("BLPOP", "queue", 0, wait_s=60)

        nursery.start_soon(follow)
        await wait_until(lambda: blocked(redis), "the follower is blocked")
        nursery.cancel_scope.cancel()

    async def gone() -> bool:
        return not await blocked(redis)

    await wait_until(gone, "Redis has let the follower go")


async def test_blocking_connection_that_is_killed_is_unavailable_and_the_shared_one_stays(redis: Redis) -> None:
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            with pytest.raises(Unavailable):
                async with redis.blocking() as call:
                    await call("BLPOP", "queue", 0, wait_s=60)

        nursery.start_soon(follow)
        await wait_until(lambda: blocked(redis), "the follower is blocked")
        await redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert redis.connects == 1


async def blocked(redis: Redis) -> bool:
    return b"blocked_clients:1" in await redis.call("INFO", "clients")


async def test_lost_connection_is_unavailable_for_all_in_flight_and_is_opened_again(own_redis: RedisServer) -> None:
    failures: list[str] = []
    async with running(own_redis.url) as redis:

        async def ask() -> None:
            try:
                await redis.call("ECHO", "x")
            except Unavailable as error:
                failures.append(str(error))

        async with trio.open_nursery() as nursery:
            own_redis.pause()
            for _ in range(20):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            own_redis.kill()
        assert len(failures) == 20
        assert all("connection" in failure for failure in failures)
        assert not redis.is_connected
        with no_longer_than(1), pytest.raises(Unavailable, match="not connected"):
            await redis.call("ECHO", "x")
        await trio.to_thread.run_sync(own_redis.start)
        with trio.fail_after(DEADLINE_S):
            await redis.wait_connected()
        assert await redis.call("ECHO", "x") == b"x"
        assert redis.connects == 2


async def test_reconnecting_backs_off(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubling up to a bound, with jitter, so that processes do not reconnect in step."""
    attempts: list[float] = []

    async def refuse(servers: Servers, address: Address) -> Any:
        attempts.append(trio.current_time())
        raise Unavailable("Redis", str(address), "refused")

    monkeypatch.setattr(Servers, "open", refuse)
    with trio.move_on_after(60):
        await Redis("redis://127.0.0.1:1").run()
    delays = [after - before for before, after in pairwise(attempts)]
    assert all(0.025 * 2**i <= delay <= 0.05 * 2**i for i, delay in enumerate(delays[:5]))
    assert all(1 <= delay <= 2 for delay in delays[7:])
    assert len({round(delay, 3) for delay in delays[7:]}) > 5


async def test_paused_redis_is_no_answer_in_time(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel still accepts the data; only the deadline shows that the connection is dead."""
    monkeypatch.setattr(link, "COMMAND_TIMEOUT_S", 0.2)
    async with running(own_redis.url) as redis:
        async with paused(own_redis):
            with no_longer_than(2), pytest.raises(Unavailable, match="no answer in time"):
                await redis.call("ECHO", "x")
            assert not redis.is_connected
        with trio.fail_after(DEADLINE_S):
            await redis.wait_connected()
            assert await redis.call("ECHO", "x") == b"x"


async def test_deadline_of_a_cancelled_call_counts_as_well(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller has gone; the connection is as dead as before."""
    monkeypatch.setattr(link, "COMMAND_TIMEOUT_S", 0.2)
    async with running(own_redis.url) as redis, paused(own_redis):
        with trio.move_on_after(0.01):
            await redis.call("ECHO", "x")

        async def lost() -> bool:
            return not redis.is_connected

        await wait_until(lost, "the connection is given up")


async def test_more_commands_than_may_wait_are_refused(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "MAX_IN_FLIGHT", 10)
    async with running(own_redis.url) as redis, paused(own_redis), trio.open_nursery() as nursery:
        nursery.start_soon(redis.pipeline, [("ECHO", "x")] * 8)
        await trio.testing.wait_all_tasks_blocked()
        with no_longer_than(1), pytest.raises(Unavailable, match="8 commands wait"):
            await redis.pipeline([("ECHO", "x")] * 3)
        nursery.cancel_scope.cancel()


async def test_wrong_password_is_said_without_the_password_and_tried_again(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, log_output: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(connection, "MAX_BACKOFF_S", 0.05)
    monkeypatch.setattr(link, "COMMAND_TIMEOUT_S", 1.0)
    async with running(own_redis.url) as admin:
        await admin.call("CONFIG", "SET", "requirepass", "right")
        address = own_redis.url.removeprefix("redis://")
        async with running(f"redis://:wrong-secret@{address}", connected=False) as redis:

            async def refused() -> bool:
                return [line["event"] for line in log_output].count("redis_refused") >= 2

            await wait_until(refused, "Redis has refused twice")
            assert not redis.is_connected
            with pytest.raises(Unavailable, match="not connected"):
                await redis.call("ECHO", "x")
            await admin.call("CONFIG", "SET", "requirepass", "wrong-secret")
            with trio.fail_after(DEADLINE_S):
                await redis.wait_connected()
        assert "wrong-secret" not in repr(log_output)


async def test_database_number_and_password_of_the_url_are_used(own_redis: RedisServer) -> None:
    async with running(own_redis.url) as admin:
        await admin.call("CONFIG", "SET", "requirepass", "right")
        address = own_redis.url.removeprefix("redis://").removesuffix("/0")
        for url in (f"redis://:right@{address}/5", f"redis://default:right@{address}/5"):
            async with running(url) as redis:
                await redis.call("SET", "key", url)
                async with redis.blocking() as call:
                    assert await call("GET", "key", wait_s=1) == url.encode()
        await admin.call("SELECT", 5)
        assert await admin.call("DBSIZE") == 1


async def test_silent_server_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "CONNECT_TIMEOUT_S", 0.1)
    async with silent_server() as server, running(f"redis://127.0.0.1:{server.port}", connected=False) as redis:
        with trio.fail_after(DEADLINE_S):
            await server.accepted.wait()
            await server.left.wait()
        assert not redis.is_connected


@asynccontextmanager
async def fake_redis(answer: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncGenerator[str, None]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        yield f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "bytes_sent", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+nobody asked for this\r\n", b"-ERR max clients\r\n"]
)
async def test_server_that_is_no_good_redis_is_tried_again_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, bytes_sent: bytes
) -> None:
    """Invalid bytes, a reply too many, an error instead of a greeting: a lost connection, not a crash."""
    monkeypatch.setattr(connection, "MAX_BACKOFF_S", 0.01)
    accepted = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal accepted
        accepted += 1
        await stream.receive_some()
        await stream.send_all(bytes_sent)

    async with fake_redis(answer) as url, running(url, connected=False):

        async def thrice() -> bool:
            return accepted >= 3

        await wait_until(thrice, "it has been tried three times")


async def test_server_that_lets_go_at_once_is_not_asked_in_a_tight_loop(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It greets, then closes: connecting succeeds each time, so connecting alone never backs off."""
    times: list[float] = []

    async def answer(stream: trio.abc.Stream) -> None:
        await stream.aclose()

    async with trio.open_nursery() as nursery:

        async def open_fake(servers: Servers, address: Address) -> trio.abc.Stream:
            times.append(trio.current_time())
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(answer, far)
            return near

        monkeypatch.setattr(Servers, "open", open_fake)
        with trio.move_on_after(10):
            await Redis("redis://127.0.0.1:1").run()
    assert 40 <= len(times) <= 81


async def test_replies_in_small_pieces_are_put_together() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        for byte in b"+OK\r\n":
            await stream.send_all(bytes([byte]))
        await stream.receive_some()
        for byte in b"*2\r\n$3\r\na\r\n\r\n:7\r\n":
            await stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        await stream.receive_some()

    async with fake_redis(answer) as url, running(url) as redis:
        with trio.fail_after(DEADLINE_S):
            assert await redis.call("ANYTHING") == [b"a\r\n", 7]


async def call(redis: Redis) -> Any:
    return await redis.call("ECHO", "x")


async def call_in_a_pipeline(redis: Redis) -> Any:
    [reply] = await redis.pipeline([("ECHO", "x")])
    return reply


async def call_that_blocks(redis: Redis) -> Any:
    async with redis.blocking() as call:
        return await call("ECHO", "x", wait_s=1)


EACH_WAY = pytest.mark.parametrize("way", [call, call_in_a_pipeline, call_that_blocks])


@EACH_WAY
async def test_client_that_has_just_been_started_waits_for_its_first_connection(
    redis_url: str, way: Callable[[Redis], Awaitable[Any]]
) -> None:
    async with running(redis_url, connected=False) as redis:
        assert not redis.is_connected
        assert await way(redis) == b"x"


@EACH_WAY
async def test_first_connection_that_does_not_come_is_waited_for_until_the_deadline_and_no_longer(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, way: Callable[[Redis], Awaitable[Any]]
) -> None:
    async def refuse(self: Servers, address: Address) -> trio.abc.Stream:
        raise Unavailable("Redis", str(address), "refused")

    monkeypatch.setattr(Servers, "open", refuse)
    async with running("redis://nowhere.invalid", connected=False) as redis:
        began = trio.current_time()
        for _ in range(2):  # the second one fails at once
            with pytest.raises(Unavailable, match="not connected"):
                await way(redis)
            assert trio.current_time() - began == pytest.approx(link.COMMAND_TIMEOUT_S)


async def test_client_that_does_not_run_or_no_longer_does_waits_for_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_for_ever(self: Servers, address: Address) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(Servers, "open", open_for_ever)
    redis = Redis("redis://nowhere.invalid")
    began = trio.current_time()
    with pytest.raises(Unavailable, match="not connected"):
        await redis.call("ECHO", "x")
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        await nursery.start(redis.run)

        async def wait() -> None:
            with pytest.raises(Unavailable, match="not connected"):
                await redis.call("ECHO", "x")

        outer.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == began


async def test_commands_that_wait_when_run_ends_are_unavailable(own_redis: RedisServer) -> None:
    redis = Redis(own_redis.url)
    async with trio.open_nursery() as outer:

        async def ask() -> None:
            with pytest.raises(Unavailable, match="connection closed"):
                await redis.call("BLPOP", "queue", 0)
            with pytest.raises(Unavailable):
                await redis.call("ECHO", "x")

        async with trio.open_nursery() as nursery:
            await nursery.start(redis.run)
            await redis.wait_connected()
            outer.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
