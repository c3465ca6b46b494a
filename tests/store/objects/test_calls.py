from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from store.errors import ObjectMissing, ObjectStoreRefused, ObjectTooLarge, Unavailable
from store.objects.calls import CallTimes
from tests.waiting import let_pass


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ObjectMissing("a/b"), "missing"),
        (Unavailable("the object store", "here", "busy"), "unavailable"),
        (ObjectStoreRefused("here", "denied"), "refused"),
        (ObjectTooLarge("a/b", 7), "refused"),
        (ZeroDivisionError(), "cancelled"),
    ],
)
def test_a_call_that_fails_is_counted_by_its_error(error: Exception, outcome: str) -> None:
    async def fail() -> CallTimes:
        calls = CallTimes()
        with pytest.raises(type(error)), calls.measured("GET"):
            raise error
        return calls

    assert {key: each.count for key, each in trio.run(fail).seconds.items()} == {("GET", outcome): 1}


async def test_a_call_that_succeeds_is_counted_with_its_time(autojump_clock: MockClock) -> None:
    calls = CallTimes()
    with calls.measured("PUT"):
        await let_pass(2, why="the object store takes so long")
    assert [(key, each.count, each.sum) for key, each in calls.seconds.items()] == [
        (("PUT", "ok"), 1, pytest.approx(2))
    ]
