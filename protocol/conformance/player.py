"""Plays a scenario: lets the server act, has the client do things, and checks what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import trio
from msgspec import Struct

from protocol.conformance import settled, words
from protocol.conformance.double import FIRST_TOKEN, Double, Heard
from protocol.conformance.driver import BrokenAdapter, CheckFailed, Driver
from protocol.conformance.gateway import Gateways, open_gateways
from protocol.conformance.scenario import STEPS, Scenario, WrongScenario
from protocol.conformance.stage import Stage
from protocol.conformance.talk import DEVICE, ME
from protocol.conformance.values import Fields, matches, read_value, show

Verdict: TypeAlias = Literal["passed", "failed", "left out"]

_TURNS: Final = 10
"""Turns of the scheduler, in which the readers take what has come."""


class Result(Struct, frozen=True):
    """The verdict on a scenario.

    :ivar reason: why it failed or was left out; empty if it passed.
    :ivar step: the number of the step that failed, from 1; None if none did.
    :ivar section: of the rule that holds in every scenario, and that the client has broken; None if it has not.
    """

    scenario: Scenario
    verdict: Verdict
    seconds: float = 0.0
    reason: str = ""
    step: int | None = None
    section: str | None = None


async def play(scenario: Scenario, driver: Driver) -> Result:
    """Play a scenario with a client that holds nothing and is not running.

    :raises WrongScenario: if the scenario cannot be played.
    """
    if missing := [need for need in scenario.needs if need not in driver.can]:
        return Result(scenario, "left out", reason=f"the adapter cannot do: {', '.join(missing)}")
    driver.say(f"\n{scenario.name}: a client must {scenario.title} (SPEC {', '.join(scenario.sections)})")
    began = trio.current_time()
    double = Double(trio.current_time, scenario.features)
    async with open_gateways(double) as gateways:
        player = _Player(scenario, gateways, driver)
        reason = await player.run() or await _stop(driver)
    seconds = trio.current_time() - began
    if reason is not None:
        section = gateways.violation.section if gateways.violation is not None else None
        return Result(scenario, "failed", seconds, reason, player.step, section)
    return Result(scenario, "passed", seconds)


async def _stop(driver: Driver) -> str | None:
    """Leave the client as the next scenario wants it; returns why that fails, or None."""
    try:
        await driver.tell("stop", {})
    except BrokenAdapter as broken:
        return str(broken)
    return None


class _Player:
    """One scenario under way.

    :ivar step: the number of the present step, from 1.
    """

    def __init__(self, scenario: Scenario, gateways: Gateways, driver: Driver) -> None:
        self.step = 0
        self._scenario = scenario
        self._gateways = gateways
        self._double = gateways.double
        self._stage = Stage(gateways)
        self._driver = driver
        self._at = 0
        self._labels: dict[str, tuple[int, float]] = {}
        self._kept: dict[str, Fields] = {}
        self._asked: dict[str, tuple[str, Fields]] = {}
        self._outcomes: dict[str, Fields] = {}
        self._has_started = False
        self._failure: str | None = None
        self._scope = trio.CancelScope()
        self._changed = trio.lowlevel.ParkingLot()
        self._double.on_change = self._changed.unpark_all

    async def run(self) -> str | None:
        """Play all steps; returns why the client fails, or None."""
        self._stage.begin_talks(self._value(self._scenario.talks))
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_rules)
                try:
                    for step in self._scenario.steps:
                        self.step += 1
                        await self._do(step, nursery)
                    self.step += 1
                    if self._scenario.is_settled:
                        await self._settle()
                except (CheckFailed, BrokenAdapter) as failed:
                    self._fail(str(failed))
                self._scope.cancel()
        return self._failure

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._scope.cancel()

    async def _watch_rules(self) -> None:
        """End the scenario when the client breaks a rule that holds at any time."""
        await self._wait(lambda: self._gateways.violation)
        self._fail(str(self._gateways.violation))

    async def _wait(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self._changed.park()

    async def _do(self, step: Fields, nursery: trio.Nursery) -> None:
        [verb] = STEPS & step.keys()
        if verb in ("server", "fault", "await"):
            about = self._stage.about(step["server"]) if verb == "server" else ""
            self._driver.say(words.event(verb, step[verb], self._arguments(step, verb), about))
        match verb:
            case "client":
                await self._have_client_do(step, nursery)
            case "await":
                await self._await(step["await"], step)
            case "never" | "count":
                await self._count(step[verb], step)
            case "outcome":
                await self._check_outcome(step["outcome"], step["is"], step)
            case "state":
                expected = step.get("shown") or words.state(step["state"])
                within_s = step.get("within_ms", 0) / 1000
                await self._driver.look(expected, lambda state: self._judge(state, step["state"], step), within_s)
            case "ping":
                await self._driver.tell("ping", {})
            case _:
                await self._let_readers_take()
                self._have_server_do(verb, step)

    def _have_server_do(self, verb: str, step: Fields) -> None:
        if verb == "server":
            self._stage.do(step["server"], self._arguments(step, "server"))
        elif verb == "fault":
            self._double.faults[step["fault"]].extend(self._value(each) for each in step["answers"])
        else:
            self._labels[step["label"]] = len(self._double.journal), trio.current_time()

    async def _count(self, pattern: Fields, step: Fields) -> None:
        await self._let_readers_take()
        begin = self._labels[step["after"]][0] if "after" in step else 0
        found = [heard for heard in self._double.journal[begin:] if self._matches(pattern, heard)]
        wanted = step.get("is", 0)
        if not matches(wanted, len(found), self._kept):
            came = f", such as {show(found[0].fields)}" if found else ""
            raise self._failed(step, f"{len(found)} frames like {show(pattern)} came{came}, not {show(wanted)}")

    async def _have_client_do(self, step: Fields, nursery: trio.Nursery) -> None:
        command, fields = step["client"], self._arguments(step, "client")
        if command == "start":
            fields = {"keep": self._has_started, **fields, **self._login()}
            self._has_started = True
        if "as" in step:
            self._asked[step["as"]] = command, fields
        if "as" in step and self._driver.tells_outcomes:
            nursery.start_soon(self._run_command, command, fields, step["as"])
            await self._let_readers_take()
        else:
            await self._driver.tell(command, fields)

    def _login(self) -> Fields:
        return {"urls": self._gateways.urls, "token": FIRST_TOKEN, "user": ME, "device": DEVICE}

    async def _run_command(self, command: str, fields: Fields, name: str) -> None:
        try:
            self._outcomes[name] = await self._driver.tell(command, fields)
        except BrokenAdapter as broken:
            self._fail(str(broken))
        self._changed.unpark_all()

    async def _check_outcome(self, name: str, pattern: Fields, step: Fields) -> None:
        if not self._driver.tells_outcomes:
            await self._driver.look(words.outcome(*self._asked[name], pattern), lambda _: None)
            return
        with trio.move_on_after(self._driver.patience_s):
            await self._wait(lambda: name in self._outcomes)
        if name not in self._outcomes:
            raise self._failed(step, f"the client has no outcome of `{name}` after {self._driver.patience_s:g} s")
        outcome = {key: each for key, each in self._outcomes[name].items() if key != "id"}
        if not matches(pattern, outcome, self._kept):
            raise self._failed(step, f"the outcome of `{name}` is {show(outcome)}, not {show(pattern)}")

    async def _await(self, pattern: Fields, step: Fields) -> None:
        begin = self._labels[step["after"]][0] if "after" in step else self._at
        allowed_s = step.get("not_before_ms", 0) / 1000
        with trio.move_on_after(self._driver.patience_s + allowed_s):
            await self._wait(lambda: self._first(pattern, begin) is not None)
        at = self._first(pattern, begin)
        if at is None:
            came = ", ".join(str(each.fields["type"]) for each in self._double.journal[begin:]) or "nothing"
            missing = (
                f"no frame like {show(pattern)} came within {self._driver.patience_s + allowed_s:g} s, but: {came}"
            )
            raise self._failed(step, missing)
        heard = self._double.journal[at]
        if "since" in step and (waited_s := heard.at_s - self._labels[step["since"]][1]) < allowed_s:
            raise self._failed(step, f"`{heard.fields['type']}` came after {waited_s * 1000:.0f} ms: too early")
        self._at = max(self._at, at + 1)
        if "as" in step:
            self._labels[step["as"]] = at + 1, heard.at_s
            self._kept[step["as"]] = {**heard.fields, "gateway": heard.gateway, "connection": heard.connection}

    def _first(self, pattern: Fields, begin: int) -> int | None:
        for at in range(begin, len(self._double.journal)):
            if self._matches(pattern, self._double.journal[at]):
                return at
        return None

    def _matches(self, pattern: Fields, heard: Heard) -> bool:
        fields = {**heard.fields, "gateway": heard.gateway, "connection": heard.connection}
        return matches(pattern, fields, self._kept)

    async def _let_readers_take(self) -> None:
        """Let the readers take what the client has sent: what the kit does next is after it."""
        for _ in range(_TURNS):
            await trio.lowlevel.checkpoint()

    def _judge(self, state: Fields, pattern: Fields, step: Fields) -> str | None:
        read = settled.read_state(state)
        if matches(pattern, read, self._kept):
            return None
        return f"the client's state is {show(_named(read))}, not {show(pattern)}{_because(step)}"

    async def _settle(self) -> None:
        talks = self._double.talks.values()
        await self._driver.look(settled.describe(talks), lambda state: settled.complaint_of(state, talks))

    def _failed(self, step: Fields, what: str) -> CheckFailed:
        return CheckFailed(what + _because(step))

    def _arguments(self, step: Fields, *without: str) -> Fields:
        left = {name: each for name, each in step.items() if name not in {*without, "as", "why"}}
        return {name: self._value(each) for name, each in left.items()}

    def _value(self, item: object) -> Fields:
        try:
            value: Fields = read_value(item, self._kept)
        except ValueError as error:
            raise WrongScenario(f"{self._scenario.name}, step {self.step}: {error}") from None
        return value


def _because(step: Fields) -> str:
    return f" ({step['why']})" if "why" in step else ""


def _named(state: Fields) -> Fields:
    """The state with the names of conversations that scenarios use."""
    told = {show(bytes.fromhex(id_)): each for id_, each in state["conversations"].items()}
    return {**state, "conversations": told}
