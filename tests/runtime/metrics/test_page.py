"""The page of metrics, read by Prometheus' own parser."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from runtime.metrics.page import MetricsPage
from runtime.metrics.samples import Sample
from store.distribution import Distribution


async def parsed(page: MetricsPage) -> dict[str, dict[tuple[str, ...], float]]:
    """Name of a series -> values of its labels -> value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families((await page.text()).decode()):
        for sample in family.samples:
            assert sample.name.startswith(family.name)
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


async def test_each_kind_is_shown_so_that_prometheus_reads_the_same_values() -> None:
    lag, page = Distribution((0.5, 1)), MetricsPage("web")
    for value in (0.25, 0.5, 0.75, 8):
        lag.observe(value)
    page.add(
        lambda: [Sample("alo_event_loop_lag_seconds", lag), Sample("alo_trio_tasks", 7)],
        lambda: [
            Sample("alo_process_cpu_seconds_total", 1.5, ("user",)),
            Sample("alo_process_cpu_seconds_total", 0.25, ("system",)),
            Sample("alo_process_max_open_files", math.inf),
        ],
    )
    found = await parsed(page)
    assert found["alo_event_loop_lag_seconds_bucket"] == {("0.5",): 2, ("1.0",): 3, ("+Inf",): 4}
    assert found["alo_event_loop_lag_seconds_sum"] == {(): 9.5}
    assert found["alo_event_loop_lag_seconds_count"] == {(): 4}
    assert found["alo_trio_tasks"] == {(): 7}
    assert found["alo_process_cpu_seconds_total"] == {("user",): 1.5, ("system",): 0.25}
    assert found["alo_process_max_open_files"] == {(): math.inf}


async def test_a_label_may_have_any_characters() -> None:
    page = MetricsPage("worker")
    texts = ['a"b', "a\\b", "a\nb", "ä{}=,"]
    page.add(lambda: [Sample("alo_task_paused", number, (text,)) for number, text in enumerate(texts)])
    assert (await parsed(page))["alo_task_paused"] == {(text,): number for number, text in enumerate(texts)}


@pytest.mark.parametrize(
    "sample",
    [
        Sample("alo_unknown", 1),
        Sample("alo_process_cpu_seconds_total", 1),
        Sample("alo_trio_tasks", 1, ("label",)),
        Sample("alo_task_paused", 1, ("a worker's metric",)),
    ],
)
async def test_a_sample_that_the_table_does_not_have_for_the_process_is_refused(sample: Sample) -> None:
    page = MetricsPage("web")
    page.add(lambda: [sample])
    with pytest.raises(ValueError, match=f"no such metric of web.*{sample.name}"):
        await page.text()


async def test_all_values_of_a_page_are_of_one_moment_while_other_tasks_run() -> None:
    """The text is made with checkpoints in between, in which everything changes; both values are read before it."""
    ticks, lag, page = 0, Distribution((1,)), MetricsPage("web")

    async def change() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            lag.observe(0)
            await trio.lowlevel.checkpoint()

    def samples() -> Iterator[Sample]:
        yield Sample("alo_event_loop_lag_seconds", lag)
        yield Sample("alo_trio_tasks", ticks)

    page.add(samples)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        for _ in range(5):
            before = ticks
            found = await parsed(page)
            assert found["alo_event_loop_lag_seconds_count"] == {(): found["alo_trio_tasks"][()]}
            assert ticks > before + 2, "others ran meanwhile"
        nursery.cancel_scope.cancel()
