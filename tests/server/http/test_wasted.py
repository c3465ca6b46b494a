"""Hashes to no good end: how many a source has caused, for a time."""

from __future__ import annotations

import pytest
import trio.testing

from server.http import wasted
from server.http.wasted import KEPT_S, Wasted


async def test_a_source_is_forgotten_some_time_after_its_last_one(mock_clock: trio.testing.MockClock) -> None:
    some = Wasted()
    some.note("a")
    mock_clock.jump(KEPT_S - 1)
    some.note("a")
    assert (some.of("a"), some.of("b")) == (2, 0)
    mock_clock.jump(KEPT_S - 1)
    assert some.of("a") == 2
    mock_clock.jump(1)
    assert some.of("a") == 0
    some.note("a")
    assert some.of("a") == 1


async def test_a_crowd_of_sources_pushes_out_those_longest_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasted, "MAX_SOURCES", 2)
    some = Wasted()
    for source in ("a", "b", "a", "c"):
        some.note(source)
    assert [some.of(source) for source in "abc"] == [2, 0, 1]
