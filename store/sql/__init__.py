"""SQL files: each `.sql` file here holds named queries, read once.

A query begins with a line `-- name: some_name`; the comment lines after it say its purpose.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from types import SimpleNamespace
from typing import Final

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_COMMENT: Final = re.compile(r"--[^\n]*")
_CHANGES: Final = re.compile(r"\b(?:insert\s+into|delete\s+from|truncate|(?<!key )(?<!for )update)\b", re.IGNORECASE)
"""Statements that change rows; `for update` and `for no key update` only lock them."""
_FUNCTION: Final = re.compile(
    r"create\s+(?:or\s+replace\s+)?function\s+(\w+)(.*?)\bas\s+\$\$", re.IGNORECASE | re.DOTALL
)
_CALL: Final = re.compile(r"(\w+)\s*\(")


def load(file: str) -> SimpleNamespace:
    """The queries of one file, as attributes.

    :param file: name without folder and extension, such as "accounts".
    """
    text = resources.files(__name__).joinpath(f"{file}.sql").read_text()
    parts = _NAME.split(text)[1:]
    names = parts[0::2]
    assert len(names) == len(set(names)), f"{file}.sql names a query twice"
    return SimpleNamespace(**dict(zip(names, (sql.strip() for sql in parts[1::2]), strict=True)))


UNNAMED: Final = "unnamed"
"""The name of a query that is in none of the files."""


def name_of(sql: str) -> str:
    """The file and the name of a query, such as "messages.send"; `UNNAMED` for a text that is in none of the files."""
    return _names().get(sql, UNNAMED)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    files = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql")]
    stems = [file.name.removesuffix(".sql") for file in files]
    return {sql: f"{stem}.{name}" for stem in stems for name, sql in vars(load(stem)).items()}


def writes(sql: str) -> bool:
    """Whether a statement may change data: itself, or through one of our functions."""
    bare = _COMMENT.sub("", sql)
    return bool(_CHANGES.search(bare)) or not _volatile_functions().isdisjoint(_CALL.findall(bare.lower()))


@lru_cache(maxsize=1)
def _volatile_functions() -> frozenset[str]:
    """Our functions that are declared neither stable nor immutable. Postgres lets no others write."""
    found: dict[str, bool] = {}
    for text in _texts(resources.files(__name__)):
        for name, head in _FUNCTION.findall(_COMMENT.sub("", text)):
            found[name.lower()] = not re.search(r"\b(?:stable|immutable)\b", head, re.IGNORECASE)
    return frozenset(name for name, is_volatile in found.items() if is_volatile)


def _texts(sql: Traversable) -> list[str]:
    folders = [sql / "migrations", sql / "functions"]
    files = [file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.name.endswith(".sql")]
    return [file.read_text() for file in sorted(files, key=lambda file: file.name)]
