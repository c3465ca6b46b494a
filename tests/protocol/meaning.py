"""What frames mean in the words of `protocol/vectors`: names and values of JSON."""

from __future__ import annotations

from typing import Any

from tests.protocol.strategies import RECORDS, Nested, Record


def meaning(record: Record) -> dict[str, Any]:
    """Field names to values, byte strings in hex; `type` is the frame's name; absent fields are left out."""
    fields = {name: _value(getattr(record, name)) for name in record.__struct_fields__}
    type_ = {} if isinstance(record, Nested) else {"type": record.TYPE.name.lower()}
    return type_ | {name: value for name, value in fields.items() if value is not None}


def _value(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_value(each) for each in value]
        case _ if isinstance(value, RECORDS):
            return meaning(value)
    return value
