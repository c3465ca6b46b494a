"""The plaintexts of messages that this device has decrypted (SPEC 20.5). Sans-IO.

The key that decrypts a message is often gone once it was used, and the server has no plaintext. So plaintexts outlive
the order of messages: when the mailbox drops that (SPEC 6.4), they stay under the ids of their messages, and a message
that comes again finds its plaintext.
"""

from __future__ import annotations

from hashlib import sha256

from msgspec import Struct

from protocol.frames import Message


class _Kept(Struct):
    """
    :ivar seq: of its message; None: no message has come under this id since the order was dropped.
    """

    seq: int | None
    revision: int
    digest: bytes
    plaintext: bytes


class Plaintexts:
    """The plaintext of each decrypted message, by its conversation and id."""

    def __init__(self) -> None:
        self._kept: dict[bytes, dict[bytes, _Kept]] = {}
        self._floors: dict[bytes, int] = {}
        self._incomplete: set[bytes] = set()
        """The conversations of which plaintexts may wait for their messages."""

    def keep(self, message: Message, plaintext: bytes) -> None:
        """Keep what a message says; an earlier revision of it goes."""
        kept = _Kept(message.seq, message.revision or 0, _digest(message), plaintext)
        self._kept.setdefault(message.conversation, {})[message.message] = kept

    def of(self, message: Message) -> bytes | None:
        """What a message says; None if this device has not decrypted these bytes of it."""
        kept = self._kept.get(message.conversation, {}).get(message.message)
        if kept is None or kept.revision != (message.revision or 0) or kept.digest != _digest(message):
            return None
        return kept.plaintext

    def place(self, message: Message) -> None:
        """The message is held, at this `seq`."""
        if (kept := self._kept.get(message.conversation, {}).get(message.message)) is not None:
            kept.seq = message.seq

    def lose_order(self) -> None:
        """No `seq` counts any longer: another history has other messages there."""
        for kept in self._kept.values():
            for each in kept.values():
                each.seq = None
        self._incomplete = set(self._kept)
        self._floors.clear()

    def forget(self, conversation: bytes, message: bytes) -> None:
        """The message was deleted."""
        self._kept.get(conversation, {}).pop(message, None)

    def forget_below(self, conversation: bytes, first_seq: int) -> None:
        """Messages below this seq are gone, or not for this user."""
        former, self._floors[conversation] = self._floors.get(conversation, 1), first_seq
        if first_seq <= former:
            return
        kept = self._kept.get(conversation, {})
        for id_ in [id_ for id_, each in kept.items() if each.seq is not None and each.seq < first_seq]:
            del kept[id_]

    def forget_placeless(self, conversation: bytes) -> None:
        """All messages of the conversation are held: those that have not come again are gone."""
        if conversation not in self._incomplete:
            return
        self._incomplete.discard(conversation)
        kept = self._kept[conversation]
        for id_ in [id_ for id_, each in kept.items() if each.seq is None]:
            del kept[id_]

    def forget_conversation(self, conversation: bytes) -> None:
        """The user no longer takes part."""
        self._kept.pop(conversation, None)
        self._floors.pop(conversation, None)
        self._incomplete.discard(conversation)

    def conversations(self) -> list[bytes]:
        """The conversations of which it may have plaintexts."""
        return list(self._kept)


def _digest(message: Message) -> bytes:
    """The digest of the bytes that were decrypted: in another history an id and a revision may have other bytes."""
    parts = (message.content, message.nonce or b"", message.ephemeral_public_key or b"")
    return sha256(b"".join(len(part).to_bytes(4) + part for part in parts)).digest()
