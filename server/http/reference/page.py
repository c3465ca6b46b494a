"""The docs page: one page of HTML without scripts, which needs nothing from other servers."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from server.http.problem_codes import PROBLEMS
from server.http.reference.schemas import PREFIX

_jinja: Final = Environment(
    loader=PackageLoader("server.http.reference", "."),
    undefined=StrictUndefined,
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
)
_STYLE: Final = _jinja.get_template("style.css").render()

HEADERS: Final = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
}
"""The page loads and runs nothing; its style is the one with this hash."""


def html(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document of this server."""
    return _jinja.get_template("page.html").render(
        document=document,
        operations=_operations(document),
        problems=PROBLEMS,
        style=Markup(_STYLE),  # noqa: S704  (a file of ours)
    )


def _operations(document: dict[str, Any]) -> dict[str, list[tuple[str, str, Any]]]:
    """(method, path, operation) by tag."""
    found: dict[str, list[tuple[str, str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            found[operation["tags"][0]].append((method.upper(), path, operation))
    return found


def _prose(text: str) -> Markup:
    """A text with `code` in it."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  (it is escaped)


def _type(schema: dict[str, Any]) -> Markup:
    """A schema in words, with links to those that have names."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(PREFIX)
        return Markup('<a href="#schema-{0}">{0}</a>').format(name)
    if "anyOf" in schema:
        return Markup(" or ").join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return Markup(", ").join(Markup("<code>{}</code>").format(_literal(value)) for value in schema["enum"])
    if schema.get("type") == "array":
        return Markup("list of {}").format(_type(schema.get("items", {})))
    types = schema.get("type", "any")
    words = " or ".join(types if isinstance(types, list) else [types])
    return Markup("{}{}").format(words, "".join(f", {text}" for text in _bounds(schema)))


def _literal(value: Any) -> str:
    return "null" if value is None else f'"{value}"'


_BOUNDS: Final = {
    "format": "{}",
    "contentEncoding": "{}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "like {}",
}


def _bounds(schema: dict[str, Any]) -> list[str]:
    return [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]


def _resolved(document: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """The response that a reference leads to."""
    if "$ref" not in item:
        return item
    found: dict[str, Any] = document["components"]["responses"][item["$ref"].rpartition("/")[2]]
    return found


def _codes(response: dict[str, Any]) -> list[str]:
    """The codes of the problems in a response; empty if it is none."""
    content = response.get("content", {}).get("application/problem+json", {})
    return list(content.get("examples", {}))


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


# Fields stay in the order of the schema.
_jinja.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
_jinja.filters |= {"prose": _prose, "type": _type, "codes": _codes, "lower_first": _lower_first}
_jinja.globals["resolved"] = _resolved
