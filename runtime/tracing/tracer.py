"""Spans of OpenTelemetry, exported over OTLP (protobuf over HTTP) by a thread of the SDK.

The decision to sample is made here, once for each trace and before any object is made: the SDK makes several objects
for a span that it does not record. Everything that is begun is recorded.

A span has a name of ours and attributes of `ATTRIBUTES`: ids, numbers, and words of closed sets. It has no content,
token or address, and no text of an error.
"""

from __future__ import annotations

import os
import random
from threading import Thread
from typing import Final, Literal, TypeAlias

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace import Span as SdkSpan

log = structlog.get_logger(__name__)

CLOSE_S: Final = 1.0
"""For the export of the last spans. A process that is told to stop has 25 s; its other waits take up to 22 s."""

EXPORT_S: Final = 5
"""For one export, its repetitions included; the SDK's 10 s would be more than the process has when it ends."""

TRACE_BYTES: Final = 16

Kind: TypeAlias = Literal["internal", "server", "producer", "consumer"]

_KINDS: Final[dict[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}

ATTRIBUTES: Final = frozenset(
    ("attempt", "connections", "conversation", "entries", "items", "job", "lane", "node", "outcome", "seq", "task")
)
"""All names of attributes, which the collector sees behind `alo.`."""


class Span:
    """A span under way.

    :ivar context: names the span to processes that continue its trace: 16 bytes of the trace, 8 of the span.
    """

    __slots__ = ("_span", "context")

    def __init__(self, span: SdkSpan) -> None:
        named = span.get_span_context()
        self._span = span
        self.context = named.trace_id.to_bytes(TRACE_BYTES, "big") + named.span_id.to_bytes(8, "big")

    @property
    def trace_id(self) -> str:
        """As logs have it: 32 hexadecimal digits."""
        return self.context[:TRACE_BYTES].hex()

    def end(self, ended_ns: int | None = None, **attributes: int | str) -> None:
        """The span has ended: now, or at a time in nanoseconds since 1970. Never blocks.

        :param attributes: some of `ATTRIBUTES`.
        """
        for name, value in attributes.items():
            assert name in ATTRIBUTES, name
            self._span.set_attribute(f"alo.{name}", value)
        self._span.end(ended_ns)


class Tracer:
    """The traces of one process.

    :param endpoint: base URL of a collector; `/v1/traces` is appended, unless OTEL_EXPORTER_OTLP_TRACES_ENDPOINT names
        the whole. The SDK reads the other standard variables itself: headers, certificate, compression, batches.
    :param ratio: the share of messages that are traced, 0 to 1.
    """

    def __init__(self, endpoint: str, ratio: float, process: str, id: str) -> None:
        self._ratio = ratio
        name = os.environ.get("OTEL_SERVICE_NAME") or f"alo-{process}"
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": name, "service.instance.id": id}),
            shutdown_on_exit=False,
        )
        url = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or f"{endpoint.rstrip('/')}/v1/traces"
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, timeout=EXPORT_S)))
        self._tracer = self._provider.get_tracer("alo-shield")

    def is_sampled(self) -> bool:
        """Whether a new trace is to begin: asked for each message, so it makes no object."""
        return random.random() < self._ratio  # noqa: S311

    def start(
        self, name: str, kind: Kind = "internal", *, parent: bytes | None = None, began_ns: int | None = None
    ) -> Span:
        """Begin a span. Never blocks.

        :param parent: the context of a span, perhaps of another process; None: a new trace begins.
        :param began_ns: nanoseconds since 1970; by default now.
        """
        return Span(self._tracer.start_span(name, context=_context(parent), kind=_KINDS[kind], start_time=began_ns))

    def close(self) -> None:
        """Export the last spans, for at most `CLOSE_S`."""
        closing = Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            log.warning("spans_lost", error=f"the collector took none within {CLOSE_S:g} s")


def _context(parent: bytes | None) -> Context:
    if parent is None:
        return Context()
    trace, span = int.from_bytes(parent[:TRACE_BYTES], "big"), int.from_bytes(parent[TRACE_BYTES:], "big")
    named = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(named), Context())
