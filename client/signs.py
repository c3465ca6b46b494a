"""The participants of a conversation who are online and who type, and the pushes that change that. Sans-IO."""

from __future__ import annotations

from typing import TypeAlias

from protocol import limits
from protocol.frames import Presence, Typing

Sign: TypeAlias = Presence | Typing
"""A push that holds for the moment only: the server does not store it, and `sync` does not bring it."""


class Signs:
    """The signs of one conversation. A user without a sign is offline and does not type."""

    def __init__(self, conversation: bytes) -> None:
        self._conversation = conversation
        self._online: set[bytes] = set()
        self._typing_until: dict[bytes, float] = {}

    def take(self, sign: Sign, now: float) -> bool:
        """Apply a push; returns whether it is news: typing is repeated, and a new connection repeats all presence.

        :param now: seconds, on any clock that never goes back.
        """
        if isinstance(sign, Presence):
            was_online = sign.user in self._online
            (self._online.add if sign.is_online else self._online.discard)(sign.user)
            return sign.is_online != was_online
        if sign.conversation != self._conversation:
            return False
        was_typing = now < self._typing_until.get(sign.user, now)
        self._typing_until[sign.user] = now + limits.TYPING_S if sign.is_typing else now
        return sign.is_typing and not was_typing

    def typing(self, now: float) -> list[bytes]:
        """The users who type, by their ids."""
        return sorted(user for user, until in self._typing_until.items() if now < until)

    @property
    def online(self) -> list[bytes]:
        """The users who are online, by their ids."""
        return sorted(self._online)

    def end_typing(self, user: bytes) -> None:
        """The user has sent a message, which ends typing (`protocol/SPEC.md`, 9.1)."""
        self._typing_until.pop(user, None)
