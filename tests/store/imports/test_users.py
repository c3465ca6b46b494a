"""Users: names, passwords, addresses, and every kind of trouble with them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from store.cli.import_rules import other_username
from store.postgres.pool import Pool
from store.security_events import Source
from store.suspensions import set_suspended
from tests.people import new_device
from tests.store.imports.old_world import HASH, OldWorld, at, imported, named, reasons


def users_of(url: str) -> dict[str, tuple[Any, ...]]:
    """Username -> password hash, display name, address, whether that is verified, the user deleted, and suspended."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select u.username, u.password_hash, u.display_name, e.address, e.verified is not null,"
            " u.deleted is not null, u.suspended is not null from users u left join emails e on e.user_id = u.id"
        ).fetchall()
    return {name: tuple(rest) for name, *rest in rows}


async def test_a_user_is_taken_with_password_names_address_and_times(old: OldWorld, database_url: str) -> None:
    login = {"email_confirmed_at": at(3), "email": "ann@Example.ORG"}
    old.user("ann", login=login, display_name="Ann  B.", created_at=at(5), last_seen_at=at(9))
    made = await imported(old, database_url)
    assert reasons(made) == {}
    assert users_of(database_url) == {"ann": (HASH, "Ann B.", "ann@example.org", True, False, False)}
    with psycopg.connect(database_url) as connection:
        found = connection.execute(
            "select u.id, u.created, e.verified, l.at from users u join emails e on e.user_id = u.id"
            " join last_seen l on l.user_id = u.id"
        ).fetchall()
    assert found == [(named("ann"), at(5), at(3), at(9))]


@pytest.mark.parametrize(
    ("profile", "login", "expected", "reason"),
    [
        ({}, {"encrypted_password": None}, {"password_hash": None}, "password_missing"),
        ({}, {"encrypted_password": ""}, {"password_hash": None}, "password_missing"),
        ({}, {"encrypted_password": "$fbscrypt$v=1,n=14$x"}, {"password_hash": None}, "password_unknown"),
        ({}, {"encrypted_password": HASH.replace("$10$", "$31$")}, {"password_hash": None}, "password_costly"),
        ({}, {"encrypted_password": HASH.replace("2a", "2b")}, {"password_hash": HASH.replace("2a", "2b")}, None),
        ({}, {"email": "nobody at all"}, {"address": None}, "email_not_allowed"),
        ({}, {"email": None}, {"address": None}, None),
        ({"display_name": "a\u202eb"}, {}, {"display_name": None}, "display_name_not_allowed"),
        ({"display_name": " "}, {}, {"display_name": None}, None),
        (
            {"display_name": "Zoë \U0001f469\u200d\U0001f680"},
            {},
            {"display_name": "Zoë \U0001f469\u200d\U0001f680"},
            None,
        ),
        ({"display_name": "literal \\x00 \\u0000 \\N"}, {}, {"display_name": "literal \\x00 \\u0000 \\N"}, None),
        ({"avatar_url": "https://cdn.example/a.jpg"}, {}, {}, "avatar_not_taken"),
        ({}, {"banned_until": "infinity"}, {"is_suspended": True}, "banned"),
        ({}, {"banned_until": "2020-01-01"}, {}, None),
    ],
)
async def test_trouble_with_a_user(
    old: OldWorld,
    database_url: str,
    profile: dict[str, Any],
    login: dict[str, Any],
    expected: dict[str, Any],
    reason: str | None,
) -> None:
    old.user("ann", login=login, **profile)
    made = await imported(old, database_url)
    assert reasons(made) == ({("users", reason): 1} if reason else {})
    names = ("password_hash", "display_name", "address", "is_verified", "is_deleted", "is_suspended")
    found = dict(zip(names, users_of(database_url)["ann"], strict=True))
    assert found == {
        "password_hash": HASH,
        "display_name": None,
        "address": "ann@example.org",
        "is_verified": False,
        "is_deleted": False,
        "is_suspended": False,
        **expected,
    }


@pytest.mark.parametrize(
    ("username", "taken_as", "reason"),
    [
        ("Ann", "ann", None),
        ("\uff21nn", "ann", None),
        ("admin", None, "username_reserved"),
        ("adm1n", None, "username_reserved"),
        ("two words", None, "username_not_allowed"),
        ("\u0430\u0440\u0435", None, "username_not_allowed"),  # Cyrillic, and it looks like ASCII
        ("x" * 33, None, "username_not_allowed"),
        ("", None, "username_missing"),
        ("a\u200bb", None, "username_not_allowed"),
    ],
)
async def test_a_username_is_canonical_or_another_one_that_the_report_names(
    old: OldWorld, database_url: str, username: str, taken_as: str | None, reason: str | None
) -> None:
    old.user("ann", username=username)
    made = await imported(old, database_url)
    other = other_username(named("ann").bytes, None)
    assert other.startswith("user-")
    assert [*users_of(database_url)] == [taken_as or other]
    assert reasons(made) == ({("users", reason): 1} if reason else {})
    if reason:
        [note] = made.notes
        assert note.examples[0].id == str(named("ann"))
        assert note.examples[0].detail == f"{username} -> {other}"


async def test_the_first_of_the_users_who_want_one_name_gets_it(old: OldWorld, database_url: str) -> None:
    """By the time when they came, then by their ids; not by the order in which rows are stored."""
    old.user("third", username="ANN", created_at=at(3))
    old.user("first", username="aNN", created_at=at(1))
    old.user("second", username="Ann", created_at=at(2))
    made = await imported(old, database_url)
    other = {name: other_username(named(name).bytes, "ann") for name in ("second", "third")}
    assert other["second"].startswith("ann-")
    with psycopg.connect(database_url) as connection:
        found: dict[UUID, str] = dict(connection.execute("select id, username from users").fetchall())
    assert found == {named("first"): "ann", named("second"): other["second"], named("third"): other["third"]}
    assert reasons(made) == {("users", "username_taken"): 2}


async def test_a_name_that_a_user_of_this_service_has_is_taken(old: OldWorld, database_url: str, pool: Pool) -> None:
    await pool.fetch("insert into users (id, username, password_hash) values (gen_random_uuid(), 'ann', 'x')")
    old.user("ann")
    made = await imported(old, database_url)
    assert other_username(named("ann").bytes, "ann") in users_of(database_url)
    assert reasons(made) == {("users", "username_taken"): 1}


async def test_users_without_profile_without_login_and_deleted(old: OldWorld, database_url: str) -> None:
    old.login("ann", raw_user_meta_data='{"username": "Ann"}')
    old.login("nameless", raw_user_meta_data=None)
    old.add("users", id="ben", username="ben")
    old.user("carl", login={"deleted_at": at(7)}, display_name="Carl")
    made = await imported(old, database_url)
    found = users_of(database_url)
    assert found.pop("ann") == (HASH, None, "ann@example.org", False, False, False)
    assert found.pop(other_username(named("nameless").bytes, None)) == (
        HASH,
        None,
        "nameless@example.org",
        False,
        False,
        False,
    )
    assert found.pop("ben") == (None, None, None, False, False, False)
    [(name, rest)] = found.items()
    assert name.startswith("deleted user ")
    assert rest == ("", None, None, False, True, False)
    assert reasons(made) == {("users", "username_missing"): 1, ("users", "no_login"): 1, ("users", "deleted"): 1}


async def test_changes_of_a_user_are_followed_until_the_first_login_here(
    old: OldWorld, database_url: str, pool: Pool
) -> None:
    for name in ("ann", "ben", "carl"):
        old.user(name)
    await imported(old, database_url)
    await new_device(pool, named("ben").bytes)
    old.run("update users set username = username || '2', display_name = 'New'")
    old.run("update auth.users set encrypted_password = %s, email = 'new@example.org'", HASH.replace("2a", "2b"))
    old.run("update auth.users set deleted_at = now() where id = %s", named("carl"))
    made = await imported(old, database_url)
    assert users_of(database_url) == {
        "ann2": (HASH.replace("2a", "2b"), "New", "new@example.org", False, False, False),
        "ben": (HASH, None, "ben@example.org", False, False, False),
        "carl": (None, None, None, False, False, False),
    }
    assert reasons(made) == {("users", "changed_after_login"): 1, ("users", "deleted_after_import"): 1}


async def test_the_end_of_a_ban_lifts_its_suspension_and_no_operators(
    old: OldWorld, database_url: str, pool: Pool
) -> None:
    old.user("ann", login={"banned_until": "infinity"})
    old.user("ben")
    await imported(old, database_url)
    await set_suspended(pool, named("ben").bytes, is_suspended=True, source=Source("operator", operator="ops"))
    assert {name: row[-1] for name, row in users_of(database_url).items()} == {"ann": True, "ben": True}
    old.run("update auth.users set banned_until = null, email = email || '.example'")
    await imported(old, database_url)
    assert {name: row[-1] for name, row in users_of(database_url).items()} == {"ann": False, "ben": True}


async def test_a_user_who_is_banned_after_the_import_is_suspended(old: OldWorld, database_url: str) -> None:
    old.user("ann")
    await imported(old, database_url)
    old.run("update auth.users set banned_until = 'infinity'")
    made = await imported(old, database_url)
    assert users_of(database_url)["ann"][-1] is True
    assert reasons(made) == {("users", "banned"): 1}
