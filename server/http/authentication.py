"""Admission of a request by the token in its `Authorization` header: a device's, or the operators'."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

from server.http.routing import Access, Request
from store import tokens
from store.errors import TokenUnknown
from store.tokens import Identity


class NotAnOperator(Exception):
    """The operators' token is missing or wrong."""


async def device(request: Request[Any]) -> tuple[Identity]:
    """The owner of the token that the request shows."""
    return (await tokens.device_by_token(request.services.pool, token_shown(request)),)


async def _operator(request: Request[Any]) -> tuple[()]:
    token = _bearer_token(request)
    # The comparison takes as long for every token of the right length.
    if not token or not secrets.compare_digest(token.encode(), request.services.ops_token.encode()):
        raise NotAnOperator
    return ()


async def _everybody(_: Request[Any]) -> tuple[()]:
    return ()


ADMISSIONS: Final[dict[Access, Callable[[Request[Any]], Awaitable[tuple[()] | tuple[Identity]]]]] = {
    Access.DEVICE: device,
    Access.OPERATOR: _operator,
    Access.OPEN: _everybody,
}
"""Each returns the first arguments of the handler, or raises an error that `server.http.problems` answers with 401."""


def token_shown(request: Request[Any]) -> str:
    """
    :raises TokenUnknown: if the request shows none.
    """
    if token := _bearer_token(request):
        return token
    raise TokenUnknown


def _bearer_token(request: Request[Any]) -> str:
    """The token that the request shows; empty if it shows none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""
