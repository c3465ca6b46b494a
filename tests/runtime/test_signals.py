"""What SIGTERM changes, and when."""

from __future__ import annotations

import signal

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from runtime.health import Health
from runtime.signals import watch_signals


async def told(nursery: trio.Nursery, grace_s: float) -> tuple[trio.Event, Health]:
    """A process that has got SIGTERM."""
    terminated, health = trio.Event(), Health({})
    health.started()
    await nursery.start(watch_signals, terminated, health, grace_s)
    signal.raise_signal(signal.SIGTERM)
    while not health.is_stopping:
        await trio.lowlevel.checkpoint()
    return terminated, health


async def test_readiness_ends_at_once_and_service_after_the_grace(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    terminated, health = await told(nursery, 5.0)
    assert trio.current_time() == began
    assert not terminated.is_set()
    assert await health.readiness_fault() == "stopping"
    await terminated.wait()
    assert trio.current_time() - began >= 5


async def test_a_second_signal_ends_the_grace_and_a_third_changes_nothing(nursery: trio.Nursery) -> None:
    terminated, _ = await told(nursery, 600.0)
    signal.raise_signal(signal.SIGINT)
    with trio.fail_after(5):
        await terminated.wait()
    signal.raise_signal(signal.SIGTERM)
    await wait_all_tasks_blocked()


async def test_without_a_grace_service_ends_at_once(nursery: trio.Nursery) -> None:
    terminated, _ = await told(nursery, 0.0)
    with trio.fail_after(5):
        await terminated.wait()
