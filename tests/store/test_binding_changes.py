"""Edits and deletions: which attachments a message keeps, takes and loses."""

from __future__ import annotations

import pytest

from store.errors import (
    RevisionConflict,
    StoreError,
    UnknownAttachment,
)
from store.postgres.pool import Pool
from store.revisions import delete_for_everyone, delete_for_me
from tests.store.binding_world import EACH_REFUSAL, Desk, Files, open_desk


@pytest.fixture
async def desk(pool: Pool) -> Desk:
    return await open_desk(pool)


@EACH_REFUSAL
async def test_an_edit_that_cannot_have_a_file_is_refused_and_changes_nothing(
    desk: Desk, files: Files, error: type[StoreError]
) -> None:
    kept = await desk.file()
    seq = await desk.sent(kept)
    bad = await files(desk)
    before = await desk.owners()
    with pytest.raises(error) as refused:
        await desk.edit(seq, 0, kept, *bad)
    assert refused.type is error
    assert await desk.owners() == before
    assert await desk.on_message(seq) == [kept]
    assert await desk.edit(seq, 0, kept), "the revision is still the first"


async def test_an_edit_keeps_takes_and_drops_attachments(desk: Desk) -> None:
    """Dropped ones are orphaned at once, with their thumbnails, and never come back."""
    kept, dropped, new = [await desk.file(thumbnail="complete") for _ in range(3)]
    seq = await desk.sent(kept, dropped, thumbnail=b"small")
    assert await desk.edit(seq, 0, new, kept)
    assert await desk.on_message(seq) == [new, kept]
    owners = await desk.owners()
    for file, owner in ((kept, (desk.talk, seq, False)), (new, (desk.talk, seq, False)), (dropped, (None, None, True))):
        assert {owners[file], owners[await desk.thumbnail_of(file)]} == {owner}
    with pytest.raises(UnknownAttachment):
        await desk.edit(seq, 1, new, kept, dropped)
    assert await desk.edit(seq, 1)
    assert await desk.on_message(seq) is None
    assert set((await desk.owners()).values()) == {(None, None, True)}
    assert await desk.pool.fetch("select thumbnail from messages where seq = %s", (seq,)) == [(None,)]


async def test_a_repeated_edit_is_answered_as_before_and_another_list_is_another_edit(desk: Desk) -> None:
    """Also when a later edit has dropped the attachments of the first one."""
    one, two = await desk.file(), await desk.file()
    seq = await desk.sent(one)
    assert await desk.edit(seq, 0, one, two, thumbnail=b"small")
    assert not await desk.edit(seq, 0, one, two, thumbnail=b"small")
    for files, thumbnail in (([two, one], b"small"), ([one], b"small"), ([one, two], None), ([one, two], b"other")):
        with pytest.raises(RevisionConflict):
            await desk.edit(seq, 0, *files, thumbnail=thumbnail)
    assert await desk.edit(seq, 1, two)
    assert not await desk.edit(seq, 0, one, two, thumbnail=b"small")
    with pytest.raises(RevisionConflict):
        await desk.edit(seq, 0, one, two)
    assert await desk.on_message(seq) == [two]


async def test_deleting_for_everyone_orphans_and_deleting_for_oneself_does_not(desk: Desk) -> None:
    file = await desk.file(thumbnail="complete")
    seq = await desk.sent(file, thumbnail=b"small")
    await delete_for_me(desk.pool, desk.alice, desk.talk, seq)
    assert set((await desk.owners()).values()) == {(desk.talk, seq, False)}
    await delete_for_everyone(desk.pool, desk.alice, desk.talk, seq)
    assert set((await desk.owners()).values()) == {(None, None, True)}
    assert await desk.pool.fetch("select attachments, thumbnail from messages where seq = %s", (seq,)) == [(None, None)]
