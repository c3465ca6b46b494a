"""The guard of the hot path's cost: it finds a piece that became dearer, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat

import pytest

from bench import guard
from bench.guard import CostMeter
from bench.hot_path import Loop, loops
from bench.instructions import CannotCountError, count_instructions

UNIT = 1000


def meter_of(costs: dict[str, float], counted: list[int] | None = None) -> tuple[CostMeter, dict[str, Loop]]:
    """A meter of pieces that only have a name, with their costs in units of the reference loop.

    :param counted: takes the times of each count.
    """
    pieces: dict[str, Loop] = {piece: partial(lambda name, count: None, piece) for piece in costs}

    def count(work: Callable[[], object]) -> int:
        assert isinstance(work, partial)
        *piece, times = work.args
        if counted is not None and times:
            counted.append(times)
        return round(50 + times * UNIT * (costs[piece[0]] if piece else 1.0))

    return CostMeter(count), pieces


def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, float, bool]]:
    for line in capsys.readouterr().out.splitlines():
        values = json.loads(line)
        yield values["piece"], values["to_stored"], values["at_most_1.15"]


def test_a_piece_that_became_dearer_fails_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    meter, pieces = meter_of({"frame_in": 1.2, "digest": 0.36, "push_to_2": 0.7})
    assert not guard.guard(meter, pieces, {"frame_in": 1.2, "digest": 0.3, "push_to_2": 0.7})
    assert list(lines(capsys)) == [("frame_in", 1.0, True), ("digest", 1.2, False), ("push_to_2", 1.0, True)]


def test_a_piece_that_seems_dearer_is_counted_again() -> None:
    counted: list[int] = []
    meter, pieces = meter_of({"frame_in": 1.0, "digest": 0.36}, counted)
    counted.clear()
    guard.guard(meter, pieces, {"frame_in": 1.0, "digest": 0.3})
    assert counted == [1, 1, 2]


def test_a_stored_cost_that_is_too_high_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    meter, pieces = meter_of({"frame_in": 0.9, "digest": 0.3})
    assert guard.guard(meter, pieces, {"frame_in": 1.0, "digest": 0.3})
    assert capsys.readouterr().err.startswith("frame_in is cheaper than it was")


def test_a_fifth_more_work_has_a_fifth_more_instructions() -> None:
    """Real counts, of some thousand instructions: other work on the machine does not change them."""

    def loop(times: int) -> None:
        for _ in repeat(None, times):
            pass

    loop(guard.WARM)
    call, before, after = (count_instructions(partial(loop, times)) for times in (0, 20, 24))
    assert (after - call) / (before - call) == pytest.approx(1.2, abs=0.02)


async def test_each_piece_has_a_stored_cost_and_works() -> None:
    pieces = loops()
    for loop in pieces.values():
        loop(1)
    for stored in json.loads(guard.STORED.read_text()).values():
        assert set(stored) == set(pieces)


def test_work_that_raises_has_no_count() -> None:
    with pytest.raises(CannotCountError, match="did not return"):
        count_instructions(lambda: 1 // 0)
