"""The access matrix: every route and every request frame, by every kind of caller (`access_rows.py`).

Refused callers change nothing, and those to whom a thing is hidden get the answer that they get if it does not exist.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote
from uuid import UUID, uuid4

import msgspec

from client.http import Credentials
from protocol.codec import encode
from protocol.codes import CloseCode
from protocol.frames import REQUESTS, Error, Hello, Message, Request, Send
from protocol.limits import PROTOCOL_VERSION
from server.http.passwords import HASHER
from server.http.routes import ROUTES
from server.http.routing import Access, Route
from store import contacts, conversations, devices, emails, exports, group_states, notifiers, participants
from store.messages import send
from store.notifiers import WebhookTarget
from store.objects.folder import Folder
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.dead_jobs import new_dead_job
from tests.people import new_device, new_direct, new_group, new_user
from tests.server.access_rows import (
    FRAME_ROWS,
    MORE_FRAME_ROWS,
    MORE_ROWS,
    NO_SESSION,
    OUTSIDERS,
    ROWS,
    SILENT,
    USERS,
    FrameRow,
    Persona,
    Row,
    Scene,
)
from tests.server.deaf_node import add_deaf_node
from tests.server.http.socket_world import HttpServer, RawAnswer, open_server, request
from tests.server.http_world import PASSWORD, WEB_CLIENT, say
from tests.server.node_world import TestNode, open_node
from tests.store.attachment_world import new_attachment
from tests.store.store_world import a_message

OPS_TOKEN: Final = "the-token-of-the-operators"
REQUEST_ID: Final = "the-same-for-all"
"""Answers name their request; those that are compared have the same name."""

MAIL: Final = {"wants_digest": True, "wants_device_notice": True, "digest_hour": 8, "zone": "UTC"}

UNSTEADY_COLUMNS: Final = ["last_used", "client"]
"""Columns of devices that any use of a device writes, some time later."""

UNSTEADY: Final = frozenset(("last_seen", "activity", "security_events", "progress"))
"""Tables in which connecting leaves a trace, and the requests of operators, and the work of a node between requests."""

IGNORED_HEADERS: Final = frozenset(("date",))


def test_each_route_and_each_frame_has_a_row() -> None:
    assert ROWS.keys() == {route.rule for route in ROUTES}
    assert FRAME_ROWS.keys() == set(REQUESTS)


@dataclass
class Callers:
    """The callers, and scenes for their requests.

    :ivar users: of the callers with a session.
    :ivar tokens: of the others, but for the expired and the suspended one.
    """

    pool: Pool
    users: dict[Persona, Credentials]
    tokens: dict[Persona, str]
    carol: Credentials
    objects: Folder

    @classmethod
    async def make(cls, pool: Pool, folder: Path) -> Callers:
        users = {
            Persona.ADMINISTRATOR: await new_user(pool, "alice"),
            Persona.PARTICIPANT: await new_user(pool, "bob"),
            Persona.REMOVED: await new_user(pool, "dave"),
            Persona.BLOCKED: await new_user(pool, "erin"),
            Persona.STRANGER: await new_user(pool, "frank"),
        }
        alice = users[Persona.ADMINISTRATOR]
        await pool.fetch("update users set password_hash = %s", (HASHER.hash(PASSWORD),))
        await contacts.set_blocked(pool, alice.user, users[Persona.BLOCKED].user, is_blocked=True)
        revoked = await new_device(pool, alice.user)
        await devices.revoke_device(pool, alice.user, revoked.device)
        tokens = {
            Persona.ANONYMOUS: "",
            Persona.REVOKED: revoked.token,
            Persona.OPERATOR: OPS_TOKEN,
        }
        objects = Folder(folder)
        await objects.start()
        return cls(pool, users, tokens, await new_user(pool, "carol"), objects)

    async def scene(self) -> Scene:
        """A new group and whatever else requests are about."""
        pool, alice, bob = self.pool, self.users[Persona.ADMINISTRATOR], self.users[Persona.PARTICIPANT]
        dave = self.users[Persona.REMOVED]
        grace = await new_user(pool, f"g{secrets.token_hex(6)}")
        group = await new_group(pool, alice, bob, self.carol, dave)
        await participants.remove(pool, alice.user, group, dave.user)
        await say(pool, group, alice.user, b"1")
        await say(pool, group, bob.user, b"2")
        asked, _ = await conversations.add_direct(pool, grace.user, alice.user)
        await pool.fetch("delete from notifiers")
        await pool.fetch("delete from account_deletions")
        # Those of former scenes would come to the quota of open uploads.
        await pool.fetch("delete from attachments where conversation_id is null and not is_shown")
        await pool.fetch("update users set is_closed = false")
        export = uuid4()
        await pool.fetch(
            "insert into exports (id, user_id, asked, ready, expires, parts, size_bytes)"
            " values (%s, %s, now() - interval '2 days', now(), now() + interval '1 day', 1, 1)",
            (export, UUID(bytes=alice.user)),
        )
        await self.objects.put(exports.key_of(export.bytes, 1), b"x", "application/gzip")
        notifier = (await notifiers.add(pool, alice.user, WebhookTarget("https://hooks.example.org/"))).notifier
        await emails.put(pool, grace.user, f"{secrets.token_hex(8)}@example.org", **MAIL)
        purpose = {"purpose": "verify", "user": UUID(bytes=grace.user)}
        [(token,)] = await pool.fetch(
            "select 'alo_' || replace(translate(encode(mail_token(seed, %(purpose)s), 'base64'), '+/', '-_'), '=', '')"
            " from emails where user_id = %(user)s",
            purpose,
        )
        # Each scene has a group of its own: the control message is the third one.
        await send(pool, ParticipantsCache(), [a_message(group, alice.user, follows=0)])
        await group_states.put(pool, alice.user, alice.device, group, 3, b"state")
        device = (await new_device(pool, alice.user)).device
        upload = await new_attachment(pool, alice.user)
        attachment = await new_attachment(pool, alice.user, message=(group, 1))
        avatar = await new_attachment(pool, alice.user, avatars="encrypted")
        things = (group, asked, device, notifier, export.bytes, upload, attachment, avatar)
        return Scene(alice, self.carol, grace, *things, token, str(await new_dead_job(pool)), "")

    async def token(self, persona: Persona) -> str:
        """A token of the caller, of a new device, which may log out."""
        if persona is Persona.EXPIRED:
            alice = self.users[Persona.ADMINISTRATOR]
            return (await new_device(self.pool, alice.user, lifetime_s=-1.0)).token
        if persona is Persona.SUSPENDED:
            # Of a new device: requests of Alice revoke the old ones. By this column tokens are refused; Alice goes on.
            suspended = await new_device(self.pool, self.users[Persona.ADMINISTRATOR].user)
            device = (UUID(bytes=suspended.device),)
            await self.pool.fetch("update devices set is_suspended = true where id = %s", device)
            return suspended.token
        if persona in self.tokens:
            return self.tokens[persona]
        return (await new_device(self.pool, self.users[persona].user)).token

    async def digest(self) -> dict[str, Any]:
        """For each table what any later write to it changes: the number of its rows, and the sum of the numbers of the
        transactions that wrote them. For devices, in which some writes count as none, a digest of the other columns."""
        tables = await self.pool.fetch(
            "select relname::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
        )
        parts = [
            f"select '{table}', count(*) || ' ' || coalesce(sum(xmin::text::bigint), 0) from {table}"
            for (table,) in sorted(tables)
            if table not in UNSTEADY and table != "devices"
        ]
        parts.append(
            "select 'devices', md5(string_agg(r, '|' order by r))"
            f" from (select (to_jsonb(t) - array{UNSTEADY_COLUMNS})::text as r from devices t) each"
        )
        return dict(await self.pool.fetch(" union all ".join(parts)))


def expected_code(route: Route, row: Row, persona: Persona) -> str | None:
    """The code of the refusal; None: the caller may."""
    if route.access is Access.OPEN:
        return row.everybody
    if route.access is Access.OPERATOR:
        return None if persona is Persona.OPERATOR else "unauthenticated"
    return NO_SESSION.get(persona) or row.denied.get(persona)


def rows_of_routes() -> list[tuple[str, Route, Row]]:
    routes = {route.rule: route for route in ROUTES}
    more = [(name, routes[rule], row) for name, (rule, row) in MORE_ROWS.items()]
    return [*((rule, route, ROWS[rule]) for rule, route in routes.items()), *more]


def target(row: Row, scene: Scene) -> tuple[Any, ...]:
    """What a request is about."""
    return row.values(scene), row.body(scene)


async def ask(server: HttpServer, route: Route, row: Row, scene: Scene, token: str, **headers: str) -> RawAnswer:
    path = route.path
    for name, value in row.values(scene).items():
        path = re.sub(rf"<(\w+:)?{name}>", quote(str(UUID(bytes=value)) if isinstance(value, bytes) else value), path)
    assert "<" not in path, route.rule
    sent = {"authorization": f"Bearer {token}"} if token else {}
    body = row.body(scene)
    data = b"" if body is None else msgspec.json.encode(body)
    if data:
        sent |= {"content-type": "application/json", "content-length": str(len(data))}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"x-request-id": REQUEST_ID, **given}
    return await server.exchange(request(route.method, path + row.query, sent, data))


def code_of(answer: RawAnswer) -> str | None:
    """The code of a refusal; None for any other answer."""
    if answer.headers.get("content-type", "").startswith("application/problem"):
        return str(msgspec.json.decode(answer.body)["code"])
    return None


def shown(answer: RawAnswer) -> tuple[int, Mapping[str, str], bytes]:
    """What a client may compare."""
    headers = {name: value for name, value in answer.headers.items() if name not in IGNORED_HEADERS}
    return answer.status, headers, answer.body


@dataclass
class Matrix:
    """The cells that are not as their rows say."""

    world: Callers
    wrong: list[str]

    async def refused(self, name: str, cells: Collection[Persona], check: Check) -> None:
        """Check callers who are refused, all with the same scene: they change nothing."""
        scene, tokens = await self.world.scene(), {persona: await self.world.token(persona) for persona in cells}
        before = await self.world.digest()
        for persona, token in tokens.items():
            self.wrong += [f"{name} by {persona.name}: {fault}" for fault in await check(persona, scene, token)]
        after = await self.world.digest()
        if changed := [table for table in after if after[table] != before[table]]:
            self.wrong.append(f"{name}: a caller who is refused changes {changed}")

    async def allowed(self, name: str, cells: Collection[Persona], check: Check, *, is_read: bool) -> None:
        """Check callers who may, each with a scene of its own if it changes that."""
        scene: Scene | None = None
        for persona in cells:
            if scene is None or not is_read:
                scene = await self.world.scene()
            token = await self.world.token(persona)
            self.wrong += [f"{name} by {persona.name}: {fault}" for fault in await check(persona, scene, token)]


Check: TypeAlias = Callable[[Persona, Scene, str], Awaitable[list[str]]]
"""From a caller, the scene and the caller's token to what is wrong."""


async def test_every_route_admits_the_callers_of_its_row_and_no_others(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    matrix = Matrix(await Callers.make(pool, tmp_path), [])
    await add_deaf_node(redis_url)
    async with open_server(
        pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT, objects=matrix.world.objects
    ) as server:
        for name, route, row in rows_of_routes():
            codes = {persona: expected_code(route, row, persona) for persona in Persona}

            async def check(
                persona: Persona,
                scene: Scene,
                token: str,
                route: Route = route,
                row: Row = row,
                codes: Mapping[Persona, str | None] = codes,
            ) -> list[str]:
                answer = await ask(server, route, row, scene, token)
                code, faults = code_of(answer), []
                if code != codes[persona] or (code is None and answer.status not in route.statuses):
                    faults.append(f"{answer.status} {code}")
                nothing = scene.without_targets()
                if code and persona in row.hides and target(row, scene) != target(row, nothing):
                    absent = await ask(server, route, row, nothing, token)
                    if shown(answer) != shown(absent):
                        faults.append(f"tells what exists: {shown(answer)}")
                return faults

            await matrix.refused(name, [persona for persona, code in codes.items() if code], check)
            admitted = [persona for persona, code in codes.items() if not code]
            await matrix.allowed(name, admitted, check, is_read=route.announces is None)
    assert matrix.wrong == []


async def outcome_of(node: TestNode, frame: Request, token: str) -> str | None:
    """The code of the refusal; None: the request was served."""
    async with node.open_websocket(token) as client:
        reply = (await client.ask(frame))[-1]
    return reply.code if isinstance(reply, Error) else None


async def close_code_of(node: TestNode, *frames: Request) -> CloseCode | None:
    """How the server ends the connection after these frames, which are its first ones."""
    async with node.open_websocket() as client:
        await client.send(*frames)
        code = await client.wait_end()
    return None if code is None else CloseCode(code)


CLOSED: Final[dict[Persona, CloseCode]] = {
    Persona.ANONYMOUS: CloseCode.UNAUTHENTICATED,
    Persona.REVOKED: CloseCode.DEVICE_REVOKED,
    Persona.EXPIRED: CloseCode.TOKEN_EXPIRED,
    Persona.SUSPENDED: CloseCode.ACCOUNT_SUSPENDED,
    Persona.OPERATOR: CloseCode.UNAUTHENTICATED,
}
"""How the server ends a connection whose hello shows this caller's token."""


async def test_every_frame_is_served_for_the_callers_of_its_row_and_no_others(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    matrix = Matrix(await Callers.make(pool, tmp_path), [])
    async with open_node(pool.url, redis_url, object_store_url=tmp_path.as_uri()) as node:
        scene = await matrix.world.scene()
        rows = {**{struct.__name__: row for struct, row in FRAME_ROWS.items()}, **MORE_FRAME_ROWS}
        for name, row in rows.items():
            struct = type(row.frame(replace(scene, token="made up")))

            async def check(
                persona: Persona, scene: Scene, token: str, struct: type[Request] = struct, row: FrameRow = row
            ) -> list[str]:
                # A hello has a token: a caller without one makes it up.
                token = token or "made up"
                frame = row.frame(replace(scene, token=token))
                if persona in NO_SESSION:
                    frames = (frame,) if struct is Hello else (Hello(1, token, PROTOCOL_VERSION), frame)
                    closed = await close_code_of(node, *frames)
                    return [] if closed is CLOSED[persona] else [f"closed with {closed}"]
                code, faults = await outcome_of(node, frame, token), []
                if code != row.denied.get(persona):
                    faults.append(f"{code}")
                absent = row.frame(replace(scene.without_targets(), token=token))
                if persona in row.hides and code != await outcome_of(node, absent, token):
                    faults.append("tells what exists")
                return faults

            refused = {*NO_SESSION, *row.denied, *(OUTSIDERS if struct in SILENT else ())}
            await matrix.refused(name, refused, check)
            await matrix.allowed(name, [each for each in USERS if each not in refused], check, is_read=False)
            if struct is not Hello:
                scene = replace(await matrix.world.scene(), token="made up")
                closed = await close_code_of(node, row.frame(scene))
                assert closed is CloseCode.HELLO_EXPECTED, f"{name} without a hello"
    assert matrix.wrong == []


async def test_the_conversation_of_a_users_own_devices_is_to_all_others_as_if_it_did_not_exist(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    """Each route and each frame about a group, about Alice's own conversation instead."""
    world = await Callers.make(pool, tmp_path)
    scene = await world.scene()
    own, _ = await conversations.add_self(pool, world.users[Persona.ADMINISTRATOR].user)
    others = (*OUTSIDERS, Persona.PARTICIPANT)
    tokens = {persona: await world.token(persona) for persona in others}
    about = [each for each in rows_of_routes() if each[2].values(scene).get("conversation") == scene.group]
    frames = {name: row for name, row in FRAME_ROWS.items() if row.frame(scene) != row.frame(here(scene, own))}
    assert len(about) >= 10
    assert len(frames) > 5
    wrong: list[object] = []
    async with open_server(
        pool, redis_url, ops_token=OPS_TOKEN, web_client=WEB_CLIENT, objects=world.objects
    ) as server:
        for name, route, row in about:
            for persona, token in tokens.items():
                found = await ask(server, route, row, here(scene, own), token)
                absent = await ask(server, route, row, here(scene, uuid4().bytes), token)
                if code_of(found) is None or shown(found) != shown(absent):
                    wrong.append((name, persona, shown(found)))
    async with open_node(pool.url, redis_url) as node:
        for name, row in frames.items():
            for persona, token in tokens.items():
                found_code = await outcome_of(node, row.frame(here(scene, own)), token)
                if found_code != await outcome_of(node, row.frame(here(scene, uuid4().bytes)), token):
                    wrong.append((name, persona, found_code))
    assert wrong == []


NOT_OF_GROUPS: Final[dict[str, str]] = {
    "PATCH /v1/conversations/<uuid:conversation>": "not_a_group",
    "POST /v1/conversations/<uuid:conversation>/participants": "not_a_group",
    "PATCH /v1/conversations/<uuid:conversation>/participants/<uuid:other>": "not_a_group",
    "DELETE /v1/conversations/<uuid:conversation>/participants/<uuid:other>": "not_a_group",
    "show an avatar of a group": "not_a_group",
    "POST /v1/conversations/<uuid:conversation>/decline": "not_a_request",
}
"""What a user is refused in a conversation that is not a group, and that the user takes part in."""

AS_IF_ABSENT: Final = frozenset(("not_found", "not_a_group", "not_a_participant", "internal"))
"""No other request gets these. Some get other codes, such as an edit of a message that is deleted by then."""


async def test_routes_about_groups_refuse_direct_conversations_and_that_of_own_devices_by_name(
    pool: Pool, redis_url: str, tmp_path: Path
) -> None:
    """Each route and each frame about a conversation; the refusal says what to do instead."""
    world = await Callers.make(pool, tmp_path)
    alice, bob = world.users[Persona.ADMINISTRATOR], world.users[Persona.PARTICIPANT]
    scene, token = await world.scene(), await world.token(Persona.ADMINISTRATOR)
    about = [each for each in rows_of_routes() if "<uuid:conversation>" in each[1].path]
    frames = [row for row in FRAME_ROWS.values() if row.frame(scene) != row.frame(here(scene, uuid4().bytes))]
    own, _ = await conversations.add_self(pool, alice.user)
    direct = await new_direct(pool, alice, bob)
    wrong: list[object] = []
    for conversation in (own, direct):
        await say(pool, conversation, alice.user, b"1")
        there = replace(here(scene, conversation), asked=conversation)
        async with (
            open_server(pool, redis_url, ops_token=OPS_TOKEN, objects=world.objects) as server,
            open_node(pool.url, redis_url) as node,
        ):
            for name, route, row in about:
                answer = await ask(server, route, row, there, token)
                code = code_of(answer)
                expected = NOT_OF_GROUPS.get(name)
                if code != expected if expected else code in AS_IF_ABSENT:
                    wrong.append((name, answer.status, code))
                if code == "not_a_group" and "begin a group" not in msgspec.json.decode(answer.body)["detail"]:
                    wrong.append((name, answer.body))
            for row in frames:
                refused = await outcome_of(node, row.frame(there), token)
                wrong += [(row.frame(there), refused)] if refused in AS_IF_ABSENT else []
    assert wrong == []


def here(scene: Scene, conversation: bytes) -> Scene:
    """The same scene with another conversation in place of the group."""
    return replace(scene, group=conversation)


async def test_an_entity_tag_of_a_participant_tells_others_nothing(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    """Not even that the page is still the same."""
    world = await Callers.make(pool, tmp_path)
    scene = await world.scene()
    tagged = [route for route in ROUTES if 304 in route.statuses and "<uuid:conversation>" in route.path]
    assert tagged
    async with open_server(pool, redis_url) as server:
        for route in tagged:
            row = ROWS[route.rule]
            page = await ask(server, route, row, scene, await world.token(Persona.PARTICIPANT))
            for tag in (page.headers["etag"], "*"):
                for persona in OUTSIDERS:
                    token = await world.token(persona)
                    answer, absent = [
                        await ask(server, route, row, each, token, if_none_match=tag)
                        for each in (scene, scene.without_targets())
                    ]
                    assert (answer.status, code_of(answer)) == (404, "not_found"), (route.rule, persona)
                    assert shown(answer) == shown(absent)


async def test_users_without_a_part_in_a_group_get_no_push_of_it(pool: Pool, redis_url: str, tmp_path: Path) -> None:
    world = await Callers.make(pool, tmp_path)
    scene = await world.scene()
    alice, bob = world.users[Persona.ADMINISTRATOR], world.users[Persona.PARTICIPANT]
    changes = [route for route in ROUTES if route.announces is not None and ROWS[route.rule].denied.get(OUTSIDERS[0])]
    changes = [route for route in changes if ROWS[route.rule].values(scene).get("conversation") == scene.group]
    assert len(changes) >= 5
    async with (
        open_node(pool.url, redis_url) as node,
        open_server(pool, redis_url) as server,
        node.open_synced(*(world.users[persona] for persona in OUTSIDERS)) as outside,
        node.open_websocket(alice.token) as writes,
        node.open_websocket(bob.token) as reads,
    ):
        for row in FRAME_ROWS.values():
            if scene.group in encode(row.frame(scene)):
                await writes.ask(row.frame(scene))
        for route in changes:
            assert (await ask(server, route, ROWS[route.rule], scene, alice.token)).status in route.statuses, route.rule
        # Bob hears of the last change, so the others would have heard of all of them.
        last = Send(9, scene.group, "text", b"the last", None, None, secrets.token_bytes(16))
        await writes.ask(last)
        while (await reads.find(Message)).content != b"the last":
            pass
        for client in outside:
            await client.nothing_came()
