"""A client that a person drives."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from client import conformance
from client.errors import RequestRefused
from protocol.conformance import words
from protocol.conformance.by_hand import CAN, ByHand
from protocol.conformance.double import FIRST_TOKEN
from protocol.conformance.driver import BrokenAdapter
from protocol.conformance.player import Result, play
from protocol.conformance.scenario import Scenario, load_scenarios
from protocol.conformance.stage import Stage
from protocol.conformance.talk import DEVICE, ME
from protocol.conformance.values import Fields, read_value
from tests.protocol.conformance.kit_world import skipping_clock
from tests.waiting import let_pass

SCENARIOS = {each.name: each for each in load_scenarios()}
SOME_SECONDS = 3.0

ID = r"([-0-9a-f]{36}) \(\w+\)"
START = re.compile(
    rf"Start the client(?P<keep>.*)\. Its server has the addresses (?P<urls>.*) \(.*its token is (?P<token>\w+), its"
    rf" user {ID}, its device {ID}\."
)
SEND = re.compile(rf'Send "(?P<content>.*)" to the conversation {ID}\.')
EDIT = re.compile(rf'Edit message (?P<seq>\d+) of the conversation {ID}: "(?P<content>.*)"\.')
DELETE = re.compile(rf"Delete message (?P<seq>\d+) of the conversation {ID} for everyone\.")
ROW = re.compile(r"(?:has message|no others:) (\d+)\. (.*?)(?:;|$)", re.MULTILINE)


def hexed(id_: str) -> str:
    return id_.replace("-", "")


class KitPlayer:
    """Somebody who reads what the kit says, and has the Python client do it.

    :ivar told: what the kit has said by itself.
    :ivar refusals: the codes that the client has shown.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.told: list[str] = []
        self.refusals: list[str] = []
        self._client = conformance.TestedClient(nursery)
        self._nursery = nursery

    async def ask(self, text: str) -> str:
        if "[y/n]" in text:
            await let_pass(SOME_SECONDS, why="the client shows it some seconds later")
            return await self._look(text)
        if found := START.search(text):
            assert found["token"] == FIRST_TOKEN
            assert [hexed(found[4]), hexed(found[5])] == [ME.hex(), DEVICE.hex()]
            keep = "again" in found["keep"]
            await self._client.start(
                found["urls"].split(", "), FIRST_TOKEN, hexed(found[4]), hexed(found[5]), keep=keep
            )
        elif "Stop the client" in text:
            await self._client.stop()
        else:
            self._nursery.start_soon(self._write, text)
        return ""

    async def _write(self, text: str) -> None:
        try:
            if found := SEND.search(text):
                await self._client.send(hexed(found[2]), found["content"].encode().hex())
            elif found := EDIT.search(text):
                await self._client.edit(hexed(found[2]), int(found["seq"]), found["content"].encode().hex())
            elif found := DELETE.search(text):
                await self._client.delete(hexed(found[2]), int(found["seq"]), for_everyone=True)
            else:
                raise AssertionError(text)
        except RequestRefused as refused:
            self.refusals.append(refused.code)

    async def _look(self, text: str) -> str:
        state = (await self._client.state())["state"]
        if found := re.search(r"refused \(`(\w+)`\)", text):
            return "y" if found[1] in self.refusals else "n"
        talks = state["conversations"].values()
        shown = {(each["seq"], each["content"]) for talk in talks for each in talk["messages"]}
        wanted = {
            (int(seq), None if content == "(deleted)" else content.encode().hex()) for seq, content in ROW.findall(text)
        }
        return "yes" if wanted <= shown else f"no, it shows {shown}"


@pytest.fixture
def clock() -> MockClock:
    return skipping_clock()


async def played(name: str) -> tuple[Result, KitPlayer]:
    async with trio.open_nursery() as nursery:
        person = KitPlayer(nursery)
        result = await play(SCENARIOS[name], ByHand(person.ask, person.told.append))
        nursery.cancel_scope.cancel()
    return result, person


@pytest.mark.parametrize(
    "name", ["edit_conflict", "lag", "lost_reply", "outgoing_order", "own_delete", "refused_send", "stop_and_resume"]
)
async def test_a_person_plays_a_scenario(name: str, clock: MockClock) -> None:
    result, person = await played(name)
    assert (result.verdict, result.reason) == ("passed", "")
    assert person.told[0].startswith(f"\n{name}: a client must {SCENARIOS[name].title} (SPEC ")


async def test_a_person_is_told_what_the_server_does_and_for_what_the_kit_waits(clock: MockClock) -> None:
    _, person = await played("lag")
    assert person.told[1:] == [
        "The server acts: lag. The connections lag: messages are not pushed until the client syncs.",
        "The server acts: write (conversation: 74616c6b-2e2e-2e2e-2e2e-2e2e2e2e2e2e (talk), content: two). "
        + Stage.about("write"),
        "The server acts: write (conversation: 74616c6b-2e2e-2e2e-2e2e-2e2e2e2e2e2e (talk), content: three). "
        + Stage.about("write"),
        "The kit waits for the client: sync",
        "The server acts: write (conversation: 74616c6b-2e2e-2e2e-2e2e-2e2e2e2e2e2e (talk), content: four). "
        + Stage.about("write"),
    ]


async def test_a_scenario_fails_if_the_person_says_that_it_is_not_so(clock: MockClock) -> None:
    async def say_no(text: str) -> str:
        return "n" if "[y/n]" in text else ""

    result = await play(SCENARIOS["lag"], ByHand(say_no, lambda _: None))
    assert result.verdict == "failed"
    assert "the person says that it is not so: the conversation 7461" in result.reason


async def test_a_scenario_fails_if_the_person_has_gone(clock: MockClock) -> None:
    async def gone(_: str) -> str:
        raise BrokenAdapter("the input has ended")

    result = await play(SCENARIOS["lag"], ByHand(gone, lambda _: None))
    assert (result.verdict, result.reason) == ("failed", "the input has ended")


def test_a_person_understands_each_sentence() -> None:
    """None has a pattern, or bytes in hex digits."""
    sentences = [told for each in SCENARIOS.values() if CAN.issuperset(each.needs) for told in sentences_of(each)]
    assert len(sentences) > 100
    assert [told for told in sentences if re.search(r"[{*]|hex:|text:", told)] == []


def sentences_of(scenario: Scenario) -> Iterator[str]:
    """What a person is asked to do and to look at."""
    asked: dict[str | None, tuple[str, Fields]] = {}
    for step in scenario.steps:
        if "client" in step and step["client"] != "ping":
            more = {name: read_value(each, {}) for name, each in step.items() if name not in ("client", "why")}
            asked[step.get("as")] = step["client"], more
            yield words.instruction(step["client"], {"urls": [], "token": "", "user": ME, "device": DEVICE, **more})
        elif "outcome" in step:
            yield words.outcome(*asked[step["outcome"]], step["is"])
        elif "state" in step:
            yield words.state(step["state"])
