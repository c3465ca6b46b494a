"""Plays scenarios, several at a time, each with one of some drivers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import trio

from protocol.conformance.driver import Driver
from protocol.conformance.player import Result, play
from protocol.conformance.scenario import Scenario

OpenDriver: TypeAlias = Callable[[], AbstractAsyncContextManager[Driver]]


class KitRun:
    """A run of scenarios.

    :ivar client: the name of the client; empty until a driver is open.
    """

    def __init__(self, scenarios: Sequence[Scenario], open_driver: OpenDriver) -> None:
        self.client = ""
        self._open_driver = open_driver
        self._waiting = deque(scenarios)
        self._results: dict[str, Result] = {}

    async def play_all(self, jobs: int) -> list[Result]:
        """The results, by the names of scenarios. Cancelling it ends the adapters.

        :param jobs: the number of scenarios at a time.
        :raises ExceptionGroup: of `BrokenAdapter`, if an adapter does not begin; of `WrongScenario`.
        """
        async with trio.open_nursery() as nursery:
            for _ in range(max(1, min(jobs, len(self._waiting)))):
                nursery.start_soon(self._work)
        return [self._results[name] for name in sorted(self._results)]

    async def _work(self) -> None:
        while self._waiting:
            async with self._open_driver() as driver:
                self.client = driver.name
                while self._waiting and not driver.is_broken:
                    scenario = self._waiting.popleft()
                    self._results[scenario.name] = await play(scenario, driver)
