"""What the commands of operators share: their rows, printed as tables or as JSON, and the error of a command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias

Rows: TypeAlias = list[dict[str, Any]]
"""The rows of a table. All have the same fields."""

Sections: TypeAlias = dict[str, Rows]
"""Several tables, by their titles."""


class CommandError(Exception):
    """A command cannot do what it was told. The text says why, and what is allowed."""


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns under their names, numbers to the right."""
    if not rows:
        return "(none)"
    names = list(rows[0])
    texts = [[_text(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(text[at]) for text in texts)) for at, name in enumerate(names)]
    right = [all(_is_number(row[name]) for row in rows) for name in names]
    lines = [names, ["-" * width for width in widths], *texts]
    return "\n".join(
        "  ".join(
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """An object per line."""
    return "\n".join(json.dumps(row) for row in rows)


def as_tables(sections: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Each table under its title."""
    return "\n\n".join(f"{title.replace('_', ' ')}\n\n{as_table(rows)}" for title, rows in sections.items())


def as_one_object(sections: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One line of JSON: title -> rows."""
    return json.dumps(sections)


def suggestion(wrong: str, known: Sequence[str]) -> str:
    """`; do you mean X or Y?` for known names that are like a wrong one; empty if none is."""
    close = get_close_matches(wrong, known, n=3, cutoff=0.6)
    return f"; do you mean {' or '.join(close)}?" if close else ""


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    return " ".join(str(value).split())
