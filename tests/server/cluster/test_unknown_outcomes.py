"""A write with an unknown outcome is pushed on its node and on others, and found by resuming (P4), for every kind.

Postgres commits, its answer is lost, and the client repeats the write until it is acknowledged. The repetition changes
nothing, so it causes no pushes; the changes of the first attempt must reach the devices all the same.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from typing import Any, Final, NamedTuple
from uuid import UUID

import cbor2
import pytest
import trio

from client.connection import ClientConnection, connect
from client.errors import NoReply, RequestRefused
from client.http import Credentials
from protocol import limits
from protocol.frames import (
    REQUESTS,
    Abort,
    Bye,
    Complete,
    Devices,
    Download,
    Envelope,
    Hello,
    History,
    KeyStatus,
    List,
    Parts,
    Ping,
    Refresh,
    ReportUndecryptable,
    SetTyping,
    Status,
    Sync,
    Upload,
    Watch,
    name_of,
)
from server.cluster import cursor_advance as cursor_advance_module
from server.cluster import unknown_outcomes as outcomes_module
from server.cluster.presence import GRACE_S
from store import conversations, keys, participant_lists
from store.errors import Unavailable
from store.postgres import driver as postgres_module
from store.postgres import pool as pool_module
from store.postgres.driver import PostgresConnection, where_of
from store.postgres.pool import Pool
from store.postgres.statement import Statement
from tests.checker.views import fetch
from tests.people import new_device, new_direct, new_group, new_user
from tests.pg_proxy import Proxy, open_proxy
from tests.server.http_world import CBOR, Api, open_api, say
from tests.server.node_world import TestNode, open_node, wait_caught_up
from tests.server.pushed_devices import PushedDevice
from tests.store.attachment_world import new_attachment
from tests.waiting import let_pass, wait_until

PUSHED_S: Final = 10.0
"""A push is here long before this; a node that looks for pushes that were missed takes longer."""


class Refused503(Exception):
    """The client must repeat an HTTP request."""


class WriterBehindProxy(NamedTuple):
    """
    :ivar proxy: stands between Postgres and the near node and the web process, which serve the writes.
    :ivar pool: goes past the proxy.
    :ivar bob: is on the other node, and watches Alice.
    :ivar pictures: uploads of Alice that may be avatars.
    :ivar spare: another device of Alice, which has an identity and is not connected.
    """

    proxy: Proxy
    pool: Pool
    writer: ClientConnection
    api: Api
    devices: list[PushedDevice]
    bob: PushedDevice
    people: dict[str, Credentials]
    direct: bytes
    group: bytes
    left: bytes
    pictures: list[bytes]
    spare: Credentials


@asynccontextmanager
async def open_writer_behind_proxy(pool: Pool, redis_url: str) -> AsyncGenerator[WriterBehindProxy]:
    """Alice writes through a node and a web process whose way to Postgres may fail; she and Bob have devices there and
    on another node."""
    people = {name: await new_user(pool, name) for name in ("alice", "bob", "carol", "dave")}
    alice, bob, carol = (people[name] for name in ("alice", "bob", "carol"))
    direct = await new_direct(pool, alice, bob)
    group, left = await new_group(pool, alice, bob, carol), await new_group(pool, alice, bob)
    pictures = [await new_attachment(pool, alice.user, avatars="encrypted") for _ in range(2)]
    spare = await new_device(pool, alice.user)
    await keys.put(pool, spare.device, b"identity")
    await keys.put(pool, bob.device, b"identity")
    await say(pool, direct, alice.user, b"1", b"2", b"3")
    await say(pool, group, bob.user, b"1", b"2", b"3")
    port = int(pool.url.rpartition(":")[2].partition("/")[0])
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(open_proxy(port))
        url = proxy.url(pool.url)
        near = await stack.enter_async_context(open_node(url, redis_url))
        far = await stack.enter_async_context(open_node(pool.url, redis_url))
        api_pool = stack.enter_context(closing(Pool(url, 4)))
        api = await stack.enter_async_context(open_api(api_pool, redis_url, "cbor"))
        await wait_caught_up(near, far)
        devices = [
            PushedDevice("Alice's, on the same node", alice, near),
            PushedDevice("Bob's, on the same node", bob, near),
            PushedDevice("Alice's, on another node", alice, far),
            PushedDevice("Bob's, on another node", bob, far),
        ]
        for device in devices:
            connection = await stack.enter_async_context(device.connected())
            await device.begin(connection)
            if device is devices[3]:
                await connection.watch([alice.user])
        writer = await stack.enter_async_context(connect(near.url, alice.token))
        yield WriterBehindProxy(
            *(proxy, pool, writer, api.of(alice.token), devices, devices[3], people, direct, group, left, pictures),
            spare,
        )


async def ask(api: Api, method: str, path: str, **body: Any) -> None:
    data = cbor2.dumps(body) if body else b""
    answer = await api.request(method, path, data=data, headers={"Content-Type": CBOR})
    if answer.status >= 500:
        raise Refused503
    # A participant or a login that the first attempt removed is not found by the next one.
    assert answer.status < 300 or (method == "DELETE" and answer.status in (401, 404)), answer.body


def group_path(scene: WriterBehindProxy, which: bytes, *rest: str) -> str:
    return "/".join(["/v1/conversations", str(UUID(bytes=which)), *rest])


def of(scene: WriterBehindProxy, name: str) -> str:
    return str(UUID(bytes=scene.people[name].user))


def envelopes_of(scene: WriterBehindProxy) -> list[Envelope]:
    """One for a device of Bob."""
    return [(scene.people["bob"].device, b"envelope")]


class Write(NamedTuple):
    """
    :ivar statement: part of the statement that commits the write.
    :ivar committed: a query that returns a row once the write is committed.
    """

    do: Callable[[WriterBehindProxy], Awaitable[Any]]
    statement: str
    committed: str


MARKED_IN_A_GROUP: Final = (
    "select from participants p join users u on u.id = p.user_id join conversations c on c.id = p.conversation_id"
    " where u.username = 'alice' and c.kind = 'group'"
)

WRITES: Final = {
    "send": Write(
        lambda s: s.writer.send(s.direct, b"lost", temp_id=b"lost" * 4),
        "from send_batch(",
        "select from messages where content = 'lost'",
    ),
    "edit": Write(
        lambda s: s.writer.edit(s.direct, 1, b"edited", revision=0),
        "edit_message(",
        "select from messages where content = 'edited'",
    ),
    "send with envelopes, as a control message": Write(
        lambda s: s.writer.send(s.direct, b"sealed", temp_id=b"seal" * 4, envelopes=envelopes_of(s), follows=0),
        "from send_batch(",
        "select from messages join envelopes using (conversation_id, seq) where content = 'sealed' and follows = 0",
    ),
    "edit with envelopes": Write(
        lambda s: s.writer.edit(s.direct, 1, b"sealed anew", revision=1, envelopes=envelopes_of(s)),
        "edit_message(",
        "select from messages join envelopes using (conversation_id, seq) where content = 'sealed anew'",
    ),
    "add envelopes": Write(
        lambda s: s.writer.add_envelopes(s.direct, 1, [(s.people["bob"].device, b"added")], revision=2),
        "add_envelopes(",
        "select from envelopes where body = 'added'",
    ),
    "delete for everyone": Write(
        lambda s: s.writer.delete(s.direct, 2, for_everyone=True),
        "delete_message(",
        "select from messages where deleted is not null",
    ),
    "delete for me": Write(
        lambda s: s.writer.delete(s.direct, 3, for_everyone=False), "hide_message(", "select from hidden"
    ),
    "mark delivered": Write(
        lambda s: s.writer.mark_delivered([(s.group, 2)]),
        "update participants p",
        f"{MARKED_IN_A_GROUP} and p.delivered_seq >= 2",
    ),
    "mark read": Write(
        lambda s: s.writer.mark_read([(s.group, 3)]),
        "update participants p",
        f"{MARKED_IN_A_GROUP} and p.read_seq = 3",
    ),
    "mute": Write(
        lambda s: ask(s.api, "PUT", group_path(s, s.group, "mute"), seconds=3600),
        "update participants set muted_until",
        "select 1 from participants where muted_until is not null",
    ),
    "new direct conversation": Write(
        lambda s: ask(s.api, "POST", "/v1/conversations", kind="direct", participants=[s.people["dave"].user]),
        "add_direct(",
        "select from participants p join users u on u.id = p.user_id where u.username = 'dave'",
    ),
    "new group": Write(
        lambda s: ask(s.api, "POST", "/v1/conversations", kind="group", name="N", participants=[s.people["bob"].user]),
        "add_group(",
        "select from conversations where name = 'N'",
    ),
    "add participant": Write(
        lambda s: ask(s.api, "POST", group_path(s, s.group, "participants"), user=s.people["dave"].user),
        "add_participant(",
        "select from participants p join users u on u.id = p.user_id join conversations c on c.id = p.conversation_id"
        " where u.username = 'dave' and c.kind = 'group'",
    ),
    "role": Write(
        lambda s: ask(s.api, "PATCH", group_path(s, s.group, "participants", of(s, "bob")), role="admin"),
        "set_role(",
        "select from participants p join users u on u.id = p.user_id where u.username = 'bob' and p.role = 'admin'",
    ),
    "settings": Write(
        lambda s: ask(s.api, "PATCH", group_path(s, s.group), name="Renamed", joiners_see_all=True),
        "change_conversation(",
        "select from conversations where name = 'Renamed'",
    ),
    "lifetime": Write(
        lambda s: ask(s.api, "PATCH", group_path(s, s.direct), lifetime_s=86_400 * 30),
        "change_conversation(",
        "select from conversations where lifetime_s is not null",
    ),
    "profile": Write(
        lambda s: ask(s.api, "PATCH", "/v1/profile", display_name="Alice A."),
        "set_profile(",
        "select from users where display_name = 'Alice A.'",
    ),
    "avatar": Write(
        lambda s: ask(s.api, "PATCH", "/v1/profile", avatar=s.pictures[0]),
        "set_profile(",
        "select from users where avatar is not null",
    ),
    "avatar of a group": Write(
        lambda s: ask(s.api, "PATCH", group_path(s, s.group), avatar=s.pictures[1]),
        "change_conversation(",
        "select from conversations where avatar is not null",
    ),
    "remove participant": Write(
        lambda s: ask(s.api, "DELETE", group_path(s, s.group, "participants", of(s, "carol"))),
        "remove_participant(",
        "select from departures d join users u on u.id = d.user_id where u.username = 'carol'",
    ),
    "put keys": Write(
        lambda s: s.writer.put_keys(b"lost"), "publish_keys(", "select from devices where identity = 'lost'"
    ),
    "log out": Write(
        lambda s: ask(s.api.of(s.spare.token), "DELETE", "/v1/devices/this"),
        "update devices d set revoked = clock_timestamp() from found",
        "select from devices where revoked is not null",
    ),
    "leave": Write(
        lambda s: ask(s.api, "DELETE", group_path(s, s.left, "participants", of(s, "alice"))),
        "remove_participant(",
        "select from departures d join users u on u.id = d.user_id where u.username = 'alice'",
    ),
}
"""Every kind of write that changes conversations with their device sets, messages, marks or people on devices."""

NO_WRITES: Final = {
    *(Hello, SetTyping, Watch, Sync, History, List, Refresh, Ping, Bye, Status),
    *(Upload, Parts, Complete, Download, Abort, Devices, KeyStatus, ReportUndecryptable),
}
"""Requests after which devices show the same as before."""

UNSEEN: Final = {
    "hide presence": Write(
        lambda s: ask(s.api, "PATCH", "/v1/profile", shows_presence=False),
        "set_profile(",
        "select from users where not shows_presence",
    ),
    "block": Write(
        lambda s: ask(s.api, "PUT", f"/v1/contacts/{of(s, 'bob')}", is_blocked=True),
        "set_blocked(",
        "select from contacts where is_blocked",
    ),
}
"""After these writes, a watcher is shown no further presence of the user."""


async def insist(scene: WriterBehindProxy, write: Write) -> None:
    """Repeat the write until it is acknowledged."""
    while True:
        try:
            return await write.do(scene)
        except (RequestRefused, NoReply, Refused503):
            await let_pass(0.05, why="a user tries again after a moment")


@contextmanager
def losing(scene: WriterBehindProxy, writes: Collection[Write]) -> Iterator[list[Write]]:
    """Lose the first answer to each of these writes that commits it; yields the writes with a lost answer."""
    query, run, past = PostgresConnection.query, PostgresConnection.run, where_of(scene.pool.url)
    lost: list[Write] = []

    @asynccontextmanager
    async def losing_answer(connection: PostgresConnection, sql: str) -> AsyncGenerator[None]:
        write = next((each for each in writes if each.statement in sql and each not in lost), None)
        if connection.where == past or write is None:
            yield
            return
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as dup:
            port = dup.getsockname()[1]
        scene.proxy.lose_answer(port)
        try:
            yield
        finally:
            # The connection may have been lost before Postgres had the statement, and a mark passes over a row that
            # another transaction has locked: then the next attempt loses its answer.
            with trio.CancelScope(shield=True):
                if scene.proxy.has_lost(port) and await is_committed(scene.pool, write):
                    lost.append(write)

    async def query_lossy(self: PostgresConnection, sql: str, parameters: Any = ()) -> Any:
        async with losing_answer(self, sql):
            return await query(self, sql, parameters)

    async def run_lossy(self: PostgresConnection, statement: Statement, values: Any) -> Any:
        async with losing_answer(self, statement.text):
            return await run(self, statement, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostgresConnection, "query", query_lossy)
        patch.setattr(PostgresConnection, "run", run_lossy)
        yield lost


async def lose_answer(scene: WriterBehindProxy, write: Write) -> None:
    """The write is committed, its answer is lost with the connection, and it is acknowledged when it is repeated."""
    assert not await is_committed(scene.pool, write)
    with losing(scene, [write]) as lost, trio.fail_after(10):
        await insist(scene, write)
        assert lost == [write]


async def is_committed(pool: Pool, write: Write) -> bool:
    return bool(await pool.fetch(f"select 1 from ({write.committed}) committed limit 1"))


async def wait_committed(pool: Pool, write: Write) -> None:
    await wait_until(lambda: is_committed(pool, write), write.statement)


@pytest.fixture(autouse=True)
def _without_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices fetch everything again and again, until they hold the same."""
    monkeypatch.setattr(limits, "MAX_COST_AT_ONCE", 10**9)


async def test_devices_learn_of_every_kind_of_write_though_its_answer_was_lost(pool: Pool, redis_url: str) -> None:
    async with open_writer_behind_proxy(pool, redis_url) as scene:
        held = scene.bob.mailbox.cursor
        for name, write in WRITES.items():
            await lose_answer(scene, write)
            for device in scene.devices:
                await device.wait_true(name)
        resumed = PushedDevice("Bob's, which resumes", scene.people["bob"], scene.bob.node)
        resumed.mailbox = await fetch(scene.bob.node.url, resumed.owner.token, resumed.owner.user)
        async with resumed.connected(held):
            await resumed.wait_true("all of them")


def test_each_request_that_writes_is_among_the_writes() -> None:
    """Their names begin with the name of the request."""
    written = {
        request for request in REQUESTS for name in WRITES if name.startswith(name_of(request).replace("_", " "))
    }
    assert written == {*REQUESTS} - NO_WRITES


async def test_each_kind_of_write_is_pushed_to_the_devices_on_its_node_and_on_others(
    pool: Pool, redis_url: str
) -> None:
    async with open_writer_behind_proxy(pool, redis_url) as scene:
        for name, write in WRITES.items():
            await write.do(scene)
            for device in scene.devices:
                await device.wait_true(name, timeout_s=PUSHED_S)


@pytest.mark.parametrize("name", UNSEEN)
async def test_a_watcher_is_shown_no_more_than_it_may_though_the_answer_to_the_write_was_lost(
    pool: Pool, redis_url: str, name: str
) -> None:
    async with open_writer_behind_proxy(pool, redis_url) as scene:
        alice = scene.people["alice"].user
        assert scene.bob.presence == {alice: True}
        await lose_answer(scene, UNSEEN[name])
        # Watchers see a block as going offline: after the grace for phones that change networks.
        patience_s = GRACE_S + 5
        await wait_until(lambda: not scene.bob.presence[alice], "Alice is shown as offline", timeout_s=patience_s)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of all times, or less: the 10 s after which a query is given up, and the wait of the cursors."""
    monkeypatch.setattr(pool_module, "QUERY_TIMEOUT_S", 0.5)
    monkeypatch.setattr(postgres_module, "CANCEL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(postgres_module, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(outcomes_module, "FIRST_LOOK_S", 0.2)
    monkeypatch.setattr(outcomes_module, "LOOK_S", 0.5)
    monkeypatch.setattr(cursor_advance_module, "SETTLE_S", 3.0)
    monkeypatch.setattr(cursor_advance_module, "INTERVAL_S", 3.2)


HOLE_S: Final = 4.0


@pytest.mark.long  # its short deadlines need a machine that has time
@pytest.mark.usefixtures("_quick")
async def test_while_no_answer_comes_no_cursor_passes_what_was_committed_before_it_was_told(
    pool: Pool, redis_url: str
) -> None:
    """The silence lasts longer than cursors wait; one device leaves once its cursor has moved, and resumes with it."""
    async with open_writer_behind_proxy(pool, redis_url) as scene, trio.open_nursery() as nursery:
        far, is_over = scene.bob.node, trio.Event()
        nursery.start_soon(chat, scene, far, is_over)
        leaver = PushedDevice("Alice's, which resumes", scene.people["alice"], far)
        async with leaver.connected() as connection:
            await leaver.begin(connection)
            async with trio.open_nursery() as writing:
                scene.proxy.breaks_off = False
                assert not [name for name, write in WRITES.items() if await is_committed(scene.pool, write)]
                with losing(scene, list(WRITES.values())):
                    for write in WRITES.values():
                        writing.start_soon(insist, scene, write)
                    for write in WRITES.values():
                        await wait_committed(scene.pool, write)
                    scene.proxy.is_deaf = True
                    moved = leaver.cursors
                    await let_pass(HOLE_S, why="the hole lasts longer than cursors wait")
                    scene.proxy.is_deaf = False
            await wait_until(lambda: leaver.cursors > moved, "its cursor moves", timeout_s=15)
            cursor = leaver.mailbox.cursor
        is_over.set()
        for device in scene.devices:
            await device.wait_true("all of them")
        async with leaver.connected(cursor):
            await leaver.wait_true("all of them")


async def chat(scene: WriterBehindProxy, node: TestNode, is_over: trio.Event) -> None:
    """Send messages, so that all cursors have a reason to move."""
    async with connect(node.url, scene.people["bob"].token) as connection:
        while not is_over.is_set():
            with suppress(RequestRefused, NoReply):
                await connection.send(scene.direct, b"news", temp_id=os.urandom(16))
            await let_pass(0.1, why="the pace of the chat")


@pytest.mark.parametrize("name", ["add participant", "role", "profile", "new direct conversation"])
async def test_the_node_looks_for_a_change_that_it_could_not_push_after_its_commit(
    pool: Pool, redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up of recipients and pushes fails; the client repeats the request, which then causes no pushes."""
    failures: list[str] = []

    def failing_once(look_up: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def look_up_in_vain(*arguments: Any) -> Any:
            if not failures:
                failures.append(name)
                raise Unavailable("Postgres", "", "gone for a moment")
            return await look_up(*arguments)

        return look_up_in_vain

    async with open_writer_behind_proxy(pool, redis_url) as scene:
        for look_up in ("one", "seen_by", "participant"):
            monkeypatch.setattr(conversations, look_up, failing_once(getattr(conversations, look_up)))
        monkeypatch.setattr(participant_lists, "acquainted", failing_once(participant_lists.acquainted))
        await insist(scene, WRITES[name])
        assert failures
        for device in scene.devices:
            await device.wait_true(name)
