"""A client that a person drives: the kit says what to do, and asks what the client shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import trio

from protocol.conformance.driver import CheckFailed, Judge
from protocol.conformance.scenario import Scenario
from protocol.conformance.values import Fields, show

PATIENCE_S: Final = 600.0
"""A person looks for the right button."""

_INSTRUCTIONS: Final = {
    "start": "Start the client{keep}. It connects to {urls} with the token {token}, as the user {user}.",
    "stop": "Stop the client, so that it says goodbye. It keeps what it has stored.",
    "send": "Send the message {content} to the conversation {conversation}.",
    "edit": "Edit message {seq} of the conversation {conversation}: {content}.",
    "delete": "Delete message {seq} of the conversation {conversation} for everyone.",
    "mark_read": "Look at message {seq} of the conversation {conversation}, so that it counts as read.",
    "devices": "Look at the devices of {users}.",
    "ping": "Wait a second.",
}

CAN: Final = frozenset({"edit", "delete", "mark_read", "unread_count", "retry_after"})


class ByHand:
    """A person in front of a client.

    :param ask: shows a text and returns the line that the person types; it may wait.
    """

    def __init__(self, ask: Callable[[str], str] = input, patience_s: float = PATIENCE_S) -> None:
        self.name = "a client that a person drives"
        self.can = CAN
        self.patience_s = patience_s
        self._ask = ask

    @property
    def is_broken(self) -> bool:
        return False

    async def tell(self, command: str, fields: Fields) -> Fields:
        if command == "ping":
            return {}
        line = await self._line(f"{instruction(command, fields)}\n  [Enter, or `refused CODE`] ")
        return {"refused": line.partition(" ")[2]} if line.startswith("refused") else {}

    async def look(self, expected: str, judge: Judge) -> None:
        if not (await self._line(f"Check that {expected}\n  [y/n] ")).lower().startswith("y"):
            raise CheckFailed(f"the person says that it is not so: {expected}")

    async def _line(self, text: str) -> str:
        return (await trio.to_thread.run_sync(partial(self._ask, text), abandon_on_cancel=True)).strip()


def instruction(command: str, fields: Fields) -> str:
    """The words of a command, for a person."""
    shown: dict[str, Any] = {name: show(each).removeprefix("text:") for name, each in fields.items()}
    shown["keep"] = " again, with what it has stored" if fields.get("keep") else ", with nothing stored"
    return _INSTRUCTIONS[command].format_map(shown)


def check_list(scenarios: Iterable[Scenario]) -> str:
    """All scenarios that a person can play, as Markdown to be ticked off."""
    lines = ["| | scenario | a client must | sections |", "|---|---|---|---|"]
    playable = [each for each in scenarios if CAN.issuperset(each.needs)]
    rows = [f"| ☐ | `{each.name}` | {each.title} | {', '.join(each.sections)} |" for each in playable]
    return "\n".join([*lines, *rows])
