"""Whether a process traces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runtime.config import Config, ConfigError

if TYPE_CHECKING:
    from runtime.tracing.tracer import Tracer


@contextmanager
def open_tracer(config: Config, process: str, id: str) -> Iterator[Tracer | None]:
    """The tracer of a process until the end of the block, which exports the last spans; None if no endpoint is
    configured.

    :param process: "socket" or "worker".
    :param id: of the process, as in its log.
    :raises ConfigError: if an endpoint is configured and the packages are missing.
    """
    if not config.otel_exporter_otlp_endpoint or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield None
        return
    try:
        from runtime.tracing.tracer import Tracer
    except ImportError as error:
        raise ConfigError(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs the packages of the extra `tracing`, or must be empty:"
            f" python -m embedded.requirements install tracing ({error.name} is missing)"
        ) from None
    tracer = Tracer(config.otel_exporter_otlp_endpoint, config.otel_traces_sampler_arg, process, id)
    try:
        yield tracer
    finally:
        tracer.close()
