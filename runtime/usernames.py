"""Usernames by RFC 8265 (UsernameCaseMapped): one canonical form for each, and the names that a new user may take.

Each place that takes a username takes it through `canonical`: `Ann`, `ANN`, full-width letters and decomposed ones name
the same user (decision 37).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from precis_i18n import get_profile

from protocol.limits import MAX_USERNAME_CHARACTERS
from runtime.lookalikes import LIKE_ASCII
from runtime.reserved_names import RESERVED

MAX_TYPED_CHARACTERS: Final = 4 * MAX_USERNAME_CHARACTERS
"""The longest text that is read as a username: decomposed, a letter may be four characters."""

MAX_MARKS: Final = 4
"""Marks on one letter (UTS 39, section 5.4): more of them write over the lines beside."""

_PROFILE: Final = get_profile("UsernameCaseMapped")
_ASCII: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
_PLAIN: Final = str.maketrans({like: plain for plain, likes in LIKE_ASCII.items() for like in likes})
_READ: Final = str.maketrans({"0": "o", "1": "l", "i": "l", "m": "rn", ".": None, "_": None, "-": None})
"""How a hasty reader takes the characters of a name, to compare it with reserved ones."""

_RESERVED: Final = frozenset(name.translate(_READ) for name in RESERVED)

_SCRIPTS: Final = {
    "ARABIC-INDIC": "ARABIC",
    "EXTENDED": "ARABIC",
    "IDEOGRAPHIC": "CJK",
    "KATAKANA-HIRAGANA": "KATAKANA",
}
"""The first word of a character's name in Unicode -> the script, where they are not the same."""

_OF_ALL_SCRIPTS: Final = {"COMBINING", "MODIFIER", "MIDDLE"}
_TOGETHER: Final = ({"CJK", "HIRAGANA", "KATAKANA"}, {"CJK", "HANGUL"}, {"CJK", "BOPOMOFO"})
"""Scripts that one language writes side by side."""


class BadUsername(ValueError):
    """No user can have this name. The text says what a username must be, without repeating the given one."""


class ReservedUsername(BadUsername):
    """The name is reserved, or looks like one that is."""


def canonical(typed: str) -> str:
    """The form in which a username is stored and found: 1 to 32 characters in lower case, composed (NFC), in usual
    widths.

    :raises BadUsername: if no user can have this name.
    """
    if len(typed) > MAX_TYPED_CHARACTERS:
        raise BadUsername(_LENGTH)
    try:
        name = _PROFILE.enforce(typed)
    except UnicodeEncodeError:
        raise BadUsername(_CHARACTERS if typed else _LENGTH) from None
    if len(name) > MAX_USERNAME_CHARACTERS:
        raise BadUsername(_LENGTH)
    if any(character.isascii() and character not in _ASCII for character in name):
        raise BadUsername(_CHARACTERS)
    if unicodedata.category(name[0])[0] not in "LN":
        raise BadUsername("must begin with a letter or a digit")
    return name


def form_of(typed: str) -> str:
    """The canonical form of a name that is looked up, or the empty text if no user can have it."""
    try:
        return canonical(typed)
    except BadUsername:
        return ""


_LENGTH: Final = f"must have 1 to {MAX_USERNAME_CHARACTERS} characters"
_CHARACTERS: Final = "must have letters and digits of one script, and the signs _ . - alone"


def new_username(typed: str) -> str:
    """The canonical form of a name that a new user may take, if it is free.

    :raises ReservedUsername: if it is reserved, or looks like a reserved one.
    :raises BadUsername: if no user can have it, or a reader cannot tell it from another one.
    """
    name = canonical(typed)
    if any(len(list(run)) > MAX_MARKS for is_mark, run in groupby(name, _is_mark) if is_mark):
        raise BadUsername(f"must have at most {MAX_MARKS} marks on one letter")
    scripts = set(_scripts_of(name))
    if len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER):
        raise BadUsername("must have letters of one script")
    if len({ord(digit) - unicodedata.decimal(digit) for digit in name if digit.isdecimal()}) > 1:
        raise BadUsername("must have digits of one kind")
    plain = name.translate(_PLAIN)
    if plain.translate(_READ) in _RESERVED:
        raise ReservedUsername("must not be one that users take for the operator's")
    if plain.isascii() and plain != name:
        raise BadUsername("must have a letter that does not look like one of a to z")
    return name


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _scripts_of(name: str) -> Iterator[str]:
    """The scripts of the characters that have one."""
    for character in name:
        if character.isascii() and not character.isalpha():
            continue
        script = unicodedata.name(character, "UNKNOWN").split()[0]
        if script not in _OF_ALL_SCRIPTS:
            yield _SCRIPTS.get(script, script)
