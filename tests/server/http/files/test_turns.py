"""Turns of copying and of the disk: few threads at a time, and no thread waits for long."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Event, Thread

import pytest

from server.http.files import turns as module
from server.http.files.turns import MAX_REST_S, REST, CopyTurns, DiskTurns
from tests.waiting import DEADLINE_S

AT_ONCE = 2


def run_all(jobs: list[Callable[[], None]]) -> None:
    running = [Thread(target=job, daemon=True) for job in jobs]
    for each in running:
        each.start()
    for each in running:
        each.join(DEADLINE_S)
        assert not each.is_alive()


def test_few_threads_copy_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COPY_TURN_S", DEADLINE_S)
    turns, pair = CopyTurns(AT_ONCE), Barrier(AT_ONCE)
    copying: list[int] = []
    most: list[int] = []

    def copy() -> None:
        with turns.turn():
            copying.append(1)
            most.append(len(copying))
            pair.wait(DEADLINE_S)  # all of a turn are there at the same time
            copying.pop()

    run_all([copy] * (3 * AT_ONCE))
    assert max(most) == AT_ONCE


@pytest.mark.parametrize(("turns", "longest"), [(CopyTurns(1), "COPY_TURN_S"), (DiskTurns(), "DISK_TURN_S")])
def test_a_thread_whose_disk_hangs_stops_no_other(
    turns: CopyTurns | DiskTurns, longest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, longest, 0.01)
    is_held, may_end = Event(), Event()
    taken: list[int] = []

    def hang() -> None:
        with turns.turn():
            is_held.set()
            assert may_end.wait(DEADLINE_S)

    def take() -> None:
        assert is_held.wait(DEADLINE_S)
        for n in range(3):
            with turns.turn():
                taken.append(n)
        may_end.set()

    run_all([hang, take])
    assert taken == [0, 1, 2]


class RestingClock:
    """A clock that `sleep` moves on.

    :ivar rests: how long each of its sleeps was.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.rests: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds


def test_the_disk_rests_after_each_write_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, turns = RestingClock(), DiskTurns()
    monkeypatch.setattr(module, "time", clock)
    for write_s in (0.001, 60.0):
        with turns.turn():
            clock.now += write_s
    assert clock.rests == pytest.approx([REST * 0.001, MAX_REST_S])


def test_one_thread_writes_to_the_disk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DISK_TURN_S", DEADLINE_S)
    turns, second = DiskTurns(), Event()
    writing: list[int] = []

    def write() -> None:
        with turns.turn():
            writing.append(1)
            if len(writing) > 1:
                second.set()
            second.wait(0.02)  # a second one would have the time to come
            writing.pop()

    run_all([write] * 4)
    assert not second.is_set()
