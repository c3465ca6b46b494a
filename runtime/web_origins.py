"""Origins of web pages, as browsers name them (RFC 6454)."""

from __future__ import annotations

import re
from typing import Final

_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:]+\])(:([1-9][0-9]{0,4}))?")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def web_origins(text: str) -> frozenset[str]:
    """The origins in a list with commas."""
    return frozenset(each.strip() for each in text.split(",") if each.strip())


def web_origins_fault(text: str) -> str:
    """The reason why the text is not such a list; empty if it is one."""
    for each in web_origins(text):
        found = _ORIGIN.fullmatch(each)
        if not found or int(found[5] or 0) > 65535 or found[5] == _DEFAULT_PORTS.get(found[1], ""):
            return (
                "must be origins as browsers write them, such as https://chat.example or http://localhost:3000, with"
                " commas between them: in lower case, without a path, without the default port; * is not one"
            )
    return ""
