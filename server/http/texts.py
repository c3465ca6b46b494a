"""Texts of bodies that other users see: each is kept in the form that `protocol.visible_text` makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from msgspec.inspect import Metadata, UnionType, type_info

from protocol.limits import MAX_DISPLAY_NAME_CHARACTERS, MAX_TITLE_CHARACTERS
from protocol.visible_text import visible_text

_MOST: Final = "most_visible"
"""The name, in the metadata of a type, of the number of characters that the kept form may have."""

Title = Annotated[str, Meta(min_length=1, max_length=8 * MAX_TITLE_CHARACTERS, extra={_MOST: MAX_TITLE_CHARACTERS})]
"""The name of a group, or of a device."""

DisplayName = Annotated[
    str, Meta(max_length=8 * MAX_DISPLAY_NAME_CHARACTERS, extra={_MOST: MAX_DISPLAY_NAME_CHARACTERS})
]
"""The name that a user shows to others; empty for none."""


class BadText(ValueError):
    """
    :param field: the name of the field that breaks the rule.
    """

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def keep_visible(body: Struct) -> None:
    """Put the kept form in place of each text of these types.

    :raises BadText: if one breaks the rule. The message begins with "must".
    """
    for field, most in visible_fields(type(body)).items():
        if sent := getattr(body, field):
            try:
                setattr(body, field, visible_text(sent, most))
            except ValueError as error:
                raise BadText(str(error), field) from None


@cache
def visible_fields(struct: type[Struct]) -> dict[str, int]:
    """The fields of these types -> the number of characters."""
    info: Any = type_info(struct)
    return {field.name: most for field in info.fields for most in _mosts(field.type)}


def _mosts(info: object) -> Iterator[int]:
    match info:
        case Metadata(extra=dict(extra)) if _MOST in extra:
            yield extra[_MOST]
        case UnionType(types=types):
            for each in types:
                yield from _mosts(each)
