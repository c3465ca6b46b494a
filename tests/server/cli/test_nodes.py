"""`ops node`: nodes that live, hang, stop and are gone."""

from __future__ import annotations

import os
import signal
from typing import Any

import trio

from client.connection import connect
from client.http import Credentials
from store import security_events
from store.postgres.pool import Pool
from store.redis.bus import publish
from store.redis.buses import keys_in
from store.redis.entries import encode_question
from tests.people import new_device
from tests.processes import Cluster, Process, open_cluster
from tests.server.cli.shell_world import Shell, fields_of, open_desk
from tests.server.node_world import open_node, wait_caught_up
from tests.waiting import wait_until


def shell_of(cluster: Cluster) -> Shell:
    return Shell(**cluster.environment)


async def id_of(process: Process) -> str:
    return str((await process.wait_event("listening"))["node"])


async def test_each_node_is_listed_with_what_it_holds(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    tablet = await new_device(pool, alice.user)
    async with open_cluster(pool.url, redis_url) as cluster:
        (one, here), (other, there) = await cluster.start_socket(), await cluster.start_socket()
        async with (
            connect(here, alice.token),
            connect(here, tablet.token),
            connect(there, bob.token),
        ):
            rows = {row["node"]: row for row in (await shell_of(cluster).asks("node", "list")).rows}
        assert rows.keys() == {await id_of(one), await id_of(other)}
        found = rows[await id_of(one)]
        assert (found["status"], found["connections"], found["users"], found["pid"]) == ("serves", 2, 1, one.pid)
        assert found["port"] == int(here.rpartition(":")[2])
        assert 0 < found["lease_s"] <= 5
        assert 0 <= found["behind_ms"] < 1000
        assert (rows[await id_of(other)]["connections"], rows[await id_of(other)]["users"]) == (1, 1)


async def test_a_node_says_what_its_clients_are_and_what_waits(pool: Pool, redis_url: str, alice: Credentials) -> None:
    async with (
        open_node(pool.url, redis_url) as node,
        connect(node.url, alice.token, client="phone/1.0"),
        open_desk(pool, redis_url) as desk,
    ):
        id_ = node.gateway.node.id.hex()
        sections = await desk.sections("node", "show", id_[:6])
        fields = fields_of(sections["node"])
        assert (fields["node"], fields["connections"], fields["slow_readers"]) == (id_, 1, 0)
        assert fields["pid"] == os.getpid()
        assert fields["stream_entries"] >= 1
        assert sections["clients"] == [{"client": "phone/1.0", "connections": 1}]


async def test_a_node_that_hangs_does_not_answer_and_one_that_is_killed_is_dead(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    """Both still hold their users by the directory, so an operator must see the difference to a node that serves."""
    async with open_cluster(pool.url, redis_url) as cluster, open_desk(pool, redis_url) as desk:
        (hangs, _), (killed, _) = await cluster.start_socket(), await cluster.start_socket()

        async def status(process: Process) -> Any:
            id_ = await id_of(process)
            return {row["node"]: row["status"] for row in await desk.rows("node", "list")}.get(id_)

        assert [await status(each) for each in (hangs, killed)] == ["serves", "serves"]
        hangs.signal(signal.SIGSTOP)
        try:
            assert await status(hangs) == "no answer"
            killed.kill()
            # No other node turns: none removes it, so its lease stays in Redis after its end.
            await wait_until(lambda: status_is(status, killed, "dead"), "the lease has ended")
            why = await desk.is_told_why_not("node", "drain", await id_of(killed))
            assert "is dead: its lease has ended" in why
        finally:
            hangs.signal(signal.SIGCONT)
        # The living one removes the dead one with its next heartbeat.
        await wait_until(lambda: status_is(status, killed, None), "the dead node is removed")
        await wait_until(lambda: status_is(status, hangs, "serves"), "the other one serves again")


async def status_is(status: Any, process: Process, expected: str | None) -> bool:
    return bool(await status(process) == expected)


async def test_a_node_that_is_drained_ends_in_good_order_and_its_clients_move(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_cluster(pool.url, redis_url) as cluster:
        (one, here), (other, _) = await cluster.start_socket(), await cluster.start_socket()
        for process in (one, other):
            await process.wait_event("caught_up")
        async with connect(here, alice.token) as client:
            [row] = (await shell_of(cluster).asks("node", "drain", (await id_of(one))[:8], "--as", "grace")).rows
            assert row == {"node": await id_of(one), "told": "drain"}
            with trio.fail_after(25):
                await client.wait_lost()
                assert await one.wait() == 0
        assert [line["event"] for line in one.log if line["event"] in ("drain_asked", "told_to_stop", "stopped")] == [
            "drain_asked",
            "told_to_stop",
            "stopped",
        ]
        assert other.returncode is None
    [event] = [each for each in await security_events.all_events(pool, limit=5) if each.kind == "node_drained"]
    assert (event.actor, event.operator, event.detail) == ("operator", "grace", {"node": row["node"]})


async def test_an_unknown_node_is_refused_and_a_short_id_must_fit_one(pool: Pool, redis_url: str) -> None:
    async with (
        open_node(pool.url, redis_url) as one,
        open_node(pool.url, redis_url) as other,
        open_desk(pool, redis_url) as desk,
    ):
        await wait_caught_up(one, other)
        id_ = one.gateway.node.id.hex()
        wrong = ("0" if id_[0] != "0" else "1") + id_[1:]
        assert await desk.is_told_why_not("node", "show", wrong) == f"there is no node {wrong}; do you mean {id_}?"
        assert "node list shows them" in await desk.is_told_why_not("node", "show", "nonsense")
        assert "there is no node" in await desk.is_told_why_not("node", "drain", "")
    assert [each.kind for each in await security_events.all_events(pool, limit=5)] == []


async def test_without_nodes_the_list_is_empty(pool: Pool, redis_url: str) -> None:
    async with open_desk(pool, redis_url) as desk:
        assert await desk.rows("node", "list") == []


async def test_an_answer_that_is_not_taken_expires(pool: Pool, redis_url: str) -> None:
    async with open_node(pool.url, redis_url) as node, open_desk(pool, redis_url) as desk:
        await publish(desk.redis, [(node.gateway.node.id, encode_question(b"lost", []))])
        key = keys_in("answers:lost")[0]
        await wait_until(lambda: desk.redis.call("EXISTS", key), "the node has answered")
        assert 0 < await desk.redis.call("TTL", key) <= 30
