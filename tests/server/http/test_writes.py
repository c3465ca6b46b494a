"""Every write over HTTP makes the announcements that its route declares, also if the client hangs up as it begins."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

import pytest
import trio

from client.http import Credentials
from server.http.announcements import Announcements
from server.http.passwords import Passwords
from server.http.routes import ROUTES
from server.http.routing import Announcement, Route
from store import accounts, conversations, emails, notifiers, password_resets
from store.messages import Committed, send
from store.notifiers import WebhookTarget
from store.objects.folder import Folder
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from tests.dead_jobs import new_dead_job
from tests.people import new_device, new_direct, new_group, new_user
from tests.server.deaf_node import DEAF, add_deaf_node
from tests.server.http_world import PASSWORD, Api, open_api
from tests.store.attachment_world import new_attachment
from tests.store.store_world import a_message

MAIL: Final = {"wants_digest": True, "wants_device_notice": True, "digest_hour": 8, "zone": "UTC"}

OPS_TOKEN: Final = "the-token-of-operators"

Write = tuple[dict[str, bytes | str], Any]
"""The values of the path, and the body (None: no body)."""


class Form(dict[str, str]):
    """A body that a browser sends."""


class PreparedWrites:
    """Prepares writes of Alice. Bob is her contact and has two conversations with her. Carol is a stranger."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def begin(self) -> None:
        self.alice, self.bob, self.carol = [await new_user(self.pool, name) for name in ("alice", "bob", "carol")]
        self.talk = await new_direct(self.pool, self.alice, self.bob)
        self.group = await new_group(self.pool, self.alice, self.bob)

    async def log_in(self) -> list[Write]:
        await accounts.add_user(self.pool, "dora", await Passwords().hash(PASSWORD, source="a test"))
        return [({}, {"username": "dora", "password": PASSWORD, "name": "Phone"})]

    async def with_password(self, body: dict[str, str]) -> list[Write]:
        await self.pool.fetch(
            "update users set password_hash = %s", (await Passwords().hash(PASSWORD, source="a test"),)
        )
        return [({}, body)]

    async def revoke(self) -> list[Write]:
        return [({"device": (await new_device(self.pool, self.alice.user)).device}, None)]

    async def mail_token(self, purpose: str) -> str:
        await emails.put(self.pool, self.alice.user, "alice@example.org", **MAIL)
        [(token,)] = await self.pool.fetch(
            "select 'alo_' || replace(translate(encode(mail_token(seed, %s), 'base64'), '+/', '-_'), '=', '')"
            " from emails",
            (purpose,),
        )
        return str(token)

    async def verify(self) -> list[Write]:
        return [({}, {"token": await self.mail_token("verify")})]

    async def reset_token(self) -> str:
        await self.mail_token("verify")
        await self.pool.fetch("update emails set verified = now()")
        await password_resets.ask(self.pool, username="alice")
        [(reset,)] = await self.pool.fetch("select id from password_resets")
        mail = await password_resets.mail(self.pool, reset)
        assert mail is not None
        return mail.token

    async def reset(self) -> list[Write]:
        return [({}, {"token": await self.reset_token(), "new_password": PASSWORD})]

    async def reset_on_page(self) -> list[Write]:
        return [({"token": await self.reset_token()}, Form(new_password=PASSWORD))]

    async def follow(self, purpose: str) -> list[Write]:
        return [({"token": await self.mail_token(purpose)}, None)]

    async def remove_notifier(self) -> list[Write]:
        added = await notifiers.add(self.pool, self.alice.user, WebhookTarget("https://example.org/"))
        return [({"notifier": added.notifier}, None)]

    async def message_request(self) -> list[Write]:
        asked, _ = await conversations.add_direct(self.pool, self.carol.user, self.alice.user)
        return [({"conversation": asked}, None)]

    async def state(self) -> list[Write]:
        [sent] = await send(self.pool, ParticipantsCache(), [a_message(self.group, self.bob.user, follows=0)])
        assert isinstance(sent, Committed)
        return [({"conversation": self.group}, {"control_seq": sent.seq, "state": "AAAA"})]

    async def upload(self) -> list[Write]:
        return [({"attachment": await new_attachment(self.pool, self.alice.user)}, None)]

    async def with_picture(self, values: dict[str, bytes | str], body: dict[str, Any]) -> list[Write]:
        picture = await new_attachment(self.pool, self.alice.user, avatars="encrypted")
        return [(values, {**body, "avatar": str(UUID(bytes=picture))})]

    async def dead_job(self) -> list[Write]:
        return [({"job": str(await new_dead_job(self.pool))}, None)]

    async def plain(self, *writes: Write) -> list[Write]:
        """Writes that need the users and their conversations alone."""
        return list(writes)


REQUESTS: Final[dict[str, Callable[[PreparedWrites], Awaitable[list[Write]]]]] = {
    "POST /v1/users": lambda s: s.plain(({}, {"username": "dora", "password": PASSWORD})),
    "POST /v1/devices": PreparedWrites.log_in,
    "DELETE /v1/devices/this": lambda s: s.plain(({}, None)),
    "POST /v1/exports": lambda s: s.plain(({}, None)),
    "POST /v1/attachments": lambda s: s.plain(({}, {"files": [{"size_bytes": 1, "part_digests": "A" * 43 + "="}]})),
    "POST /v1/attachments/<uuid:attachment>/complete": PreparedWrites.upload,
    "DELETE /v1/attachments/<uuid:attachment>": PreparedWrites.upload,
    "POST /v1/attachments/downloads": lambda s: s.plain(({}, {"attachments": [text(s.alice)]})),
    "PUT /v1/account/deletion": lambda s: s.plain(({}, {})),
    "POST /v1/password-resets": lambda s: s.plain(({}, {"username": "alice"})),
    "PUT /v1/password-resets": PreparedWrites.reset,
    "POST /v1/password-resets/<token>": PreparedWrites.reset_on_page,
    "DELETE /v1/devices/<uuid:device>": PreparedWrites.revoke,
    "DELETE /v1/devices/others": lambda s: s.plain(({}, None)),
    "DELETE /v1/devices": lambda s: s.plain(({}, None)),
    "POST /v1/confirmations": lambda s: s.with_password({"password": PASSWORD}),
    "PUT /v1/password": lambda s: s.with_password({"old_password": PASSWORD, "new_password": "nine brown foxes dig"}),
    "PUT /v1/keys": lambda s: s.plain(({}, {"identity": "AAAA"})),
    "POST /v1/keys/claims": lambda s: s.plain(({}, {"users": [text(s.bob)], "kinds": ["otk"]})),
    "PUT /v1/conversations/<uuid:conversation>/state": PreparedWrites.state,
    "POST /v1/tokens": lambda s: s.plain(({}, None)),
    "PATCH /v1/profile": lambda s: s.with_picture({}, {"shows_presence": False}),
    "PUT /v1/email": lambda s: s.plain(({}, {"address": "alice@example.org"})),
    "DELETE /v1/email": lambda s: s.plain(({}, None)),
    "POST /v1/email/verifications": PreparedWrites.verify,
    "POST /v1/email/verifications/<token>": lambda s: s.follow("verify"),
    "POST /v1/unsubscribe/<token>": lambda s: s.follow("unsubscribe"),
    "POST /v1/notifiers": lambda s: s.plain(({}, {"kind": "webhook", "url": "https://example.org/"})),
    "DELETE /v1/notifiers/<uuid:notifier>": PreparedWrites.remove_notifier,
    "PUT /v1/quiet-hours": lambda s: s.plain(({}, {"from_minute": 1, "until_minute": 2, "zone": "Europe/Berlin"})),
    "DELETE /v1/quiet-hours": lambda s: s.plain(({}, None)),
    "PUT /v1/contacts/<uuid:other>": lambda s: s.plain(
        ({"other": s.carol.user}, {"is_blocked": True}), ({"other": s.carol.user}, {"is_blocked": False})
    ),
    "DELETE /v1/contacts/<uuid:other>": lambda s: s.plain(({"other": s.bob.user}, None)),
    "POST /v1/conversations": lambda s: s.plain(({}, {"kind": "direct", "participants": [text(s.carol)]})),
    "PATCH /v1/conversations/<uuid:conversation>": lambda s: s.with_picture({"conversation": s.group}, {}),
    "PUT /v1/conversations/<uuid:conversation>/mute": lambda s: s.plain(({"conversation": s.talk}, {"seconds": 60})),
    "POST /v1/conversations/<uuid:conversation>/participants": lambda s: s.plain(
        ({"conversation": s.group}, {"user": text(s.carol)})
    ),
    "PATCH /v1/conversations/<uuid:conversation>/participants/<uuid:other>": lambda s: s.plain(
        ({"conversation": s.group, "other": s.bob.user}, {"role": "admin"})
    ),
    "DELETE /v1/conversations/<uuid:conversation>/participants/<uuid:other>": lambda s: s.plain(
        ({"conversation": s.group, "other": s.bob.user}, None)
    ),
    "POST /v1/conversations/<uuid:conversation>/accept": PreparedWrites.message_request,
    "POST /v1/conversations/<uuid:conversation>/decline": PreparedWrites.message_request,
    "POST /v1/ops/nodes/<node>/drain": lambda s: s.plain(({"node": DEAF.hex()}, None)),
    "POST /v1/ops/jobs/<int:job>/replay": PreparedWrites.dead_job,
}
"""Each writing route -> requests that together cause all of its announcements."""


def text(user: Credentials) -> str:
    return str(UUID(bytes=user.user))


@dataclass
class AnnouncementRecorder:
    """Counts the handlers that returned, and records the announcements that were made to the end.

    :ivar begins: called when a handler is called.
    """

    begins: Callable[[], None] = lambda: None
    ended: int = 0
    announced: list[Any] = field(default_factory=list)

    def recorded(self, route: Route) -> Route:
        async def handle(*arguments: Any, **values: Any) -> Any:
            self.begins()
            outcome = await route.handler(*arguments, **values)
            self.ended += 1
            return outcome

        return replace(route, handler=handle)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> AnnouncementRecorder:
    recorder, make = AnnouncementRecorder(), Announcement.make

    async def recorded(self: Announcement, announcements: Announcements) -> None:
        await make(self, announcements)
        recorder.announced.append(self.announce)

    monkeypatch.setattr(Announcement, "make", recorded)
    monkeypatch.setattr("server.http.app.ROUTES", [recorder.recorded(route) for route in ROUTES])
    return recorder


async def requests_of(rule: str, prepared: PreparedWrites) -> list[tuple[str, str, Any]]:
    """Method, path and body of each."""
    method, path = rule.split(" ")
    made = []
    for values, body in await REQUESTS[rule](prepared):
        filled = path
        for name, value in values.items():
            shown = value if isinstance(value, str) else str(UUID(bytes=value))
            filled = re.sub(rf"<(\w+:)?{name}>", shown, filled)
        made.append((method, filled, body))
    return made


@asynccontextmanager
async def opened(pool: Pool, redis_url: str, rule: str) -> AsyncGenerator[tuple[Api, list[tuple[str, str, Any]]], None]:
    """Alice's interface, and requests to the route."""
    prepared = PreparedWrites(pool)
    await prepared.begin()
    await add_deaf_node(redis_url)
    requests = await requests_of(rule, prepared)
    with TemporaryDirectory() as path:
        folder = Folder(Path(path))
        await folder.start()
        async with open_api(pool, redis_url, objects=folder, ops_token=OPS_TOKEN) as api:
            yield api.of(OPS_TOKEN if "/ops/" in rule else prepared.alice.token), requests


async def ask(api: Api, method: str, path: str, body: Any) -> int:
    headers = {"Authorization": f"Bearer {api.token}"}
    data = {"form": body} if isinstance(body, Form) else {"json": body}
    response = await api.app.test_client().open(path, method=method, headers=headers, **data)
    return int(response.status_code)


def test_each_writing_route_has_requests_here() -> None:
    assert REQUESTS.keys() == {route.rule for route in ROUTES if route.method != "GET"}


by_route = pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.method != "GET"], ids=lambda it: it.rule
)


@by_route
async def test_a_write_makes_the_announcements_that_its_route_declares(
    pool: Pool, redis_url: str, recorder: AnnouncementRecorder, route: Route
) -> None:
    async with opened(pool, redis_url, route.rule) as (api, requests):
        for request in requests:
            assert await ask(api, *request) < 300
        assert route.announces is not None
        assert set(recorder.announced) == set(route.announces)


@by_route
async def test_a_write_is_finished_and_announced_though_the_client_hangs_up_as_it_begins(
    pool: Pool, redis_url: str, recorder: AnnouncementRecorder, route: Route
) -> None:
    """Hypercorn cancels the request of a client that hangs up."""
    async with opened(pool, redis_url, route.rule) as (api, requests):
        for request in requests:
            with trio.CancelScope() as client:
                recorder.begins = client.cancel
                await ask(api, *request)
                pytest.fail("the request was not cancelled")
            assert client.cancelled_caught
        assert recorder.ended == len(requests)
        assert set(recorder.announced) == set(route.announces or ())


async def test_a_client_that_hangs_up_before_its_password_is_hashed_registers_no_user(
    pool: Pool, redis_url: str, recorder: AnnouncementRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hash is the most expensive part of any request, so it is not shielded: it ends with its client."""
    async with opened(pool, redis_url, "POST /v1/users") as (api, [request]):
        with trio.CancelScope() as client:

            async def hash_password(*_: Any, **__: Any) -> str:
                client.cancel()
                await trio.lowlevel.checkpoint()
                return "a hash"

            monkeypatch.setattr(Passwords, "hash", hash_password)
            await ask(api, *request)
        assert client.cancelled_caught
        assert recorder.ended == 0
        assert await pool.fetch("select 1 from users where username = 'dora'") == []
