"""Commands that are typed among messages: a line that begins with a slash is one, and never goes out as it stands.

A chat has a table of them. To add one is to add a line to that table: reading a line, and `/help`, go by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from client.terminal import printable

SLASH: Final = "/"
ESCAPE: Final = "//"

_C = TypeVar("_C")


class NotPossible(Exception):
    """A line cannot be obeyed; says why, and how to type it instead."""


@dataclass(frozen=True)
class Command(Generic[_C]):
    """A command that a line can hold.

    :ivar name: with its slash, such as "/edit".
    :ivar arguments: the arguments as help shows them, such as "TEXT"; in brackets if they may be left out, empty if the
        command takes none.
    :ivar help: its effect, in a few words.
    :ivar run: does it, given the chat and the arguments, without the spaces around them.
    """

    name: str
    arguments: str
    help: str
    run: Callable[[_C, str], Awaitable[None]]

    @property
    def usage(self) -> str:
        return f"{self.name} {self.arguments}".rstrip()


def read_line(line: str, commands: Sequence[Command[_C]]) -> str | tuple[Command[_C], str]:
    """A text to be sent, or a command and what comes after its name.

    :raises NotPossible: if it is a command that there is not, or one with too much or too little behind it.
    """
    text = line.strip()
    if not text.startswith(SLASH):
        return line
    if text.startswith(ESCAPE):
        return line.replace(ESCAPE, SLASH, 1)
    name, _, argument = text.partition(" ")
    argument = argument.strip()
    for command in commands:
        if command.name == name:
            _check(command, argument)
            return command, argument
    shown = printable(name[:40])
    raise NotPossible(f"there is no command {shown}; /help lists them, and a message that begins so is typed /{shown}")


def _check(command: Command[_C], argument: str) -> None:
    if argument and not command.arguments:
        raise NotPossible(f"nothing may come after {command.name}")
    if not argument and command.arguments and not command.arguments.startswith("["):
        raise NotPossible(f"{command.arguments} must come after {command.name}")


def help_lines(commands: Sequence[Command[_C]]) -> list[str]:
    """What `/help` shows."""
    rows = [(command.usage, command.help) for command in commands]
    rows.append((f"{ESCAPE}TEXT", f"send a message that begins with {SLASH}"))
    width = max(len(usage) for usage, _ in rows)
    return [f"{usage:{width}}  {help_}" for usage, help_ in rows]
