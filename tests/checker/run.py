"""One run: start, take the steps, let everything calm down, compare the contents of all devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.checker.checker_world import CheckerWorld
from tests.checker.checks import Finding, differences, verify
from tests.checker.devices import CheckedDevice
from tests.checker.encrypting import read_sets
from tests.checker.history import Acked, Edited, EnvelopeHeld, Fault, History, Stored, View, When
from tests.checker.plan import Step
from tests.checker.views import fetch, view_of
from tests.processes import open_cluster
from tests.waiting import let_pass, wait_until

SETTLED_S: Final = 40.0
"""From the last step until the server has answered every request. A session gives up after 60 s."""

MOVED_S: Final = 40.0
"""Until cursors have moved past the last messages: twice the interval of `quick_node`, and some for a busy machine."""

CALM_S: Final = 30.0
"""From then until all devices hold the same. The other nodes miss a killed node when its lease ends, after 5 s."""

UNSETTLED: Final = "steps were cancelled, as they were not over in time: other findings may come of that"


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    :ivar counts: steps by kind, and their outcomes.
    """

    history: History
    findings: list[Finding]
    counts: Counter[str]


async def run(pool: Pool, redis_url: str, plan: Sequence[Step]) -> Outcome:
    """Take the steps of a plan, then check the history."""
    async with open_cluster(pool.url, redis_url) as cluster, trio.open_nursery() as nursery:
        world = CheckerWorld(pool, cluster, redis_url, nursery)
        await world.begin()
        with trio.move_on_after(plan[-1].at_s + SETTLED_S) as patience:
            await world.act(plan)
        late = [Finding("unsettled", UNSETTLED)] if patience.cancelled_caught else []
        late += [Finding("log", line) for line in world.nodes.faults_logged()]
        devices = [device for each in world.devices for device in each]
        late += await _let_all_come(world, devices)
        await _compare(world, devices, "connected")
        late += await _let_cursors_move(world, devices)
        for turn in (1, 2):
            # The first resume uses a cursor that has moved, and tells devices of silent messages; then they mark these.
            # The next resume tells a device of the marks of its user's other device.
            late += await _resume(world, devices, turn)
            late += await _wait_marked(devices)
        await _compare(world, devices, "resumed")
        for device in devices:
            device.note_envelopes()
        await _read_stored(world, pool)
        await world.close()
        history = History(tuple(world.recorder.events))
        nursery.cancel_scope.cancel()
    counts = world.counts
    counts["acks"] = sum(1 for _ in history.of(Acked))
    counts["edits acked"] = sum(1 for _ in history.of(Edited))
    counts["messages stored"] = sum(1 for _ in history.of(Stored))
    counts["refused"] = sum(device.refused for device in devices)
    counts["accepted for a device set"] = sum(each.accepted for each in world.encrypting)
    counts["refused for another device set"] = sum(each.stale for each in world.encrypting)
    counts["healed"] = sum(each.healed for each in world.encrypting)
    counts["envelopes held"] = sum(each.envelope is not None for each in history.of(EnvelopeHeld))
    counts["resumes"] = sum(device.resumed for device in devices)
    counts["views compared"] = sum(view.when != "fresh" for view in history.of(View))
    counts["events"] = len(history.events)
    return Outcome(history, [*late, *verify(history)], counts)


async def _let_all_come(world: CheckerWorld, devices: Sequence[CheckedDevice]) -> list[Finding]:
    """Connect all devices; wait until the server has acknowledged all their sends and they miss no known message."""
    for number, device in enumerate(devices):
        if device.session is None:
            await device.come(world.order(number))
    with trio.move_on_after(SETTLED_S):
        for device in devices:
            await device.wait_answered()
    late = [Finding("unacked", f"{device.name}: {device.drafts}") for device in devices if device.drafts]
    return late + await _wait_caught_up(devices)


async def _wait_caught_up(devices: Sequence[CheckedDevice]) -> list[Finding]:
    """Findings for devices that do not get the messages that they know to be missing."""
    with trio.move_on_after(CALM_S):
        for device in devices:
            assert device.session is not None
            await device.session.wait_caught_up()
    return [Finding("stuck", f"{device.name}: {device.state()}") for device in devices if not device.is_caught_up]


async def _let_cursors_move(world: CheckerWorld, devices: Sequence[CheckedDevice]) -> list[Finding]:
    """Send a message in each conversation and let the devices mark it; then wait until the server has moved each
    device's cursor, past the messages that it did not push to the device.

    Twice: the first cursor may date from before the message, the second one dates from after the first.
    """
    for _ in range(2):
        for device in devices:
            device.mailbox.moved = trio.Event()
        await world.say_last_words()
        with trio.move_on_after(MOVED_S):
            for device in devices:
                await device.mailbox.moved.wait()
    world.counts["cursors moved"] = sum(device.mailbox.cursors for device in devices)
    still = [device.name for device in devices if not device.mailbox.moved.is_set()]
    found = [Finding("cursor", f"{name} was given none that had moved") for name in still]
    return found + await _wait_marked(devices)


async def _wait_marked(devices: Sequence[CheckedDevice]) -> list[Finding]:
    """Wait until no device has a mark to send: a node pushes a mark only to the authors of the messages it passes.

    Findings for devices whose marks the server does not take.
    """
    with suppress(AssertionError):
        await wait_until(lambda: not any(device.has_marks_due for device in devices), "all is marked", timeout_s=CALM_S)
    return [Finding("unmarked", f"{device.name}: {device.state()}") for device in devices if device.has_marks_due]


async def _resume(world: CheckerWorld, devices: Sequence[CheckedDevice], turn: int) -> list[Finding]:
    """Disconnect each device, and connect it to another node with its cursor."""
    for number, device in enumerate(devices):
        await device.go(says_bye=number % 2 == 0)
    for number, device in enumerate(devices):
        await device.come(world.order(number + turn))
    return await _wait_caught_up(devices)


async def _compare(world: CheckerWorld, devices: Sequence[CheckedDevice], when: When) -> None:
    """Compare all devices until each holds the same as a fresh one, at most CALM_S; record the last views."""
    recorder = world.recorder
    deadline = trio.current_time() + CALM_S
    while True:
        seen: list[View] = []
        for number, person in enumerate(world.people):
            url = world.urls[number % len(world.urls)]
            shown = await fetch(url, person.token, person.user)
            now, user = recorder.now(), recorder.name_of(person.user)
            fresh = View(now, f"{user} afresh", user, world.node_at(url), "fresh", view_of(shown, recorder.name_of))
            held = [
                View(now, device.name, user, world.node_at(device.url), when, view_of(device.mailbox, recorder.name_of))
                for device in devices
                if device.user == user
            ]
            seen += [fresh, *held]
        if trio.current_time() > deadline or not _differ(seen, world):
            break
        await let_pass(0.3, why="devices and fresh fetches are compared again after a moment")
    for view in seen:
        recorder.add(view)
    recorder.add(Fault(recorder.now(), f"looked at all who were {when}"))


def _differ(seen: Sequence[View], world: CheckerWorld) -> bool:
    fresh = {view.user: view for view in seen if view.when == "fresh"}
    return any(differences(view, fresh[view.user]) for view in seen if view.when != "fresh")


async def _read_stored(world: CheckerWorld, pool: Pool) -> None:
    names = world.recorder
    for place in world.places:
        await read_sets(pool, place.id, names)
        rows = await pool.fetch(
            "select seq, id, sender_id, (extract(epoch from created) * 1000000)::bigint, content, revision,"
            " deleted is not null, is_silent from messages where conversation_id = %s::uuid order by seq",
            (uuid(place.id),),
        )
        for seq, id_, sender, created, content, revision, is_deleted, is_silent in rows:
            whose, at = names.name_of(sender), names.now()
            names.add(
                Stored(at, place.name, seq, id_.hex(), whose, created, content or b"", revision, is_deleted, is_silent)
            )
