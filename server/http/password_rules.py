"""The passwords that the server takes: their characters (RFC 8265, OpaqueString), their length, and their strength."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from typing import Final

from precis_i18n import get_profile
from zxcvbn_rs_py import zxcvbn

from protocol.limits import MAX_PASSWORD_CHARACTERS, MIN_PASSWORD_CHARACTERS
from server.http.decoding import InvalidBody
from server.http.problem_codes import ProblemCode

MAX_TYPED_CHARACTERS: Final = 4 * MAX_PASSWORD_CHARACTERS
"""The longest text that is read as a password: a character of Vietnamese may be typed as three, which become one."""

MIN_GUESSES: Final = 100_000_000
"""The guesses that a password must resist, as zxcvbn counts them: a random password of eight characters does. With the
parameters of Argon2id here, a thief of the database needs months of a core for so many."""

MAX_MEASURE_COST: Final = 1024
"""Bound of a measurement: the readings of the text times the square of its length. zxcvbn reads `4` as `a`, `1` as `i`
or `l` and so on, tries each combination at each part of the text, and holds Python's lock meanwhile: 36 characters
that an attacker chose took 0.35 s. So it measures the longest beginning of the password within this bound, which takes
at most 2.5 ms of a core of 2026. A password is at least as strong as its beginning."""

LEAST_MEASURED: Final = 12
"""So many characters are measured in any case."""

_READINGS: Final = ("4@", "8", "({[<", "3", "69", "1!|", "1|7", "0", "$5", "+7", "%", "2")
"""For each letter the characters that zxcvbn reads as it."""

_OWN_WORDS: Final = ("alo", "shield", "aloshield")
"""Every attacker of this product tries its name."""

_OPAQUE: Final = get_profile("OpaqueString")


class BadPassword(InvalidBody):
    """The text cannot be a password. The answer says what a password must be, and points to its field."""

    def __init__(self, must: str, field: str) -> None:
        super().__init__(f"the password {must} - at `$.{field}`", f"#/{field}")


class WeakPassword(InvalidBody):
    """An attacker guesses the password soon. The answer says why, and what would be better."""

    code = ProblemCode.WEAK_PASSWORD

    def __init__(self, advice: str, field: str) -> None:
        super().__init__(advice, f"#/{field}")


def normal_password(typed: str, *, field: str = "password") -> str:
    """The form of a password that is hashed: the same however the keyboard composes letters (NFC) and spaces.

    :raises BadPassword: if it has control characters, unassigned ones or lone surrogates, is empty, or too long to be
        a password.
    """
    if len(typed) > MAX_TYPED_CHARACTERS:
        raise BadPassword(_LENGTH, field)
    try:
        return _OPAQUE.enforce(typed)
    except UnicodeEncodeError:
        raise BadPassword("must have characters that can be seen, and spaces; no control characters", field) from None


def new_password(typed: str, *known: str, field: str = "password") -> str:
    """The normal form of a password that a user chooses.

    :param known: what an attacker knows of the user, such as the username: the password must differ from it.
    :param field: the name of the body's field, to which the error points.
    :raises BadPassword: if it has other characters, or not 8 to 256.
    :raises WeakPassword: if it is common, or close to what is known.
    """
    password = normal_password(typed, field=field)
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS:
        raise BadPassword(_LENGTH, field)
    strength = zxcvbn(measured(password), [*_words(known), *_OWN_WORDS])
    if strength.guesses < MIN_GUESSES:
        raise WeakPassword(" ".join(_advice(strength.feedback)), field)
    return password


_LENGTH: Final = f"must have {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters"


def measured(password: str) -> str:
    """The beginning of a password by which it is measured."""
    length, seen = 0, set[str]()
    for length, character in enumerate(password, start=1):
        seen.add(character)
        readings = prod(max(1, len(seen.intersection(characters))) for characters in _READINGS)
        if length > LEAST_MEASURED and readings * length * length > MAX_MEASURE_COST:
            return password[: length - 1]
    return password


def _words(known: tuple[str, ...]) -> Iterator[str]:
    """What an attacker makes of what is known: each text, its words, and the words without what lies between them."""
    for text in known:
        words = re.findall(r"[^\W_]+", text)
        yield from (text, *words, "".join(words), "".join(reversed(words)))


def _advice(feedback: object) -> Iterator[str]:
    warning = getattr(feedback, "warning", None)
    yield "The password is easy to guess." if warning is None else str(warning)
    yield from map(str, getattr(feedback, "suggestions", ()))
