"""SQL lives in SQL: each `.sql` file here holds named queries, read once.

A query begins with a line `-- name: some_name`; the comment lines after it say what it is for.
"""

from __future__ import annotations

import re
from importlib import resources
from types import SimpleNamespace

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file: str) -> SimpleNamespace:
    """The queries of one file, as attributes.

    :param file: name without folder and ending, such as "accounts".
    """
    text = resources.files(__name__).joinpath(f"{file}.sql").read_text()
    parts = _NAME.split(text)[1:]
    names = parts[0::2]
    assert len(names) == len(set(names)), f"{file}.sql names a query twice"
    return SimpleNamespace(**dict(zip(names, (sql.strip() for sql in parts[1::2]), strict=True)))
