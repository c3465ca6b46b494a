"""Connecting to Redis: passwords, TLS, and the master that real sentinels name, through fail-overs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio

from embedded.redis import RedisServer
from jobs.engine import consumer_group, streams, volatile
from jobs.engine.consumer_group import TaskLimits
from jobs.engine.streams import JobStream
from store.errors import Unavailable
from store.redis import servers as servers_module
from store.redis.bus import Inbox, publish
from store.redis.client import Redis, RedisError
from store.redis.directory import beat, enter, locate, sign_off
from store.redis.servers import Servers
from store.redis.url import parse_redis_url
from tests.sentinel import SERVICE, Watched
from tests.store.store_world import no_longer_than, running, silent_server
from tests.tls import Authority, open_tls
from tests.waiting import DEADLINE_S, let_pass, wait_until

FAIL_OVER_S = 20.0
"""A sentinel takes 2 s to notice that the master is gone, and up to 2 s to promote the replica."""


async def refusal(url: str) -> str:
    """The reason why a client cannot connect by this URL."""
    servers = Servers(parse_redis_url(url))
    with pytest.raises((Unavailable, RedisError)) as caught:
        await servers.open(await servers.find())
    return str(caught.value)


async def use_streams(redis: Redis) -> None:
    """Every kind of command that the job queue sends to Redis."""
    task, limits = "digest", {"digest": TaskLimits(5, 10, 1.0)}
    stream = JobStream(task, 1)
    await consumer_group.make_groups(redis, streams.streams_of([task]))
    assert await consumer_group.begin_epoch(redis)
    entries = [(stream, streams.durable_fields(job)) for job in (7, 8)]
    assert await streams.add_and_count(redis, entries) == {stream: 2}
    await volatile.add_later(redis, stream, streams.volatile_fields("v1", b"{}"), 0)
    await volatile.add_keyed(redis, "alo:{jobs}:key:digest:k", 9, stream, streams.volatile_fields("v2", b"{}"), 0)
    await volatile.cancel(redis, "v1")
    assert await volatile.cancelled_of(redis, ["v1", "v2"]) == {"v1"}
    await volatile.promote(redis, streams.streams_of([task]))
    async with redis.blocking() as call:
        [first] = (await consumer_group.wait_take(call, "worker", [stream], 1000)).entries
    rest = (await consumer_group.take(redis, "worker", limits, 10)).entries
    assert sorted(await consumer_group.beat(redis, "worker", [first, *rest])) == [1, 1, 1, 2]
    assert (await consumer_group.take_over(redis, "worker", [task], 10)).entries == []
    await consumer_group.announce(redis, "worker")
    assert await consumer_group.count_workers(redis) == 1
    await consumer_group.finish(redis, [(each.stream, each.id) for each in [first, *rest]])
    await consumer_group.leave(redis, "worker", [task])
    assert await streams.lengths(redis, [stream]) == [0]


async def test_user_who_may_do_no_more_than_needed_is_enough(own_redis: RedisServer) -> None:
    """The rights that README.md names: for our keys, and without dangerous commands except ROLE."""
    address = own_redis.url.removeprefix("redis://")
    async with running(own_redis.url) as admin:
        rights = ("resetchannels", "~alo:*", "+@all", "-@dangerous", "-@admin", "+role")
        await admin.call("ACL", "SETUSER", "shield", "on", ">p@ss/word", *rights)
        await admin.call("ACL", "SETUSER", "default", "off")
    node, other, user = b"node0001", b"node0002", uuid4().bytes
    async with running(f"redis://shield:p%40ss%2Fword@{address}") as redis, trio.open_nursery() as nursery:
        inbox, got = Inbox(redis, node), trio.Event()
        await inbox.open()
        await enter(redis, node, [user])
        assert (await beat(redis, node, inbox.position)).nodes == {node}
        assert await locate(redis, [user]) == [(node,)]

        async def note(_: object) -> None:
            got.set()

        nursery.start_soon(inbox.follow, note)
        assert await publish(redis, [(node, b"entry"), (other, b"gone")]) == []
        with trio.fail_after(DEADLINE_S):
            await got.wait()
        await use_streams(redis)
        await sign_off(redis, node)
        assert (await redis.call("ROLE"))[0] == b"master"
        with pytest.raises(RedisError, match="NOPERM"):
            await redis.call("GET", "somebody else's")
        nursery.cancel_scope.cancel()


async def test_server_that_repeats_what_it_did_not_understand_is_quoted_without_the_password() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"-ERR unknown command `AUTH`, with args beginning with: `secret`, \r\n")

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        port = listeners[0].socket.getsockname()[1]
        assert await refusal(f"redis://:secret@127.0.0.1:{port}") == "ERR unknown command `AUTH`"
        nursery.cancel_scope.cancel()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "stranger")


@pytest.fixture
def server_port(redis_url: str) -> int:
    return int(redis_url.removesuffix("/0").rpartition(":")[2])


async def test_tls_carries_both_connections(authority: Authority, server_port: int) -> None:
    async with (
        open_tls(authority.server_context("127.0.0.1"), server_port) as port,
        running(f"rediss://127.0.0.1:{port}/3?ssl_ca_certs={authority.file}") as redis,
    ):
        big = b"x" * 1_000_000
        await redis.call("SET", "word", big)
        async with redis.blocking() as call:
            assert await call("GET", "word", wait_s=1) == big


async def test_tls_trusts_the_authorities_of_the_system_unless_told_otherwise(
    authority: Authority, server_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_tls(authority.server_context("127.0.0.1"), server_port) as port:
        assert "its certificate is not accepted: unable to get" in await refusal(f"rediss://127.0.0.1:{port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        async with running(f"rediss://127.0.0.1:{port}") as redis:
            assert await redis.call("PING") == b"PONG"


@pytest.mark.parametrize(
    ("names", "query", "reason"),
    [
        (("127.0.0.1",), "ssl_ca_certs={stranger}", "its certificate is not accepted: "),
        (("127.0.0.1",), "ssl_ca_certs={stranger}&ssl_cert_reqs=none", None),
        (("redis.example",), "ssl_ca_certs={authority}", "IP address mismatch, certificate is not valid for"),
        (("redis.example",), "ssl_ca_certs={authority}&ssl_check_hostname=false", None),
        (("redis.example",), "ssl_ca_certs={stranger}&ssl_check_hostname=false", "its certificate is not accepted: "),
        (("redis.example",), "ssl_cert_reqs=none", None),
    ],
)
async def test_tls_is_as_strict_as_the_url_says(
    authority: Authority,
    stranger: Authority,
    server_port: int,
    names: tuple[str, ...],
    query: str,
    reason: str | None,
) -> None:
    query = query.format(authority=authority.file, stranger=stranger.file)
    async with open_tls(authority.server_context(*names), server_port) as port:
        url = f"rediss://:secret@127.0.0.1:{port}?{query}"
        if reason is None:
            assert "AUTH" in await refusal(url), "Redis itself was asked through TLS"
        else:
            assert reason in await refusal(url)
        assert "secret" not in await refusal(url)


async def test_server_that_asks_for_a_certificate_gets_ours(authority: Authority, server_port: int) -> None:
    async with open_tls(authority.server_context("127.0.0.1", asks_clients=True), server_port) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority.file}"
        assert "CERTIFICATE_REQUIRED" in await refusal(url)
        async with running(f"{url}&ssl_certfile={authority.client_cert}&ssl_keyfile={authority.client_key}") as redis:
            assert await redis.call("PING") == b"PONG"


async def test_server_without_tls_is_named(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the bytes for the beginning of a command, and waits for its end."""
    monkeypatch.setattr(servers_module, "CONNECT_TIMEOUT_S", 0.2)
    address = redis_url.removeprefix("redis://").removesuffix("/0")
    assert await refusal(f"rediss://{address}") == f"Redis at {address}: no answer within 0.2 s"


async def test_certificate_that_goes_missing_is_said_and_tried_again(
    authority: Authority, server_port: int, tmp_path: Path, log_output: list[dict[str, Any]]
) -> None:
    """Files are read for each connection, since operators replace them while a process runs."""
    file = tmp_path / "ca.pem"

    async def said() -> bool:
        return any("No such file" in line.get("error", "") for line in log_output)

    async with (
        open_tls(authority.server_context("127.0.0.1"), server_port) as port,
        running(f"rediss://127.0.0.1:{port}?ssl_ca_certs={file}", connected=False) as redis,
    ):
        await wait_until(said, "the log says what is missing")
        file.write_bytes(authority.file.read_bytes())
        with trio.fail_after(DEADLINE_S):
            await redis.wait_connected()


async def test_demoted_server_is_left_with_the_first_write(own_redis: RedisServer) -> None:
    """It closes no connections; and scripts put READONLY elsewhere in their error than commands do."""
    writes = [
        ("SET", "a", "b"),
        ("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "a"),
    ]
    async with running(own_redis.url) as redis, running(own_redis.url) as admin:
        for connects, write in enumerate(writes, 1):
            await admin.call("REPLICAOF", "127.0.0.1", 1)
            assert redis.is_connected
            assert await redis.call("GET", "nothing") is None
            with pytest.raises(RedisError, match="READONLY") as refused:
                await redis.call(*write)
            assert refused.value.code == "READONLY"
            assert not redis.is_connected
            await wait_connected_again(redis, connects)
            await admin.call("REPLICAOF", "NO", "ONE")
            assert await redis.call(*write)
        assert redis.moves == 0


async def wait_connected_again(redis: Redis, connects: int) -> None:
    async def connected() -> bool:
        return redis.connects > connects and redis.is_connected

    await wait_until(connected, "the connection is back")


async def test_write_refused_on_a_blocking_connection_ends_the_shared_one_too(own_redis: RedisServer) -> None:
    async with running(own_redis.url) as redis, running(own_redis.url) as admin:
        async with redis.blocking() as call:
            await admin.call("REPLICAOF", "127.0.0.1", 1)
            with pytest.raises(RedisError, match="READONLY"):
                await call("SET", "a", "b", wait_s=1)
        assert not redis.is_connected


async def test_blocking_connection_ends_with_the_shared_one(redis_url: str) -> None:
    """Otherwise it might lead to a server that all other connections have left."""
    async with running(redis_url) as redis, running(redis_url) as admin:
        async with redis.blocking() as call:
            await admin.call("CLIENT", "KILL", "ID", await redis.call("CLIENT", "ID"))
            with no_longer_than(DEADLINE_S), pytest.raises(Unavailable, match="other connection"):
                await call("BLPOP", "queue", 0, wait_s=60)
        await wait_connected_again(redis, 1)
        async with redis.blocking() as call:
            assert await call("PING", wait_s=1) == b"PONG"


async def test_blocking_connection_needs_the_shared_one() -> None:
    async with running("redis://127.0.0.1:1", connected=False) as redis:
        with pytest.raises(Unavailable, match="not connected"):
            async with redis.blocking():
                pass


async def test_killed_master_is_followed_by_the_replica(watched: Watched, log_output: list[dict[str, Any]]) -> None:
    async with running(watched.url) as redis, trio.open_nursery() as nursery:
        words: list[bytes] = []

        async def follow() -> None:
            while True:
                await redis.wait_connected()
                try:
                    async with redis.blocking() as call:
                        while reply := await call("BLPOP", "queue", 0, wait_s=60):
                            words.append(reply[1])
                except Unavailable:
                    await let_pass(0.01, why="the reader tries again after a moment")

        nursery.start_soon(follow)
        await redis.call("RPUSH", "queue", "before")
        await wait_until(lambda: seen(words, [b"before"]), "the follower follows")
        await trio.to_thread.run_sync(watched.first.kill)
        with trio.fail_after(FAIL_OVER_S):
            await wait_until(lambda: moved(redis), "the connection is back", timeout_s=FAIL_OVER_S)
            await redis.call("RPUSH", "queue", "after")
            await wait_until(lambda: seen(words, [b"before", b"after"]), "the follower follows again")
        # The former master is back, and takes writes for a while: clients must not go there.
        await trio.to_thread.run_sync(watched.first.start)
        async with running(watched.second.url) as there:
            connects = redis.connects
            await there.call("CLIENT", "KILL", "TYPE", "normal")
            await wait_connected_again(redis, connects)
            assert redis.moves == 1
            await redis.call("SET", "where", "here")
            assert await there.call("GET", "where") == b"here"
        nursery.cancel_scope.cancel()
    where = [line["where"] for line in log_output if line["event"] == "redis_connected"]
    assert where[0] == f"127.0.0.1:{watched.first.port}"
    assert where[1] == f"127.0.0.1:{watched.second.port}"


async def seen(words: list[bytes], expected: list[bytes]) -> bool:
    return words == expected


async def moved(redis: Redis) -> bool:
    return redis.moves == 1 and redis.is_connected


async def test_master_that_is_replaced_while_well_is_left_before_it_says_so(watched: Watched) -> None:
    """SENTINEL FAILOVER: the former master takes writes, which will be lost, until it is demoted 10 s later."""
    async with running(watched.url) as redis:
        await redis.call("SET", "word", "x")
        await trio.to_thread.run_sync(watched.fail_over)
        await wait_until(lambda: moved(redis), "the connection leads to the new master", timeout_s=FAIL_OVER_S)
        assert watched.master_port() == watched.second.port
        async with running(watched.first.url) as former:
            role = (await former.call("ROLE"))[0]
        assert role == b"master", "the former master has not been demoted yet"
        assert redis.is_connected
        assert await redis.call("INCR", "counter") == 1


async def test_sentinels_are_asked_in_turn_and_the_one_that_answers_first_the_next_time(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is gone, one is silent, one knows another service; the last one names the master."""
    monkeypatch.setattr(servers_module, "SENTINEL_TIMEOUT_S", 0.2)
    async with silent_server() as silent:
        good = f"127.0.0.1:{watched.sentinel.port}"
        hosts = f"127.0.0.1:1,127.0.0.1:{silent.port},{good}"
        servers = Servers(parse_redis_url(f"redis+sentinel://{hosts}/{SERVICE}"))
        address = await servers.find()
        assert address.port == watched.first.port
        assert silent.accepted.is_set()
        with no_longer_than(0.15):
            assert await servers.find() == address
        reason = await refusal(f"redis+sentinel://{hosts}/unknown")
        assert "Connection refused" in reason
        assert f"127.0.0.1:{silent.port}: no answer within 0.2 s" in reason
        assert f"{good}: knows no service unknown" in reason


@pytest.mark.parametrize(
    "bytes_sent",
    [b"+OK\r\n", b":1\r\n", b"*0\r\n", b"*2\r\n$1\r\nh\r\n$1\r\nx\r\n", b"HTTP/1.1 400\r\n", b"-ERR no\r\n", b""],
)
async def test_server_that_is_not_a_sentinel_is_skipped(bytes_sent: bytes) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(bytes_sent)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        port = listeners[0].socket.getsockname()[1]
        assert "no sentinel names a master" in await refusal(f"redis+sentinel://127.0.0.1:{port}/chat")
        nursery.cancel_scope.cancel()


async def test_server_that_is_no_master_is_asked_again_until_it_is(
    own_redis: RedisServer, log_output: list[dict[str, Any]]
) -> None:
    """Sentinels hear of a fail-over one after the other: this one names a replica."""

    async def answer(stream: trio.SocketStream) -> None:
        async for _ in stream:
            port = b"%d" % own_redis.port
            await stream.send_all(b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port))

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with running(own_redis.url) as admin, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        await admin.call("REPLICAOF", "127.0.0.1", 1)
        port = listeners[0].socket.getsockname()[1]
        async with running(f"redis+sentinel://127.0.0.1:{port}/chat", connected=False) as redis:

            async def refused() -> bool:
                return [line["event"] for line in log_output].count("waiting_for_redis") >= 3

            await wait_until(refused, "it was asked three times")
            assert not redis.is_connected
            assert any("it is not a master (yet)" in line.get("error", "") for line in log_output)
            await admin.call("REPLICAOF", "NO", "ONE")
            with trio.fail_after(DEADLINE_S):
                await redis.wait_connected()
        nursery.cancel_scope.cancel()


async def test_passwords_of_servers_and_sentinels_are_apart(own_redis: RedisServer) -> None:
    """A server takes the part of the sentinel: the test checks that each gets its own password."""
    shown: list[bytes] = []

    async def answer(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # A client that ends may leave an answer unread: that is a reset.
            async for piece in stream:
                shown.append(bytes(piece))
                port = b"%d" % own_redis.port
                named = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port)
                await stream.send_all(b"+OK\r\n" if b"AUTH" in piece else named)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with running(own_redis.url) as admin, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        await admin.call("CONFIG", "SET", "requirepass", "own")
        address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}/chat"
        async with running(f"redis+sentinel://:own@{address}") as redis:
            assert await redis.call("PING") == b"PONG"
        assert not any(b"AUTH" in piece for piece in shown)
        async with running(f"redis+sentinel://:own@{address}/2?sentinel_username=u&sentinel_password=eye") as redis:
            assert await redis.call("PING") == b"PONG"
        logins = [piece for piece in shown if b"AUTH" in piece]
        assert set(logins) == {b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\neye\r\n"}
        nursery.cancel_scope.cancel()


async def test_tls_to_sentinels_and_servers(watched: Watched, authority: Authority, stranger: Authority) -> None:
    """The sentinel names the port without TLS; the client uses TLS nevertheless."""
    async with open_tls(authority.server_context("127.0.0.1"), watched.sentinel.port) as port:
        url = f"rediss+sentinel://127.0.0.1:{port}/{SERVICE}"
        assert "its certificate is not accepted" in await refusal(f"{url}?ssl_ca_certs={stranger.file}")
        servers = Servers(parse_redis_url(f"{url}?ssl_ca_certs={authority.file}"))
        assert (await servers.find()).port == watched.first.port
        plain = f"rediss+sentinel://127.0.0.1:{watched.sentinel.port}/{SERVICE}?sentinel_ssl=false"
        servers = Servers(parse_redis_url(f"{plain}&ssl_ca_certs={authority.file}"))
        address = await servers.find()
    async with open_tls(authority.server_context("127.0.0.1"), address.port or 0) as port:
        stream = await servers.open(address._replace(port=port))
        assert isinstance(stream, trio.SSLStream)
        await trio.aclose_forcefully(stream)
