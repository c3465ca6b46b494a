"""The server's rules for names, passwords and titles, to check before the user types anything twice."""

from __future__ import annotations

import re
import unicodedata

from client.terminal import printable
from protocol import limits
from protocol.visible_text import visible_text


def username_of(typed: str) -> str:
    """The username that the server makes of a name, if it takes it: in lower case, composed, in usual widths."""
    # A name in which NFKC changes more than widths is refused by the server.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", typed).lower())


def fault_of_username(name: str) -> str | None:
    """The rule of usernames that this name breaks, as a sentence; None if it breaks none. The server has more rules."""
    most = limits.MAX_USERNAME_CHARACTERS
    has_letters = re.fullmatch(r"(?![_.-])[a-z0-9_.\-\u00a1-\U0010ffff]+", name) and name.isprintable()
    if has_letters and len(name) <= most:
        return None
    shown = printable(name[:40]) or "an empty name"
    return (
        f"{shown} cannot be a username: it must have 1 to {most} letters, digits and signs _, . and -, and must begin"
        " with a letter or a digit"
    )


def fault_of_password(password: str) -> str | None:
    """The rule that this password breaks, as a sentence; None if it breaks none. The server has more rules."""
    least, most = limits.MIN_PASSWORD_CHARACTERS, limits.MAX_PASSWORD_CHARACTERS
    length = len(unicodedata.normalize("NFC", password))
    if not least <= length <= most:
        return f"a password must have {least} to {most} characters; this one has {length}"
    try:
        password.encode()
    except UnicodeEncodeError:
        return "a password must be text in UTF-8"
    return None


def title_of(typed: str) -> str:
    """The title that the server makes of a text.

    :raises ValueError: if it cannot be a title. The message says what a title must be.
    """
    return visible_text(typed, limits.MAX_TITLE_CHARACTERS)


def fault_of_title(title: str) -> str | None:
    """The rule that this title breaks, as a sentence; None if it breaks none."""
    try:
        title_of(title)
    except ValueError as error:
        return f"a title {error}"
    return None
