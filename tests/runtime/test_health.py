"""Liveness and readiness, with services that a test stops."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from runtime.health import CHECK_S, KEPT_S, Health
from store.errors import EvictingRedis, Overloaded, Unavailable
from tests.waiting import let_pass


class SomeService:
    """A service; `fault` is its answer, and `hangs` says that it gives none."""

    def __init__(self) -> None:
        self.asked = 0
        self.fault: Exception | None = None
        self.hangs = False

    async def check(self) -> None:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def postgres() -> SomeService:
    return SomeService()


@pytest.fixture
def health(postgres: SomeService) -> Health:
    return Health({"Postgres": postgres.check, "Redis": SomeService().check})


async def test_a_process_is_ready_from_its_start_until_it_is_told_to_stop(health: Health) -> None:
    assert await health.readiness_fault() == "starting"
    health.started()
    assert await health.readiness_fault() == ""
    health.stopping()
    assert await health.readiness_fault() == "stopping"


async def test_a_service_that_does_not_answer_is_named_until_it_is_back(
    health: Health, postgres: SomeService, autojump_clock: MockClock
) -> None:
    health.started()
    postgres.fault = Unavailable("Postgres", "10.0.0.1:5432", "refused")
    assert await health.readiness_fault() == "Postgres cannot be reached"
    postgres.fault = None
    await let_pass(KEPT_S, why="answers are kept")
    assert await health.readiness_fault() == ""


async def test_a_service_that_hangs_is_named_in_time(
    health: Health, postgres: SomeService, autojump_clock: MockClock
) -> None:
    health.started()
    postgres.hangs = True
    began = trio.current_time()
    assert await health.readiness_fault() == "Postgres cannot be reached"
    assert trio.current_time() - began == pytest.approx(CHECK_S)


async def test_a_process_whose_query_has_to_wait_for_others_is_ready(health: Health, postgres: SomeService) -> None:
    health.started()
    postgres.fault = Overloaded("the Postgres pool", 1024)
    assert await health.readiness_fault() == ""


async def test_a_service_that_may_evict_keys_is_named_until_it_keeps_them_all(autojump_clock: MockClock) -> None:
    redis = SomeService()
    health = Health({"Postgres": SomeService().check, "Redis": redis.check})
    health.started()
    redis.fault = EvictingRedis("10.0.0.1:6379", "allkeys-lru")
    assert await health.readiness_fault() == "Redis may evict keys"
    redis.fault = None
    await let_pass(KEPT_S, why="answers are kept")
    assert await health.readiness_fault() == ""


async def test_many_requests_ask_a_service_once(
    health: Health, postgres: SomeService, autojump_clock: MockClock
) -> None:
    health.started()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(health.readiness_fault)
    assert postgres.asked == 1
    await let_pass(KEPT_S, why="answers are kept")
    await health.readiness_fault()
    assert postgres.asked == 2


async def test_a_fault_of_the_check_itself_is_no_answer_of_the_service(postgres: SomeService) -> None:
    health = Health({"Postgres": postgres.check})
    health.started()
    postgres.fault = ZeroDivisionError()
    with pytest.raises(ExceptionGroup):
        await health.readiness_fault()


def test_liveness_depends_on_overdue_work_alone() -> None:
    overdue = ""
    health = Health({"Postgres": SomeService().check}, lambda: overdue)
    assert health.liveness_fault() == ""
    overdue = "a commit is under way for 61 s"
    assert health.liveness_fault() == overdue
    assert [(each.name, each.value) for each in health.samples()] == [("alo_live", 0), ("alo_ready", 0)]
