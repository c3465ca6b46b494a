"""How schemathesis, which loads this file, writes and reads bodies in CBOR.

Schemas are those of JSON: an id is the text of a UUID, and bytes are base64.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from uuid import UUID

import cbor2
import schemathesis

CBOR = "application/cbor"


@schemathesis.serializer(CBOR)
def write(_: Any, value: Any) -> bytes:
    """The body of a request; ids stay texts, which the server takes, too."""
    return cbor2.dumps(value)


@schemathesis.deserializer(CBOR)
def read(_: Any, response: Any) -> Any:
    """The body of an answer as the value of its JSON."""
    return as_json(cbor2.loads(response.content))


def as_json(value: Any) -> Any:
    match value:
        case bytes() if len(value) == 16:
            return str(UUID(bytes=value))
        case bytes():
            return b64encode(value).decode()
        case list():
            return [as_json(each) for each in value]
        case dict():
            return {key: as_json(each) for key, each in value.items()}
    return value
