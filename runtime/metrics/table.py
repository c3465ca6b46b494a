"""All metrics. `docs/metrics.md` is made from this table; tests compare it with the pages of real processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runtime.metrics.gateway_table import CLUSTER, CONNECTIONS, DELIVERY, WIRE
from runtime.metrics.metric import Metric
from runtime.metrics.other_tables import HTTP, JOBS, NOTICES, PROCESS
from runtime.metrics.store_table import BATCHES, CACHES, KEYS, OBJECTS, POSTGRES, REDIS

SECTIONS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "The process": PROCESS,
    "Connections": CONNECTIONS,
    "Frames and bytes": WIRE,
    "Delivery": DELIVERY,
    "Nodes": CLUSTER,
    "HTTP": HTTP,
    "Jobs": JOBS,
    "Notices and mail": NOTICES,
    "Batches": BATCHES,
    "Caches": CACHES,
    "One-time keys": KEYS,
    "Postgres": POSTGRES,
    "Redis": REDIS,
    "The object store": OBJECTS,
}
"""Title of a section of the page -> its metrics."""

METRICS: Final = tuple(metric for section in SECTIONS.values() for metric in section)

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in METRICS}
