"""Operations of a mixed load: their kinds, and the user and the conversation of each."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Final, NamedTuple

from bench.workload import Chat, ChatParticipant


class OperationKind(StrEnum):
    """Kinds of operations."""

    SEND = "send"
    MARK = "mark"
    HISTORY = "history"
    LIST = "list"
    TYPING = "typing"


SHARES: Final = {
    OperationKind.SEND: 70,
    OperationKind.MARK: 10,
    OperationKind.HISTORY: 10,
    OperationKind.LIST: 5,
    OperationKind.TYPING: 5,
}
"""Percent of all operations."""

_SEED: Final = 1


class Operation(NamedTuple):
    """One operation of a user. A list is of all of the user's conversations."""

    kind: OperationKind
    chat: Chat
    participant: ChatParticipant


class Mixture:
    """An endless sequence of operations, the same for each server.

    Zipf's law chooses the conversation: the n-th chat in proportion to 1/n. Its participants are equally active.
    """

    def __init__(self, chats: Sequence[Chat]) -> None:
        self._chats = chats
        self._weights = list(accumulate(1 / rank for rank in range(1, len(chats) + 1)))
        self._kinds, self._shares = list(SHARES), list(accumulate(SHARES.values()))

    def operations(self) -> Iterator[Operation]:
        """The sequence from its beginning."""
        chance = random.Random(_SEED)
        while True:
            [kind] = chance.choices(self._kinds, cum_weights=self._shares)
            yield Operation(kind, *self.place(chance))

    def place(self, chance: random.Random) -> tuple[Chat, ChatParticipant]:
        """A conversation and one of its participants."""
        [chat] = chance.choices(self._chats, cum_weights=self._weights)
        return chat, chance.choice(chat.participants)
