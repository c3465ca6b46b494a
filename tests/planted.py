"""Secrets that tests plant, and the search for them in all logs.

Passwords of tests have the text `PLANTED`, and so do identities and keys of devices: their bytes begin with it. Tokens
of the server begin with `alo_`, JWTs with `eyJ`, addresses of users end with `@example.org`, and signatures of
presigned requests follow `signature=`. Every line that a process of a test writes to its stderr is searched
(`tests/processes.py`), and so is every line that a part in this process logs, in the form in which a process would
write it (`tests/conftest.py`). The test during which a secret comes up fails.
"""

from __future__ import annotations

import re
import traceback
from base64 import b64encode
from collections.abc import MutableMapping
from typing import Any, Final

from runtime.redaction import redact

PLANTED: Final = "planted-secret"
"""Part of each password, key and address of a webhook in tests. Bytes may come up as text, in hex or in base64."""

SECRETS: Final = re.compile(
    rf"{PLANTED}|{PLANTED.encode().hex()}|{b64encode(PLANTED.encode()).decode()[:18]}|\balo_[A-Za-z0-9_-]{{40,}}|\beyJ[A-Za-z0-9_-]{{8,}}\."
    r"|\w@example\.(?:org|com)\b|(?i:signature)=[A-Za-z0-9_%+/-]{20,}"
)

_found: list[str] = []


def check_log(line: str) -> None:
    """Remember a line of a log that has a secret."""
    if SECRETS.search(line):
        _found.append(line[:1000])


def check_entry(entry: MutableMapping[str, Any]) -> None:
    """Remember an entry of the log of this process that has a secret, after the processor that takes secrets out."""
    error = entry.get("exc_info")
    written = dict(entry)
    if isinstance(error, BaseException):
        written["exc_info"] = "".join(traceback.format_exception(error))
    check_log(str(redact(None, "", written)))


def planted_found() -> list[str]:
    """The lines with secrets since the last call."""
    found = _found[:]
    _found.clear()
    return found
