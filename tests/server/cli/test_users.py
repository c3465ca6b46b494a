"""`ops user NAME`: what operators see of an account."""

from __future__ import annotations

from uuid import UUID, uuid4

import trio

from client.connection import connect
from client.http import Credentials
from protocol import limits
from server.http.guesses import RESTS, name_key
from server.http.limits import Limits
from server.http.request_classes import RequestClass
from store import account_deletions, jobs, notifiers
from store.devices import revoke_device
from store.notifiers import WebhookTarget
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.redis.rates import admit_guess
from store.security_events import Source
from store.suspensions import set_suspended
from tests.people import new_device, new_user
from tests.server.cli.shell_world import Shell, fields_of, open_desk
from tests.server.http_world import say
from tests.server.node_world import open_node


async def test_an_account_is_shown_with_its_devices_and_where_they_are_connected(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    old = await new_device(pool, alice.user, "Old")
    await revoke_device(pool, alice.user, old.device)
    async with (
        open_node(pool.url, redis_url) as node,
        connect(node.url, alice.token, client="phone/2.0"),
        open_desk(pool, redis_url) as desk,
    ):
        [connection] = node.gateway.connections
        connection.budget.charge(trio.current_time(), 2 * limits.MAX_COST_AT_ONCE)
        shown = await desk.sections("user", "ALICE")
        devices = {row["device"]: row for row in shown["devices"]}
        here = devices[str(UUID(bytes=alice.device))]
        assert (here["state"], here["node"], here["is_slow"]) == ("good", node.gateway.node.id.hex(), False)
        assert devices[str(UUID(bytes=old.device))]["state"] == "revoked"
        used = {row["limit"]: row for row in shown["limits"]}
        name = node.gateway.node.id.hex()
        assert used[f"connections to node {name}"]["used"] == 1
        cost = used[f"cost on node {name}"]
        assert cost["used"] > cost["most"]
        assert 0 < cost["wait_s"] <= limits.MAX_COST_AT_ONCE / limits.MAX_COST_PER_S
    account = fields_of(shown["account"])
    assert (account["username"], account["suspended"], account["deletion_due"]) == ("alice", None, None)
    assert shown["behind"] == shown["notifiers"] == shown["dead_jobs"] == []


async def test_a_user_is_found_by_id_too_and_by_the_form_that_logs_have(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_desk(pool, redis_url) as desk:
        for typed in (str(UUID(bytes=alice.user)), alice.user.hex()):
            assert fields_of((await desk.sections("user", typed))["account"])["username"] == "alice"


async def test_conversations_in_which_devices_lack_messages_are_listed(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    await say(pool, direct, alice.user, b"1", b"2", b"3")
    await pool.fetch(
        "update participants set delivered_seq = 1, delivered_by = %s where user_id = %s",
        (uuid(bob.device), uuid(bob.user)),
    )
    async with open_desk(pool, redis_url) as desk:
        [row] = (await desk.sections("user", "bob"))["behind"]
        assert (row["conversation"], row["last_seq"], row["delivered_seq"]) == (str(UUID(bytes=direct)), 3, 1)
        assert (row["lacks"], row["by_device"]) == (2, str(UUID(bytes=bob.device)))
        assert (await desk.sections("user", "alice"))["behind"] == []


async def test_a_notifier_is_shown_with_its_last_error_and_its_dead_job(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    made = await notifiers.add(pool, alice.user, WebhookTarget("https://hooks.example.org/"))
    await notifiers.note_failure(pool, made.notifier, "it answered 500")
    payload = f'{{"user": "{UUID(bytes=alice.user)}"}}'.encode()
    [job] = await jobs.enqueue_plain(pool, [jobs.NewJob("notify", payload)])
    await jobs.claim(pool, [job], "worker")
    await jobs.end(pool, [jobs.RunEnd(job, 1, jobs.Ending("dead", reason="410 Gone"))], "worker")
    async with open_desk(pool, redis_url) as desk:
        shown = await desk.sections("user", "alice")
        [row] = shown["notifiers"]
        assert (row["notifier"], row["failures"], row["last_error"]) == (
            f"webhook {UUID(bytes=made.notifier)}",
            1,
            "it answered 500",
        )
        assert [(each["job"], each["reason"]) for each in shown["dead_jobs"]] == [(job, "410 Gone")]
        assert "hooks.example" not in str(shown)


async def test_suspension_and_deletion_that_is_pending_are_shown(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    await account_deletions.close(pool, alice.user, delay_s=3600, deletes_messages=True)
    await set_suspended(pool, alice.user, is_suspended=True, source=Source("operator"))
    async with open_desk(pool, redis_url) as desk:
        account = fields_of((await desk.sections("user", "alice"))["account"])
        assert account["suspended"] is not None
        assert (account["deletion_due"] is not None, account["deletes_messages"]) == (True, True)


async def test_limits_show_what_is_used_now(pool: Pool, redis_url: str, alice: Credentials) -> None:
    times = "array[now(), now() - interval '2 days']"
    await pool.fetch(f"insert into starts (user_id, at) values (%s, {times})", (uuid(alice.user),))
    async with open_desk(pool, redis_url, new_conversations_per_day=7) as desk:
        counted = Limits(desk.redis)
        for _ in range(3):
            await counted.count_user(RequestClass.SEARCH, alice.user)
        for _ in range(RESTS.free):
            await admit_guess(desk.redis, name_key("alice"), RESTS)
        used = {row["limit"]: row for row in (await desk.sections("user", "alice"))["limits"]}
        starts = used["new conversations in 24 h"]
        assert (starts["used"], starts["most"]) == (1, 7)
        search = used["requests of the class search"]
        assert 2.5 < search["used"] <= 3
        assert (search["most"], search["wait_s"]) == (60, 0)
        assert used["requests of the class login"]["used"] == 0
        guesses = used["wrong passwords of strangers"]
        assert guesses["used"] == RESTS.free
        assert 0 < guesses["wait_s"] <= RESTS.first_s


async def test_a_name_that_does_not_exist_is_refused_with_one_that_is_like_it(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials
) -> None:
    async with open_desk(pool, redis_url) as desk:
        assert await desk.is_told_why_not("user", "alcie") == "there is no user alcie; do you mean alice?"
        assert await desk.is_told_why_not("user", str(uuid4())) != ""
        assert await desk.is_told_why_not("user", "no such\0name") == "there is no user no such\0name"
    shell = Shell(DATABASE_URL=pool.url, REDIS_URL=redis_url)
    assert await shell.is_told_why_not("user", "alcie") == "there is no user alcie; do you mean alice?"


async def test_a_user_who_is_called_like_an_action_is_shown(pool: Pool, redis_url: str) -> None:
    await new_user(pool, "suspend")
    async with open_desk(pool, redis_url) as desk:
        assert fields_of((await desk.sections("user", "suspend"))["account"])["suspended"] is None


async def test_without_redis_the_rest_is_shown(pool: Pool, alice: Credentials) -> None:
    shell = Shell(DATABASE_URL=pool.url, REDIS_URL="redis://127.0.0.1:1")
    shown = (await shell.asks("user", "alice")).sections
    [device] = shown["devices"]
    assert (device["state"], device["node"]) == ("good", "Redis cannot be reached")
    assert shown["limits"][-1]["note"] == "Redis cannot be reached"
