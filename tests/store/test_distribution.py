from __future__ import annotations

from store.distribution import Buckets, Distribution, DistributionsBy


def test_a_value_on_a_bound_belongs_below_it_as_in_prometheus() -> None:
    of = Distribution((1, 2))
    for value in (0.5, 1, 1.5, 2, 2.5, 100):
        of.observe(value)
    assert of.counted() == Buckets((1, 2), (2, 2, 2), 107.5)
    assert of.count == 6


def test_a_copy_does_not_change_when_more_is_counted() -> None:
    of = Distribution()
    before = of.counted()
    of.observe(0.1)
    assert sum(before.counts) == 0
    assert sum(of.counted().counts) == 1


def test_each_key_has_a_distribution_of_its_own() -> None:
    by_name: DistributionsBy[str] = DistributionsBy((1,))
    by_name["a"].observe(0.5)
    by_name["b"].observe(3)
    by_name["a"].observe(0.25)
    assert {name: each.counted() for name, each in by_name.items()} == {
        "a": Buckets((1,), (2, 0), 0.75),
        "b": Buckets((1,), (0, 1), 3.0),
    }
