"""The port for operators: `GET /metrics`, `/healthz` and `/readyz`. It is never one of the ports for clients."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

import structlog
import trio

from runtime.config import ConfigError
from runtime.health import Health
from runtime.metrics.page import CONTENT_TYPE, MetricsPage

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES: Final = 8192
"""The head of a request: Prometheus sends 300 bytes."""

REQUEST_S: Final = 10.0
"""The time for one request: Prometheus waits as long by default."""

MAX_CONNECTIONS: Final = 32
"""At a time; a few programs ask a few times a minute."""

_END: Final = b"\r\n\r\n"
_REQUEST: Final = re.compile(rb"(GET|HEAD) ([!->@-~]+)(?:\?[!-~]*)? HTTP/1\.[01]\r\n")


class PlainAnswer(NamedTuple):
    """An answer of HTTP."""

    status: str
    content_type: str
    body: bytes

    def encoded(self, *, is_head: bool = False) -> bytes:
        """With its head. It is the last answer of its connection."""
        head = (
            f"HTTP/1.1 {self.status}\r\nContent-Type: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if is_head else self.body)


async def health_answer(path: str, health: Health) -> PlainAnswer | None:
    """The answer to `/healthz` or `/readyz`; None for any other path."""
    if path == "/healthz":
        fault = health.liveness_fault()
    elif path == "/readyz":
        fault = await health.readiness_fault()
    else:
        return None
    body = {"status": "unavailable", "reason": fault} if fault else {"status": "ok"}
    return PlainAnswer("503 Service Unavailable" if fault else "200 OK", "application/json", json.dumps(body).encode())


def asked(head: bytes) -> tuple[str, str] | None:
    """Method and path of a GET or HEAD; None if the request is neither."""
    found = _REQUEST.match(head)
    return None if found is None else (found[1].decode(), found[2].decode())


async def serve_operators(
    host: str,
    port: int,
    page: MetricsPage,
    health: Health,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Started, with its port, once it listens.

    :raises ConfigError: if this process cannot listen on the port.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"METRICS_PORT must lead to a free port, or be 0 for none; {port} on {host}: {reason}."
            " A second process of the same kind on this machine needs INSTANCE=2"
        ) from None
    bound: int = listeners[0].socket.getsockname()[1]
    log.info("serving_metrics", host=host, port=bound)
    serve = partial(_serve, page=page, health=health, places=trio.CapacityLimiter(MAX_CONNECTIONS))
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        task_status.started(bound)


async def _serve(stream: trio.SocketStream, page: MetricsPage, health: Health, places: trio.CapacityLimiter) -> None:
    async with stream:
        with trio.move_on_after(REQUEST_S):
            async with places:
                with suppress(trio.BrokenResourceError):  # The client has gone.
                    method, path = asked(await _read_head(stream)) or ("GET", "")
                    answer = await _answer(path, page, health)
                    await stream.send_all(answer.encoded(is_head=method == "HEAD"))


async def _read_head(stream: trio.SocketStream) -> bytes:
    head = b""
    while _END not in head and len(head) <= MAX_HEAD_BYTES:
        data = await stream.receive_some()
        if not data:
            return b""
        head += data
    return head if _END in head else b""


async def _answer(path: str, page: MetricsPage, health: Health) -> PlainAnswer:
    if not path:
        return _BAD
    try:
        if path == "/metrics":
            await health.readiness_fault()
            return PlainAnswer("200 OK", CONTENT_TYPE, await page.text())
        return await health_answer(path, health) or _NOT_FOUND
    except Exception:  # the boundary: clients of the process must not notice a fault here
        log.exception("operator_request_failed", path=path)
        return _FAULT


_BAD: Final = PlainAnswer("400 Bad Request", "text/plain", b"GET /metrics, /healthz or /readyz\n")
_FAULT: Final = PlainAnswer("500 Internal Server Error", "text/plain", b"the log has the fault\n")
_NOT_FOUND: Final = PlainAnswer("404 Not Found", "text/plain", b"GET /metrics, /healthz or /readyz\n")
