"""The port on which Prometheus fetches the metrics: `GET /metrics`."""

from __future__ import annotations

from threading import Thread
from wsgiref.simple_server import WSGIServer

import structlog
import trio
from prometheus_client import CollectorRegistry, start_http_server

from runtime.config import ConfigError

log = structlog.get_logger(__name__)


async def serve_metrics(
    host: str, port: int, registry: CollectorRegistry, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled, by the library's own server in a thread: it only reads.

    :raises ConfigError: if this process cannot listen on the port.
    """
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(
            f"METRICS_PORT must be a free port, or 0 for none; {port} on {host}: {error.strerror}"
        ) from None
    log.info("serving_metrics", host=host, port=server.server_port)
    try:
        task_status.started(server.server_port)
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_close, server, thread)


def _close(server: WSGIServer, thread: Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
