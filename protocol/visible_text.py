"""The rule of texts that other people see: names of users, of groups and of devices (SPEC.md, 2.2).

A text that breaks it could write over what stands beside it, look like the client's own words, or look like nothing.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_REFUSED: Final = {
    "Cc": "a control character or a line break",
    "Cf": "an invisible character, or one that turns the direction of writing",
    "Cn": "not an assigned character",
    "Co": "for private use",
    "Cs": "not a character",
    "Zl": "a line break",
    "Zp": "a line break",
}
"""Unicode's general category -> why its characters are refused."""

_JOINERS: Final = frozenset("\u200c\u200d")
_TAGS: Final = frozenset(map(chr, range(0xE0020, 0xE0080)))
_NUMBER_SIGNS: Final = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)
_FORMATS: Final = _JOINERS | _TAGS | _NUMBER_SIGNS
"""Characters of the category Cf that words of Persian and of India, emoji and numbers of Arabic consist of."""

_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and signs that show nothing: the fillers of Hangul, and the empty pattern of Braille."""


def visible_text(text: str, most: int) -> str:
    """The form in which a text is kept and shown: composed (NFC), with single spaces between its words and none around
    them.

    :param most: the number of characters that this form may have.
    :raises ValueError: if the text breaks the rule. The message begins with "must", and does not repeat the text.
    """
    if len(text) > 8 * most:
        raise ValueError(_length(most))
    for character in text:
        why = _REFUSED.get(unicodedata.category(character))
        if why is not None and character not in _FORMATS:
            raise ValueError(f"must not have U+{ord(character):04X}, which is {why}")
    # After the loop, since normalizing assumes characters. All that is white space by now is a space (Zs).
    made = " ".join(unicodedata.normalize("NFC", text).split())
    if not 1 <= len(made) <= most:
        raise ValueError(_length(most))
    if not any(map(_is_seen, made)):
        raise ValueError("must have a character that can be seen")
    return made


def _length(most: int) -> str:
    return f"must have 1 to {most} characters besides the spaces around it"


def _is_seen(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNPS" and character not in _BLANK
