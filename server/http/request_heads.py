"""Heads of requests that h11 takes, made ready for the application, or refused: h11 and Hypercorn check less.

- h11 counts the bytes of a head only while it is incomplete, so its bound depends on how packets cut the head.
- h11 goes by `Transfer-Encoding` if there is a `Content-Length`, too. Another program may go by the other one, and take
  a part of the body for a request (RFC 9112, section 6.1).
- Hypercorn writes methods in capitals, which are others (RFC 9110, section 9.1).
- Quart looks for the path of an absolute address (RFC 9112, section 3.2.2) itself, and fails at `http://[/`. It takes a
  target without a slash at its beginning for a path, too.
- A WebSocket is refused, since a client that asks for one has the wrong address. All other upgrades are ignored, as RFC
  9110 (section 7.8) allows: curl asks for `h2c` with each request, and takes an answer in HTTP/1.1.
"""

from __future__ import annotations

import re
from typing import Final

import h11

from server.http.exchange import Reply, refused
from server.http.problem_codes import MAX_HEAD_BYTES, ProblemCode
from server.http.problems import RETRY_AFTER_S, Problem
from server.http.services import Services
from server.transport.admission import ADDRESS_RETRY_AFTER_S

_ABSOLUTE: Final = re.compile(rb"https?://[^/?#@]+(/[^?]*)?(\?.*)?", re.IGNORECASE)
_LENGTHS: Final = frozenset((b"content-length", b"transfer-encoding"))

_CODES: Final = {
    408: ProblemCode.REQUEST_TIMEOUT,
    414: ProblemCode.URI_TOO_LONG,
    421: ProblemCode.MISDIRECTED_REQUEST,
    429: ProblemCode.TOO_MANY_CONNECTIONS,
    431: ProblemCode.HEAD_TOO_LARGE,
    501: ProblemCode.UNKNOWN_TRANSFER_ENCODING,
    503: ProblemCode.UNAVAILABLE,
    505: ProblemCode.UNKNOWN_VERSION,
}
"""Statuses of refusals -> codes; all others have the status 400."""

ASK_FOR_BODY: Final = "ask_for_body"
"""In the state of a request's scope: the function that the application calls before it waits for the body, without
arguments. It lets a client that holds the body back send it (`Expect: 100-continue`; RFC 9110, section 10.1.1)."""

END_TURN: Final = "end_turn"
"""Likewise, the function that ends the request's turn before its answer is there (`server.http.request_turns`)."""

_RETRY_AFTER_S: Final = {408: RETRY_AFTER_S, 429: ADDRESS_RETRY_AFTER_S, 503: RETRY_AFTER_S}


def accepted_head(request: h11.Request) -> h11.Request | int:
    """The request for the application, with a path as its target (or `*`); or the status of its refusal."""
    if request.http_version not in (b"1.0", b"1.1"):
        return 505
    line = len(request.method) + len(request.target) + len("  HTTP/1.1\r\n")
    if line > MAX_HEAD_BYTES:
        return 414
    headers_and_end = sum(len(name) + len(value) + len(": \r\n") for name, value in request.headers) + len("\r\n")
    if line + headers_and_end > MAX_HEAD_BYTES:
        return 431
    names, target = {name for name, _ in request.headers}, _path_of(request)
    if target is None or request.method != request.method.upper() or names >= _LENGTHS:
        return 400
    if target == request.target and b"upgrade" not in names:
        return request
    if any(name == b"upgrade" and b"websocket" in value.lower() for name, value in request.headers):
        return 421
    headers = [header for header in request.headers if header[0] != b"upgrade"]
    return h11.Request(method=request.method, target=target, headers=headers, http_version=request.http_version)


def refused_head(status: int, services: Services) -> Reply:
    """The answer to a head, or a connection, that is refused with this status."""
    code = _CODES.get(status, ProblemCode.INVALID_REQUEST)
    return refused(Problem(code, code.info.meaning, retry_after_s=_RETRY_AFTER_S.get(status)), {}, services)


def _path_of(request: h11.Request) -> bytes | None:
    """The target as a path with its query; None if it has none."""
    target = request.target
    if target.startswith(b"/") or (target == b"*" and request.method == b"OPTIONS"):
        return target
    found = _ABSOLUTE.fullmatch(target)
    return None if found is None else (found[1] or b"/") + (found[2] or b"")
