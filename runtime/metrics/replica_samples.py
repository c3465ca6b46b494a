"""Samples of the replicas of Postgres."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.metrics.samples import Sample
from store.replicas import READ_OUTCOMES, Replicas


def replica_samples(replicas: Replicas) -> Iterator[Sample]:
    """Figures of the replicas of one process."""
    for outcome in READ_OUTCOMES:
        yield Sample("alo_replica_reads_total", replicas.outcomes[outcome], (outcome,))
