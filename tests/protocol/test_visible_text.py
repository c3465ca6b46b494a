"""The rule of texts that people see, and the rule of each text on the wire."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.fields import CHECKS
from protocol.frames import REQUESTS, Key
from protocol.visible_text import visible_text
from tests.rows import each_row

TAKEN = {
    "Ann": "Ann",
    "  Ann \u3000 Lee\u00a0": "Ann Lee",
    "Zoe\u0308": "Zoë",
    "山田\u3000太郎": "山田 太郎",
    "👩\u200d👩\u200d👧": "👩\u200d👩\u200d👧",
    "🏴\U000e0067\U000e0062\U000e007f": "🏴\U000e0067\U000e0062\U000e007f",
    "\u0645\u06cc\u200c\u062e": "\u0645\u06cc\u200c\u062e",
    "\u0600\u0661": "\u0600\u0661",
    "❤\ufe0f": "❤\ufe0f",
    "x" * 128: "x" * 128,
    "e\u0301" * 128: "é" * 128,
    "?": "?",
}
REFUSED = {
    "nothing": [
        "",
        " ",
        "\u3000\u00a0",
        "\u200d",
        "\u200c\u200d",
        "\u3164",
        "\u2800\u2800",
        "\ufe0f",
        "\u115f\u1160",
        "\u0301",
    ],
    "control": ["a\0", "a\x1b[2J", "a\x7f", "a\x85b", "\x9b31m", "a\tb"],
    "line": ["a\nb", "a\r\nb", "a\u2028b", "a\u2029b", "Ann\n"],
    "direction": [f"a{chr(code)}b" for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))],
    "invisible": ["a\u200bb", "a\u00adb", "a\u2060b", "\ufeffa", "a\u180eb", "a\U000e0001"],
    "no character": [
        "a\ud800",
        "a\uffff",
        "a\ufdd0",
        "a\U0010ffff",
        "a\ue000",
        "a\U000f0000",
        "a\U000e0080",
        "a\u0378",
    ],
    "length": ["x" * 129, "e\u0301" * 129, "x" * 100_000, " " * 100_000 + "x"],
}


@each_row("text", TAKEN, ids=ascii)
def test_a_text_that_people_can_read_is_taken_in_its_normal_form(text: str) -> None:
    assert visible_text(text, 128) == TAKEN[text]


@each_row(("why", "text"), [(why, text) for why, all_ in REFUSED.items() for text in all_], ids=ascii)
def test_a_text_that_harms_what_stands_beside_it_is_refused(why: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"^must (not have U\+[0-9A-F]{4,6}, which is|have) .*$") as caught:
        visible_text(text, 128)
    assert str(caught.value).isprintable()
    assert ("1 to 128" in str(caught.value)) == (why == "length" or not text.strip())


@given(st.text())
def test_a_text_that_is_taken_is_taken_again_as_it_is(text: str) -> None:
    try:
        made = visible_text(text, 128)
    except ValueError:
        return
    assert visible_text(made, 128) == made == unicodedata.normalize("NFC", made) == made.strip()
    assert made.splitlines() == [made]


SHOWN = "the server has checked it by this rule, or by that of usernames"
TEXTS: dict[Key, str] = {
    Key.NAME: SHOWN,
    Key.DISPLAY_NAME: SHOWN,
    Key.USERNAME: SHOWN,
    Key.CLIENT: "ASCII that can be seen",
    Key.CONTENT_TYPE: "for the client's program, opaque to the server",
    Key.CODE: "one of a table",
    Key.DETAIL: "the server's own sentence, for developers",
    Key.TOKEN: "for the server's program",
    Key.KIND: "one of a table",
    Key.KINDS: "for the client's program, opaque to the server",
    Key.REASON: "one of a table",
    Key.LIMIT: "one of a table",
    Key.MESSAGES_FROM: "one of a table",
    Key.GROUPS_FROM: "one of a table",
    Key.FEATURES: "each is one of a table",
    Key.LIMITS: "each has one of a table",
    Key.MEDIA_TYPE: "ASCII that can be seen, for the client's program",
    Key.URL: "ASCII that can be seen, for the client's program",
    Key.QUIET_HOURS: "has a zone of the IANA database",
}
"""Each field of the wire that has a text -> the rule of it."""


def test_each_text_of_the_wire_has_a_rule() -> None:
    """A new field with a text fails here until it has a row. A client sends none that other users see: names come over
    HTTP alone."""
    values: list[Any] = ["x", ["x"], ["x", 1], [["x", 1]], [1, 2, "x"]]
    assert {key for key, check in CHECKS.items() if any(_takes(check, value) for value in values)} == TEXTS.keys()
    sent = {Key[name.upper()] for request in REQUESTS for name in request.__struct_fields__}
    assert not sent & {key for key, rule in TEXTS.items() if rule is SHOWN}


def _takes(check: Any, value: Any) -> bool:
    try:
        check(value)
    except ValueError:
        return False
    return True
