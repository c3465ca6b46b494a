"""The engine runs any task: no module of it imports, names or mentions anything of the product."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from tests.rows import each_row

ROOT = Path(__file__).parents[3]

ENGINE = sorted(path for path in (ROOT / "jobs/engine").rglob("*") if path.suffix in (".py", ".lua"))

MODULES = {"batching", "objects", "postgres", "redis", "sql", "distribution", "errors", "jobs", "schedules"}
"""What the engine may use of the store: services, distributions to count in, and the tables of jobs."""

NOUNS = ("message", "conversation", "user", "participant", "device", "contact", "notice", "notifier", "mail", "e-mail")
NOUNS += ("attachment", "digest", "retention", "profile", "cursor of", "push", "webhook")


def tasks() -> list[str]:
    """The names of the product's tasks, from the one place where they are made."""
    names = re.findall(r"(?:\bTask\(\s*|: Handler = )\w+\.(\w+)", (ROOT / "jobs/tasks/registry.py").read_text())
    assert {"offline_notice", "retention", "orphaned_objects"} <= set(names)
    return names


@each_row("path", ENGINE, ids=lambda path: path.name)
def test_the_engine_mentions_no_task_and_nothing_of_the_product(path: Path) -> None:
    words = "|".join(re.escape(word) for word in (*NOUNS, *tasks()))
    assert re.findall(rf"\b(?:{words})e?s?\b", path.read_text(), re.IGNORECASE) == []


def test_the_contract_of_the_engine_lists_every_module_of_the_store_but_its_own() -> None:
    contracts = ConfigParser()
    contracts.read(ROOT / "setup.cfg")
    listed = contracts["importlinter:contract:engine"]["forbidden_modules"].split()
    modules = {path.stem for path in (ROOT / "store").iterdir() if path.suffix == ".py" or path.is_dir()}
    expected = modules - MODULES - {"__init__", "__main__", "__pycache__"}
    assert sorted(listed) == sorted(f"store.{name}" for name in expected)
