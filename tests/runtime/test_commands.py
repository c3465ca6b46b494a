"""Rows of commands as tables, as JSON, and the names that an error suggests."""

from __future__ import annotations

import json

from runtime.commands import as_one_object, as_table, as_tables, suggestion


def test_a_table_shows_missing_values_and_keeps_its_columns() -> None:
    rows = [{"name": "a", "number": 1, "is": True}, {"name": "much longer", "number": None, "is": False}]
    assert as_table(rows).splitlines() == [
        "name         number  is",
        "-----------  ------  ---",
        "a                 1  yes",
        "much longer       -  no",
    ]
    assert as_table([]) == "(none)"


def test_tables_stand_under_their_titles_and_an_empty_one_says_so() -> None:
    assert as_tables({"some_rows": [{"a": 1}], "others": []}).splitlines() == [
        "some rows",
        "",
        "a",
        "-",
        "1",
        "",
        "others",
        "",
        "(none)",
    ]


def test_several_tables_are_one_object_of_json_by_title() -> None:
    sections = {"some_rows": [{"a": 1, "b": None}], "others": []}
    assert json.loads(as_one_object(sections)) == sections


def test_an_unknown_name_brings_up_the_names_that_are_like_it() -> None:
    assert suggestion("alcie", ["bob", "alice", "alicia"]) == "; do you mean alice or alicia?"
    assert suggestion("zed", ["bob", "alice"]) == ""
