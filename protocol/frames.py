"""All frames: one struct for each.

A frame is a CBOR map with small integer keys. A key means the same thing in every frame (`Key`), so a field is named
once. Keys 0 to 23 take one byte, the others two. The structs declare their fields in ascending order of the keys, so
the encoding is deterministic (RFC 8949, section 4.2.1) without sorting. Receivers ignore keys that they do not know.

Frame types (`Type`) come in three kinds: requests (1 to 63: client to server, each answered by exactly one reply
with the same request number), replies (64 to 127), pushes (128 to 255, server to client, unasked).
"""

from __future__ import annotations

from typing import TypeAlias

from protocol.numbers import Key as Key
from protocol.numbers import Type as Type
from protocol.pushes import *  # noqa: F403
from protocol.pushes import Push
from protocol.replies import *  # noqa: F403
from protocol.replies import Reply
from protocol.requests import *  # noqa: F403
from protocol.requests import Request

Frame: TypeAlias = Request | Reply | Push


def name_of(frame: Frame | type[Frame]) -> str:
    """The name of a frame in SPEC.md, such as "mark_read"."""
    return frame.TYPE.name.lower()
