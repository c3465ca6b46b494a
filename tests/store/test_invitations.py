"""Invitations: what operators make, list and revoke, by function and by command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest

import store
from store import accounts, invitations
from store.cli.invitations import command_of
from store.errors import InvitationVoid, UnknownInvitation
from store.postgres.pool import Pool

ROOT = Path(store.__file__).parents[1]


async def test_the_list_has_those_with_which_users_can_register(pool: Pool) -> None:
    made = [await invitations.add(pool, uses=2, lifetime_s=days * 86400) for days in (3, 2, 1)]
    [third, second, first] = [invitation for invitation, *_ in made]
    await accounts.add_user(pool, "ann", "x", invitation=made[1][1])
    listed = await invitations.open_invitations(pool)
    assert [(each.invitation, each.most_uses, each.uses) for each in listed] == [
        (first, 2, 0),
        (second, 2, 1),
        (third, 2, 0),
    ]
    assert [each.expires for each in listed] == [expires for *_, expires in reversed(made)]
    await accounts.add_user(pool, "ben", "x", invitation=made[1][1])
    await pool.fetch("update invitations set expires = now() where id = %s", (UUID(bytes=first),))
    assert [each.invitation for each in await invitations.open_invitations(pool)] == [third]


async def test_a_revoked_invitation_is_void_and_its_users_stay(pool: Pool) -> None:
    invitation, code, _ = await invitations.add(pool, uses=2, lifetime_s=60)
    await accounts.add_user(pool, "ann", "x", invitation=code)
    await invitations.revoke(pool, invitation)
    with pytest.raises(InvitationVoid):
        await invitations.check(pool, code)
    with pytest.raises(InvitationVoid):
        await accounts.add_user(pool, "ben", "x", invitation=code)
    with pytest.raises(UnknownInvitation, match=str(UUID(bytes=invitation))):
        await invitations.revoke(pool, invitation)
    assert await pool.fetch("select username from users") == [("ann",)]


async def test_an_invitation_that_expires_after_it_was_checked_registers_no_user(pool: Pool) -> None:
    _, code, _ = await invitations.add(pool, uses=1, lifetime_s=60)
    await invitations.check(pool, code)
    await pool.fetch("update invitations set expires = now()")
    with pytest.raises(InvitationVoid):
        await accounts.add_user(pool, "ann", "x", invitation=code)
    assert await pool.fetch("select uses from invitations") == [(0,)]


async def test_the_code_is_not_stored(pool: Pool) -> None:
    _, code, _ = await invitations.add(pool, uses=1, lifetime_s=60)
    for table in ("invitations", "security_events"):
        rows = await pool.fetch(f"select t::text from {table} t")
        assert rows
        assert not any(code in text for (text,) in rows)


async def test_expired_invitations_are_forgotten_in_batches(pool: Pool) -> None:
    for _ in range(3):
        await invitations.add(pool, uses=1, lifetime_s=60)
    assert await invitations.forget_invitations(pool, limit=10) == 0
    await pool.fetch("update invitations set expires = now() - interval '1 second'")
    assert [await invitations.forget_invitations(pool, limit=2) for _ in range(3)] == [2, 1, 0]


def invite(pool: Pool, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as an operator runs it."""
    return subprocess.run(
        [sys.executable, "-m", "store", "invitations", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": pool.url, "LOG_LEVEL": "error"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_an_operator_makes_lists_and_revokes_by_command(pool: Pool) -> None:
    made = json.loads(invite(pool, "add", "--uses", "3", "--days", "0.5").stdout)
    assert made["uses"] == 3
    await invitations.check(pool, made["code"])
    [listed] = [json.loads(line) for line in invite(pool, "list").stdout.splitlines()]
    assert (listed["invitation"], listed["expires"]) == (made["invitation"], made["expires"])
    assert (listed["most_uses"], listed["uses"], "code" in listed) == (3, 0, False)
    assert invite(pool, "revoke", made["invitation"]).returncode == 0
    assert invite(pool, "list").stdout == ""
    unknown = invite(pool, "revoke", str(uuid4()))
    assert (unknown.returncode, "there is no invitation" in unknown.stderr) == (1, True)


WRONG = [
    [],
    ["make"],
    ["add", "--uses", "0"],
    ["add", "--uses", "1000001"],
    ["add", "--uses", "few"],
    ["add", "--days", "0"],
    ["add", "--days", "nan"],
    ["add", "--days", "inf"],
    ["add", "--days", "3651"],
    ["revoke"],
    ["revoke", "none"],
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_command_that_is_not_understood_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command_of(arguments)
    assert refused.value.code == 2
    assert "usage: python -m store invitations" in capsys.readouterr().err
