"""Commands among messages: a line that begins with a slash is a command, and is never sent as it stands.

A chat has a table of commands, which the reader of lines and `/help` use.
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
    """The program cannot obey a line; the error says why, and the right way to type it."""


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
    """A text to send, or a command and its arguments.

    :raises NotPossible: if the command does not exist, or has too many or too few arguments.
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
        raise NotPossible(f"{command.name} takes no arguments")
    if not argument and command.arguments and not command.arguments.startswith("["):
        raise NotPossible(f"{command.arguments} must come after {command.name}")


def help_lines(commands: Sequence[Command[_C]]) -> list[str]:
    """The lines of `/help`."""
    rows = [(command.usage, command.help) for command in commands]
    rows.append((f"{ESCAPE}TEXT", f"send a message that begins with {SLASH}"))
    width = max(len(usage) for usage, _ in rows)
    return [f"{usage:{width}}  {help_}" for usage, help_ in rows]
