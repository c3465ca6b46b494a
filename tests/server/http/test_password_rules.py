"""The passwords that the server takes, and the time that it takes to measure them."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from itertools import product
from math import prod
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.password_rules import (
    LEAST_MEASURED,
    MAX_MEASURE_COST,
    MAX_TYPED_CHARACTERS,
    BadPassword,
    WeakPassword,
    measured,
    new_password,
    normal_password,
)
from tests.rows import each_row
from tests.sentences import fault_of

STRONG = (
    "correct horse battery staple",
    "kqxwzvbn",
    "tr0ub4dor&3",
    "пароль мой — ёжик в тумане",
    "나는 오늘 아침에 바다를 보았다",
    "Größer als die Straße",
    "".join(Random(2).choices("abcdefgh 가나다라 жзик", k=256)),
)
WEAK = (
    ("password", "common"),
    ("P@ssw0rd", "common"),
    ("12345678", "common"),
    ("qwertyuiop", "common"),
    ("aaaaaaaaaaaaaaaaaaaa", "aaa"),
    ("abcabcabcabc", "abc"),
    ("19870623", "Dates"),
    ("iloveyou", "common"),
    ("aloshield2026", "Add another word"),
)


@each_row("password", STRONG)
def test_a_strong_password_of_any_script_is_taken(password: str) -> None:
    assert new_password(password, "alice") == password


@each_row(("password", "said"), WEAK)
def test_a_common_password_is_refused_with_advice(password: str, said: str) -> None:
    with pytest.raises(WeakPassword, match=said):
        new_password(password, "alice")


NAMES = ("maximilian.mustermann", "владимир-иванов", "zoë_müller99")


@each_row(
    ("name", "close"),
    list(
        product(
            NAMES,
            (
                lambda name: name,
                lambda name: name.upper(),
                lambda name: name + "1",
                lambda name: name[::-1],
                lambda name: name.translate(dict.fromkeys(map(ord, "._-"))),
                lambda name: unicodedata.normalize("NFD", name),
                lambda name: name.replace("a", "4").replace("i", "1"),
            ),
        )
    ),
)
def test_a_password_close_to_the_username_is_refused(name: str, close: object) -> None:
    assert callable(close)
    with pytest.raises(WeakPassword):
        new_password(close(name), name)
    assert new_password(close(name), "somebody.else")


@each_row(
    "typed",
    [
        "",
        "short",
        "x" * 257,
        "x" * 10_000,
        "e\u0301" * 257,
        "seven77",
        "e\u0301" * 7,
        "line\nfeed and more",
        "tab\tand more words",
        "nul\0and more words",
        "escape\x1b[31m and more",
        "lone \ud800 surrogate",
        "not a character \uffff",
        "unassigned \U000e0080 and more",
        "right-to-left \u202e override",
    ],
    ids=ascii,
)
def test_a_text_that_cannot_be_a_password_is_refused(typed: str) -> None:
    with pytest.raises(BadPassword, match=r"must have .* at `\$\.password`$") as caught:
        new_password(typed, "alice")
    assert fault_of(str(caught.value)) is None


def test_the_length_is_counted_after_composition() -> None:
    """256 letters of Vietnamese, each typed as three characters."""
    letters = [chr(code) for code in range(0x1EA0, 0x1EFA) if len(unicodedata.normalize("NFD", chr(code))) == 3]
    password = "".join(Random(1).choices(letters, k=256))
    typed = unicodedata.normalize("NFD", password)
    assert len(typed) > 2 * len(password)
    assert new_password(typed, "alice") == password


@given(st.text(max_size=40))
def test_the_same_password_is_hashed_however_it_is_typed(text: str) -> None:
    try:
        made = normal_password(text)
    except BadPassword:
        return
    for typed in (made, unicodedata.normalize("NFD", text), text.replace(" ", "\u00a0"), text.replace(" ", "\u3000")):
        assert normal_password(typed) == made


@given(st.text(max_size=60), st.text(max_size=40))
def test_any_text_is_measured_or_refused(text: str, known: str) -> None:
    with suppress(BadPassword, WeakPassword):
        assert new_password(text, known)


SUBSTITUTES = "4@8({[<369!1|70+$5%2"
"""Each may stand for a letter or for one of several."""


@each_row(
    "password",
    [
        SUBSTITUTES,
        (SUBSTITUTES * 13)[:256],
        SUBSTITUTES[::-1] * 5,
        "a" * 256,
        "ab" * 128,
        "0123456789" * 25,
        "12.12.2012" * 25,
        "qwertyuiopasdfghjklzxcvbnm" * 9,
        "correcthorsebatterystaple" * 10,
        "가" * 256,
        "x" * MAX_TYPED_CHARACTERS,
        "가" * MAX_TYPED_CHARACTERS,
    ],
    ids=lambda password: f"{password[:20]} {len(password)}",
)
def test_no_password_takes_long_to_measure(password: str) -> None:
    """The time is proportional to this product. Without a bound zxcvbn takes seconds for the second of these."""
    part = measured(password)
    assert password.startswith(part)
    readings = prod(max(1, len(set(part) & set(group))) for group in ("4@", "({[<", "69", "1!|", "1|7", "$5", "+7"))
    assert readings * len(part) ** 2 <= MAX_MEASURE_COST or len(part) == LEAST_MEASURED
    assert len(part) >= min(len(password), LEAST_MEASURED)
