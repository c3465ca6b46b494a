"""Turns of copying: few threads at a time, and no thread waits for long."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Event, Thread

import pytest

from server.http.files import threads
from server.http.files.threads import CopyTurns
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
    monkeypatch.setattr(threads, "TURN_S", DEADLINE_S)
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


def test_a_thread_whose_disk_hangs_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "TURN_S", 0.01)
    turns, is_held, may_end = CopyTurns(1), Event(), Event()
    copied: list[int] = []

    def hang() -> None:
        with turns.turn():
            is_held.set()
            assert may_end.wait(DEADLINE_S)

    def copy() -> None:
        assert is_held.wait(DEADLINE_S)
        for n in range(3):
            with turns.turn():
                copied.append(n)
        may_end.set()

    run_all([hang, copy])
    assert copied == [0, 1, 2]
