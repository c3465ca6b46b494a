"""Parameters of queries as structs, and their reader. A route declares its struct, as it declares that of its body."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import cache, lru_cache
from typing import Annotated, Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote

from msgspec import NODEFAULT, Meta, Struct, field, inspect

from protocol.limits import MAX_PARTS

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100
MAX_SEQ: Final = 2**63 - 1
"""As Postgres has it."""

MAX_PARAMETERS: Final = 16
"""Three times as many as a route has."""

KEPT_QUERIES: Final = 256
"""The queries whose values are kept, for each route: most reads have one of a few, such as `limit=20`."""

MAX_KEPT_CHARACTERS: Final = 64
"""Longer ones have a cursor, and do not come again."""

_T = TypeVar("_T", bound=Struct)
_Read: TypeAlias = Callable[[str], Any]


class InvalidQuery(Exception):
    """A parameter of the query is wrong; the text says which one, and what is allowed."""


class NoQuery(Struct, frozen=True):
    """No parameters."""


class PageQuery(Struct, frozen=True):
    """A page.

    :ivar limit: the most entries of the page.
    :ivar cursor: that of the page before; without it the page is the first.
    """

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: str | None = None

    def following(self, cursor: str) -> str:
        """The query of the page that a cursor leads to, as text."""
        return f"limit={self.limit}&cursor={cursor}"


class ListQuery(PageQuery, frozen=True):
    """A page of conversations.

    :ivar requests: the requests alone, instead of all other conversations.
    """

    requests: bool = False

    def following(self, cursor: str) -> str:
        return super().following(cursor) + ("&requests=true" if self.requests else "")


class EventsQuery(PageQuery, frozen=True):
    """A page of security events.

    :ivar username: the events of this user alone.
    """

    username: str | None = None

    def following(self, cursor: str) -> str:
        return super().following(cursor) + (f"&username={quote(self.username)}" if self.username else "")


class HistoryQuery(PageQuery, frozen=True):
    """A page of history: newest first without the last two parameters.

    :ivar after_seq: the page begins after that message, oldest first; without `cursor`.
    :ivar around_seq: that message is in the middle of the page, oldest first; without `cursor` and `after_seq`.
    """

    after_seq: Annotated[int, Meta(ge=0, le=MAX_SEQ)] | None = None
    around_seq: Annotated[int, Meta(ge=0, le=MAX_SEQ - 1)] | None = None

    def __post_init__(self) -> None:
        if self.around_seq is not None and (self.cursor is not None or self.after_seq is not None):
            raise InvalidQuery("give around_seq without cursor and after_seq")
        if self.cursor is not None and self.after_seq is not None:
            raise InvalidQuery("give cursor or after_seq, not both")


class PartsQuery(Struct, frozen=True):
    """The parts of an upload.

    :ivar after: only parts with a greater number.
    """

    after: Annotated[int, Meta(ge=0, le=MAX_PARTS)] = 0


class DaysQuery(Struct, frozen=True):
    """Days, both included.

    :ivar from_: the first day.
    :ivar until: the last day.
    """

    from_: date = field(name="from")
    until: date


def query_reader(struct: type[_T]) -> Callable[[str], _T]:
    """The function that reads a query as a struct, from the text after the question mark.

    It raises `InvalidQuery` also for a parameter that the struct does not have, and for one that is given twice: such a
    request means something that it would not get.
    """
    readers, required = _readers(struct)
    names = " and ".join(", ".join(f"`{name}`" for name in readers).rsplit(", ", 1))

    def read(text: str) -> _T:
        values: dict[str, Any] = {}
        for name, value in _pairs(text):
            if name not in readers:
                has = f"the parameters {names}" if readers else "no parameters"
                raise InvalidQuery(f"a parameter is unknown: this route has {has}")
            attribute, reader = readers[name]
            if attribute in values:
                raise InvalidQuery(f"{name} must be given once")
            values[attribute] = reader(value)
        for name in required:
            if readers[name][0] not in values:
                readers[name][1]("")
        return struct(**values)

    kept = lru_cache(KEPT_QUERIES)(read)
    return lambda text: (kept if len(text) <= MAX_KEPT_CHARACTERS else read)(text)


@cache
def _readers(struct: type[Struct]) -> tuple[dict[str, tuple[str, Callable[[str], Any]]], list[str]]:
    """For each parameter its attribute and the function that reads it; and the parameters that are required. Many
    routes have the same struct."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    readers = {each.encode_name: (each.name, _reader(each.encode_name, each.type)) for each in info.fields}
    return readers, [each.encode_name for each in info.fields if each.default is NODEFAULT]


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except UnicodeDecodeError:
        raise InvalidQuery("a parameter must be UTF-8") from None
    except ValueError:
        raise InvalidQuery(f"a query has at most {MAX_PARAMETERS} parameters") from None


def _reader(name: str, type_: inspect.Type) -> _Read:
    """The reader of a parameter's text. The types of parameters are those below."""
    if isinstance(type_, inspect.UnionType):
        [type_] = [each for each in type_.types if not isinstance(each, inspect.NoneType)]
    match type_:
        case inspect.IntType(ge=int(least), le=int(most)):
            return lambda text: _number(name, text, least, most)
        case inspect.BoolType():
            return lambda text: _flag(name, text)
        case inspect.DateType():
            return lambda text: _day(name, text)
        case inspect.StrType():
            return str
        case _:
            raise TypeError(f"{name}: {type_} is no type of a parameter")


def _number(name: str, text: str, least: int, most: int) -> int:
    # isdecimal alone admits other scripts' digits, and int() thousands of them.
    if text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise InvalidQuery(f"{name} must be a number from {least} to {most}")


def _flag(name: str, text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise InvalidQuery(f"{name} must be true or false")


def _day(name: str, text: str) -> date:
    try:
        # Python reads other forms of ISO 8601 too, where a typing error may be a different day.
        found = date.fromisoformat(text) if len(text) == 10 and text[4] == text[7] == "-" else None
    except ValueError:
        found = None
    if found is None:
        raise InvalidQuery(f"{name} must be a day, such as 2026-01-31")
    return found
