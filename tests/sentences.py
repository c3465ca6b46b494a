"""Sentences that people at the other side read, and the parts that they must not have."""

from __future__ import annotations

import builtins
import re
from typing import Final

import protocol.errors
import protocol.frames
import store.errors
from client import errors

_OF_PYTHON: Final = {"str", "int", "dict", "tuple", "bool", "float", "bytearray", "NoneType", "None"}
_EXCEPTIONS: Final = {name for name in vars(builtins) if name.endswith(("Error", "Exception"))}
_OURS: Final = {
    name
    for module in (protocol.frames, protocol.errors, store.errors, errors)
    for name, value in vars(module).items()
    if isinstance(value, type)
}
_EMPTY_END: Final = re.compile(r"(?:[:,(\-]|'')\s*$")


def fault_of(sentence: str) -> str | None:
    """The fault of a sentence, or None.

    A frame is called as SPEC.md calls it (`mark_read`), not as the class is.
    """
    if not sentence.strip():
        return "it is empty"
    if _EMPTY_END.search(sentence):
        return "it ends where a reason should be"
    if "\n" in sentence or not sentence.isprintable():
        return "it is more than a line, or not fit for a terminal"
    words = set(re.findall(r"[A-Za-z_]+", sentence))
    # "Unavailable" or "Message" at the beginning of a sentence is English; two capitals in a word are not.
    ours = {word for word in words & _OURS if re.search("[a-z][A-Z]", word)}
    if named := words & (_OF_PYTHON | _EXCEPTIONS) | ours:
        return f"it names {', '.join(sorted(named))} of Python"
    if re.search(r"\bb'|<[a-z_.]+ |object at 0x|bytearray\(|\w\(\w*=", sentence):
        return "it shows a value as Python does"
    return None
