"""Blocking, way by way (`docs/blocking.md`): no action of a blocked user reaches the blocker, and the answers and views
of the blocked user are the same as if the other user were offline and did not block."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import cbor2
import msgspec
import pytest
import trio

from client.http import Credentials
from protocol.frames import (
    Conversation,
    Delete,
    Devices,
    DevicesChanged,
    Edit,
    Frame,
    History,
    List,
    MarkRead,
    Message,
    Ping,
    Presence,
    Profile,
    PutKeys,
    Receipts,
    Send,
    Settings,
    SetTyping,
    Status,
    Sync,
    Synced,
    Tombstone,
    Typing,
    Watch,
)
from server.cluster import presence
from store import contacts, conversations, group_states, keys, marks, outbox, participants
from store.conversations import STARTS_PER_DAY
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.people import make_contacts, new_direct, new_group, new_user
from tests.rows import checked_rows
from tests.server.http_world import CBOR, Api, open_api, say
from tests.server.node_world import RawClient, TestNode, open_node, wait_caught_up
from tests.store.attachment_world import new_attachment
from tests.waiting import PATIENCE_S, wait_until

RELATIONS: Final = ("contacts", "strangers")


@dataclass
class Side:
    """The user that acts (the actor), and the user that it would reach (the target); each also has a group with Dave.

    :ivar name: the beginning of the names of its users.
    :ivar names: of ids, so that two sides can be compared.
    """

    name: str
    actor: Credentials
    target: Credentials
    dave: Credentials
    bystander: Credentials
    names: dict[bytes, str]
    direct: bytes = b""
    group: bytes = b""
    fences: list[bytes] = field(default_factory=list)
    cursor: bytes = b""
    counter: int = 100
    answers: list[Any] = field(default_factory=list)
    pushes: list[Frame] = field(default_factory=list)

    def request(self) -> int:
        self.counter += 1
        return self.counter


class Servers:
    """Two nodes and `web`, which both sides use; each side records what its actor is told."""

    def __init__(self, pool: Pool, api: Api, nodes: list[TestNode]) -> None:
        self.pool = pool
        self.api = api
        self.nodes = nodes

    async def ask(self, side: Side, who: Credentials, method: str, path: str, **body: Any) -> Any:
        """Ask over HTTP; the answer is recorded if the actor asks."""
        answer = await self.api.of(who.token).request(
            method, path, data=cbor2.dumps(body), headers={"Content-Type": CBOR, "X-Request-ID": "of-both-sides"}
        )
        if who is side.actor:
            side.answers.append((method, answer.status, answer.body))
        return answer.body

    async def say(self, side: Side, client: RawClient, frame: Frame) -> Any:
        """Ask over the socket, as the actor."""
        *pushes, reply = await client.ask(frame)
        side.pushes += pushes
        side.answers.append(reply)
        return reply

    async def fence(self, client: RawClient, group: bytes) -> list[Frame]:
        """All frames that came to a device until Dave's message (over the socket) and rename (over HTTP) have come."""
        found: list[Frame] = []
        wanted = {Message, Settings}
        with trio.fail_after(PATIENCE_S):
            while wanted:
                for frame in await client.read(1):
                    if getattr(frame, "conversation", None) == group:
                        wanted.discard(type(frame))
                    else:
                        found.append(frame)
        return found


Act = Callable[[Servers, Side, RawClient], Awaitable[Any]]


async def _send(servers: Servers, side: Side, client: RawClient) -> None:
    for n in range(2):
        frame = Send(side.request(), side.direct, "text", b"hey", None, None, bytes([n]) * 8 + side.direct[:8])
        await servers.say(side, client, frame)


async def _put_state(servers: Servers, side: Side, client: RawClient) -> None:
    """After a control message; the target is shown no state."""
    temp_id, path = bytes(8) + side.direct[:8], f"/v1/conversations/{UUID(bytes=side.direct)}/state"
    frame = Send(side.request(), side.direct, "text", b"commit", None, None, temp_id, follows=0)
    sent = await servers.say(side, client, frame)
    for control_seq in (sent.seq, sent.seq + 1):
        await servers.ask(side, side.actor, "PUT", path, control_seq=control_seq, state=b"state")
    held = (await group_states.state(servers.pool, side.target.user, side.direct)).held
    ids = {"direct": uuid(side.direct)}
    [(blocks,)] = await servers.pool.fetch(
        "select low_blocks or high_blocks from conversations where id = %(direct)s", ids
    )
    assert (held is None) == blocks


async def _edit_new(servers: Servers, side: Side, client: RawClient) -> None:
    await _send(servers, side, client)
    await servers.say(side, client, Edit(side.request(), side.direct, 4, "text", b"ho", None, None, 0))
    await servers.say(side, client, Delete(side.request(), side.direct, 4, True))


async def _edit_old(servers: Servers, side: Side, client: RawClient) -> None:
    await servers.say(side, client, Edit(side.request(), side.direct, 2, "text", b"other", None, None, 0))


async def _delete_old(servers: Servers, side: Side, client: RawClient) -> None:
    await servers.say(side, client, Delete(side.request(), side.direct, 2, True))


async def _read(servers: Servers, side: Side, client: RawClient) -> None:
    await servers.say(side, client, MarkRead(side.request(), [(side.direct, 3)]))


async def _type(servers: Servers, side: Side, client: RawClient) -> None:
    for is_typing in (True, False):
        await servers.say(side, client, SetTyping(side.request(), side.direct, is_typing))


async def _rename(servers: Servers, side: Side, client: RawClient) -> None:
    await servers.ask(side, side.actor, "PATCH", "/v1/profile", display_name="read this")


async def _picture(servers: Servers, side: Side) -> bytes:
    id_ = await new_attachment(servers.pool, side.actor.user, avatars="encrypted")
    side.names[id_] = "picture"
    return id_


async def _show_picture(servers: Servers, side: Side, client: RawClient) -> None:
    await servers.ask(side, side.actor, "PATCH", "/v1/profile", avatar=await _picture(servers, side))


async def _publish(servers: Servers, side: Side, client: RawClient) -> None:
    """The target's clients have to encrypt for the actor's devices: the target may write, and is read."""
    for identity in (b"one identity", b"another"):
        await servers.say(side, client, PutKeys(side.request(), identity))


async def _lifetime(servers: Servers, side: Side, client: RawClient) -> None:
    await servers.ask(side, side.actor, "PATCH", f"/v1/conversations/{UUID(bytes=side.direct)}", lifetime_s=3600)


async def _open(servers: Servers, side: Side, client: RawClient) -> None:
    made = await servers.ask(
        side, side.actor, "POST", "/v1/conversations", kind="direct", participants=[side.target.user]
    )
    side.direct = made["conversation"]
    side.names[side.direct] = "direct"


async def _open_and_write(servers: Servers, side: Side, client: RawClient) -> None:
    await _open(servers, side, client)
    await _send(servers, side, client)
    await _type(servers, side, client)
    await _lifetime(servers, side, client)


async def _make_group(servers: Servers, side: Side, client: RawClient) -> None:
    users = [side.target.user, side.bystander.user]
    made = await servers.ask(
        side, side.actor, "POST", "/v1/conversations", kind="group", name="read", participants=users
    )
    side.group = made["conversation"]
    side.names[side.group] = "group"


async def _write_in_group(servers: Servers, side: Side, client: RawClient) -> None:
    await _make_group(servers, side, client)
    frame = Send(side.request(), side.group, "text", b"hey", None, None, b"g" * 8 + side.group[:8])
    await servers.say(side, client, frame)
    await servers.say(side, client, SetTyping(side.request(), side.group, True))
    path = f"/v1/conversations/{UUID(bytes=side.group)}"
    await servers.ask(side, side.actor, "PATCH", path, name="this", avatar=await _picture(servers, side))


async def _rule_group(servers: Servers, side: Side, client: RawClient) -> None:
    await _make_group(servers, side, client)
    path = f"/v1/conversations/{UUID(bytes=side.group)}/participants"
    await servers.ask(side, side.actor, "POST", path, user=side.target.user)
    await servers.ask(side, side.actor, "PATCH", f"{path}/{UUID(bytes=side.target.user)}", role="admin")
    await servers.ask(side, side.actor, "DELETE", f"{path}/{UUID(bytes=side.target.user)}")
    await servers.ask(side, side.actor, "DELETE", f"{path}/{UUID(bytes=side.target.user)}")


async def _bring_by_another(servers: Servers, side: Side, client: RawClient) -> None:
    """A contact of the target adds the target to a group that already shows them."""
    await _make_group(servers, side, client)
    path = f"/v1/conversations/{UUID(bytes=side.group)}/participants"
    await servers.ask(side, side.actor, "PATCH", f"{path}/{UUID(bytes=side.bystander.user)}", role="admin")
    for user in (side.target.user, side.bystander.user):
        answer = await servers.api.of(side.bystander.token).post(path, {"user": user})
        assert answer.status == 204


async def _hand_over(servers: Servers, side: Side, client: RawClient) -> None:
    """The actor makes the target the group's only administrator, and tries to rule on."""
    await _make_group(servers, side, client)
    path = f"/v1/conversations/{UUID(bytes=side.group)}"
    for user, role in ((side.target.user, "admin"), (side.actor.user, "member")):
        await servers.ask(side, side.actor, "PATCH", f"{path}/participants/{UUID(bytes=user)}", role=role)
    await servers.ask(side, side.actor, "PATCH", path, name="this")
    await servers.ask(side, side.actor, "DELETE", f"{path}/participants/{UUID(bytes=side.bystander.user)}")


async def _add_again(servers: Servers, side: Side, client: RawClient) -> None:
    """The target has left the group of the actor and Dave, and the actor adds them again."""
    path = f"/v1/conversations/{UUID(bytes=side.group)}/participants"
    await servers.ask(side, side.actor, "POST", path, user=side.target.user)
    frame = Send(side.request(), side.group, "text", b"back", None, None, b"b" * 8 + side.group[:8])
    await servers.say(side, client, frame)


async def _begin_with_contacts_alone(servers: Servers, side: Side, client: RawClient) -> None:
    """The target accepts nothing from strangers, and the actor has used up their starts with strangers."""
    await servers.pool.fetch(
        "select count_start(%s, %s) from generate_series(1, %s)",
        (uuid(side.actor.user), STARTS_PER_DAY, STARTS_PER_DAY),
    )
    await _open_and_write(servers, side, client)
    await _make_group(servers, side, client)
    users = [side.bystander.user]
    made = await servers.ask(side, side.actor, "POST", "/v1/conversations", kind="group", name="G", participants=users)
    side.group = made["conversation"]
    side.names[side.group] = "another group"
    path = f"/v1/conversations/{UUID(bytes=side.group)}/participants"
    for _ in range(2):
        await servers.ask(side, side.actor, "POST", path, user=side.target.user)


async def _know(servers: Servers, side: Side, client: RawClient) -> None:
    path = f"/v1/contacts/{UUID(bytes=side.target.user)}"
    await servers.ask(side, side.actor, "DELETE", path)
    await servers.ask(side, side.actor, "PUT", path)


@dataclass(frozen=True)
class Way:
    """A way for the actor to reach the target, or to learn of them.

    :ivar takes_away: a message from before the block becomes a tombstone for the target, too.
    :ivar tells: frames that the target's devices get and do not show: a new version, or revision, of the same content.
    :ivar holds_places: tombstones stand where the messages are, and show how far their sender has come; or a name that
        is not shown has a new revision.
    """

    act: Act
    relations: tuple[str, ...] = ("contacts",)
    needs: str = "direct"
    takes_away: bool = False
    tells: tuple[type[Frame], ...] = ()
    holds_places: bool = False


WAYS: Final[dict[str, Way]] = {
    "a message": Way(_send, holds_places=True),
    "an edit of it": Way(_edit_new, holds_places=True),
    "an edit of an old message": Way(_edit_old, takes_away=True, tells=(Tombstone,)),
    "a deletion of an old message": Way(_delete_old, takes_away=True, tells=(Tombstone,)),
    "a mark": Way(_read),
    "typing": Way(_type),
    "a display name": Way(_rename, tells=(Profile,), holds_places=True),
    "an avatar": Way(_show_picture, tells=(Profile,), holds_places=True),
    "a state of the group": Way(_put_state, holds_places=True),
    "a lifetime": Way(_lifetime, tells=(Settings,)),
    "another identity": Way(_publish, tells=(DevicesChanged,)),
    "the direct conversation again": Way(_open),
    "a contact": Way(_know),
    "a new direct conversation": Way(_open_and_write, RELATIONS, needs="nothing"),
    "a new group": Way(_make_group, RELATIONS, needs="nothing"),
    "what is written in a new group": Way(_write_in_group, RELATIONS, needs="nothing"),
    "what an administrator does": Way(_rule_group, RELATIONS, needs="nothing"),
    "a contact who brings the target as well": Way(_bring_by_another, RELATIONS, needs="a friend"),
    "what contacts alone may begin": Way(_begin_with_contacts_alone, needs="no strangers"),
    "becoming the only administrator": Way(_hand_over, RELATIONS, needs="nothing"),
    "being added again after leaving": Way(_add_again, ("strangers",), needs="group"),
}
CASES: Final = [(name, relation) for name, way in WAYS.items() for relation in way.relations]


async def _side(pool: Pool, name: str, relation: str, needs: str) -> Side:
    actor, target, dave = [await new_user(pool, f"{name}_{who}") for who in ("actor", "target", "dave")]
    bystander = await new_user(pool, f"{name}_bystander")
    ids = {actor.user: "actor", target.user: "target", dave.user: "dave", bystander.user: "bystander"}
    side = Side(name, actor, target, dave, bystander, ids)
    if relation == "contacts":
        await make_contacts(pool, actor, target)
    await make_contacts(pool, actor, bystander)
    if needs == "direct":
        side.direct = await new_direct(pool, actor, target)
        side.names[side.direct] = "direct"
    if needs == "a friend":
        await make_contacts(pool, bystander, target)
    if needs == "no strangers":
        setting = "update users set messages_from = 'contacts', groups_from = 'contacts' where id = %s"
        await pool.fetch(setting, (uuid(target.user),))
    if needs == "group":
        side.group = await new_group(pool, actor, target, bystander)
        await pool.fetch("delete from contacts where user_id = %s", (uuid(target.user),))
        side.names[side.group] = "group"
    await keys.put(pool, target.device, b"identity")
    for each in (actor, target):
        side.fences.append(await new_group(pool, dave, each))
        side.names[side.fences[-1]] = "fence"
    await pool.fetch("insert into last_seen (user_id, at) values (%s, now() - interval '1 hour')", (uuid(target.user),))
    return side


@asynccontextmanager
async def _open_servers(pool: Pool, redis_url: str) -> AsyncGenerator[Servers, None]:
    async with (
        open_node(pool.url, redis_url) as one,
        open_node(pool.url, redis_url) as other,
        open_api(pool, redis_url, "cbor") as api,
    ):
        await wait_caught_up(one, other)
        yield Servers(pool, api, [one, other])


async def _prepare(servers: Servers, side: Side) -> None:
    """Before the block: each user writes to the other; the target may leave the group."""
    async with (
        servers.nodes[0].open_websocket(side.actor.token) as actor,
        servers.nodes[0].open_websocket(side.target.token) as target,
    ):
        for n, client in enumerate((target, actor, target) if side.direct else ()):
            temp_id = bytes([n + 9]) * 8 + side.direct[:8]
            await client.ask(Send(n + 1, side.direct, "text", b"old %d" % n, None, None, temp_id))
        if side.group:
            path = f"/v1/conversations/{UUID(bytes=side.group)}/participants/{UUID(bytes=side.target.user)}"
            await servers.ask(side, side.target, "DELETE", path)
        synced = (await actor.ask(Sync(70, None)))[-1]
        assert isinstance(synced, Synced)
        side.cursor = synced.cursor


async def test_it_reaches_the_blocker_nowhere_and_cannot_be_noticed(pool: Pool, redis_url: str) -> None:
    async with _open_servers(pool, redis_url) as servers:
        with checked_rows() as rows:
            for number, (name, relation) in enumerate(CASES):
                with rows.row((name, relation)):
                    way = WAYS[name]
                    names = (f"blocks{number}", f"offline{number}")
                    blocks, offline = [await _side(pool, each, relation, way.needs) for each in names]
                    await _check_way(servers, way, blocks, offline)


async def _check_way(servers: Servers, way: Way, blocks: Side, offline: Side) -> None:
    """Both actors act in this way: that of the target who blocks, and that of the target who is offline."""
    for side in (blocks, offline):
        await _prepare(servers, side)
    await contacts.set_blocked(servers.pool, blocks.target.user, blocks.actor.user, is_blocked=True)
    before = await _view(servers, blocks)
    came = await _act(servers, way, blocks, is_connected=True)
    assert {type(each) for each in came} <= set(way.tells), "the live pushes tell more than they may"
    for each in came:
        if isinstance(each, Settings):
            assert (each.name, each.lifetime_s, each.first_seq) == (None, None, 1)
        if isinstance(each, Profile):
            assert (each.display_name, each.avatar) == (None, None)
    await _act(servers, way, offline, is_connected=False)
    after = await _view(servers, blocks)
    if way.takes_away:
        for view in (before, after):
            view["messages"] = [each for each in view["messages"] if each["seq"] != 2]
            view["frames"] = [each for each in view["frames"] if each[2] != 2]
    for each in (*before["shown"], *after["shown"]):
        each["devices_version"] *= DevicesChanged not in way.tells
    if way.holds_places:
        for view in (before, after):
            _drop_marks(view)
    assert _first_difference(after, before) is None, "the fetched state differs"
    assert await _notices(servers.pool, blocks) == 0
    expected, shown = _comparable(offline), _comparable(blocks)
    assert _first_difference(shown, expected) is None, "the answers to the blocked user differ"


def _first_difference(one: Any, other: Any) -> Any:
    """Where two states differ, and how; None if they do not. Readable, unlike a comparison of the whole."""
    if type(one) is not type(other):
        return one, other
    match one:
        case dict() if one.keys() == other.keys():
            pairs = [(key, one[key], other[key]) for key in one]
        case list() | tuple() if len(one) == len(other):
            pairs = [(n, *pair) for n, pair in enumerate(zip(one, other, strict=True))]
        case _:
            return None if one == other else (one, other)
    for key, *pair in pairs:
        if (found := _first_difference(*pair)) is not None:
            return key, found
    return None


async def _act(servers: Servers, way: Way, side: Side, *, is_connected: bool) -> list[Frame]:
    """Act, and let the actor look at everything; returns the frames that came to the target's devices."""
    pool = servers.pool
    fences = side.fences
    async with AsyncExitStack() as stack:

        async def enter(who: Credentials, node: int) -> RawClient:
            client = await stack.enter_async_context(servers.nodes[node].open_websocket(who.token))
            await client.ask(Sync(1, None))
            return client

        dave = await enter(side.dave, 0)
        actor, idle = await enter(side.actor, 0), await enter(side.actor, 1)
        targets = [await enter(side.target, node) for node in (0, 1)] if is_connected else []
        await way.act(servers, side, actor)
        for n, fence in enumerate(fences):
            await dave.ask(Send(n + 5, fence, "text", b"fence", None, None, bytes([n]) * 16))
            await servers.ask(side, side.dave, "PATCH", f"/v1/conversations/{UUID(bytes=fence)}", name="fence two")
        for client in (actor, idle):
            side.pushes += await servers.fence(client, fences[0])
        came = [each for target in targets for each in await servers.fence(target, fences[1])]
        await _look(servers, side, actor)
    await pool.fetch(
        "delete from outbox where conversation_id = any(%s::uuid[])", ([UUID(bytes=each) for each in fences],)
    )
    return came


async def _look(servers: Servers, side: Side, actor: RawClient) -> None:
    """All reads that the actor can make."""
    for path in ("/v1/conversations", "/v1/conversations?requests=true", "/v1/contacts"):
        await servers.ask(side, side.actor, "GET", path)
    [(username,)] = await servers.pool.fetch("select username from users where id = %s", (uuid(side.target.user),))
    await servers.ask(side, side.actor, "GET", f"/v1/users/{username}")
    for conversation in filter(None, (side.direct, side.group)):
        path = f"/v1/conversations/{UUID(bytes=conversation)}"
        for rest in ("", "/messages", "/participants"):
            await servers.ask(side, side.actor, "GET", path + rest)
        for seq in range(1, 7):
            await servers.ask(side, side.actor, "GET", f"{path}/messages/{seq}/status")
            await servers.say(side, actor, Status(side.request(), conversation, seq))
        await servers.say(side, actor, History(side.request(), conversation, None, None, None))
    await servers.say(side, actor, List(side.request(), None, None))
    await servers.say(side, actor, Watch(side.request(), [side.target.user]))
    await servers.ask(side, side.actor, "GET", f"/v1/users/{UUID(bytes=side.target.user)}/devices")
    await servers.say(side, actor, Devices(side.request(), None, [side.target.user]))
    for cursor in (side.cursor, None):
        async with servers.nodes[1].open_websocket(side.actor.token) as again:
            side.answers.append(sorted(map(repr, _plain(side, await again.ask(Sync(side.request(), cursor))))))


def _plain(side: Side, value: Any) -> Any:
    """The value with names for ids, and without the values that differ each time: times, cursors, ids of messages."""
    match value:
        case msgspec.Struct():
            return type(value).__name__, _plain(side, msgspec.structs.asdict(value))
        case dict():
            hidden = ("cursor", "message")
            plain = {
                key: "hidden" if key in hidden and isinstance(each, (bytes, str)) else _plain(side, each)
                for key, each in value.items()
            }
            if isinstance(plain.get("username"), str):
                plain["username"] = plain["username"].partition("_")[2]
            return plain
        case list() | tuple():
            plain = [_plain(side, each) for each in value]
            # Users and conversations are sorted by id; other lists have an order of their own.
            is_by_id = all(isinstance(each, dict | list | tuple | msgspec.Struct) for each in value) and len(value) > 1
            return sorted(plain, key=repr) if is_by_id else plain
        case bytes():
            return side.names.get(value, value if len(value) != 16 else "an id")
        case int() if not isinstance(value, bool) and value > 10**15:
            return "a time"
    return value


def _comparable(side: Side) -> list[Any]:
    """The answers in their order; the pushes, made by other processes, without their order and number."""
    pushes = sorted({repr(_plain(side, each)) for each in side.pushes})
    return [*(_plain(side, each) for each in side.answers), *pushes]


async def _view(servers: Servers, side: Side) -> dict[str, Any]:
    """All that the target finds, without the places that tombstones hold."""
    who = side.target
    api = servers.api.of(who.token)
    listed = [(await api.get("/v1/conversations", requests=each)).body["conversations"] for each in ("false", "true")]
    messages: list[Any] = []
    found = [each for some in listed for each in some]
    own = {each["conversation"] for each in found if each["name"] not in ("Group", "fence two")}
    for conversation in own:
        path = f"/v1/conversations/{UUID(bytes=conversation)}/messages"
        messages += [each for each in (await api.get(path)).body["messages"] if not each["is_deleted"]]
    shown = [
        {key: value for key, value in each.items() if key not in ("last_seq", "last_message", "participants_version")}
        for each in found
        if each["conversation"] in own
    ]
    async with servers.nodes[1].open_websocket(who.token) as client:
        frames = [each for each in await client.ask(Sync(1, None)) if getattr(each, "conversation", None) in own]
    [(unread, _)] = await servers.pool.fetch(
        "select coalesce(sum(unread_count(c, p)), 0), 0"
        " from participants p join conversations c on c.id = p.conversation_id"
        " where p.user_id = %s and c.name is distinct from 'fence two' and c.name is distinct from 'Group'",
        (uuid(who.user),),
    )
    return {
        "shown": shown,
        "messages": sorted(messages, key=lambda each: (each["conversation"], each["seq"])),
        "frames": [
            (type(each).__name__, each.conversation, getattr(each, "seq", 0), getattr(each, "participants", None))
            for each in frames
        ],
        "unread": unread,
        "contacts": [
            {**(await api.get(path)).body, "revision": 0}
            for path in ("/v1/contacts", f"/v1/users/{side.name}_actor", "/v1/profile")
        ],
    }


def _drop_marks(view: dict[str, Any]) -> None:
    for each in view["shown"]:
        each["control_seq"] = None
        for person in each["participants"]:
            person["delivered_seq"] = person["read_seq"] = person["revision"] = None
    view["frames"] = [each[:3] for each in view["frames"]]


async def _notices(pool: Pool, side: Side) -> int:
    """The number of jobs that would notify the target."""
    while (await outbox.decide(pool, window_s=0))[0]:
        pass
    [(count,)] = await pool.fetch(
        "select count(*) from jobs where task = 'offline_notice' and key = %s", (str(UUID(bytes=side.target.user)),)
    )
    return int(count)


async def test_a_blocked_user_sees_no_presence_typing_or_reading_of_the_blocker(pool: Pool, redis_url: str) -> None:
    """Nothing of the blocker's presence, typing and reading is told, as if the blocker were offline."""
    side = await _side(pool, "blocks", "contacts", "direct")
    async with _open_servers(pool, redis_url) as servers:
        await _prepare(servers, side)
        async with servers.nodes[0].open_websocket(side.actor.token) as actor:
            await actor.ask(Sync(1, None))
            await contacts.set_blocked(pool, side.target.user, side.actor.user, is_blocked=True)
            [shown, _] = await actor.ask(Watch(2, [side.target.user]))
            assert isinstance(shown, Presence)
            assert not shown.is_online
            assert shown.last_seen is not None
            await actor.ask(Send(3, side.direct, "text", b"?", None, None, b"q" * 16))
            for node in servers.nodes:
                async with node.open_websocket(side.target.token) as target:
                    await target.ask(Sync(1, None))
                    for frame in (
                        SetTyping(4, side.direct, True),
                        MarkRead(5, [(side.direct, 4)]),
                        Watch(6, [side.actor.user]),
                    ):
                        replies = await target.ask(frame)
                        assert not [each for each in replies if isinstance(each, Presence | Typing)]
                    again = await actor.ask(Watch(7, [side.target.user]))
                    assert again[0] == shown, "the presence stays as it was when the block began"
                    if node is servers.nodes[0]:
                        assert [each for each in again if isinstance(each, Typing | Receipts)] == []
            await actor.nothing_came()
            statuses = (await actor.ask(Status(8, side.direct, 4)))[-1]
            assert statuses.receipts == [(side.target.user, 3, 3)], "the marks stay where they were before the block"


async def test_a_block_while_connected_takes_presence_away_as_going_offline_does(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the grace: until then a user that has gone is still shown online, also to a watcher that asks again."""
    monkeypatch.setattr(presence, "GRACE_S", 0.5)
    side = await _side(pool, "blocks", "contacts", "direct")
    async with (
        _open_servers(pool, redis_url) as servers,
        servers.nodes[0].open_websocket(side.actor.token) as actor,
        servers.nodes[1].open_websocket(side.target.token) as target,
    ):
        for client in (actor, target):
            await client.ask(Sync(1, None))
        with trio.fail_after(PATIENCE_S):
            while not (await actor.ask(Watch(2, [side.target.user])))[0].is_online:
                pass
        await servers.ask(side, side.target, "PUT", f"/v1/contacts/{UUID(bytes=side.actor.user)}", is_blocked=True)
        blocked_at = trio.current_time()
        [shown, _] = await actor.ask(Watch(3, [side.target.user]))
        assert shown.is_online, "the blocker stays online during the grace"
        gone = await actor.find(Presence)
        assert trio.current_time() >= blocked_at + 0.4
        assert (gone.is_online, gone.last_seen is not None) == (False, True)
        [again, _] = await actor.ask(Watch(4, [side.target.user]))
        assert again == gone
        await actor.ask(Ping(5))


async def test_a_block_by_a_user_who_is_offline_shows_nothing(pool: Pool, redis_url: str) -> None:
    """A user is not online by HTTP requests: the last-seen time does not change, and no push comes."""
    side = await _side(pool, "blocks", "contacts", "direct")
    async with _open_servers(pool, redis_url) as servers, servers.nodes[0].open_websocket(side.actor.token) as actor:
        await actor.ask(Sync(1, None))
        [before, _] = await actor.ask(Watch(2, [side.target.user]))
        await servers.ask(side, side.target, "PUT", f"/v1/contacts/{UUID(bytes=side.actor.user)}", is_blocked=True)
        watching = servers.nodes[0].gateway.node.presence
        await wait_until(lambda: not watching.users(), "the block has come to the node")
        await actor.nothing_came()
        assert (await actor.ask(Watch(3, [side.target.user])))[0] == before


@pytest.mark.parametrize("blocks", [False, True])
async def test_a_stay_that_has_ended_is_shown_once_to_whom_brings_the_user_back(pool: Pool, blocks: bool) -> None:
    """Also if the user is withheld at first, and when a contact then really adds them."""
    side = await _side(pool, "stay", "contacts", "nothing")
    actor, target, dave = side.actor, side.target, side.dave
    group = await new_group(pool, actor, target, dave)
    await make_contacts(pool, dave, target)
    await participants.set_role(pool, actor.user, group, dave.user, "admin")
    await say(pool, group, actor.user, b"one")
    await participants.remove(pool, target.user, group, target.user)
    if blocks:
        await contacts.set_blocked(pool, target.user, actor.user, is_blocked=True)
    await say(pool, group, actor.user, b"two")

    async def shown() -> tuple[Any, Any]:
        seen = await conversations.one(pool, actor.user, group)
        former = [(each.user, each.since_seq, each.left_seq) for each in seen.former or ()]
        return former, sorted((await marks.message_status(pool, actor.user, group, 1)).receipts)

    expected = [(target.user, 0, 1)], sorted([(target.user, 0, 0), (dave.user, 0, 0)])
    added = await participants.add(pool, actor.user, group, target.user)
    assert (target.user in added.participants) != blocks
    assert await shown() == expected
    if blocks:
        assert not (await participants.add(pool, dave.user, group, target.user)).is_new, "the actor would see it"
        await contacts.set_blocked(pool, target.user, actor.user, is_blocked=False)
        assert target.user in (await participants.add(pool, dave.user, group, target.user)).participants
        assert await shown() == expected


async def _name_an_administrator_and_go(servers: Servers, side: Side) -> list[Any]:
    """The actor makes the target a group's administrator; returns the group's state after each later change."""
    made = await servers.ask(
        side,
        side.actor,
        "POST",
        "/v1/conversations",
        kind="group",
        name="G",
        participants=[side.target.user, side.bystander.user],
    )
    group = f"/v1/conversations/{UUID(bytes=made['conversation'])}"
    path = f"{group}/participants"
    found: list[Any] = []
    for who, method, where, body in (
        (side.actor, "PATCH", f"{path}/{UUID(bytes=side.target.user)}", {"role": "admin"}),
        (side.actor, "PATCH", f"{path}/{UUID(bytes=side.actor.user)}", {"role": "member"}),
        (side.actor, "PATCH", group, {"name": "H"}),
        (side.bystander, "PATCH", group, {"name": "H"}),
        (side.actor, "DELETE", f"{path}/{UUID(bytes=side.actor.user)}", {}),
        (side.bystander, "PATCH", group, {"name": "H"}),
    ):
        await servers.ask(side, who, method, where, **body)
        seen = await conversations.one(servers.pool, side.bystander.user, made["conversation"])
        admins = {side.names[each.user] for each in seen.participants or () if each.is_admin}
        found.append((admins, seen.name, seen.participants_version))
    return found


async def test_an_administrator_who_is_withheld_is_one_to_the_others(pool: Pool, redis_url: str) -> None:
    """Like an offline administrator: the other one may step down or leave, and no other participant becomes one."""
    blocks, offline = [await _side(pool, each, "contacts", "nothing") for each in ("blocks", "offline")]
    await contacts.set_blocked(pool, blocks.target.user, blocks.actor.user, is_blocked=True)
    async with _open_servers(pool, redis_url) as servers:
        shown, expected = [await _name_an_administrator_and_go(servers, side) for side in (blocks, offline)]
        assert shown == expected
        assert _comparable(blocks) == _comparable(offline)
        assert expected[-1][:2] == ({"target"}, "G")


@pytest.mark.parametrize(("before_s", "given_s"), [(0, 3600), (3600, 0)])
async def test_a_lifetime_that_a_blocked_user_has_set_holds_for_both_when_the_block_ends(
    pool: Pool, redis_url: str, before_s: int, given_s: int
) -> None:
    """Both then see the lifetime that is in force; the formerly blocked user is told nothing."""
    side = await _side(pool, "ends", "contacts", "direct")
    actor, target = side.actor, side.target
    path = f"/v1/conversations/{UUID(bytes=side.direct)}"
    contact = f"/v1/contacts/{UUID(bytes=actor.user)}"

    async def shown() -> list[tuple[int | None, bytes | None]]:
        seen = [await conversations.one(pool, who.user, side.direct) for who in (actor, target)]
        return [(each.lifetime_s, each.actor) for each in seen]

    async with (
        _open_servers(pool, redis_url) as servers,
        servers.nodes[0].open_websocket(actor.token) as client,
        servers.nodes[1].open_websocket(target.token) as theirs,
    ):
        await servers.ask(side, target, "PATCH", path, lifetime_s=before_s)
        await servers.ask(side, target, "PUT", contact, is_blocked=True)
        await servers.ask(side, actor, "PATCH", path, lifetime_s=given_s)
        assert [each for each, _ in await shown()] == [given_s or None, before_s or None]
        cursor = (await client.ask(Sync(1, None)))[-1].cursor
        await theirs.ask(Sync(1, None))
        before = (await shown())[0]
        await servers.ask(side, target, "PUT", contact, is_blocked=False)
        told = await theirs.find(Conversation)
        assert (told.conversation, told.lifetime_s) == (side.direct, given_s or None)
        assert [each for each, _ in await shown()] == [given_s or None] * 2
        assert (await shown())[0] == before
        assert [type(each) for each in await client.ask(Sync(2, cursor))] == [Synced]
    [(due,)] = await pool.fetch("select due is not null from expiries where conversation_id = %s", (uuid(side.direct),))
    assert due == bool(given_s)
