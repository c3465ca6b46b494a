"""The docstring of each package lists its modules, each once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.rows import each_row

ROOT = Path(__file__).parents[1]

PACKAGES = [
    "store",
    "jobs",
    "jobs/engine",
    "jobs/tasks",
    "jobs/cli",
    "jobs/mail",
    "jobs/notifiers",
    "runtime",
    "runtime/tracing",
    "embedded",
    "bench",
]


@each_row("package", PACKAGES)
def test_the_table_lists_every_module_once(package: str) -> None:
    folder = ROOT / package
    doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    cells = re.findall(r"^\| (`[^|]+) \|", doc, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    folders = {path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert sorted(listed) == sorted(modules | folders)
