"""JSON and CBOR: how bodies of answers are written (`docs/http.md`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, cast

import cbor2
import msgspec
from msgspec import Struct

CBOR: Final = "application/cbor"
JSON: Final = "application/json"

Encoding: TypeAlias = Literal["json", "cbor"]

KEPT_TEXTS: Final = 16384
"""The ids whose texts are kept, in 4 MB: on a page of a list the same ids come again and again."""


def encode(body: Any, encoding: Encoding) -> bytes:
    """The body of an answer: a struct of `server.http.answers`, or a part of one."""
    if encoding == "cbor":
        return cbor2.dumps(msgspec.to_builtins(body, builtin_types=(bytes,)))
    return _JSON.encode(body)


def encode_each(bodies: Sequence[Struct], encoding: Encoding) -> list[bytes]:
    """Like `encode`, for the entries of a page."""
    if encoding == "cbor":
        return [encode(each, encoding) for each in bodies]
    return _JSON.encode_lines(bodies).splitlines()


_JSON: Final = msgspec.json.Encoder()


class Ident:
    """An id in the body of an answer: the text of a UUID in JSON, 16 bytes in CBOR. `IDENT` alone makes one."""


@lru_cache(maxsize=KEPT_TEXTS)
def _uuid_text(id_: bytes) -> str:
    # uuid.UUID takes twice as long, and a list has hundreds of ids.
    text = id_.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


# Not tag 37 of CBOR: the wire protocol has no tags, and a client should need no second decoder.
IDENT: Final = cast(dict[Encoding, Callable[[bytes], Ident]], {"json": _uuid_text, "cbor": bytes})


def ident_or_none(id_: bytes | None, encoding: Encoding) -> Ident | None:
    return None if id_ is None else IDENT[encoding](id_)
