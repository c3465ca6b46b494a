"""The messages of a chat as lines, some of which can be read only later."""

from __future__ import annotations

from collections.abc import Callable

from client.e2ee.reading import UnreadableMessage
from client.held import Entry
from client.lines import Reading, line_of
from protocol.frames import Message


class MessageLines:
    """Shows messages. A terminal shows one again that has healed, and with it the others that the same key opens.

    :param read: what a message says.
    :param names: of the participants.
    :param show: prints a line.
    """

    def __init__(
        self, read: Callable[[Message], Reading], names: dict[bytes, str], show: Callable[[str], object]
    ) -> None:
        self._read = read
        self._names = names
        self._show = show
        self._unreadable: dict[bytes, Message] = {}

    def show(self, entry: Entry) -> None:
        """Show a message, or what is left of it."""
        was_unreadable = self._unreadable.pop(entry.message, None) is not None
        reading = self._read(entry) if isinstance(entry, Message) else None
        self._show(line_of(entry, self._names, reading))
        if isinstance(reading, UnreadableMessage):
            assert isinstance(entry, Message)
            self._unreadable[entry.message] = entry
        elif was_unreadable:
            self._show_opened()

    def _show_opened(self) -> None:
        for each in sorted(self._unreadable.values(), key=lambda each: each.seq):
            reading = self._read(each)
            if not isinstance(reading, UnreadableMessage):
                del self._unreadable[each.message]
                self._show(line_of(each, self._names, reading))
