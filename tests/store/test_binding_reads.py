"""Attachments and thumbnails of messages, in every way to read them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import pytest

from client.mailbox import Mailbox
from protocol import limits
from protocol.frames import Message, Tombstone
from store import conversations, history_pages, list_pages, messages, retention, revisions
from store.exported import lines_of
from store.messages import Committed
from store.participants import remove
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.revisions import delete_for_everyone
from store.rows import conversation_of
from tests.store.binding_world import Desk, open_desk
from tests.store.store_world import catch_up

Read = Callable[[Desk, bytes, int], Awaitable[list[Message | Tombstone]]]
"""Reads the message with this seq as a user who sees the conversation."""


@pytest.fixture
async def desk(pool: Pool) -> Desk:
    return await open_desk(pool)


async def before(desk: Desk, user: bytes, seq: int) -> list[Message | Tombstone]:
    return (await messages.history(desk.pool, user, desk.talk, limit=1, before=seq + 1)).messages


async def after(desk: Desk, user: bytes, seq: int) -> list[Message | Tombstone]:
    return (await messages.history(desk.pool, user, desk.talk, limit=1, after=seq - 1)).messages


async def around(desk: Desk, user: bytes, seq: int) -> list[Message | Tombstone]:
    return (await messages.history_around(desk.pool, user, desk.talk, around=seq, limit=1)).messages


async def newest(desk: Desk, user: bytes, _: int) -> list[Message | Tombstone]:
    return (await history_pages.newest(desk.pool, user, desk.talk, limit=1, max_bytes=10**6)).messages


async def last_of_list(desk: Desk, user: bytes, _: int) -> list[Message | Tombstone]:
    listed = await conversations.list_of(desk.pool, user, limit=10)
    return [each.last_message for each in listed if each.conversation == desk.talk and each.last_message]


async def last_of_first_page(desk: Desk, user: bytes, _: int) -> list[Message | Tombstone]:
    page = await list_pages.first_page(desk.pool, user, limit=10)
    last = conversation_of(page.entries[desk.talk]).last_message
    return [] if last is None else [last]


async def synced_afresh(desk: Desk, user: bytes, _: int) -> list[Message | Tombstone]:
    device = Mailbox(user)
    await catch_up(desk.pool, device)
    return device.messages(desk.talk)


async def missed_by_a_node(desk: Desk, user: bytes, seq: int) -> list[Message | Tombstone]:
    missed = await messages.messages_between(desk.pool, desk.talk, [user], after=seq - 1, upto=seq, limit=10)
    return [each.message for each in missed]


READS: Final[dict[str, Read]] = {
    each.__name__.replace("_", " "): each
    for each in (
        before,
        after,
        around,
        newest,
        last_of_list,
        last_of_first_page,
        synced_afresh,
        missed_by_a_node,
    )
}


def shown(entries: list[Message | Tombstone]) -> tuple[list[bytes] | None, bytes | None]:
    [entry] = entries
    assert isinstance(entry, Message)
    return entry.attachments, entry.thumbnail


@pytest.mark.parametrize("name", ["alice", "bob"])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_each_read_shows_attachments_and_thumbnail_as_they_are_now(desk: Desk, read: Read, name: str) -> None:
    user = desk.people[name].user
    files = [await desk.file(thumbnail="complete"), await desk.file()]
    seq = await desk.sent(*files, thumbnail=b"small")
    assert shown(await read(desk, user, seq)) == (files, b"small")
    await desk.edit(seq, 0, files[1], thumbnail=b"other")
    assert shown(await read(desk, user, seq)) == (files[1:], b"other")
    await desk.edit(seq, 1)
    assert shown(await read(desk, user, seq)) == (None, None)
    await delete_for_everyone(desk.pool, desk.alice, desk.talk, seq)
    assert isinstance((await read(desk, user, seq))[0], Tombstone)


async def test_a_sync_brings_new_and_edited_attachments_to_a_device_that_was_away(desk: Desk) -> None:
    device = Mailbox(desk.people["bob"].user)
    await desk.sent()
    await catch_up(desk.pool, device)
    files = [await desk.file(), await desk.file()]
    seq = await desk.sent(*files, thumbnail=b"small")
    await catch_up(desk.pool, device)
    assert shown(device.messages(desk.talk)[-1:]) == (files, b"small")
    await desk.edit(seq, 0, files[0])
    await catch_up(desk.pool, device)
    assert shown(device.messages(desk.talk)[-1:]) == (files[:1], None)


async def test_a_node_that_missed_changes_is_told_the_attachments(desk: Desk) -> None:
    kept = await desk.file()
    seq = await desk.sent(kept, await desk.file())
    await desk.edit(seq, 0, kept, thumbnail=b"small")
    [(entry, _)] = await revisions.revised_since(desk.pool, [desk.alice], ago_s=60)
    assert shown([entry]) == ([kept], b"small")


async def test_an_archive_is_given_the_ids_of_the_attachments(desk: Desk) -> None:
    file = await desk.file()
    await desk.sent(file, thumbnail=b"small")
    await desk.pool.fetch("update conversations set floor_seq = 1 where id = %s", (uuid(desk.talk),))
    assert shown(await retention.below(desk.pool, desk.talk, limit=10)) == ([file], b"small")


async def exported(desk: Desk, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) async for line in lines_of(desk.pool, desk.people[name].user)]
    return [line for line in lines if line["kind"] == "message"]


async def test_an_export_describes_the_attachments_of_each_message(desk: Desk) -> None:
    """In the sender's order, each followed by its thumbnail; also for a sender who has left."""
    files = [await desk.file(), await desk.file(thumbnail="complete")]
    seq = await desk.sent(*files, thumbnail=b"small")
    small = await desk.thumbnail_of(files[1])
    for name in ("bob", "alice"):
        [line] = [line for line in await exported(desk, name) if line["seq"] == seq]
        assert line["thumbnail"] == "c21hbGw="
        assert [UUID(each["attachment"]).bytes for each in line["attachments"]] == [*files, small]
        assert line["attachments"][2]["thumbnail_of"] == str(UUID(bytes=files[1]))
        assert {each["size_bytes"] for each in line["attachments"]} == {10}
    await remove(desk.pool, desk.alice, desk.talk, desk.alice)
    [line] = await exported(desk, "alice")
    assert len(line["attachments"]) == 3


@pytest.mark.parametrize("size_of", ["thumbnail", "attachments"])
async def test_a_page_counts_the_bytes_of_thumbnails_and_ids(desk: Desk, size_of: str) -> None:
    """So that no page is larger than it may be."""
    for _ in range(3):
        if size_of == "thumbnail":
            await desk.sent(thumbnail=bytes(limits.MAX_THUMBNAIL_BYTES), content=b"")
        else:
            await desk.sent(*[await desk.file() for _ in range(limits.MAX_ATTACHMENTS)], content=b"")
    each = limits.MAX_THUMBNAIL_BYTES if size_of == "thumbnail" else 17 * limits.MAX_ATTACHMENTS
    nonce = 24
    for most, count in ((2 * (each + nonce), 2), (2 * (each + nonce) - 1, 1), (1, 1)):
        pages = [
            await messages.history(desk.pool, desk.alice, desk.talk, limit=10, max_bytes=most),
            await messages.history(desk.pool, desk.alice, desk.talk, limit=10, after=0, max_bytes=most),
        ]
        assert [(len(page.messages), page.more) for page in pages] == [(count, True)] * 2
        page = await history_pages.newest(desk.pool, desk.alice, desk.talk, limit=10, max_bytes=most)
        assert (len(page.messages), page.more) == (count, True)
        assert page.sizes == [each + nonce] * count


async def test_messages_without_files_have_neither_field(desk: Desk) -> None:
    """In a batch beside one with both."""
    outcomes = await desk.send(desk.message(), desk.message(await desk.file(), thumbnail=b"small"), desk.message())
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    page = await messages.history(desk.pool, desk.alice, desk.talk, limit=10)
    assert [entry.thumbnail for entry in page.messages if isinstance(entry, Message)] == [None, b"small", None]
    assert [bool(entry.attachments) for entry in page.messages if isinstance(entry, Message)] == [False, True, False]
