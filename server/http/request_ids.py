"""The names of a request: the id that clients and proxies know it by, and the id of its trace."""

from __future__ import annotations

import random
import re
from typing import Final

from runtime.log_context import RequestNames
from server.http.request_headers import Headers

_REQUEST_ID: Final = re.compile("[A-Za-z0-9._~=+/-]{1,128}").fullmatch
"""UUIDs, and the ids of nginx, Heroku, Cloudflare and AWS; nothing that a log or a URI would have to escape."""

_TRACEPARENT: Final = re.compile("(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""W3C Trace Context, section 3.2.2; later versions may add fields."""


def names_of(headers: Headers) -> RequestNames:
    """The names that a request brings. A request without a good id gets a new one."""
    shown, trace = headers.get("x-request-id", ""), headers.get("traceparent", "")
    request_id = shown if shown and _REQUEST_ID(shown) else new_request_id()
    return RequestNames(request_id, _trace_id(trace) if trace else None)


def new_request_id() -> str:
    return f"{random.getrandbits(128):032x}"


def _trace_id(traceparent: str) -> str | None:
    found = _TRACEPARENT.fullmatch(traceparent)
    return None if found is None or (found[1] == "00" and found[3]) else found[2]
