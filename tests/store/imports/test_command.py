"""`python -m store import`, as an operator types it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from store.cli.import_old import ImportOptions, options
from store.imports.reasons import REASONS
from store.imports.report import Count, Note, Report, ReportedRow, lines
from tests.store.imports.old_world import OldWorld, named

ROOT = Path(__file__).parents[3]
SQL = "\n".join(file.read_text() for file in (ROOT / "store" / "sql" / "imports").glob("*.sql"))
RULES = (ROOT / "store" / "cli" / "import_rules.py").read_text()


def run(*arguments: str, url: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "store", "import", *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False)


def test_the_report_is_on_stdout_and_the_bars_are_on_a_terminal_alone(old: OldWorld, database_url: str) -> None:
    old.user("ann", username="admin")
    ended = run(old.url, "--json", url=database_url)
    assert (ended.returncode, ended.stderr) == (0, "")
    made = json.loads(ended.stdout)
    assert made["counts"][0] == {"table": "users", "source": 1, "here": 1}
    [note] = made["notes"]
    assert (note["table"], note["reason"], note["count"]) == ("users", "username_reserved", 1)
    assert note["meaning"] == REASONS["users"]["username_reserved"]
    assert note["examples"][0]["id"] == str(named("ann"))
    terminal, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, 100))
    ended = run(old.url, url=database_url, stderr=other_end)
    os.close(other_end)
    assert ended.returncode == 0
    assert "users: username_reserved (1): has another username: the old one is reserved" in ended.stdout
    assert "listing messages" in os.read(terminal, 65536).decode()
    os.close(terminal)


@pytest.mark.parametrize("source", ["postgresql://[", "nonsense"])
def test_a_source_that_is_no_url_is_told_without_its_password(database_url: str, source: str) -> None:
    ended = run(source, url=database_url)
    assert ended.returncode == 1
    assert ended.stderr == "SOURCE_URL must be a postgresql:// URL or a libpq connection string\n"


def test_options() -> None:
    assert options(["url"]) == ImportOptions("url", is_json=False)
    assert options(["--json", "url"]) == options(["url", "--json"]) == ImportOptions("url", is_json=True)
    for wrong in ([], ["--json"], ["one", "two"], ["url", "--json", "--json"], ["url", "--other"]):
        assert options(wrong) is None


def test_each_reason_is_given_somewhere_and_has_a_meaning() -> None:
    given = {name for names in REASONS.values() for name in names}
    assert [name for name in sorted(given) if f"'{name}'" not in SQL and f'"{name}"' not in RULES] == []


def test_the_report_for_people() -> None:
    examples = [ReportedRow("an id", "a -> b"), ReportedRow("another", None)]
    made = Report([Count("users", 12345, 3)], [Note("users", "banned", "what is here", 7, examples)])
    assert lines(made) == [
        "table               source        here",
        "users               12,345           3",
        "",
        "users: banned (7): what is here",
        "    an id a -> b",
        "    another",
        "    and 5 more",
    ]
