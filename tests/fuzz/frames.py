"""The parts of valid messages: the examples of SPEC section 15, and the values of each key in them."""

from __future__ import annotations

import re
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import cbor2

from protocol.frames import REQUESTS, Type

SPEC: Final = Path(__file__).parents[2] / "protocol" / "SPEC.md"


class Examples(NamedTuple):
    """WebSocket messages, by their sender."""

    from_client: list[bytes]
    from_server: list[bytes]


def items_of(data: bytes) -> list[Any]:
    """The CBOR items of a sequence, up to the first unreadable one; a map with unhashable keys is unreadable."""
    items: list[Any] = []
    stream = BytesIO(data)
    decoder = cbor2.CBORDecoder(stream, max_depth=16)
    while stream.tell() < len(data):
        try:
            items.append(decoder.decode())
        except Exception:  # of any type: a mutator cannot change an unreadable sequence item by item
            break
    return items


def _examples() -> Examples:
    found = [bytes.fromhex(text) for text in re.findall(r"^    ([0-9a-f]{8,})$", SPEC.read_text(), re.MULTILINE)]
    types = {int(struct.TYPE) for struct in REQUESTS}
    return Examples(
        [data for data in found if items_of(data)[0][0] in types],
        [data for data in found if items_of(data)[0][0] not in types],
    )


EXAMPLES: Final = _examples()


def example_of(type_: Type) -> bytes:
    """The first example frame of this type."""
    return next(data for data in (*EXAMPLES.from_client, *EXAMPLES.from_server) if items_of(data)[0][0] == type_)


def _values() -> dict[int, list[Any]]:
    values: defaultdict[int, list[Any]] = defaultdict(list)

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                if each not in values[key]:
                    values[key].append(each)
                visit(each)
        elif isinstance(value, list):
            for each in value:
                visit(each)

    for data in (*EXAMPLES.from_client, *EXAMPLES.from_server):
        visit(items_of(data))
    return dict(values)


VALUES: Final = _values()
"""Key -> its values in the examples, at any depth."""
