"""Samples of claims of one-time keys, which gateways and `web` serve."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.metrics.samples import Sample, by_label
from store.key_claims import KeyClaims


def key_samples(claims: KeyClaims) -> Iterator[Sample]:
    """Figures of the claims of one process."""
    found = claims.statistics()
    yield from by_label("alo_claimed_keys_total", claims.given)
    yield Sample("alo_key_claims_total", claims.answered)
    yield Sample("alo_key_claim_commits_total", claims.commits)
    yield Sample("alo_key_claims_waiting", found.waiting)
    yield Sample("alo_key_pools_low_total", claims.low)
