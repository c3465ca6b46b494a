"""Hooks of schemathesis, which loads this file: each request is sent with a scene, and its answer is counted."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import schemathesis

from tests.contract import cbor_bodies
from tests.contract.scenes import PLACEHOLDER, scenes_of_environment

JSON: Final = "application/json"

_scenes: Final = scenes_of_environment()


@schemathesis.hook
def before_call(_: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """requests calls `auth` last, with the whole request. schemathesis tries without a token past this hook."""
    operation = operation_of(case)
    _scenes.prepare(operation)

    def auth(request: Any) -> Any:
        if request.headers.get("Authorization") == f"Bearer {PLACEHOLDER}":
            request.headers["Authorization"] = f"Bearer {_scenes.token(operation)}"
        url = urlsplit(request.url)
        path, query = _scenes.path(operation, url.path), _scenes.text(url.query)
        request.url = urlunsplit(url._replace(path=path, query=query))
        if request.headers.get("Content-Type") == JSON and request.body:
            # Latin-1 takes any bytes, and gives them back.
            body = request.body if isinstance(request.body, bytes) else request.body.encode()
            request.body = _scenes.text(body.decode("latin-1")).encode("latin-1")
        return request

    kwargs["auth"] = auth


@schemathesis.hook
def after_call(_: Any, case: Any, response: Any) -> None:
    _scenes.note(operation_of(case), response.status_code)


def operation_of(case: Any) -> str:
    return f"{case.operation.method.upper()} {case.operation.path}"


__all__ = ["after_call", "before_call", "cbor_bodies"]
