"""The source of a request, for the security event that it causes."""

from __future__ import annotations

from typing import Any

from server.http.routing import Request
from store.security_events import Source
from store.tokens import Identity


def source_of(request: Request[Any], identity: Identity | None = None) -> Source:
    """The source of a user's request.

    :param identity: of the device whose token the request shows.
    """
    return Source("user", request.address, _client(request), identity.device if identity else None)


def operator_source(request: Request[Any]) -> Source:
    """The source of a request with the operators' token."""
    return Source("operator", request.address, _client(request))


def _client(request: Request[Any]) -> str | None:
    return request.headers.get("user-agent", "") or None
