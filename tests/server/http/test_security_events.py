"""Security events over HTTP: each kind is caused here, and users and operators read what they may."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
import trio

import store
from client.http import Credentials
from jobs.tasks.account_deletions import AccountDeletions
from server.cli.nodes import note_drain
from server.http.app import create_app
from server.http.passwords import HASHER
from server.http.services import Services
from store import (
    account_deletions,
    accounts,
    devices,
    emails,
    invitations,
    password_resets,
    security_events,
    suspensions,
    tokens,
)
from store.errors import DatabaseError
from store.objects.folder import Folder
from store.postgres.pool import Pool
from store.security_events import KINDS, MAX_OWN_ROWS, Source
from tests.jobs.jobs_world import a_job
from tests.people import new_device, new_user
from tests.server.http.socket_world import open_server, request
from tests.server.http_world import PASSWORD, Api, both_encodings, open_api, open_services
from tests.store.test_tokens import end_overlap

OPS_TOKEN: Final = "the operators' token"
MAIL: Final = {"address": "alice@example.org"}
AGENT: Final = "ALO/1.0 (test)"

ROOT: Final = Path(store.__file__).parents[1]


@dataclass
class Owner:
    """A user whose account has events.

    :ivar http: with the token of the user's device.
    :ivar other: another device of the user.
    :ivar invitation: the last one that an operator made.
    """

    pool: Pool
    http: Api
    user: Credentials
    other: Credentials
    services: Services
    invitation: bytes = b""

    async def send(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> int:
        """Send a request as a program with a name; return the status."""
        api = self.http if token is None else self.http.of(token)
        what = {} if body is None else {"json": body}
        return (await api.request(method, path, headers={"User-Agent": AGENT}, **what)).status

    async def mail_token(self) -> str:
        mail = await emails.take_verification(self.pool, self.user.user)
        assert mail is not None
        return mail.token


async def register(owner: Owner) -> None:
    assert await owner.send("POST", "/v1/users", {"username": "dora", "password": PASSWORD}, token="") == 201


async def log_in_first(owner: Owner) -> None:
    await accounts.add_user(owner.pool, "dora", HASHER.hash(PASSWORD))
    body = {"username": "dora", "password": PASSWORD, "name": "Phone"}
    assert await owner.send("POST", "/v1/devices", body, token="") == 201


async def log_in_again(owner: Owner) -> None:
    body = {"username": "alice", "password": PASSWORD, "name": "Tablet"}
    assert await owner.send("POST", "/v1/devices", body, token="") == 201


async def fail_to_log_in(owner: Owner) -> None:
    for _ in range(3):
        body = {"username": "alice", "password": "a wrong one", "name": "Phone"}
        assert await owner.send("POST", "/v1/devices", body, token="") == 401


async def revoke(owner: Owner) -> None:
    for _ in range(2):
        assert await owner.send("DELETE", f"/v1/devices/{UUID(bytes=owner.other.device)}") == 204


async def change_password(owner: Owner) -> None:
    body = {"old_password": PASSWORD, "new_password": f"{PASSWORD} battery", "ends_other_sessions": False}
    assert await owner.send("PUT", "/v1/password", body) == 204


async def reset_password(owner: Owner) -> None:
    await verify_email(owner)
    assert await owner.send("POST", "/v1/password-resets", {"username": "alice"}, token="") == 202
    [(reset,)] = await owner.pool.fetch("select id from password_resets")
    mail = await password_resets.mail(owner.pool, reset)
    assert mail is not None
    body = {"token": mail.token, "new_password": f"{PASSWORD} battery"}
    assert await owner.send("PUT", "/v1/password-resets", body, token="") == 204


async def ask_deletion(owner: Owner) -> None:
    assert await owner.send("PUT", "/v1/account/deletion", {}) == 200


async def ask_export(owner: Owner) -> None:
    for status in (202, 429):
        assert await owner.send("POST", "/v1/exports") == status


async def keep_account(owner: Owner) -> None:
    await ask_deletion(owner)
    body = {"username": "alice", "password": PASSWORD, "name": "Phone", "keeps_account": True}
    assert await owner.send("POST", "/v1/devices", body, token="") == 201


async def reuse_token(owner: Owner) -> None:
    new, _, _ = await tokens.renew_token(owner.pool, owner.other.device, owner.other.token, lifetime_s=60)
    for token in (new, owner.other.token):
        await owner.send("GET", "/v1/devices", token=token)
        await end_overlap(owner.pool)


async def delete_account(owner: Owner) -> None:
    await account_deletions.close(owner.pool, owner.user.user, delay_s=0, deletes_messages=False)
    redis = owner.services.redis
    await AccountDeletions(owner.pool, redis, None).delete_accounts(a_job("delete_accounts"))


async def fail_to_confirm(owner: Owner) -> None:
    for _ in range(2):
        assert await owner.send("POST", "/v1/confirmations", {"password": "a wrong one"}) == 401


async def set_email(owner: Owner) -> None:
    for _ in range(2):
        assert await owner.send("PUT", "/v1/email", MAIL) == 200


async def verify_email(owner: Owner) -> None:
    await set_email(owner)
    token = await owner.mail_token()
    for _ in range(2):
        assert await owner.send("POST", "/v1/email/verifications", {"token": token}, token="") == 204


async def remove_email(owner: Owner) -> None:
    await set_email(owner)
    for _ in range(2):
        assert await owner.send("DELETE", "/v1/email") == 204


async def ask_as_operator(owner: Owner) -> None:
    for _ in range(2):
        path = "/v1/ops/analytics?from=2026-01-01&until=2026-01-01"
        assert await owner.send("GET", path, token=OPS_TOKEN) == 200


async def replay_as_operator(owner: Owner) -> None:
    await owner.pool.fetch(
        "insert into dead_jobs (id, task, payload, attempts, reason) values (4711, 'x', '{}', 1, '')"
    )
    path = "/v1/ops/jobs/4711/replay"
    # The second time there is no such dead job.
    assert [await owner.send("POST", path, token=OPS_TOKEN) for _ in range(2)] == [204, 404]


async def read_as_operator(owner: Owner) -> None:
    for _ in range(2):
        assert await owner.send("GET", "/v1/ops/security-events?username=alice", token=OPS_TOKEN) == 200


async def make_invitation(owner: Owner) -> None:
    owner.invitation, _, _ = await invitations.add(owner.pool, uses=3, lifetime_s=60)


async def revoke_invitation(owner: Owner) -> None:
    await make_invitation(owner)
    await invitations.revoke(owner.pool, owner.invitation)


async def suspend(owner: Owner) -> None:
    for _ in range(2):
        await suspensions.set_suspended(owner.pool, owner.user.user, is_suspended=True, source=OPERATOR)


async def lift(owner: Owner) -> None:
    await suspend(owner)
    for _ in range(2):
        await suspensions.set_suspended(owner.pool, owner.user.user, is_suspended=False, source=OPERATOR)


async def void_password(owner: Owner) -> None:
    await password_resets.void(owner.pool, owner.user.user, source=OPERATOR)


async def drain(owner: Owner) -> None:
    await note_drain(owner.pool, bytes(1), OPERATOR)


OPERATOR: Final = Source("operator", operator="ops")

OTHER: Final = "the other device"
"""Stands for its id in a detail."""

CAUSES: Final[dict[str, tuple[Callable[[Owner], Awaitable[None]], dict[str, Any]]]] = {
    "registered": (register, {}),
    "login": (log_in_first, {"detail": {"name": "Phone"}}),
    "new_device": (log_in_again, {"detail": {"name": "Tablet"}}),
    "login_failed": (fail_to_log_in, {"times": 3}),
    "password_changed": (change_password, {"detail": {"ends_others": False}}),
    "password_reset": (reset_password, {}),
    "account_closed": (ask_deletion, {}),
    "export_asked": (ask_export, {}),
    "account_kept": (keep_account, {}),
    "confirmation_failed": (fail_to_confirm, {"times": 2}),
    "device_revoked": (revoke, {"detail": {"device": OTHER, "name": "test"}}),
    "token_reused": (reuse_token, {"detail": {"device": OTHER, "name": "test"}}),
    "account_deleted": (delete_account, {}),
    "email_set": (set_email, {"detail": {"is_other_address": True, "wants_device_notice": True}}),
    "email_verified": (verify_email, {}),
    "email_removed": (remove_email, {}),
    "operator_request": (ask_as_operator, {"detail": {"route": "GET /v1/ops/analytics"}, "times": 2}),
    "job_replayed": (replay_as_operator, {"detail": {"job": "4711"}}),
    "events_read": (read_as_operator, {"times": 2}),
    "invitation_made": (make_invitation, {"detail": {"uses": "3"}}),
    "invitation_revoked": (revoke_invitation, {}),
    "account_suspended": (suspend, {}),
    "account_unsuspended": (lift, {}),
    "password_voided": (void_password, {}),
    "node_drained": (drain, {"detail": {"node": "00"}}),
}
"""Each kind -> requests that cause one such event, some of them repeatedly, and what the event says."""

OF_NO_USER: Final = frozenset(
    ("operator_request", "job_replayed", "invitation_made", "invitation_revoked", "node_drained")
)
OF_COMMANDS: Final = frozenset(
    (
        *("invitation_made", "invitation_revoked", "node_drained"),
        *("account_suspended", "account_unsuspended", "password_voided"),
    )
)
"""Caused by commands of operators, not by requests."""

OF_OPERATORS: Final = frozenset(("operator_request", "events_read", "job_replayed")) | OF_COMMANDS
OF_SYSTEM: Final = frozenset(("token_reused", "account_deleted"))
"""The server acts by itself: no request is their source."""

OF_DEVICES: Final = frozenset(
    (
        *("device_revoked", "email_set", "email_removed", "password_changed", "confirmation_failed"),
        *("account_closed", "export_asked"),
    )
)
"""Caused by requests that show a token of the user."""


def test_each_kind_is_caused_by_a_test() -> None:
    assert CAUSES.keys() == KINDS.keys()


def test_each_kind_in_code_is_in_the_list() -> None:
    """SQL and Python name kinds in calls; nothing else writes to the table."""
    found: set[str] = set()
    for file in (ROOT / "store" / "sql").rglob("*.sql"):
        text = re.sub(r"--[^\n]*", "", file.read_text())
        for first in re.findall(r"\bnote_security_event\(([^,]*),", text):
            found |= set(re.findall(r"'([a-z_]+)'", first))
        assert file.name == "note_security_event.sql" or "insert into security_events" not in text, file
    for folder in ("server", "jobs", "store"):
        for file in (ROOT / folder).rglob("*.py"):
            for arguments in re.findall(r"\bsecurity_events\.note\((.*?)\)", file.read_text(), re.DOTALL):
                found |= set(re.findall(r'"([a-z_]+)"', arguments)[:1])
    assert found == KINDS.keys()


@asynccontextmanager
async def open_owner(pool: Pool, redis_url: str) -> AsyncGenerator[Owner, None]:
    user = await new_device(pool, await accounts.add_user(pool, "alice", HASHER.hash(PASSWORD)))
    other = await new_device(pool, user.user)
    await pool.fetch("delete from security_events")
    async with open_services(pool, redis_url, ops_token=OPS_TOKEN, objects=Folder(Path("no folder"))) as services:
        yield Owner(pool, Api(create_app(services), token=user.token), user, other, services)


@pytest.mark.parametrize("kind", CAUSES)
async def test_a_request_causes_one_event_that_says_who_acted_and_from_where(
    pool: Pool, redis_url: str, kind: str
) -> None:
    cause, expected = CAUSES[kind]
    async with open_owner(pool, redis_url) as owner:
        await cause(owner)
        [event] = [each for each in await security_events.all_events(pool, limit=20) if each.kind == kind]
        expected = {"detail": {}, "times": 1, **expected}
        expected["detail"] = {
            key: str(UUID(bytes=owner.other.device)) if value is OTHER else value
            for key, value in expected["detail"].items()
        }
        if owner.invitation:
            expected["detail"]["invitation"] = str(UUID(bytes=owner.invitation))
        assert (event.detail, event.times, event.last is None) == (*expected.values(), event.times == 1)
        assert event.actor == ("operator" if kind in OF_OPERATORS else "system" if kind in OF_SYSTEM else "user")
        assert event.client == (None if kind in OF_SYSTEM | OF_COMMANDS else AGENT)
        assert (event.device == owner.user.device) == (kind in OF_DEVICES)
        assert (event.user is None) == (kind in OF_NO_USER)


@pytest.mark.parametrize(("path", "revoked"), [("/v1/devices/others", {"other"}), ("/v1/devices", {"other", "user"})])
async def test_logging_out_everywhere_is_an_event_for_each_device(
    pool: Pool, redis_url: str, path: str, revoked: set[str]
) -> None:
    async with open_owner(pool, redis_url) as owner:
        assert await owner.send("DELETE", path) == 204
        events = await security_events.events_of(pool, owner.user.user, limit=9)
        assert {each.kind for each in events} == {"device_revoked"}
        ids = {name: str(UUID(bytes=getattr(owner, name).device)) for name in revoked}
        assert sorted(each.detail["device"] for each in events) == sorted(ids.values())
        assert all((each.actor, each.device, each.client) == ("user", owner.user.device, AGENT) for each in events)


@both_encodings
async def test_users_read_their_own_events_and_no_others(
    pool: Pool, redis_url: str, alice: Credentials, encoding: str
) -> None:
    tablet = await new_device(pool, alice.user, "Tablet")
    # Fixtures run side by side; Bob's events have to come after Alice's.
    bob = await new_user(pool, "bob")
    await security_events.note(pool, "login_failed", None, Source("user"))
    async with open_api(pool, redis_url, encoding) as api:
        listed = await api.of(alice.token).get("/v1/security-events")
        assert [(each["kind"], each["device"]) for each in listed.body["events"]] == [
            ("new_device", tablet.device),
            ("login", alice.device),
            ("registered", None),
        ]
        assert {each["user"] for each in listed.body["events"]} == {alice.user}
        assert listed.body["cursor"] is None
        first = await api.of(bob.token).get("/v1/security-events", limit=1)
        assert [each["kind"] for each in first.body["events"]] == ["login"]
        rest = await api.of(bob.token).get("/v1/security-events", limit=1, cursor=first.body["cursor"])
        assert [each["kind"] for each in rest.body["events"]] == ["registered"]
        # A cursor says where a page begins, and not whose page it is.
        others = await api.of(alice.token).get("/v1/security-events", cursor=first.body["cursor"])
        assert {each["user"] for each in others.body["events"]} == {alice.user}


@both_encodings
async def test_operators_read_the_events_of_one_user_or_of_all(
    pool: Pool, redis_url: str, alice: Credentials, bob: Credentials, encoding: str
) -> None:
    async with open_api(pool, redis_url, encoding, ops_token=OPS_TOKEN) as api:
        ops = api.of(OPS_TOKEN)
        of_alice = await ops.get("/v1/ops/security-events", username="alice")
        assert [each["kind"] for each in of_alice.body["events"]] == ["events_read", "login", "registered"]
        assert {each["user"] for each in of_alice.body["events"]} == {alice.user}
        of_all = await ops.get("/v1/ops/security-events")
        assert {each["user"] for each in of_all.body["events"]} == {alice.user, bob.user, None}
        for name in ("nobody", "a\0b", ""):
            unknown = await ops.get("/v1/ops/security-events", username=name)
            assert (unknown.status, unknown.code) == (404, "unknown_user")
        assert (await api.of(alice.token).get("/v1/ops/security-events")).status == 401
        # Alice sees that an operator has looked.
        seen = await api.of(alice.token).get("/v1/security-events")
        newest = seen.body["events"][0]
        assert (newest["kind"], newest["actor"]) == ("events_read", "operator")


async def test_failed_logins_of_an_hour_have_one_row(pool: Pool, redis_url: str) -> None:
    """However many programs guess at once: the log does not grow, and unknown names are not told from known ones."""
    async with open_owner(pool, redis_url) as owner:

        async def guess(name: str, times: int) -> None:
            for _ in range(times):
                user = owner.user.user if name == "alice" else None
                await security_events.note(pool, "login_failed", user, Source("user", client=name), is_counted=True)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(guess, "alice", 25)
                nursery.start_soon(guess, "nobody", 25)
        rows = await pool.fetch(
            "select client, sum(times)::bigint, count(*) from security_events group by 1 order by 1"
        )
        assert [(client, times) for client, times, _ in rows] == [("alice", 200), ("nobody", 200)]
        assert all(count <= 2 for *_, count in rows), "one row for each hour that the test saw"


async def test_a_user_who_logs_in_again_and_again_makes_a_bounded_number_of_rows(pool: Pool) -> None:
    """The first ones of a day say which device, those after them are counted; other kinds and users have all."""
    alice, bob = [await accounts.add_user(pool, name, "x") for name in ("alice", "bob")]
    await pool.fetch("delete from security_events")
    for n in range(MAX_OWN_ROWS + 5):
        await devices.add_device(pool, alice, f"device {n}", lifetime_s=60)
    logins = [each for each in await security_events.events_of(pool, alice, limit=999) if "login" in each.kind]
    await devices.add_device(pool, bob, "phone", lifetime_s=60)
    events = [each for each in await security_events.events_of(pool, alice, limit=999) if each.kind == "new_device"]
    own = [each for each in events if each.last is None]
    further = [each for each in events if each.last is not None]
    assert [each.detail["name"] for each in own] == [f"device {n}" for n in range(MAX_OWN_ROWS, 0, -1)]
    assert sum(each.times for each in further) == 4
    assert len(further) <= 2, "one row for each hour that the test saw"
    assert all(each.detail == {} for each in further)
    assert [each.detail["name"] for each in logins] == ["device 0"]
    [of_bob] = await security_events.events_of(pool, bob, limit=9)
    assert (of_bob.kind, of_bob.detail, of_bob.last) == ("login", {"name": "phone"}, None)
    all_of_alice = await security_events.events_of(pool, alice, limit=999)
    revoked = [each for each in all_of_alice if each.kind == "device_revoked"]
    assert [each.last for each in revoked] == [None] * 5, "another kind has rows of its own"
    await pool.fetch("update security_events set at = at - interval '1 day'")
    await devices.add_device(pool, alice, "a day later", lifetime_s=60)
    [newest] = await security_events.events_of(pool, alice, limit=1)
    assert (newest.kind, newest.detail, newest.last) == ("new_device", {"name": "a day later"}, None)


def test_a_log_out_everywhere_names_each_device() -> None:
    assert MAX_OWN_ROWS >= devices.MAX_DEVICES


async def test_a_change_that_fails_leaves_no_event(pool: Pool, alice: Credentials) -> None:
    """The event is in the transaction of the change."""
    before = await pool.fetch("select count(*) from security_events")
    with pytest.raises(DatabaseError):
        await pool.fetch(
            "with changed as (update users set username = 'Bad Name' returning id)"
            " select note_security_event('registered', id, '{\"actor\": \"user\"}') from changed"
        )
    assert await pool.fetch("select count(*) from security_events") == before
    await pool.fetch("alter table security_events add constraint full_up check (kind <> 'device_revoked') not valid")
    with pytest.raises(DatabaseError):
        await devices.revoke_device(pool, alice.user, alice.device)
    assert await pool.fetch("select revoked from devices") == [(None,)], "no change without its event"


SOURCES: Final[dict[str, tuple[Source, tuple[str | None, str | None]]]] = {
    "IPv4": (Source("user", "192.0.2.77", "x"), ("192.0.2.0/24", "x")),
    "IPv6": (Source("user", "2001:db8:1:2:3:4:5:6", "x"), ("2001:db8:1::/48", "x")),
    "IPv4 in IPv6": (Source("user", "::ffff:192.0.2.77", "x"), ("192.0.2.0/24", "x")),
    "link-local": (Source("user", "fe80::1%eth0", "x"), ("fe80::/48", "x")),
    "no address": (Source("user", "a socket"), (None, None)),
    "unknown": (Source("user"), (None, None)),
    "an empty name": (Source("user", None, ""), (None, None)),
    "a long name": (Source("user", None, "\u00e9" * 999), (None, "\u00e9" * 256)),
    "control characters": (Source("user", None, "a\0b\x1b[31m\u202ec\n"), (None, "ab[31mc")),
}


@pytest.mark.parametrize("name", SOURCES)
async def test_no_whole_address_and_no_control_character_is_kept(pool: Pool, alice: Credentials, name: str) -> None:
    source, (network, client) = SOURCES[name]
    await security_events.note(pool, "login_failed", alice.user, source)
    event = (await security_events.events_of(pool, alice.user, limit=1))[0]
    assert (event.network, event.client) == (network, client)
    rows = await pool.fetch("select security_events::text from security_events")
    assert source.address is None or not any(source.address in text for (text,) in rows)


async def test_the_network_is_that_of_the_client_of_the_connection(pool: Pool, redis_url: str) -> None:
    body = msgspec.json.encode({"username": "dora", "password": PASSWORD})
    headers = {"content-type": "application/json", "content-length": str(len(body)), "user-agent": AGENT}
    async with open_server(pool, redis_url) as server:
        assert (await server.exchange(request("POST", "/v1/users", headers, body))).status == 201
    [event] = await security_events.all_events(pool, limit=9)
    assert (event.kind, event.network, event.client) == ("registered", "127.0.0.0/24", AGENT)


async def test_an_event_of_no_known_kind_is_refused(pool: Pool) -> None:
    with pytest.raises(ValueError, match="other is not in KINDS"):
        await security_events.note(pool, "other", None, Source("user"))
