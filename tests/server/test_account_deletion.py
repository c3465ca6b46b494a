"""An account that is deleted: what its user can do, what others see, and what is left of it in the database."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
import trio

from client.connection import connect
from client.errors import RequestRefused
from jobs.tasks import account_deletions as task_module
from jobs.tasks.account_deletions import AccountDeletions
from protocol.codes import CloseCode
from protocol.frames import Presence, Push, Tombstone
from store import account_deletions
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.redis.client import Redis
from store.sync import take_cursor_snapshot
from tests.jobs.jobs_world import a_job
from tests.people import new_group, new_user
from tests.server.account_world import NAME, PLANTED, USER_COLUMNS, PlantedUser, plant
from tests.server.http_world import PASSWORD, open_api
from tests.server.node_world import open_node, wait_caught_up
from tests.server.pushed_devices import PushedDevice
from tests.store.store_world import running
from tests.waiting import wait_until

LOG_IN = {"username": NAME, "password": PASSWORD, "name": "zq-tablet"}


async def run(pool: Pool, redis: Redis) -> None:
    with trio.fail_after(30):
        await AccountDeletions(pool, redis, None).delete_accounts(a_job("delete_accounts"))


async def close(pool: Pool, who: PlantedUser, *, deletes_messages: bool = False) -> None:
    await account_deletions.close(pool, who.alice.user, delay_s=0, deletes_messages=deletes_messages)


@asynccontextmanager
async def deleted(pool: Pool, redis_url: str, *, deletes_messages: bool = False) -> AsyncGenerator[PlantedUser, None]:
    """An account that has been deleted."""
    planted = await plant(pool)
    await close(pool, planted, deletes_messages=deletes_messages)
    async with running(redis_url) as redis:
        await run(pool, redis)
        yield planted


@pytest.mark.parametrize("deletes_messages", [False, True])
async def test_devices_of_others_show_a_deletion_like_a_device_that_has_just_fetched_everything(
    pool: Pool, redis_url: str, deletes_messages: bool
) -> None:
    """Live, on two nodes, and when they resume with a cursor from before (P4)."""
    planted = await plant(pool)
    others = [planted.bob, planted.carol, planted.dave, planted.erin]
    async with AsyncExitStack() as stack:
        near = await stack.enter_async_context(open_node(pool.url, redis_url))
        far = await stack.enter_async_context(open_node(pool.url, redis_url))
        redis = await stack.enter_async_context(running(redis_url))
        await wait_caught_up(near, far)
        devices = [PushedDevice("a device", each, node) for each in others for node in (near, far)]
        away = [PushedDevice("a device that resumes", each, near) for each in others]
        connections = {}
        for device in devices:
            connections[device] = await stack.enter_async_context(device.connected())
            await device.begin(connections[device])
        for device in away:
            async with device.connected() as connection:
                await device.begin(connection)
        await close(pool, planted, deletes_messages=deletes_messages)
        await run(pool, redis)
        for device in devices:
            await device.wait_true("the deletion")
        for device in away:
            async with device.connected(device.mailbox.cursor):
                await device.wait_true("the deletion")
        for device in (devices[0], away[0]):
            check_bob(device, planted, deletes_messages=deletes_messages)
        for conversation in (planted.direct, planted.with_dave):
            sender = connections[devices[0] if conversation == planted.direct else devices[4]]
            with pytest.raises(RequestRefused) as refusal:
                await sender.send(conversation, b"too late", temp_id=uuid4().bytes)
            assert refusal.value.code == "recipient_deleted"


def check_bob(device: PushedDevice, planted: PlantedUser, *, deletes_messages: bool) -> None:
    """A device of Bob shows what is left of Alice."""
    shown = device.mailbox.head(planted.direct)
    assert shown is not None
    assert shown.participants is not None
    [alice] = [each for each in shown.participants if each.user == planted.alice.user]
    assert alice.username.startswith("deleted user ")
    assert (alice.display_name, alice.avatar) == (None, None)
    for conversation in (planted.direct, planted.group):
        own = [each for each in device.mailbox.messages(conversation) if each.sender == planted.alice.user]
        assert own
        assert all(isinstance(each, Tombstone) == deletes_messages for each in own)
    group = device.mailbox.head(planted.group)
    assert group is not None
    assert group.participants is not None
    assert {each.user for each in group.participants} == {planted.bob.user, planted.carol.user}
    assert [bool(each.is_admin) for each in group.participants].count(True) == 1, "there is an heir"


async def test_no_user_can_add_or_find_a_deleted_user(pool: Pool, redis_url: str) -> None:
    async with deleted(pool, redis_url) as planted, open_api(pool, redis_url) as api:
        bob, alice = api.of(planted.bob.token), str(UUID(bytes=planted.alice.user))
        [(name,)] = await pool.fetch("select username from users where id = %s", (uuid(planted.alice.user),))
        group = await new_group(pool, planted.bob, planted.carol)
        path = f"/v1/conversations/{UUID(bytes=group)}/participants"
        frank = api.of((await new_user(pool, "frank")).token)
        for answer in (
            await bob.get(f"/v1/users/{NAME}"),
            await bob.get(f"/v1/users/{name}"),
            await bob.post(path, {"user": alice}),
            await frank.post("/v1/conversations", {"kind": "direct", "participants": [alice]}),
            await frank.post("/v1/conversations", {"kind": "group", "name": "N", "participants": [alice]}),
            await bob.request("PUT", f"/v1/contacts/{alice}", json={}),
            await bob.request("PUT", f"/v1/contacts/{alice}", json={"is_blocked": True}),
        ):
            assert answer.code == "unknown_user", answer.body


async def test_the_messages_of_two_deleted_users_to_each_other_go(pool: Pool, redis_url: str) -> None:
    """The messages of their direct conversation, with the next run of retention, and its state at once."""
    async with deleted(pool, redis_url) as planted, running(redis_url) as redis:
        direct = {"direct": uuid(planted.with_dave)}
        await pool.fetch(
            "insert into group_states (conversation_id, control_seq, user_id, device_id, body)"
            " select id, 1, direct_low, direct_low, 'x' from conversations where id = %(direct)s",
            direct,
        )
        await account_deletions.close(pool, planted.dave.user, delay_s=0, deletes_messages=False)
        await run(pool, redis)
        [(floor, last)] = await pool.fetch(
            "select floor_seq, last_seq from conversations where id = %(direct)s", direct
        )
        assert floor == last > 0
        assert await pool.fetch("select 1 from group_states where conversation_id = %(direct)s", direct) == []


async def test_the_name_of_a_deleted_user_is_free_again_after_half_a_year(pool: Pool, redis_url: str) -> None:
    async with deleted(pool, redis_url), open_api(pool, redis_url) as api:
        register = {"username": NAME, "password": PASSWORD}
        assert (await api.post("/v1/users", register)).code == "username_taken"
        await pool.fetch("update former_usernames set until = until - interval '181 days'")
        assert (await api.post("/v1/users", register)).status == 201
        assert await account_deletions.forget_usernames(pool, limit=10) == 1


async def test_all_devices_are_logged_out_and_a_login_keeps_the_account(pool: Pool, redis_url: str) -> None:
    planted = await plant(pool)
    presence: list[Push] = []

    async def note(push: Push) -> None:
        if isinstance(push, Presence):
            presence.append(push)

    async with open_node(pool.url, redis_url) as node, open_api(pool, redis_url) as api:
        async with (
            connect(node.url, planted.bob.token, on_push=note) as bob,
            node.open_websocket(planted.alice.token) as phone,
        ):
            await bob.watch([planted.alice.user])
            mine = api.of(planted.alice.token)
            answer = await mine.request("PUT", "/v1/account/deletion", json={"deletes_messages": True})
            assert answer.status == 200
            assert await phone.wait_end() == CloseCode.DEVICE_REVOKED.value
            assert (await mine.get("/v1/profile")).code == "device_revoked"
            await wait_until(lambda: presence[-1:] != [Presence(planted.alice.user, True)], "Alice is offline")
            await bob.send(planted.direct, b"are you there", temp_id=uuid4().bytes)
        refusal = await api.post("/v1/devices", LOG_IN)
        assert refusal.code == "account_closed"
        assert refusal.body["due"] == answer.body["due"]
        assert (await api.post("/v1/devices", {**LOG_IN, "password": "wrong password"})).code == "wrong_credentials"
        assert (await api.post("/v1/devices", {**LOG_IN, "keeps_account": True})).status == 201
        assert (await api.post("/v1/devices", LOG_IN)).status == 201
        assert await account_deletions.closing_of(pool, planted.alice.user) is None
        await pool.fetch(
            "select 1 / (count(*) = 0)::int from notifiers where user_id = %s", (uuid(planted.alice.user),)
        )


async def test_once_a_deletion_is_due_no_login_keeps_the_account(pool: Pool, redis_url: str) -> None:
    planted = await plant(pool)
    await close(pool, planted)
    async with open_api(pool, redis_url) as api:
        answer = await api.post("/v1/devices", {**LOG_IN, "keeps_account": True})
        assert answer.code == "wrong_credentials"
        assert not await account_deletions.keep(pool, planted.alice.user)


async def test_an_account_that_was_kept_or_is_not_due_stays_as_it_is(pool: Pool, redis_url: str) -> None:
    planted = await plant(pool)
    await account_deletions.close(pool, planted.alice.user, delay_s=86400, deletes_messages=True)
    async with running(redis_url) as redis:
        await run(pool, redis)
    [(username, display_name)] = await pool.fetch(
        "select username, display_name from users where id = %s", (uuid(planted.alice.user),)
    )
    assert (username, display_name) == (NAME, "zq-display")
    assert await pool.fetch("select 1 from messages where deleted is not null") == []


@pytest.mark.parametrize("deletes_messages", [False, True])
async def test_no_row_has_what_the_user_has_chosen(pool: Pool, redis_url: str, deletes_messages: bool) -> None:
    """Names, the address, devices, the webhook; and contents, if the user wants that."""
    planted = await plant(pool)
    before = await rows_with(pool, PLANTED)
    assert before.keys() >= {
        "users",
        "devices",
        "emails",
        "notifiers",
        "messages",
        "dead_jobs",
        "notices",
    }
    await close(pool, planted, deletes_messages=deletes_messages)
    async with running(redis_url) as redis:
        await run(pool, redis)
    left = await rows_with(pool, PLANTED)
    # A message of the group of Alice alone lies below the floor, and goes with the next run of retention.
    assert left.keys() <= ({"messages"} if not deletes_messages else set())
    events = await pool.fetch(
        "select kind, network from security_events where user_id = %s", (uuid(planted.alice.user),)
    )
    assert events == [("account_deleted", None)]
    [(contents,)] = await pool.fetch(
        "select count(*) from messages where content <> '' and sender_id = %s", (uuid(planted.alice.user),)
    )
    assert (contents == 0) == deletes_messages


async def rows_with(pool: Pool, text: str) -> dict[str, list[str]]:
    """Table -> rows in which a text occurs, as text or as bytes."""
    found: dict[str, list[str]] = {}
    for (table,) in await pool.fetch(
        "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    ):
        rows = await pool.fetch(f"select t::text from {table} t")
        some = [row for (row,) in rows if text in row or text.encode().hex() in row]
        if some:
            found[table] = some
    return found


async def test_a_deletion_that_is_interrupted_after_any_statement_goes_on(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is killed has committed some of the steps: each run here ends before the next."""
    planted = await plant(pool)
    await close(pool, planted, deletes_messages=True)
    monkeypatch.setattr(task_module, "MESSAGES", 1)
    monkeypatch.setattr(task_module, "CONVERSATIONS", 1)
    monkeypatch.setattr(task_module, "CONTACTS", 1)
    monkeypatch.setattr(task_module, "in_batches", one_batch)
    runs = 0
    async with running(redis_url) as redis:
        while await pool.fetch("select 1 from account_deletions"):
            await run(pool, redis)
            runs += 1
            assert runs < 100
    assert runs > 15
    assert await rows_with(pool, PLANTED) == {}


async def one_batch(job: Any, batch: Any, what: str) -> bool:
    await batch()
    return False


async def test_no_cursor_passes_a_step_before_the_nodes_are_told(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = await plant(pool)
    await close(pool, planted)

    async def refuse(redis: Redis, entries: Any) -> list[bytes]:
        return [b"nodenode"]

    async with running(redis_url) as redis:
        with monkeypatch.context() as patch:
            patch.setattr(task_module, "publish", refuse)
            with pytest.raises(task_module.NotTold):
                await run(pool, redis)
        assert not (await take_cursor_snapshot(pool)).is_told
        await run(pool, redis)
        assert (await take_cursor_snapshot(pool)).is_told
    assert await pool.fetch("select 1 from account_deletions") == []


PAGE: Final = Path(__file__).parents[2] / "docs" / "accounts.md"


def written() -> dict[str, str]:
    """Table -> what becomes of the user's rows, as the page says."""
    _, _, table = PAGE.read_text().partition("## What refers to a user")
    rows = re.findall(r"^\| `(\w+)` \| (goes|stays|ends) \| ([^|]+) \|", table, re.MULTILINE)
    return {name: becomes for name, becomes, why in rows if why.strip()}


async def test_the_page_says_of_each_table_that_refers_to_a_user_what_becomes_of_the_rows(
    pool: Pool, redis_url: str
) -> None:
    """Alice has rows in each table before; afterwards in those alone of which the page says that they stay."""
    columns = [(table, column) for table, column in await pool.fetch(USER_COLUMNS)]
    assert written().keys() == {table for table, _ in columns}
    planted = await plant(pool)
    before = await tables_of(pool, columns, planted.alice.user)
    await close(pool, planted)
    assert before | {"account_deletions"} == written().keys(), "plant a row in each of them"
    async with running(redis_url) as redis:
        await run(pool, redis)
    after = await tables_of(pool, columns, planted.alice.user)
    assert after == {table for table, becomes in written().items() if becomes != "goes"} - GROUPS_ALONE


GROUPS_ALONE: Final = {"withheld"}
"""Alice is withheld from a group alone here, which she leaves like every other."""


async def tables_of(pool: Pool, columns: Collection[tuple[str, str]], user: bytes) -> set[str]:
    """The tables in which a row refers to the user."""
    found = set()
    for table, column in columns:
        is_here = f"{column} ->> 'user' = %(user)s" if column == "payload" else f"{column}::text = %(user)s"
        if await pool.fetch(f"select 1 from {table} where {is_here} limit 1", {"user": str(UUID(bytes=user))}):
            found.add(table)
    return found
