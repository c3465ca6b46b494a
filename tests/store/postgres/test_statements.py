"""Which of our statements write: read from their text, and compared with Postgres' answer."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module, resources

import pytest

import store
from store import sql
from store.errors import DatabaseError
from store.postgres.pool import Pool
from store.postgres.statement import Statement
from store.readers import OwnRead
from tests.rows import each_row

FILES = sorted(file.name[:-4] for file in resources.files("store.sql").iterdir() if file.name.endswith(".sql"))


@each_row(
    ("text", "is_write"),
    [
        ("select 1", False),
        ("insert into users values (1)", True),
        ("INSERT\n  INTO users values (1)", True),
        ("with gone as (delete from users returning 1) select count(*) from gone", True),
        ("update users set n = 1", True),
        ("select 1 from users for no key update", False),
        ("select 1 from users for update skip locked", False),
        ("-- update users\nselect 1", False),
        ("select * from send_batch(1)", True),
        ("select * from unseen_messages(1)", False),
        ("select updated from users", False),
    ],
)
def test_which_statements_write(text: str, is_write: bool) -> None:
    assert sql.writes(text) == is_write


async def test_none_of_our_statements_that_may_write_is_taken_for_a_read(pool: Pool) -> None:
    """Postgres lets no stable or immutable function write, and its plans show which statements change rows."""
    rows = await pool.fetch(
        "select p.proname from pg_proc p where p.pronamespace = 'public'::regnamespace and p.provolatile = 'v'"
    )
    volatile = {name for (name,) in rows}
    assert {"send_batch", "edit_message", "set_blocked", "move_floors"} <= volatile
    changes = re.compile(r"\b(insert|delete|update|truncate|merge)\b", re.IGNORECASE)
    locks = re.compile(r"\bfor (no key )?update\b", re.IGNORECASE)
    writes = 0
    for file in FILES:
        for name, text in vars(sql.load(file)).items():
            bare = locks.sub("", re.sub(r"--[^\n]*", "", text))
            may_write = bool(changes.search(bare)) or any(re.search(rf"\b{each}\s*\(", bare) for each in volatile)
            assert sql.writes(text) == may_write, f"{file}.{name}"
            writes += may_write
    assert writes > 30


def test_each_statement_of_the_hot_path_has_a_name_of_its_own_in_metrics() -> None:
    """Those that are composed of several queries say their names themselves."""
    names = [each.name for each in pkgutil.iter_modules(store.__path__, "store.")]
    modules = [import_module(name) for name in names if "__main__" not in name]
    found = {
        f"{module.__name__}.{name}": statement
        for module in modules
        for name, value in vars(module).items()
        for statement in ([value.by_user, value.by_token] if isinstance(value, OwnRead) else [value])
        if isinstance(statement, Statement)
    }
    assert len(found) > 30
    assert [name for name, statement in found.items() if statement.label == sql.UNNAMED] == []
    texts: dict[str, set[str]] = {}
    for statement in found.values():
        texts.setdefault(statement.label, set()).add(statement.text)
    assert [label for label, those in texts.items() if len(those) > 1] == []


async def test_the_time_of_each_query_is_counted_under_its_name_whatever_its_outcome(pool: Pool) -> None:
    named = sql.load("analytics")
    name, text = next((name, text) for name, text in vars(named).items() if "%(" not in text)
    await pool.fetch(text)
    with pytest.raises(DatabaseError):
        await pool.fetch("select 1 / 0")
    counts = {statement: seconds.count for statement, seconds in pool.query_seconds.items()}
    assert counts == {f"analytics.{name}": 1, sql.UNNAMED: 1}
    assert pool.wait_seconds.count == 2
