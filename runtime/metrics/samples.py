"""The values that a process hands over at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from store.distribution import Distribution

Value: TypeAlias = int | float | Distribution


class Sample(NamedTuple):
    """One value of a metric.

    :ivar name: of the metric, as in `runtime.metrics.table`.
    :ivar labels: values of the metric's labels, in the order of the table.
    """

    name: str
    value: Value
    labels: tuple[str, ...] = ()


Source: TypeAlias = Callable[[], Iterable[Sample]]
"""Reads counters at a scrape. Atomic (no checkpoint), so that values of one page belong to one moment."""


def by_label(name: str, values: Mapping[str, Value]) -> Iterable[Sample]:
    """A sample for each value of a metric with one label."""
    return [Sample(name, value, (label,)) for label, value in values.items()]
