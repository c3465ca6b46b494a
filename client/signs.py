"""Who of a conversation is online, and who types: which pushes say something new about it. Sans-IO."""

from __future__ import annotations

from typing import TypeAlias

from protocol import limits
from protocol.frames import Presence, Typing

Sign: TypeAlias = Presence | Typing
"""A push that is true for the moment only: neither stored nor caught up with."""


class Signs:
    """What has been said of one conversation's people. Whoever was never heard of is offline and doesn't type."""

    def __init__(self, conversation: bytes) -> None:
        self._conversation = conversation
        self._online: set[bytes] = set()
        self._typing_until: dict[bytes, float] = {}

    def take(self, sign: Sign, now: float) -> bool:
        """Take note of a push; whether it is news: who goes on typing says so again, a new connection says it all.

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

    def end_typing(self, user: bytes) -> None:
        """The user has sent a message, and so types no more (`protocol/SPEC.md`, 9.1)."""
        self._typing_until.pop(user, None)
