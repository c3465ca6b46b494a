"""The chats, their participants and the contents of messages: the same for every server."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

NONCE_BYTES: Final = 24
PUBLIC_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class ChatParticipant:
    """A user as a server knows them: `user` is a UUID as text; `token` logs their device in, where a server has tokens.

    :ivar is_reader: false if their device looks for its acks only, and counts other participants' messages unread.
    """

    user: str
    token: str = ""
    is_reader: bool = True


@dataclass(frozen=True)
class Chat:
    """A conversation (a UUID as text). The first participants send, and all others receive each message; all are
    connected.

    :ivar writers: how many of the participants send.
    """

    conversation: str
    participants: tuple[ChatParticipant, ...]
    writers: int = 1

    @property
    def kind(self) -> str:
        """The servers' name for a conversation of this size."""
        return "direct" if len(self.participants) == 2 else "group"


@dataclass(frozen=True)
class Body:
    """The content of each message: bytes that look like ciphertext, the same in every run."""

    content: bytes
    nonce: bytes
    public_key: bytes


def body(content_bytes: int) -> Body:
    """A body with this number of bytes of content."""
    source = random.Random(content_bytes)
    return Body(source.randbytes(content_bytes), source.randbytes(NONCE_BYTES), source.randbytes(PUBLIC_KEY_BYTES))


def write_chats(path: Path, chats: Sequence[Chat]) -> None:
    """Save the chats for a generator in another process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(chat) for chat in chats]))


def read_chats(path: Path) -> list[Chat]:
    """The chats that `write_chats` saved."""
    return [
        Chat(
            entry["conversation"],
            tuple(ChatParticipant(**participant) for participant in entry["participants"]),
            entry["writers"],
        )
        for entry in json.loads(path.read_text())
    ]
