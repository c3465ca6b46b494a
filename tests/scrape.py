"""Pages of metrics, fetched from real processes and read by Prometheus' own parser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import httpx
from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = frozenset[tuple[str, str]]


class Scrape:
    """A page of one process.

    :ivar kinds: metric -> its kind.
    :ivar values: (series, labels) -> value.
    """

    def __init__(self, text: str) -> None:
        self.kinds: dict[str, str] = {}
        self.values: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(text):
            # The parser takes `_total` off the name of a counter.
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert name not in self.kinds, f"{name} comes twice"
            self.kinds[name] = family.type
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.values, f"{key} comes twice"
                self.values[key] = sample.value
        self._check_histograms()

    def value(self, series: str, **labels: str) -> float:
        """The value of one series; 0 if it has none yet."""
        return self.values.get((series, frozenset(labels.items())), 0)

    def total(self, series: str) -> float:
        """The sum over all labels."""
        return sum(value for (name, _), value in self.values.items() if name == series)

    def series_of(self, metric: str) -> list[Mapping[str, str]]:
        """The labels of each series of a metric."""
        kind = self.kinds[metric]
        name = f"{metric}_count" if kind == "histogram" else metric
        return [dict(labels) for found, labels in self.values if found == name]

    def _check_histograms(self) -> None:
        """Buckets rise with their bounds, and the last one has as many values as the histogram."""
        buckets: dict[tuple[str, Labels], list[tuple[float, float]]] = {}
        for (name, labels), value in self.values.items():
            if name.endswith("_bucket"):
                bound = math.inf if (text := dict(labels)["le"]) == "+Inf" else float(text)
                others = frozenset(pair for pair in labels if pair[0] != "le")
                buckets.setdefault((name.removesuffix("_bucket"), others), []).append((bound, value))
        histograms = {name for name, kind in self.kinds.items() if kind == "histogram"}
        assert {name for name, _ in buckets} <= histograms
        for (name, others), found in buckets.items():
            counts = [count for _, count in sorted(found)]
            assert counts == sorted(counts), name
            assert counts[-1] == self.values[f"{name}_count", others], name
            assert max(found)[0] == math.inf, name


async def scrape(port: int) -> Scrape:
    """The page on this port."""
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text)
