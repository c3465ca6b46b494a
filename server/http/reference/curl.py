"""An example as a command of curl, for a shell."""

from __future__ import annotations

import re
from shlex import quote
from typing import Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct, inspect

from server.http.reference.examples import Example
from server.http.routing import Access, Route

ADDRESS: Final = "http://127.0.0.1:8000"
"""That of `make run`."""

FORM: Final = "application/x-www-form-urlencoded"

TOKENS: Final = {Access.DEVICE: "$TOKEN", Access.CONFIRMED_DEVICE: "$TOKEN", Access.OPERATOR: "$OPS_TOKEN"}
"""Variables of the shell."""


def command(route: Route, example: Example) -> str:
    """The command that sends the example."""
    method = "" if route.method == "GET" else f"-X {route.method} "
    parts = [f"curl {method}{quote(ADDRESS + path_of(route, example) + query_of(example.query))}"]
    if route.access in TOKENS:
        parts.append(f'-H "Authorization: Bearer {TOKENS[route.access]}"')
    if example.body is not None and route.form is not None:
        parts.append(f"-H 'Content-Type: {FORM}'")
        parts.append(f"-d {quote(urlencode(given(example.body)))}")
    elif example.body is not None:
        parts.append("-H 'Content-Type: application/json'")
        parts.append(f"-d {quote(body_of(example.body))}")
    return " \\\n  ".join(parts)


def path_of(route: Route, example: Example) -> str:
    """The path with the example's values."""
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: example.values[found[1]], route.path)


def query_of(query: Struct | None) -> str:
    """The query with its question mark; fields with their default values are left out."""
    if query is None:
        return ""
    return "?" + urlencode(given(query))


def body_of(body: Struct) -> str:
    """The body in JSON."""
    return msgspec.json.encode(given(body)).decode()


def given(struct: Struct) -> dict[str, object]:
    """The fields that do not have their default values, as values of JSON."""
    info = inspect.type_info(type(struct))
    assert isinstance(info, inspect.StructType)
    is_default = {field.encode_name: getattr(struct, field.name) == field.default for field in info.fields}
    values: dict[str, object] = msgspec.to_builtins(struct)
    return {name: value for name, value in values.items() if not is_default.get(name)}
