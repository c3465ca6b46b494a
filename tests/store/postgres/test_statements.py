"""Which of our statements write: read from their text, and compared with Postgres' answer."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from store import sql
from store.postgres.pool import Pool

FILES = sorted(file.name[:-4] for file in resources.files("store.sql").iterdir() if file.name.endswith(".sql"))


@pytest.mark.parametrize(
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
