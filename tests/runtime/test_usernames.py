"""Usernames: the one form of each, and the names that a new user may take."""

from __future__ import annotations

import unicodedata

import pytest
from confusable_homoglyphs.confusables import confusables_data
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import MAX_USERNAME_BYTES, MAX_USERNAME_CHARACTERS
from runtime.lookalikes import LIKE_ASCII
from runtime.reserved_names import RESERVED
from runtime.usernames import BadUsername, ReservedUsername, canonical, new_username
from tests.rows import each_row

SPELLINGS = {
    "ann": ["ann", "Ann", "ANN", "\uff41\uff4e\uff4e", "\uff21\uff2e\uff2e"],
    "zoë": ["zoë", "ZOË", "zoe\u0308", "Zoe\u0308"],
    "владимир": ["владимир", "Владимир", "ВЛАДИМИР"],
    "ψαράς": ["Ψαράς", "ψαρα\u0301ς", "ΨΑΡΆΣ"],
    "김철수": ["김철수", unicodedata.normalize("NFD", "김철수")],
    "カタカナ": ["カタカナ", "\uff76\uff80\uff76\uff85"],
    "עברית": ["עברית"],
    "अनुराग": ["अनुराग"],
    "i\u0307x": ["İx"],
}


@each_row(("name", "typed"), [(name, typed) for name, all_ in SPELLINGS.items() for typed in all_])
def test_every_spelling_of_a_name_is_one_name(name: str, typed: str) -> None:
    assert new_username(typed) == canonical(typed) == name


@given(st.text(max_size=40))
def test_a_canonical_name_stays_as_it_is_and_is_found_however_it_is_typed(typed: str) -> None:
    try:
        name = canonical(typed)
    except BadUsername:
        return
    assert 1 <= len(name) <= MAX_USERNAME_CHARACTERS
    assert len(name.encode()) <= MAX_USERNAME_BYTES
    for spelling in (name, unicodedata.normalize("NFD", name), unicodedata.normalize("NFD", typed)):
        assert canonical(spelling) == name


@each_row(
    "typed",
    [
        *(
            "",
            " ",
            "a b",
            " ann",
            "ann ",
            "ann\n",
            "a\0",
            "a/b",
            "a@b",
            "a:b",
            "a?b",
            "a#b",
            "a%b",
            "a+b",
            "a,b",
            "a|b",
        ),
        *("-ann", "_ann", ".ann", "\u0301ann", "a" * 33, "\u00e9" * 33, "x" * 10_000, "e\u0301" * 10_000),
        *(
            "\ud800",
            "a\uffff",
            "a\ue000",
            "a\U000e0080",
            "a\u200d",
            "a\u200b",
            "a\u202e",
            "a\u2066",
            "a\ufeff",
            "a\u00ad",
        ),
        *("a\u00a0b", "a\u3000b", "☃", "a😀", "ﬁn", "ⅷ", "a·b", "\u0661\u0662", "\u05d0a", "a\u034fb", "a\ufe0f"),
    ],
    ids=ascii,
)
def test_a_text_that_no_user_can_have_as_a_name(typed: str) -> None:
    with pytest.raises(BadUsername, match=r"^must "):
        canonical(typed)


@each_row(
    ("typed", "like"),
    [
        ("\u0430nn", "ann with a Cyrillic a"),
        ("\u0430\u0440\u0435", "ape, all Cyrillic"),
        ("\u0455\u0441\u043e\u0440\u0435", "scope, all Cyrillic"),
        ("\u03bf\u03bd\u03bf", "ovo, all Greek"),
        ("al\u0131ce", "alice with a dotless i"),
        ("goo\u0261le", "google with a script g"),
        ("ann\u30fc", "ann- with a mark of Katakana"),
        ("\u13a0nn", "a letter of Cherokee"),
        ("\u4e00ann", "Han and Latin"),
        ("a" + "\u0300" * 6, "many marks"),
        ("\u0967\u09e8", "digits of Devanagari and Bengali"),
    ],
)
def test_a_name_that_a_reader_takes_for_another_one_is_refused(typed: str, like: str) -> None:
    assert like
    with pytest.raises(BadUsername, match=r"^must ") as caught:
        new_username(typed)
    assert not isinstance(caught.value, ReservedUsername)


@each_row(
    "typed", ["日本ヒロ", "ひらカタ漢字々", "한漢字", "ㄅ漢", "ann_1.2-3", "\u02bbokina", "l·l", "æsa", "kjær", "1"]
)
def test_names_that_languages_write_are_taken(typed: str) -> None:
    assert new_username(typed) == typed


@each_row("name", sorted(RESERVED))
def test_a_reserved_name_is_refused_in_each_form(name: str) -> None:
    wide = "".join(chr(ord(character) - 0x20 + 0xFF00) for character in name)
    for typed in (name, name.upper(), wide, f"{name[:1]}.{name[1:]}", name + "_", name.replace("o", "0")):
        with pytest.raises(ReservedUsername):
            new_username(typed)
    for like in ("\u0430dmin", "\u0430\u0501\u043c\u0456\u0578"):
        with pytest.raises(BadUsername):
            new_username(like)


def test_reserved_names_are_canonical() -> None:
    assert {canonical(name) for name in RESERVED} == RESERVED
    assert all(name.isalnum() for name in RESERVED)


def test_the_table_of_lookalikes_is_that_of_unicode() -> None:
    """Each character that a name may have, and that Unicode takes for one of a to z, 0 to 9, and no other."""
    expected: dict[str, set[str]] = {}
    for character, likes in confusables_data.items():
        if len(character) != 1 or character.isascii():
            continue
        try:
            if canonical("\u0661" + character if character.isdecimal() else character) != character:
                continue
        except BadUsername:
            continue
        for like in likes:
            plain = like["c"].lower()
            if len(plain) == 1 and plain.isascii() and plain.isalnum():
                expected.setdefault(character, set()).add(plain)
    listed = {like: {plain} for plain, likes in LIKE_ASCII.items() for like in likes}
    assert expected.items() <= listed.items()
    assert all(
        plain in {each["c"].lower() for each in confusables_data[like]}
        for like, (plain,) in ((like, tuple(plains)) for like, plains in listed.items())
    )
