"""Heads of requests that h11 takes, made ready for the application, or refused: h11 and Hypercorn check less.

- h11 counts the bytes of a head only while it is incomplete, so its bound depends on how packets cut the head.
- h11 goes by `Transfer-Encoding` if there is a `Content-Length`, too. Another program may go by the other one, and take
  a part of the body for a request (RFC 9112, section 6.1).
- Hypercorn writes methods in capitals, which are others (RFC 9110, section 9.1).
- Quart looks for the path of an absolute address (RFC 9112, section 3.2.2) itself, and fails at `http://[/`. It takes a
  target without a slash at its beginning for a path, too.
- A request of HTTP/1.1 that asks for another protocol (`Upgrade`) is refused: a WebSocket belongs to `socket`, and
  there is no other protocol to go over to (decision 39). HTTP/1.0 has no upgrades, so there the header means nothing
  (RFC 9110, section 7.8).
"""

from __future__ import annotations

import re
from typing import Final

import h11

from server.http.exchange import Reply, refused
from server.http.limits import RateLimited
from server.http.problem_codes import MAX_HEAD_BYTES, ProblemCode
from server.http.problems import RETRY_AFTER_S, Problem
from server.http.services import Services
from server.transport.admission import ADDRESS_RETRY_AFTER_S

_ABSOLUTE: Final = re.compile(rb"https?://[^/?#@]+(/[^?]*)?(\?.*)?", re.IGNORECASE)
_LENGTHS: Final = frozenset((b"content-length", b"transfer-encoding"))

_UPGRADES: Final = {b"websocket": ProblemCode.MISDIRECTED_REQUEST}
"""Protocols that a request may ask to go over to -> codes; all others have `UPGRADE_REFUSED`."""

_CODES: Final = {
    413: ProblemCode.BODY_TOO_LARGE,
    431: ProblemCode.HEAD_TOO_LARGE,
    501: ProblemCode.UNKNOWN_TRANSFER_ENCODING,
}
"""Statuses that the parser proposes -> codes; all others have `INVALID_REQUEST`."""

ASK_FOR_BODY: Final = "ask_for_body"
"""In the state of a request's scope: the function that the application calls before it waits for the body, without
arguments. It lets a client that holds the body back send it (`Expect: 100-continue`; RFC 9110, section 10.1.1)."""

END_TURN: Final = "end_turn"
"""Likewise, the function that ends the request's turn before its answer is there (`server.http.request_turns`)."""

_OF_THE_SERVER: Final = frozenset(
    (ProblemCode.REQUEST_TIMEOUT, ProblemCode.TOO_MANY_CONNECTIONS, ProblemCode.UNAVAILABLE)
)
"""Codes of refusals that are not about the request: its time, or the state of the server. All others count."""

_RETRY_AFTER_S: Final = {
    ProblemCode.REQUEST_TIMEOUT: RETRY_AFTER_S,
    ProblemCode.TOO_MANY_CONNECTIONS: ADDRESS_RETRY_AFTER_S,
    ProblemCode.UNAVAILABLE: RETRY_AFTER_S,
}


def accepted_head(request: h11.Request) -> h11.Request | ProblemCode:
    """The request for the application, with a path as its target (or `*`); or the code of its refusal."""
    if request.http_version not in (b"1.0", b"1.1"):
        return ProblemCode.UNKNOWN_VERSION
    line = len(request.method) + len(request.target) + len("  HTTP/1.1\r\n")
    if line > MAX_HEAD_BYTES:
        return ProblemCode.URI_TOO_LONG
    headers_and_end = sum(len(name) + len(value) + len(": \r\n") for name, value in request.headers) + len("\r\n")
    if line + headers_and_end > MAX_HEAD_BYTES:
        return ProblemCode.HEAD_TOO_LARGE
    names, target = {name for name, _ in request.headers}, _path_of(request)
    if target is None or request.method != request.method.upper() or names >= _LENGTHS:
        return ProblemCode.INVALID_REQUEST
    if target == request.target and b"upgrade" not in names:
        return request
    if request.http_version == b"1.1" and (protocols := _asked_protocols(request)):
        return next((_UPGRADES[name] for name in protocols if name in _UPGRADES), ProblemCode.UPGRADE_REFUSED)
    headers = [header for header in request.headers if header[0] != b"upgrade"]
    return h11.Request(method=request.method, target=target, headers=headers, http_version=request.http_version)


def code_of(status: int) -> ProblemCode:
    """The code of the refusal of a request for which the parser proposes this status."""
    return _CODES.get(status, ProblemCode.INVALID_REQUEST)


def refused_head(code: ProblemCode, peer: str, services: Services) -> Reply:
    """The answer to a head, or a connection, that is refused with this code.

    A head that is wrong counts as a request of a stranger: to refuse one costs as much as to answer it. Behind a proxy
    that names no address in a PROXY header it does not, as its client is not known.

    :param peer: the address of the connection's other end, or the one that its PROXY header names.
    """
    refusal: Exception = Problem(code, code.info.meaning, retry_after_s=_RETRY_AFTER_S.get(code))
    if code not in _OF_THE_SERVER and peer not in services.proxies:
        try:
            services.limits.count_stranger(peer)
        except RateLimited as error:
            refusal = error
    return refused(refusal, {}, services)


def _asked_protocols(request: h11.Request) -> list[bytes]:
    """The names of the protocols that the request asks to go over to, in lower case and without their versions."""
    lists = [value for name, value in request.headers if name == b"upgrade"]
    names = (each.partition(b"/")[0].strip().lower() for value in lists for each in value.split(b","))
    return [name for name in names if name]


def _path_of(request: h11.Request) -> bytes | None:
    """The target as a path with its query; None if it has none."""
    target = request.target
    if target.startswith(b"/") or (target == b"*" and request.method == b"OPTIONS"):
        return target
    found = _ABSOLUTE.fullmatch(target)
    return None if found is None else (found[1] or b"/") + (found[2] or b"")
