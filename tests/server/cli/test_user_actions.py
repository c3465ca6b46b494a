"""What operators do to users: it takes effect on live connections at once, and is in the audit log with their names."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from client.http import Credentials
from protocol.codes import CloseCode
from server.http.passwords import HASHER
from store import account_deletions, accounts, exports, password_resets, security_events
from store.errors import AccountSuspended, DeviceRevoked
from store.objects.folder import Folder
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.tokens import device_by_token
from tests.jobs.export_world import run_exports
from tests.people import new_device, new_user
from tests.server.cli.shell_world import Shell, open_desk
from tests.server.http_world import PASSWORD, open_api
from tests.server.node_world import open_node


async def actors(pool: Pool, user: bytes) -> list[tuple[str, str, str | None]]:
    """The latest events of a user, the newest first: kind, actor, name of the operator."""
    return [(each.kind, each.actor, each.operator) for each in await security_events.events_of(pool, user, limit=9)]


async def test_a_suspension_ends_connections_refuses_tokens_and_is_lifted_again(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    """As an operator types it, beside a node that serves."""
    shell = Shell(DATABASE_URL=pool.url, REDIS_URL=redis_url)
    async with open_node(pool.url, redis_url) as node, node.open_websocket(alice.token) as client:
        [row] = (await shell.asks("user", "suspend", "alice", "--as", "grace")).rows
        assert row == {"user": "alice", "done": "suspended"}
        assert await client.wait_end() == CloseCode.ACCOUNT_SUSPENDED.value
        with pytest.raises(AccountSuspended):
            await device_by_token(pool, alice.token)
        assert "alice is suspended already" in await shell.is_told_why_not("user", "suspend", "alice")
        await shell.asks("user", "unsuspend", "alice", "--as", "heidi")
        async with node.open_websocket(alice.token) as again:
            await again.nothing_came()
    assert (await actors(pool, alice.user))[:2] == [
        ("account_unsuspended", "operator", "heidi"),
        ("account_suspended", "operator", "grace"),
    ]


async def test_without_a_name_the_audit_log_has_that_of_the_operating_system(
    pool: Pool, redis_url: str, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.cli.operators.login_name", lambda: "judy")
    async with open_desk(pool, redis_url) as desk:
        await desk.rows("user", "suspend", "alice")
        assert (await actors(pool, alice.user))[0] == ("account_suspended", "operator", "judy")
        for name in ("", "x" * 65, "two\nlines"):
            assert "--as must be" in await desk.is_told_why_not("user", "unsuspend", "alice", "--as", name)


async def test_sessions_end_on_one_device_or_on_all(pool: Pool, redis_url: str, alice: Credentials) -> None:
    tablet = await new_device(pool, alice.user, "Tablet")
    async with (
        open_node(pool.url, redis_url) as node,
        node.open_websocket(alice.token) as phone,
        node.open_websocket(tablet.token) as other,
        open_desk(pool, redis_url) as desk,
    ):
        id_ = str(UUID(bytes=tablet.device))
        [row] = await desk.rows("sessions", "end", "alice", "--device", id_, "--as", "grace")
        assert (row["device"], row["name"]) == (id_, "Tablet")
        assert await other.wait_end() == CloseCode.DEVICE_REVOKED.value
        await phone.nothing_came()
        assert "has no device" in await desk.is_told_why_not("sessions", "end", "alice", "--device", str(uuid4()))
        assert "must be the id of a device" in await desk.is_told_why_not("sessions", "end", "alice", "--device", "x")
        [row] = await desk.rows("sessions", "end", "alice", "--as", "grace")
        assert row["device"] == str(UUID(bytes=alice.device))
        assert await phone.wait_end() == CloseCode.DEVICE_REVOKED.value
    assert (await actors(pool, alice.user))[:2] == [("device_revoked", "operator", "grace")] * 2


async def test_a_deletion_wants_to_be_confirmed_and_says_what_it_does(
    pool: Pool, redis_url: str, alice: Credentials
) -> None:
    async with open_desk(pool, redis_url, account_deletion_days=3) as desk:
        why = await desk.is_told_why_not("user", "delete", "alice")
        assert "in 3 days, unless the user logs in and keeps it, and the messages stay: repeat" in why
        assert await account_deletions.closing_of(pool, alice.user) is None
        assert "within a minute" in await desk.is_told_why_not("user", "delete", "alice", "--now", "--messages")
        [row] = await desk.rows("user", "delete", "alice", "--yes", "--as", "grace")
        assert (row["done"], row["deletes_messages"]) == ("closed", False)
        closing = await account_deletions.closing_of(pool, alice.user)
        assert closing is not None
        assert not closing.has_begun
        [row] = await desk.rows("user", "delete", "alice", "--messages", "--yes")
        assert row["deletes_messages"]
        closing = await account_deletions.closing_of(pool, alice.user)
        assert closing is not None
        assert not closing.has_begun
        # What is pending comes at once, if the operator says so; and never later.
        await desk.rows("user", "delete", "alice", "--now", "--yes", "--as", "heidi")
        await desk.rows("user", "delete", "alice", "--yes", "--as", "ivan")
        closing = await account_deletions.closing_of(pool, alice.user)
        assert closing is not None
        assert closing.has_begun
    with pytest.raises(DeviceRevoked):
        await device_by_token(pool, alice.token)
    closed = [operator for kind, _, operator in await actors(pool, alice.user) if kind == "account_closed"]
    assert closed == ["heidi", "grace"]


async def test_a_deletion_at_once_is_due_at_once(pool: Pool, redis_url: str, alice: Credentials) -> None:
    async with open_desk(pool, redis_url) as desk:
        await desk.rows("user", "delete", "alice", "--now", "--yes")
        due = await account_deletions.next_due(pool)
        assert due is not None
        assert (due.user, due.deletes_messages) == (alice.user, False)


async def test_a_voided_password_lets_no_device_in_until_the_link_has_set_another(pool: Pool, redis_url: str) -> None:
    user = await accounts.add_user(pool, "dave", HASHER.hash(PASSWORD))
    phone = await new_device(pool, user)
    async with open_api(pool, redis_url) as api, open_desk(pool, redis_url, public_url="https://chat.example") as desk:
        [row] = await desk.rows("user", "reset-password", "dave", "--as", "grace")
        assert row["link"] == f"https://chat.example/v1/password-resets/{row['token']}"
        with pytest.raises(DeviceRevoked):
            await device_by_token(pool, phone.token)
        login = {"username": "dave", "password": PASSWORD, "name": "Phone"}
        assert (await api.post("/v1/devices", login)).code == "wrong_credentials"
        new = {"token": row["token"], "new_password": f"{PASSWORD} battery"}
        assert (await api.request("PUT", "/v1/password-resets", json=new)).status == 204
        assert (await api.post("/v1/devices", {**login, "password": f"{PASSWORD} battery"})).status == 201
        # Once only.
        assert (await api.request("PUT", "/v1/password-resets", json=new)).code == "unknown_reset"
    assert ("password_voided", "operator", "grace") in await actors(pool, user)


async def test_a_user_of_an_external_issuer_has_no_password_to_void(pool: Pool, redis_url: str) -> None:
    identity = accounts.ExternalIdentity("https://issuer.example", "x")
    user = await accounts.add_user(pool, "erin", None, identity=identity)
    async with open_desk(pool, redis_url) as desk:
        assert "logs in by the external issuer" in await desk.is_told_why_not("user", "reset-password", "erin")
        assert await password_resets.void(pool, user, source=security_events.SYSTEM) is None


async def test_an_export_is_asked_for_waited_for_and_written_for_the_operator_alone(
    pool: Pool, redis_url: str, alice: Credentials, tmp_path: Path
) -> None:
    objects, file = Folder(tmp_path / "objects"), tmp_path / "alice.jsonl.gz"
    await objects.start()
    async with open_desk(pool, redis_url, object_store_url=(tmp_path / "objects").as_uri()) as desk:
        [row] = await desk.rows("user", "export", "alice", "--as", "grace")
        assert (row["done"], row["ready"], row["file"]) == ("asked", None, None)
        assert "was not ready within" in await desk.is_told_why_not(
            "user", "export", "alice", "--to", str(file), "--wait", "0.01"
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_exports, pool, objects)
            [row] = await desk.rows("user", "export", "alice", "--to", str(file))
        assert (row["done"], row["file"]) == ("asked before", str(file))
        assert b'"username":"alice"' in gzip.decompress(file.read_bytes()).replace(b" ", b"")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "exists: give --to another name" in await desk.is_told_why_not(
            "user", "export", "alice", "--to", str(file)
        )
    assert len(await exports.exports_of(pool, alice.user)) == 1
    assert ("export_asked", "operator", "grace") in await actors(pool, alice.user)


async def test_an_export_needs_an_object_store(pool: Pool, redis_url: str, alice: Credentials) -> None:
    async with open_desk(pool, redis_url) as desk:
        assert "OBJECT_STORE_URL is not set" in await desk.is_told_why_not("user", "export", "alice")


async def test_an_unknown_action_and_a_deleted_user_are_refused(pool: Pool, redis_url: str, alice: Credentials) -> None:
    await new_user(pool, "bob")
    async with open_desk(pool, redis_url) as desk:
        assert "do you mean suspend" in await desk.is_told_why_not("user", "suspnd", "bob")
        assert "there is no user" in await desk.is_told_why_not("user", "suspend", "nobody")
        await pool.fetch(
            "update users set is_closed = true, deleted = now(), password_hash = '' where id = %s", (uuid(alice.user),)
        )
        id_ = str(UUID(bytes=alice.user))
        assert "was deleted at" in await desk.is_told_why_not("user", "suspend", id_)
