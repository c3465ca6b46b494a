"""Values of scenario files as values of frames, and the patterns that frames and states have to match. Sans-IO.

JSON has no bytes, so a text that begins with one of these signs stands for something else:

| text | stands for |
|---|---|
| `@bob` | the id of 16 bytes that this name gives (`id_of`) |
| `text:one` | the bytes of this text in UTF-8 |
| `hex:00ff` | these bytes |
| `$first.temp_id` | the field of a frame that an earlier step has kept under the name `first` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import cbor2

from protocol.frames import Key, Request, Type, name_of

ID_BYTES: Final = 16
_FILLING: Final = b"."
_MAX_SHOWN: Final = 400
_KEYS: Final = {key.name.lower(): key.value for key in Key}
_TYPES: Final = {type_.name.lower(): type_.value for type_ in Type}

Fields: TypeAlias = dict[str, Any]
"""A frame by the names of its fields, with `type` as its name."""

Kept: TypeAlias = Mapping[str, Fields]
"""The frames that earlier steps have kept, by the names that the scenario gives them."""

ANYTHING: Final = "*"
"""A pattern that every value but None matches."""


def id_of(name: str) -> bytes:
    """The id of a name: its letters, filled up to 16 bytes."""
    return name.encode().ljust(ID_BYTES, _FILLING)[:ID_BYTES]


def read_value(item: Any, kept: Kept) -> Any:
    """The value of a field that a scenario gives.

    :raises ValueError: for a name that no step has kept, and for hex digits that are none.
    """
    match item:
        case str():
            return _read_text(item, kept)
        case list():
            return [read_value(each, kept) for each in item]
        case dict():
            return {name: read_value(each, kept) for name, each in item.items()}
    return item


def _read_text(text: str, kept: Kept) -> Any:
    if text.startswith("@"):
        return id_of(text[1:])
    if text.startswith("text:"):
        return text.removeprefix("text:").encode()
    if text.startswith("hex:"):
        return bytes.fromhex(text.removeprefix("hex:"))
    if text.startswith("$"):
        name, _, field = text[1:].partition(".")
        if name not in kept:
            raise ValueError(f"no earlier step has kept a frame as '{name}'")
        return kept[name].get(field)
    return text


def encode_fields(fields: Fields) -> bytes:
    """The bytes of a frame, also of one that no server of this version sends.

    A field's name that is a number stands for a key of a later version; so does a `type` that is a number.

    :raises ValueError: for a name that is neither a number nor a field of the protocol.
    """
    return cbor2.dumps(_keyed(fields))


def _keyed(fields: Fields) -> dict[int, Any]:
    item = {_key_of(name): _type_of(value) if name == "type" else _item_of(value) for name, value in fields.items()}
    return dict(sorted((key, value) for key, value in item.items() if value is not None))


def _item_of(value: Any) -> Any:
    if isinstance(value, dict):
        return _keyed(value)
    return [_item_of(each) for each in value] if isinstance(value, list) else value


def _key_of(name: str) -> int:
    if name.isdigit():
        return int(name)
    if name not in _KEYS:
        raise ValueError(f"'{name}' is not a field of the protocol; a key of a later version is its number")
    return _KEYS[name]


def _type_of(value: Any) -> int:
    if isinstance(value, int):
        return value
    if value not in _TYPES:
        raise ValueError(f"'{value}' is not a frame of the protocol; one of a later version is its number")
    return _TYPES[value]


def fields_of(request: Request) -> Fields:
    """A client's frame by the names of its fields; fields that are absent are left out."""
    present = {name: value for name in request.__struct_fields__ if (value := getattr(request, name)) is not None}
    return {"type": name_of(request), **present}


def _is_least(value: Any, bound: Any, _kept: Kept) -> bool:
    return value is not None and value >= bound


def _is_most(value: Any, bound: Any, _kept: Kept) -> bool:
    return value is not None and value <= bound


def _is_not(value: Any, pattern: Any, kept: Kept) -> bool:
    return not matches(pattern, value, kept)


def _is_any(value: Any, patterns: Any, kept: Kept) -> bool:
    return any(matches(each, value, kept) for each in patterns)


def _has(value: Any, pattern: Any, kept: Kept) -> bool:
    return value is not None and any(matches(pattern, each, kept) for each in value)


_OPERATORS: Final[dict[str, Callable[[Any, Any, Kept], bool]]] = {
    "least": _is_least,
    "most": _is_most,
    "not": _is_not,
    "any": _is_any,
    "has": _has,
}
"""The patterns with an operand: `{"least": 3}`, `{"most": 3}`, `{"not": p}`, `{"any": [p, q]}`, and `{"has": p}` of a
list one of whose elements matches."""


def matches(pattern: Any, value: Any, kept: Kept) -> bool:
    """Whether a value is as a scenario wants it.

    A pattern is a value, which must be equal; null, for a field that is absent; `"*"`, for one that is there; an
    object with one operator; or an object of patterns, of which each must match the field of its name. Fields that the
    pattern does not name may have any value.
    """
    if isinstance(pattern, dict):
        if len(pattern) == 1 and (operator := next(iter(pattern))) in _OPERATORS:
            return _OPERATORS[operator](value, pattern[operator], kept)
        return isinstance(value, dict) and all(
            matches(each, value.get(_name(at)), kept) for at, each in pattern.items()
        )
    if pattern == ANYTHING:
        return value is not None
    if isinstance(pattern, list):
        is_row = isinstance(value, list | tuple) and len(value) == len(pattern)
        return is_row and all(matches(each, item, kept) for each, item in zip(pattern, value, strict=True))
    return bool(read_value(pattern, kept) == value)


def _name(at: str) -> str:
    """The key of an object: ids are keys of states in hex."""
    return id_of(at[1:]).hex() if at.startswith("@") else at


def show(value: Any) -> str:
    """A value as scenario files write it, cut where it is long."""
    text = _shown(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]} …"


def _shown(value: Any) -> str:
    match value:
        case bytes():
            return _shown_bytes(value)
        case dict():
            return "{" + ", ".join(f"{name}: {_shown(each)}" for name, each in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_shown, value)) + "]"
        case bool() | None:
            return {True: "true", False: "false", None: "absent"}[value]
    return str(value)


def _shown_bytes(value: bytes) -> str:
    if not value.isascii() or not value.decode("ascii").isprintable():
        return f"hex:{value.hex()}"
    if len(value) == ID_BYTES and value.endswith(_FILLING):
        return "@" + value.rstrip(_FILLING).decode()
    return f"text:{value.decode()}"
