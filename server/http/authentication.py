"""Admission of a request by the token in its `Authorization` header: a device's, or the operators'."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

from server.http.request_headers import token_in
from server.http.routing import Access, Request
from store import tokens
from store.errors import TokenUnknown
from store.tokens import Identity

CONFIRMED_S: Final = 600.0
"""How long a device is confirmed after the user has shown the password on it: enough to go through the settings of an
account, and too short for a thief who finds the phone unlocked."""


class NotAnOperator(Exception):
    """The operators' token is missing or wrong."""


class NotConfirmed(Exception):
    """The user has not shown the password on the device in the last `CONFIRMED_S`."""


def confirmed_until(confirmed: int) -> int:
    """Until when a device is confirmed on which the user showed the password then, in microseconds since 1970."""
    return confirmed + round(CONFIRMED_S * 1e6)


async def device(request: Request[Any]) -> tuple[Identity]:
    """The owner of the token that the request shows."""
    return (await tokens.device_by_token(request.services.pool, token_shown(request)),)


async def _confirmed_device(request: Request[Any]) -> tuple[Identity]:
    [identity] = await device(request)
    if confirmed_until(identity.confirmed) <= identity.now:
        raise NotConfirmed
    return (identity,)


async def _operator(request: Request[Any]) -> tuple[()]:
    token = bearer_token(request)
    # The comparison takes as long for every token of the right length.
    if not token or not secrets.compare_digest(token.encode(), request.services.ops_token.encode()):
        raise NotAnOperator
    return ()


async def _everybody(_: Request[Any]) -> tuple[()]:
    return ()


ADMISSIONS: Final[dict[Access, Callable[[Request[Any]], Awaitable[tuple[()] | tuple[Identity]]]]] = {
    Access.DEVICE: device,
    Access.CONFIRMED_DEVICE: _confirmed_device,
    Access.OPERATOR: _operator,
    Access.OPEN: _everybody,
}
"""Each returns the first arguments of the handler, or raises an error that `server.http.problems` answers with 401, or
with 403 if only the password is missing."""


def token_shown(request: Request[Any]) -> str:
    """
    :raises TokenUnknown: if the request shows none.
    """
    if token := bearer_token(request):
        return token
    raise TokenUnknown


def bearer_token(request: Request[Any]) -> str:
    """The token that the request shows; empty if it shows none."""
    return token_in(request.headers)
