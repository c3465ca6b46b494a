"""The client under test, as the kit drives it: by an adapter of the client's author, or by hand.

An adapter is a program that reads one JSON object a line from its standard input, has the client do it, and writes one
JSON object a line to its standard output. `README.md` describes the commands.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from subprocess import PIPE
from typing import Any, Final, Protocol, TypeAlias

import trio

from protocol.conformance.values import Fields

ANSWER_TIMEOUT_S: Final = 20.0
"""For the answer to a command that does not wait for the server."""

END_TIMEOUT_S: Final = 2.0
"""An adapter whose input has ended is killed after this time."""

LOOK_AGAIN_S: Final = 0.05
"""Between two looks at a client's state."""

MAX_LINE_BYTES: Final = 4 * 1024 * 1024

Judge: TypeAlias = Callable[[Fields], str | None]
"""Takes a client's state; returns what is wrong with it, None if nothing is."""


class CheckFailed(Exception):
    """The client has not done what the specification wants."""


class BrokenAdapter(Exception):
    """The adapter does not speak the protocol of `README.md`, or has ended: its own fault, not that of the client."""


class Driver(Protocol):
    """Whatever has the client do something.

    :ivar name: of the client, with its version.
    :ivar can: the optional commands and fields that there are: scenarios that need others are left out.
    :ivar patience_s: the time that the client has for each step.
    :ivar tells_outcomes: `tell` returns once the client has an outcome, and returns it; else the kit asks by `look`.
    """

    name: str
    can: frozenset[str]
    patience_s: float
    tells_outcomes: bool

    @property
    def is_broken(self) -> bool:
        """Whether it can be used no more."""

    def say(self, text: str) -> None:
        """Tell a person what goes on."""

    async def tell(self, command: str, fields: Fields) -> Fields:
        """Have the client do something; returns the answer once it is done, or refused.

        :raises BrokenAdapter: if there is no proper answer.
        """

    async def look(self, expected: str, judge: Judge, within_s: float = 0) -> None:
        """Wait until the state of the client is as it must be.

        :param expected: the same in words, for a person.
        :param within_s: what the client may take longer than `patience_s`.
        :raises CheckFailed: if it is not, within `patience_s`; says what was wrong at last.
        """


class ClientAdapter:
    """A client that an adapter drives.

    `run` has to run while the rest is used.
    """

    def __init__(self, stream: trio.abc.Stream, patience_s: float) -> None:
        self.name = ""
        self.can: frozenset[str] = frozenset()
        self.patience_s = patience_s
        self.tells_outcomes = True
        self._stream = stream
        self._lock = trio.Lock()
        self._number = 0
        self._answers: dict[int, Fields] = {}
        self._broken: str | None = None
        self._came = trio.lowlevel.ParkingLot()

    @property
    def is_broken(self) -> bool:
        return self._broken is not None

    def say(self, text: str) -> None:
        """An adapter need not know what goes on."""

    async def run(self) -> None:
        """Read the answers; ends with the stream."""
        data = bytearray()
        try:
            while received := await self._stream.receive_some():
                data += received
                *lines, data = data.split(b"\n")
                for line in filter(bytes.strip, map(bytes, lines)):
                    self._take(line)
                if len(data) > MAX_LINE_BYTES:
                    raise BrokenAdapter(f"a line has more than {MAX_LINE_BYTES} bytes")
            self._broken = "the adapter has ended"
        except BrokenAdapter as broken:
            self._broken = str(broken)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._broken = "the adapter has ended"
        finally:
            self._came.unpark_all()

    def _take(self, line: bytes) -> None:
        try:
            answer = json.loads(line)
        except ValueError:
            raise BrokenAdapter(
                f"the adapter writes a line that is not JSON: '{line[:200].decode(errors='replace')}'"
            ) from None
        if not isinstance(answer, dict) or type(answer.get("id")) is not int:
            raise BrokenAdapter("each line of an adapter must be an object with the `id` of its command, a number")
        self._answers[answer["id"]] = answer
        self._came.unpark_all()

    async def ask_about(self) -> None:
        """Learn the client's name, and what its adapter can.

        :raises BrokenAdapter: if the adapter does not say it.
        """
        about = await self.tell("about", {})
        name, can = about.get("name"), about.get("can")
        if not isinstance(name, str) or not isinstance(can, list):
            raise BrokenAdapter("the answer to `about` must have `name`, a text, and `can`, a list of texts")
        self.name, self.can = name, frozenset(map(str, can))

    async def tell(self, command: str, fields: Fields) -> Fields:
        self._number += 1
        number = self._number
        line = json.dumps({"id": number, "do": command, **_to_json(fields)}) + "\n"
        # An adapter that has ended may have written something before: the reader knows why it ended.
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._lock:
                await self._stream.send_all(line.encode())
        with trio.move_on_after(max(self.patience_s, ANSWER_TIMEOUT_S)):
            while number not in self._answers:
                if self._broken is not None:
                    raise BrokenAdapter(self._broken)
                await self._came.park()
        answer = self._answers.pop(number, None)
        if answer is None:
            self._broken = f"no answer to `{command}` came"
            raise BrokenAdapter(self._broken)
        if (error := answer.get("error")) is not None:
            raise BrokenAdapter(f"the adapter answers `{command}` with the error '{error}'")
        return answer

    async def look(self, expected: str, judge: Judge, within_s: float = 0) -> None:
        deadline = trio.current_time() + self.patience_s + within_s
        while (complaint := judge(await self._state())) is not None:
            if trio.current_time() > deadline:
                raise CheckFailed(f"after {self.patience_s + within_s:g} s {complaint}")
            await trio.sleep(LOOK_AGAIN_S)

    async def _state(self) -> Fields:
        state = (await self.tell("state", {})).get("state")
        if not isinstance(state, dict) or not isinstance(state.get("conversations"), dict):
            raise BrokenAdapter("the answer to `state` must have `state`, an object with `conversations`, an object")
        return state


@asynccontextmanager
async def open_adapter(command: Sequence[str], patience_s: float) -> AsyncGenerator[ClientAdapter]:
    """An adapter as a process of its own, which ends with the block; its standard error stays that of the kit.

    :raises BrokenAdapter: if it does not answer `about`.
    """
    try:
        process = await trio.lowlevel.open_process(list(command), stdin=PIPE, stdout=PIPE)
    except OSError as error:
        raise BrokenAdapter(f"the adapter '{command[0]}' cannot be started: {error.strerror}") from None
    assert process.stdio is not None
    try:
        async with open_stream_adapter(process.stdio, patience_s) as adapter:
            yield adapter
    finally:
        with trio.CancelScope(shield=True):
            await process.stdio.aclose()
            with trio.move_on_after(END_TIMEOUT_S):
                await process.wait()
            process.kill()
            await process.wait()


@asynccontextmanager
async def open_stream_adapter(stream: trio.abc.Stream, patience_s: float) -> AsyncGenerator[ClientAdapter]:
    """An adapter at the other end of a stream."""
    adapter = ClientAdapter(stream, patience_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(adapter.run)
        await adapter.ask_about()
        yield adapter
        nursery.cancel_scope.cancel()


def _to_json(value: Any) -> Any:
    """A value with byte strings in hex."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {name: _to_json(each) for name, each in value.items()}
        case list() | tuple():
            return [_to_json(each) for each in value]
    return value
