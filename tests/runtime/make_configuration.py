"""Writes the table of variables into `docs/configuration.md`, from the fields of `runtime/config.py`:

python -m tests.runtime.make_configuration
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Final

from runtime.config import Config

CONFIGURATION = Path(__file__).parents[2] / "docs" / "configuration.md"

BEGIN: Final = "| variable | default | meaning |\n|---|---|---|\n"
"""The header of the table. The table ends at the first line that does not begin with a bar."""


def page() -> str:
    """The whole page, with the table as the code has it now."""
    before, _, after = CONFIGURATION.read_text().partition(BEGIN)
    rest = after.splitlines(keepends=True)
    while rest and rest[0].startswith("|"):
        del rest[0]
    return before + BEGIN + "".join(_rows()) + "".join(rest)


def _rows() -> Iterator[str]:
    meanings = _docstrings()
    for field in fields(Config):
        default = f"{field.default:.15g}" if isinstance(field.default, float) else str(field.default)
        cell = f"`{default}`" if default else ""
        yield f"| `{field.name.upper()}` | {cell} | {meanings[field.name]} |\n"


def _docstrings() -> dict[str, str]:
    """Field -> the string below it, in one line."""
    [config] = ast.parse(inspect.getsource(Config)).body
    assert isinstance(config, ast.ClassDef)
    found = {}
    for field, below in pairwise(config.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(str() as text)):
                found[name] = " ".join(text.split())
    return found


if __name__ == "__main__":
    CONFIGURATION.write_text(page())
