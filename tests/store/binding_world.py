"""Shared by the tests of attachments and messages: files in every state, and sends and edits that name them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from client.http import Credentials
from store.errors import (
    AttachmentIncomplete,
    AttachmentUsed,
    StoreError,
    UnknownAttachment,
)
from store.messages import Committed, NewMessage, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.revisions import delete_for_everyone, edit
from tests.people import new_group, new_user
from tests.rows import each_row
from tests.store.store_world import a_message
from tests.uploads import new_upload


class Desk:
    """Alice, who uploads files, and two groups of hers with bob; carol takes part in neither."""

    def __init__(self, pool: Pool, people: dict[str, Credentials], talk: bytes, other: bytes) -> None:
        self.pool = pool
        self.people = people
        self.talk = talk
        self.other = other

    @property
    def alice(self) -> bytes:
        return self.people["alice"].user

    async def file(self, *, is_complete: bool = True, thumbnail: str = "none", owner: str = "alice") -> bytes:
        """A file; its thumbnail is "none", "complete" or "incomplete"."""
        id_ = await new_upload(self.pool, self.people[owner].user, is_complete=is_complete)
        if thumbnail != "none":
            is_seen = thumbnail == "complete"
            await new_upload(self.pool, self.people[owner].user, is_complete=is_seen, thumbnail_of=id_)
        return id_

    def message(self, *files: bytes, conversation: bytes | None = None, **changes: object) -> NewMessage:
        return a_message(conversation or self.talk, self.alice, attachments=list(files) or None, **changes)

    async def send(self, *batch: NewMessage) -> list[Outcome]:
        return await send(self.pool, ParticipantsCache(), batch)

    async def sent(self, *files: bytes, **changes: object) -> int:
        """The seq of a message with these files."""
        [outcome] = await self.send(self.message(*files, **changes))
        assert isinstance(outcome, Committed), outcome
        return outcome.seq

    async def edit(self, seq: int, revision: int, *files: bytes, thumbnail: bytes | None = None) -> bool:
        """Whether the edit is new."""
        attachments = list(files) or None
        change, *_ = await edit(
            self.pool, self.alice, self.talk, seq, revision, "text", b"edited", None, None, attachments, thumbnail
        )
        return change.is_new

    async def owners(self) -> dict[bytes, tuple[bytes | None, int | None, bool]]:
        """Each file and thumbnail -> conversation and seq of its message, and whether it is orphaned."""
        rows = await self.pool.fetch("select id, conversation_id, seq, orphaned is not null from attachments")
        return {id_: (conversation, seq, is_orphaned) for id_, conversation, seq, is_orphaned in rows}

    async def thumbnail_of(self, file: bytes) -> bytes:
        [(id_,)] = await self.pool.fetch("select id from attachments where thumbnail_of = %s", (uuid(file),))
        return bytes(id_)

    async def on_message(self, seq: int) -> list[bytes] | None:
        [(ids,)] = await self.pool.fetch(
            "select attachments from messages where conversation_id = %s and seq = %s", (uuid(self.talk), seq)
        )
        return None if ids is None else list(ids)


async def open_desk(pool: Pool) -> Desk:
    people = {name: await new_user(pool, name) for name in ("alice", "bob", "carol")}
    pair = people["alice"], people["bob"]
    return Desk(pool, people, await new_group(pool, *pair), await new_group(pool, *pair))


ALONE_OR_NOT = pytest.mark.parametrize("has_neighbours", [False, True], ids=["alone", "in a batch"])
"""A batch of one send takes another way through the database than a batch of several."""


async def send_among(desk: Desk, message: NewMessage, has_neighbours: bool) -> tuple[Outcome, list[Outcome]]:
    """The outcome of a send, and those of the good ones around it."""
    if not has_neighbours:
        return (await desk.send(message))[0], []
    first, outcome, *rest = await desk.send(
        desk.message(), message, desk.message(await desk.file()), desk.message(conversation=desk.other)
    )
    return outcome, [first, *rest]


Files = Callable[[Desk], Awaitable[list[bytes]]]


async def unknown(_: Desk) -> list[bytes]:
    return [uuid4().bytes]


async def of_bob(desk: Desk) -> list[bytes]:
    return [await desk.file(owner="bob")]


async def orphaned(desk: Desk) -> list[bytes]:
    file = await desk.file()
    await desk.pool.fetch("update attachments set orphaned = now() where id = %s", (uuid(file),))
    return [file]


async def with_an_orphaned_thumbnail(desk: Desk) -> list[bytes]:
    file = await desk.file(thumbnail="complete")
    await desk.pool.fetch("update attachments set orphaned = now() where thumbnail_of = %s", (uuid(file),))
    return [file]


async def a_thumbnail(desk: Desk) -> list[bytes]:
    return [await desk.thumbnail_of(await desk.file(thumbnail="complete"))]


async def incomplete(desk: Desk) -> list[bytes]:
    return [await desk.file(is_complete=False, thumbnail="complete")]


async def with_an_incomplete_thumbnail(desk: Desk) -> list[bytes]:
    return [await desk.file(thumbnail="incomplete")]


async def of_another_message(desk: Desk) -> list[bytes]:
    file = await desk.file()
    await desk.sent(file)
    return [file]


async def of_another_conversation(desk: Desk) -> list[bytes]:
    file = await desk.file()
    await desk.sent(file, conversation=desk.other)
    return [file]


async def of_a_deleted_message(desk: Desk) -> list[bytes]:
    file = await desk.file()
    await delete_for_everyone(desk.pool, desk.alice, desk.talk, await desk.sent(file))
    return [file]


async def the_same_twice(desk: Desk) -> list[bytes]:
    file = await desk.file()
    return [file, await desk.file(), file]


REFUSALS: list[tuple[Files, type[StoreError]]] = [
    (unknown, UnknownAttachment),
    (of_bob, UnknownAttachment),
    (orphaned, UnknownAttachment),
    (with_an_orphaned_thumbnail, UnknownAttachment),
    (a_thumbnail, UnknownAttachment),
    (of_a_deleted_message, UnknownAttachment),
    (incomplete, AttachmentIncomplete),
    (with_an_incomplete_thumbnail, AttachmentIncomplete),
    (of_another_message, AttachmentUsed),
    (of_another_conversation, AttachmentUsed),
    (the_same_twice, AttachmentUsed),
]
EACH_REFUSAL = each_row(("files", "error"), REFUSALS, ids=[files.__name__.replace("_", " ") for files, _ in REFUSALS])
