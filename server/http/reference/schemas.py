"""JSON Schemas of bodies and answers (OpenAPI 3.1 takes those of the draft 2020-12 as they are)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.inspect import CollectionType, StructType, UnionType, type_info

from server.http.encoding import Ident

Schema: TypeAlias = dict[str, Any]

PREFIX: Final = "#/components/schemas/"


class Schemas:
    """The schemas of some types, with those of the structs in them as components.

    :param sent: types of bodies and queries, which clients send.
    :param answered: types of answers. Their fields are there even if they have a default value, which is the server's.
    :ivar components: by name; the name of an answer's struct loses its end: `MessageAnswer` is `Message`.
    """

    def __init__(self, sent: Iterable[type[Any]], answered: Iterable[type[Any]]) -> None:
        types = [*sent, *answered]
        found, components = msgspec.json.schema_components(types, schema_hook=_schema_of_custom, ref_template=_REF)
        self._schemas: dict[type[Any], Schema] = dict(zip(types, (_plain(schema) for schema in found), strict=True))
        structs = {struct.__name__: struct for type_ in types for struct in _structs_in(type_)}
        self.components = {
            _name_of(name): _described(_plain(schema), structs[name]) for name, schema in components.items()
        }

    def of(self, type_: type[Any]) -> Schema:
        """A reference to a component, or a choice of several."""
        return self._schemas[type_]


_REF: Final = PREFIX + "{name}"


def _name_of(struct: str) -> str:
    return struct.removesuffix("Answer")


def _schema_of_custom(type_: type[Any]) -> Schema:
    assert type_ is Ident, type_
    return {"type": "string", "format": "uuid"}


def _plain(schema: Any) -> Any:
    """A schema as other programs read it."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if isinstance(schema, str):
        return PREFIX + _name_of(schema.removeprefix(PREFIX)) if schema.startswith(PREFIX) else schema
    if not isinstance(schema, dict):
        return schema
    made = {key: _plain(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    if "pattern" in made:
        # The end of a text is \Z in Python's expressions, and $ in those of JSON Schema.
        made["pattern"] = made["pattern"].replace("\\Z", "$")
    return _nullable(made)


def _nullable(schema: Schema) -> Schema:
    """A choice of a simple type and null as one type, which is shorter."""
    choice: list[Schema] = schema.get("anyOf", [])
    if len(choice) != 2 or choice[1] != {"type": "null"} or "$ref" in choice[0]:
        return schema
    made = {**choice[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    if "enum" in made:
        made["enum"] = [*made["enum"], None]
    else:
        made["type"] = [made["type"], "null"]
    return made


def _described(schema: Schema, struct: type[Struct]) -> Schema:
    """The schema of a struct with what its docstring says about it and its fields."""
    text, fields = documented(struct)
    properties = {
        name: {**field, "description": fields[name]} if name in fields else field
        for name, field in schema["properties"].items()
    }
    made = {**schema, "properties": properties, "description": text}
    if struct.__name__.endswith("Answer"):
        info = type_info(struct)
        assert isinstance(info, StructType)
        made["required"] = [
            field.encode_name for field in info.fields if field.required or field.default is not NODEFAULT
        ]
        for field in properties.values():
            field.pop("default", None)
    return made


def documented(struct: type[Struct]) -> tuple[str, dict[str, str]]:
    """The text of a docstring about a struct, and those about its fields (`:ivar name: text`), also of its bases."""
    fields: dict[str, str] = {}
    for each in reversed(struct.__mro__):
        for name, text in re.findall(r"^:ivar (\w+): (.+(?:\n +.+)*)", inspect.getdoc(each) or "", re.MULTILINE):
            fields[name.rstrip("_")] = sentence(text)
    return " ".join((struct.__doc__ or "").partition(":ivar")[0].split()), fields


def sentence(text: str) -> str:
    """A text of a docstring as one line that begins like a sentence."""
    line = " ".join(text.split())
    return line[:1].upper() + line[1:] + ("" if line.endswith(".") else ".")


def _structs_in(type_: Any) -> Iterable[type[Struct]]:
    """The structs that a type consists of, with itself."""
    pending, seen = [type_info(type_)], set()
    while pending:
        match pending.pop():
            case StructType() as info if info.cls not in seen:
                seen.add(info.cls)
                pending += [field.type for field in info.fields]
            case UnionType(types=types):
                pending += types
            case CollectionType(item_type=item):
                pending.append(item)
    return seen
