"""Attachments that several transactions want at once: sends on several connections, and the clean-up."""

from __future__ import annotations

import random

import pytest
import trio

from store import orphans
from store.errors import (
    AttachmentUsed,
    UnknownAttachment,
)
from store.messages import Committed, Outcome, send
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, uuid, uuids
from store.postgres.pool import Pool
from tests.people import new_group
from tests.store.binding_world import Desk, open_desk
from tests.store.store_world import is_waiting_for
from tests.uploads import new_upload
from tests.waiting import wait_until


@pytest.fixture
async def desk(pool: Pool) -> Desk:
    return await open_desk(pool)


async def test_one_of_many_sends_on_many_connections_has_a_file(desk: Desk, database_url: str) -> None:
    """Batches that name the same files in different orders, in different conversations."""
    files = [await desk.file(thumbnail="complete") for _ in range(6)]
    groups = [await new_group(desk.pool, desk.people["alice"]) for _ in range(6)]
    pools = [Pool(database_url, 1) for _ in range(3)]
    taken: list[tuple[bytes, Outcome]] = []

    async def work(pool: Pool, seed: int) -> None:
        order = random.Random(seed).sample(files, len(files))
        batch = [desk.message(file, conversation=groups[seed]) for file in order]
        outcomes = await send(pool, ParticipantsCache(), batch)
        taken.extend(zip(order, outcomes, strict=True))

    try:
        async with trio.open_nursery() as nursery:
            for seed in range(6):
                nursery.start_soon(work, pools[seed % 3], seed)
    finally:
        for pool in pools:
            pool.close()
    winners = [file for file, outcome in taken if isinstance(outcome, Committed)]
    assert sorted(winners) == sorted(files)
    assert {type(outcome) for _, outcome in taken} == {Committed, AttachmentUsed}
    rows = await desk.pool.fetch(
        "select count(*) from attachments a join messages m on m.conversation_id = a.conversation_id and m.seq = a.seq"
        " where m.attachments = array[coalesce(a.thumbnail_of, a.id)]"
    )
    assert rows == [(12,)]


ORPHAN = "update attachments set orphaned = now() where id = %s"


@pytest.mark.parametrize("which", ["file", "thumbnail"])
async def test_a_send_waits_for_the_clean_up_and_finds_the_file_gone(desk: Desk, database_url: str, which: str) -> None:
    file = await desk.file(thumbnail="complete")
    chosen = file if which == "file" else await desk.thumbnail_of(file)
    outcomes: list[Outcome] = []

    async def attach() -> None:
        outcomes.extend(await desk.send(desk.message(file)))

    async with connected(database_url) as clean_up, trio.open_nursery() as nursery:
        await clean_up.query("begin")
        await clean_up.query(ORPHAN, (uuid(chosen),))
        nursery.start_soon(attach)
        await wait_until(lambda: is_waiting_for(desk.pool, "Lock", "send_batch"), "the send waits for the clean-up")
        await clean_up.query("commit")
    assert [type(outcome) for outcome in outcomes] == [UnknownAttachment]


async def test_the_clean_up_passes_a_file_by_that_a_send_is_about_to_take(desk: Desk, database_url: str) -> None:
    """Both are older than a day. The send holds the locks of the file and its thumbnail until it is committed."""
    old = [await new_upload(desk.pool, desk.alice, age_s=90_000)]
    old.append(await new_upload(desk.pool, desk.alice, age_s=90_000, thumbnail_of=old[0]))
    left = await new_upload(desk.pool, desk.alice, age_s=90_000)
    async with connected(database_url) as sender:
        await sender.query("begin")
        await sender.query("select lock_attachments(%s::uuid[])", (uuids([old[0]]),))
        assert [orphan.id for orphan in await orphans.orphaned(desk.pool, limit=10)] == [left]
        await sender.query("commit")
    await desk.sent(old[0])
    assert {orphan.id for orphan in await orphans.orphaned(desk.pool, limit=10)} == {left}
