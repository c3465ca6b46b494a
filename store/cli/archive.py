"""`python -m store archive`: prints archives as lines of JSON on stdout."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import Any, Final
from uuid import UUID

import msgspec

from protocol.frames import Message, Tombstone
from runtime.config import Config, ConfigError
from store.objects.archive import list_archives, read_conversation
from store.objects.url import open_objects

USAGE: Final = "python -m store archive list|read CONVERSATION"

_IDS: Final = frozenset({"conversation", "message", "sender"})


async def print_archive(config: Config, what: str, conversation: bytes) -> None:
    """Print a line for each archive ("list") or each archived message ("read") of a conversation.

    :raises ConfigError: if the deployment has no object store.
    :raises StoreError: if it cannot be read, or an archive is damaged; earlier lines were printed.
    """
    async with open_objects(config.object_store_url) as objects:
        if objects is None:
            raise ConfigError("OBJECT_STORE_URL is not set: there are no archives")
        if what == "list":
            for archive in await list_archives(objects, conversation):
                _print(msgspec.structs.asdict(archive))
        else:
            async with aclosing(read_conversation(objects, conversation)) as messages:
                async for message in messages:
                    _print(shown(message))


def shown(message: Message | Tombstone) -> dict[str, Any]:
    """A message for people and programs: ids as UUIDs, other bytes in base64, without empty fields."""
    fields = msgspec.structs.asdict(message)
    return {"type": type(message).__name__.lower()} | {
        name: str(UUID(bytes=value)) if name in _IDS else value for name, value in fields.items() if value is not None
    }


def _print(line: dict[str, Any]) -> None:
    sys.stdout.write(f"{msgspec.json.encode(line).decode()}\n")
