"""Prints rows as a table for people, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


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
