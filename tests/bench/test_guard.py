"""The guard of the hot path's cost: it finds a piece that became dearer, and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bench import guard, hot_path
from bench.hot_path import Loop, loops


@pytest.fixture(autouse=True)
def few_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SLICES", 20)
    monkeypatch.setattr(guard, "SLICE_NS", 1_000_000)


@pytest.fixture
async def stored() -> dict[str, float]:
    return {piece: guard.ratio_of(loop, 60) for piece, loop in loops().items()}


def slower(loop: Loop) -> Loop:
    def twice(count: int) -> None:
        loop(count)
        loop(count)

    return twice


def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, bool]]:
    for line in capsys.readouterr().out.splitlines():
        values = json.loads(line)
        yield values["piece"], values["at_most_1.15"]


async def test_a_piece_that_became_twice_as_dear_fails_by_name(
    stored: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    for piece, loop in loops().items():
        assert not guard.guard({piece: slower(loop)}, stored)
        assert list(lines(capsys)) == [(piece, False)]


async def test_unchanged_pieces_hold(stored: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.guard(loops(), stored)
    assert list(lines(capsys)) == [(piece, True) for piece in loops()]


async def test_a_slower_function_of_the_product_is_found(
    stored: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = hot_path.encode
    monkeypatch.setattr(hot_path, "encode", lambda frame: encode(frame) and encode(frame))
    assert not guard.guard({"frames_out": loops()["frames_out"]}, stored)
