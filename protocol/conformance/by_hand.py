"""A client that a person drives: the kit says what to do and what goes on, and asks what the client shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, TypeAlias

import trio

from protocol.conformance import words
from protocol.conformance.driver import BrokenAdapter, CheckFailed, Judge
from protocol.conformance.scenario import Scenario
from protocol.conformance.values import Fields

PATIENCE_S: Final = 60.0
"""For the frames that the client must send; a question waits for its answer without end."""

PING_S: Final = 1.0
"""In this time a client has read what the server has sent."""

CAN: Final = frozenset({"edit", "delete", "mark_read", "unread_count", "name", "retry_after"})

Ask: TypeAlias = Callable[[str], Awaitable[str]]


async def ask_on_terminal(text: str) -> str:
    """Show a text, and return the line that the person types. If this is cancelled, a thread still waits for it.

    :raises BrokenAdapter: at the end of the input.
    """
    try:
        return await trio.to_thread.run_sync(partial(input, text), abandon_on_cancel=True)
    except EOFError:
        raise BrokenAdapter("the input has ended: nobody drives the client") from None


class ByHand:
    """A person in front of a client.

    :param ask: shows a text and returns the line that the person types.
    :param say: shows a text.
    """

    def __init__(
        self, ask: Ask = ask_on_terminal, say: Callable[[str], object] = print, patience_s: float = PATIENCE_S
    ) -> None:
        self.name = "a client that a person drives"
        self.can = CAN
        self.patience_s = patience_s
        self.tells_outcomes = False
        self.is_broken = False
        self._ask = ask
        self._say = say
        self._turn = trio.Lock()

    def say(self, text: str) -> None:
        self._say(text)

    async def tell(self, command: str, fields: Fields) -> Fields:
        """Have the person do it; the answer tells nothing of what comes of it."""
        if command == "ping":
            await trio.sleep(PING_S)
        else:
            await self._line(f"\n> {words.instruction(command, fields)}\n  Press Enter when you have done it: ")
        return {}

    async def look(self, expected: str, judge: Judge, within_s: float = 0) -> None:
        answer = await self._line(f"\n? Within some seconds {expected}\n  Is it so? [y/n] ")
        if not answer.lower().startswith("y"):
            raise CheckFailed(f"the person says that it is not so: {expected}")

    async def _line(self, text: str) -> str:
        async with self._turn:
            return (await self._ask(text)).strip()


def check_list(scenarios: Iterable[Scenario]) -> str:
    """All scenarios that a person can play, as Markdown to be ticked off."""
    lines = ["| | scenario | a client must | sections |", "|---|---|---|---|"]
    playable = [each for each in scenarios if CAN.issuperset(each.needs)]
    rows = [f"| ☐ | `{each.name}` | {each.title} | {', '.join(each.sections)} |" for each in playable]
    return "\n".join([*lines, *rows])
