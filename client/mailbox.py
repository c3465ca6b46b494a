"""What this device holds, in order and without holes. Sans-IO: nothing here waits, so every call is one step.

Each conversation numbers its messages with `seq`, without gaps. What may be read is a contiguous run that begins
after the *floor* (`first_seq` - 1). Messages may come in any order, any number of times, from pushes, history and own
sends alike: the key (conversation, seq) says which they are. What comes too early is kept aside until the hole before
it is filled; `holes` says what to fetch, `unknown` which conversations have to be looked up to know their floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from protocol import limits
from protocol.frames import Message

MAX_ASIDE: Final = 1000
"""Messages of one conversation that wait for a hole to be filled. More are let go: fetching the hole goes on until
`last_seq` and brings them again."""


class Hole(NamedTuple):
    """Messages that exist and are missing: those after `after_seq`, up to `until_seq` at least."""

    conversation: bytes
    after_seq: int
    until_seq: int


class _Conversation:
    __slots__ = ("aside", "floor", "last_seq", "marked", "messages", "up_to")

    def __init__(self) -> None:
        self.floor: int | None = None
        self.up_to = 0
        """Held without a hole up to here; the floor, if nothing is held."""
        self.last_seq = 0
        """The highest known to exist."""
        self.marked = 0
        self.messages: list[Message] = []
        self.aside: dict[int, Message] = {}


class Mailbox:
    """The messages of all conversations, in memory; nothing is ever removed.

    :ivar log: every message in the order in which it became readable; within a conversation that is by `seq`.
    """

    def __init__(self) -> None:
        self.log: list[Message] = []
        self._conversations: dict[bytes, _Conversation] = {}
        self._unknown: set[bytes] = set()
        self._incomplete: set[bytes] = set()
        self._unmarked: dict[bytes, None] = {}

    def apply(self, message: Message) -> list[Message]:
        """Take a message from anywhere; returns what became readable by it, in order."""
        state = self._state(message.conversation)
        if message.seq <= state.up_to:
            return []
        state.last_seq = max(state.last_seq, message.seq)
        if state.floor is None and message.seq == 1:
            # Nothing can come before the first message of all, so there is nothing to look up.
            self._set_floor(message.conversation, state, 0)
        if message.seq == state.up_to + 1 and state.floor is not None:
            readable = [message]
        else:
            if len(state.aside) < MAX_ASIDE:
                state.aside[message.seq] = message
            readable = []
        return self._advance(message.conversation, state, readable)

    def learn(self, conversation: bytes, first_seq: int, last_seq: int) -> list[Message]:
        """Take note of what the server says of a conversation; returns what became readable by it, in order.

        A floor only rises (after having left a group and come back): what is already held stays.
        """
        state = self._state(conversation)
        state.last_seq = max(state.last_seq, last_seq)
        floor = first_seq - 1
        if state.floor is None or floor > state.up_to:
            self._set_floor(conversation, state, floor)
        return self._advance(conversation, state, [])

    def forget_missing(self, conversation: bytes) -> None:
        """Give up what is missing and aside: the server says that it is not there, or not ours to see."""
        state = self._state(conversation)
        state.aside.clear()
        state.last_seq = state.up_to
        self._unknown.discard(conversation)
        self._incomplete.discard(conversation)
        if state.floor is None:
            del self._conversations[conversation]

    def messages(self, conversation: bytes) -> Sequence[Message]:
        """What is held of a conversation, by `seq`; not to be changed."""
        state = self._conversations.get(conversation)
        return () if state is None else state.messages

    def up_to(self, conversation: bytes) -> int:
        """The `seq` up to which nothing is missing; 0 if there is nothing."""
        state = self._conversations.get(conversation)
        return 0 if state is None else state.up_to

    @property
    def is_complete(self) -> bool:
        """Whether neither `unknown` nor `holes` has anything."""
        return not (self._unknown or self._incomplete)

    def unknown(self) -> list[bytes]:
        """Conversations whose floor is unknown; `learn` tells it."""
        return list(self._unknown)

    def holes(self) -> list[Hole]:
        """The first hole of each conversation whose floor is known."""
        return [self._hole(conversation) for conversation in self._incomplete if conversation not in self._unknown]

    def marks_due(self, most: int = limits.MAX_MARKS) -> list[tuple[bytes, int]]:
        """Up-to marks (conversation, seq) that are higher than what `marked` has heard of; those due longest first."""
        due = list(self._unmarked)[:most]
        return [(conversation, self._conversations[conversation].up_to) for conversation in due]

    def marked(self, marks: list[tuple[bytes, int]]) -> None:
        """The server has taken note of these marks."""
        for conversation, seq in marks:
            state = self._conversations[conversation]
            state.marked = max(state.marked, seq)
            if state.marked >= state.up_to:
                self._unmarked.pop(conversation, None)

    def _state(self, conversation: bytes) -> _Conversation:
        state = self._conversations.get(conversation)
        if state is None:
            state = self._conversations[conversation] = _Conversation()
            self._unknown.add(conversation)
        return state

    def _set_floor(self, conversation: bytes, state: _Conversation, floor: int) -> None:
        state.floor = state.up_to = floor
        state.aside = {seq: message for seq, message in state.aside.items() if seq > floor}
        self._unknown.discard(conversation)

    def _advance(self, conversation: bytes, state: _Conversation, readable: list[Message]) -> list[Message]:
        """Append `readable` and whatever of `aside` follows it, and see whether anything is still missing."""
        state.up_to += len(readable)
        while state.aside and state.floor is not None and (following := state.aside.pop(state.up_to + 1, None)):
            readable.append(following)
            state.up_to += 1
        if readable:
            state.messages += readable
            self.log += readable
            self._unmarked[conversation] = None
        if state.last_seq > state.up_to:
            self._incomplete.add(conversation)
        else:
            self._incomplete.discard(conversation)
        return readable

    def _hole(self, conversation: bytes) -> Hole:
        state = self._conversations[conversation]
        until_seq = min(state.aside) - 1 if state.aside else state.last_seq
        return Hole(conversation, state.up_to, until_seq)
