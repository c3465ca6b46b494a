"""Parameters of a query, checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100


class InvalidQuery(Exception):
    """A parameter of the query is wrong; the text says which one, and what is allowed."""


def limit_of(query: Mapping[str, str]) -> int:
    """The entries of a page.

    :raises InvalidQuery: like each function here.
    """
    return number("limit", query.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)


def number(name: str, text: str, least: int, most: int) -> int:
    # isdecimal alone admits other scripts' digits, and int() thousands of them.
    if text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise InvalidQuery(f"{name} must be a number from {least} to {most}")


def flag(query: Mapping[str, str], name: str) -> bool:
    """False if it is absent."""
    text = query.get(name, "false")
    if text in ("true", "false"):
        return text == "true"
    raise InvalidQuery(f"{name} must be true or false")


def day(query: Mapping[str, str], name: str) -> date:
    text = query.get(name, "")
    try:
        # Python reads other forms of ISO 8601 too, where a typing error may be a different day.
        found = date.fromisoformat(text) if len(text) == 10 and text[4] == text[7] == "-" else None
    except ValueError:
        found = None
    if found is None:
        raise InvalidQuery(f"{name} must be a day, such as 2026-01-31")
    return found
