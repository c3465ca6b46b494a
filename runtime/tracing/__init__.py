"""Traces of messages and of their notices, by OpenTelemetry.

There is one interface, `tracer.Tracer`, and `None` in its place while no endpoint is configured: then nothing of
OpenTelemetry is imported, and each place that could begin a span costs one `is None`.

| module | about |
|---|---|
| `switch` | opens the tracer of a process, if an endpoint is configured |
| `tracer` | spans, and their export in a thread; the one file that meets OpenTelemetry |
"""
