"""The page that Prometheus fetches, in its text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

import trio

from runtime.metrics.metric import Metric
from runtime.metrics.samples import Sample, Source
from runtime.metrics.table import BY_NAME, METRICS
from store.distribution import Buckets, Distribution

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_Series: TypeAlias = tuple[tuple[str, ...], float | Buckets]
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class MetricsPage:
    """The metrics of one process.

    :param process: "web", "socket" or "worker".
    """

    def __init__(self, process: str) -> None:
        self._process = process
        self._sources: list[Source] = []

    def add(self, *sources: Source) -> None:
        """Show what these sources hand over, too."""
        self._sources += sources

    async def text(self) -> bytes:
        """The page. All values are of one moment; the other tasks have their turn while their text is made.

        :raises ValueError: if a source hands over a sample that the table does not have for this process.
        """
        found = self._read()
        parts: list[str] = []
        for metric in METRICS:
            if self._process in metric.processes:
                parts.extend(_lines(metric, found.get(metric.name, ())))
                await trio.lowlevel.checkpoint()
        return "".join(parts).encode()

    def values(self, names: Collection[str]) -> dict[str, float | Buckets]:
        """Copies of the values of these metrics, by metric and labels, joined with spaces. Atomic (no
        checkpoint).

        :raises ValueError: as `text`.
        """
        return {
            " ".join((name, *labels)): value
            for name, series in self._read().items()
            if name in names
            for labels, value in series
        }

    def _read(self) -> dict[str, list[_Series]]:
        """Copies of all values. Atomic (no checkpoint)."""
        found: dict[str, list[_Series]] = {}
        for source in self._sources:
            for sample in source():
                self._check(sample)
                value = sample.value.counted() if isinstance(sample.value, Distribution) else sample.value
                found.setdefault(sample.name, []).append((sample.labels, value))
        return found

    def _check(self, sample: Sample) -> None:
        metric = BY_NAME.get(sample.name)
        if metric is None or self._process not in metric.processes or len(sample.labels) != len(metric.labels):
            raise ValueError(f"no such metric of {self._process} with {len(sample.labels)} labels: {sample.name}")


def _lines(metric: Metric, series: Sequence[_Series]) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
    for labels, value in series:
        pairs = [f'{name}="{text.translate(_ESCAPES)}"' for name, text in zip(metric.labels, labels, strict=True)]
        if isinstance(value, Buckets):
            yield from _buckets(metric.name, pairs, value)
        else:
            yield f"{metric.name}{_braced(pairs)} {value!r}\n"


def _buckets(name: str, pairs: list[str], value: Buckets) -> Iterator[str]:
    before = "".join(f"{pair}," for pair in pairs)
    upto = list(accumulate(value.counts))
    for bound, count in zip((*map(float, value.bounds), "+Inf"), upto, strict=True):
        yield f'{name}_bucket{{{before}le="{bound}"}} {count}\n'
    labels = _braced(pairs)
    yield f"{name}_sum{labels} {value.sum!r}\n{name}_count{labels} {upto[-1]}\n"


def _braced(pairs: list[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""
