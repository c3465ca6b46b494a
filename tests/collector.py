"""A collector of traces and of error reports on a real socket: OTLP over HTTP in protobuf, and Sentry's envelopes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

import brotli
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class CollectedSpan:
    """A span as it came. Ids are hexadecimal; a span without a parent has an empty one.

    :ivar service: name and instance of the process.
    """

    service: tuple[str, str]
    name: str
    trace: str
    id: str
    parent: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]


_DECODERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "identity": bytes,
    "gzip": gzip.decompress,
    "br": brotli.decompress,
}


class Collector:
    """What has come so far.

    :ivar bodies: of all requests, decompressed.
    :ivar paths: of all requests.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.spans: list[CollectedSpan] = []
        self.reports: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.paths: list[str] = []

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dsn(self) -> str:
        """For SENTRY_DSN."""
        return f"http://key@127.0.0.1:{self.port}/1"

    def named(self, name: str) -> list[CollectedSpan]:
        """The spans with this name."""
        return [span for span in self.spans if span.name == name]

    def take(self, path: str, body: bytes) -> None:
        self.paths.append(path)
        self.bodies.append(body)
        if path == "/v1/traces":
            self.spans += _spans_of(body)
        elif path == "/api/1/envelope/":
            self.reports += _events_of(body)


def _spans_of(body: bytes) -> Iterator[CollectedSpan]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        of = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield CollectedSpan(
                    (of["service.name"], of["service.instance.id"]),
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    {each.key: each.value.string_value or each.value.int_value for each in span.attributes},
                )


def _events_of(envelope: bytes) -> Iterator[dict[str, Any]]:
    """The events of an envelope: its head, and then a head and a payload for each item, which ends with a newline."""
    rest = envelope.partition(b"\n")[2]
    while rest:
        head, _, rest = rest.partition(b"\n")
        item = json.loads(head)
        length = item.get("length", rest.find(b"\n"))
        payload, rest = rest[:length], rest[length + 1 :]
        if item["type"] == "event":
            yield json.loads(payload)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            coding = self.headers.get("content-encoding", "identity")
            collector.take(self.path, _DECODERS[coding](body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server.server_address[1])
    thread = Thread(target=server.serve_forever, name="collector", daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
