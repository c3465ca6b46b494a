"""The server's rules for names, passwords and titles, to check before the user types anything twice."""

from __future__ import annotations

import re

from client.terminal import printable
from protocol import limits


def fault_of_username(name: str) -> str | None:
    """The rule of usernames that this name breaks, as a sentence; None if it breaks none."""
    if re.match(limits.USERNAME_PATTERN, name):
        return None
    shown, most = printable(name[:40]) or "an empty name", limits.MAX_USERNAME_BYTES
    return (
        f"{shown} cannot be a username: it must have 1 to {most} of the characters a to z, 0 to 9, _, . and -, and must"
        " begin with a letter or a digit"
    )


def fault_of_password(password: str) -> str | None:
    """The rule that this password breaks, as a sentence; None if it breaks none."""
    least, most = limits.MIN_PASSWORD_CHARACTERS, limits.MAX_PASSWORD_CHARACTERS
    if not least <= len(password) <= most:
        return f"a password must have {least} to {most} characters; this one has {len(password)}"
    try:
        password.encode()
    except UnicodeEncodeError:
        return "a password must be text in UTF-8"
    return None


def fault_of_title(title: str) -> str | None:
    """The rule that this title breaks, as a sentence; None if it breaks none."""
    if not 1 <= len(title) <= limits.MAX_TITLE_CHARACTERS or "\0" in title:
        return f"a title must have 1 to {limits.MAX_TITLE_CHARACTERS} characters"
    try:
        title.encode()
    except UnicodeEncodeError:
        return "a title must be text in UTF-8"
    return None
