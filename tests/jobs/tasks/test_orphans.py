"""Orphaned files are removed, and no others; a crash at any point loses and breaks nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trio
from structlog.testing import capture_logs

from client.http import Credentials
from jobs.engine.job import Snooze
from jobs.tasks import batches
from jobs.tasks import orphans as orphans_module
from jobs.tasks.orphans import Orphans
from protocol.limits import ATTACHMENT_PART_BYTES
from store import analytics, attachments, orphans, sql
from store.attachments import DeclaredFile, key_of
from store.errors import DatabaseError, ObjectStoreRefused, Unavailable
from store.messages import Committed, NewMessage, send
from store.objects.deletions import MAX_FAILURES
from store.objects.folder import Folder
from store.objects.quotas import QUOTAS
from store.participant_lists import ParticipantsCache
from store.postgres.driver import connected, texts, uuid, uuids
from store.postgres.pool import Pool
from store.revisions import delete_for_everyone, delete_for_me, edit
from tests.jobs.jobs_world import a_job, send_message
from tests.people import new_direct, new_user
from tests.store.attachment_world import Faulty, a_file, new_attachment, usage_of
from tests.uploads import new_upload

HOURS_25 = 25 * 3600.0


JOB = a_job("orphans")


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "PAUSE_S", 0.0)


@pytest.fixture
async def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    await folder.start()
    return folder


@pytest.fixture
async def conversation(pool: Pool, alice: Credentials) -> bytes:
    return await new_direct(pool, alice, await new_user(pool, "bob"))


class Files:
    """Attachments, and the objects in the folder.

    :param path: of the folder.
    """

    def __init__(self, pool: Pool, folder: Folder, path: Path, user: bytes) -> None:
        self._pool = pool
        self._folder = folder
        self._path = path
        self._user = user

    async def put(self, key: str, *, age_s: float = 0.0) -> str:
        await self._folder.put(key, b"ciphertext", "application/octet-stream")
        os.utime(self._path / key, (time.time() - age_s,) * 2)
        return key

    async def upload(
        self, name: str, *, age_s: float = 0.0, message: tuple[bytes, int] | None = None, has_thumbnail: bool = False
    ) -> str:
        """Store an attachment with its object; the object's key."""
        key = await self.put(f"attachments/{name}", age_s=age_s)
        id_ = await new_upload(self._pool, self._user, key=key, message=message, age_s=age_s)
        if has_thumbnail:
            small = await self.put(f"attachments/{name}.small", age_s=age_s)
            await new_upload(self._pool, self._user, key=small, thumbnail_of=id_, message=message, age_s=age_s)
        return key

    async def objects(self) -> list[str]:
        return [entry.key.rpartition("/")[2] for entry in await self._folder.list("attachments/")]

    async def rows(self) -> list[str]:
        rows = await self._pool.fetch("select object_key from attachments order by object_key")
        return [key.rpartition("/")[2] for (key,) in rows]


@pytest.fixture
def files(pool: Pool, folder: Folder, tmp_path: Path, alice: Credentials) -> Files:
    return Files(pool, folder, tmp_path, alice.user)


async def send_with_files(pool: Pool, files: Files, conversation: bytes, sender: Credentials) -> None:
    """Three messages, each with a file."""
    await send_message(pool, conversation, sender.user, b"1", b"2", b"3")
    for seq in (1, 2, 3):
        await files.upload(f"of-{seq}", message=(conversation, seq))


async def test_upload_that_no_message_took_for_a_day_is_removed_with_its_thumbnail(
    pool: Pool, folder: Folder, files: Files, conversation: bytes, alice: Credentials
) -> None:
    seq = await send_message(pool, conversation, alice.user, b"with a file")
    await files.upload("unused", age_s=HOURS_25, has_thumbnail=True)
    await files.upload("unused-without-thumbnail", age_s=HOURS_25)
    await files.upload("young", has_thumbnail=True)
    await files.upload("used", age_s=HOURS_25, message=(conversation, seq), has_thumbnail=True)
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert await files.objects() == await files.rows() == ["used", "used.small", "young", "young.small"]


async def test_attachment_of_a_message_that_is_deleted_for_everyone_is_removed_at_once(
    pool: Pool, folder: Folder, files: Files, conversation: bytes, alice: Credentials
) -> None:
    """At any age. An attachment stays if its message was edited, or deleted for one user alone."""
    await send_with_files(pool, files, conversation, alice)
    await files.upload("another-of-1", message=(conversation, 1))
    await delete_for_everyone(pool, alice.user, conversation, 1)
    await edit(pool, alice.user, conversation, 2, 0, "text", b"other", None, None)
    await delete_for_me(pool, alice.user, conversation, 3)
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert await files.objects() == await files.rows() == ["of-2", "of-3"]


async def test_attachment_of_a_message_below_the_floor_is_removed_at_once(
    pool: Pool, folder: Folder, files: Files, conversation: bytes, alice: Credentials
) -> None:
    await send_with_files(pool, files, conversation, alice)
    await pool.fetch("update conversations set floor_seq = 2")
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert await files.objects() == await files.rows() == ["of-3"]


async def test_attachment_that_is_set_free_with_its_message_is_removed_at_once(
    pool: Pool, folder: Folder, files: Files, conversation: bytes, alice: Credentials
) -> None:
    """As retention does, which then deletes the message."""
    await send_message(pool, conversation, alice.user, b"1")
    await files.upload("of-1", message=(conversation, 1))
    await pool.fetch("update attachments set conversation_id = null, seq = null")
    await pool.fetch("delete from messages")
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert await files.objects() == await files.rows() == []


async def test_look_below_floors_goes_on_where_it_stopped_and_begins_again_at_its_end(
    pool: Pool, files: Files, conversation: bytes, alice: Credentials
) -> None:
    conversations = [conversation] + [await new_direct(pool, alice, await new_user(pool, f"user{n}")) for n in range(4)]
    for each in conversations:
        await send_message(pool, each, alice.user, b"1", b"2")
        for name in ("one", "two"):
            await files.upload(f"{name}-of-{each.hex()}", message=(each, 1))
        await files.upload(f"last-of-{each.hex()}", message=(each, 2))
    after, seen = "", []
    for _ in range(3):
        after, count = await orphans.orphan_below_floors(pool, after, limit=2)
        seen.append((after, count))
    ordered = sorted(each.hex() for each in conversations)
    assert seen == [(ordered[1], 2), (ordered[3], 2), ("", 1)]
    assert len(await files.rows()) == 15
    assert await pool.fetch("select 1 from attachments where conversation_id is null") == []
    await pool.fetch("update conversations set floor_seq = 1")
    await orphans.orphan_below_floors(pool, ordered[2], limit=2)
    assert await pool.fetch("select count(*) from attachments where conversation_id is null") == [(4,)]


class Flaky(Folder):
    """Deletes `left` objects, then fails.

    :ivar left: how many it deletes.
    """

    def __init__(self, path: Path, left: int) -> None:
        super().__init__(path)
        self.left = left

    async def delete(self, keys: Sequence[str]) -> None:
        await super().delete(keys[: self.left])
        self.left -= len(keys)
        if self.left < 0:
            raise Unavailable("the object store", "somewhere", "status 503")


async def test_objects_go_first_and_while_they_cannot_be_deleted_the_rows_stay(
    pool: Pool, folder: Folder, files: Files, tmp_path: Path
) -> None:
    """If the row were deleted first, no row would lead to its objects."""
    for n in range(4):
        await files.upload(f"unused-{n}", age_s=HOURS_25)
    flaky = Flaky(tmp_path, left=2)
    with pytest.raises(Unavailable):
        await Orphans(pool, flaky).orphaned_attachments(JOB)
    assert len(await files.objects()) == 2
    assert len(await files.rows()) == 4
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert await files.objects() == await files.rows() == []


async def test_crash_after_the_objects_and_before_the_rows_is_made_good(
    pool: Pool, folder: Folder, files: Files
) -> None:
    await files.upload("unused", age_s=HOURS_25, has_thumbnail=True)
    keys = sorted(orphan.key for orphan in await orphans.orphaned(pool, limit=10))
    assert keys == ["attachments/unused", "attachments/unused.small"]
    await folder.delete(keys)
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert await files.rows() == []


async def test_invalid_key_does_not_keep_other_objects_from_removal(pool: Pool, folder: Folder, files: Files) -> None:
    await files.upload("unused", age_s=HOURS_25, has_thumbnail=True)
    await pool.fetch("update attachments set object_key = '../a key of long ago' where thumbnail_of is null")
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert await files.objects() == ["unused"]
    assert await files.rows() == []


async def test_orphaned_attachment_becomes_part_of_no_message(
    pool: Pool, files: Files, conversation: bytes, alice: Credentials
) -> None:
    """Its object may be gone by then: the send fails, so that no message has a missing file."""
    await send_message(pool, conversation, alice.user, b"1")
    await files.upload("unused", age_s=HOURS_25)
    await orphans.orphaned(pool, limit=10)
    with pytest.raises(DatabaseError, match="attachments_orphaned"):
        await pool.fetch("update attachments set conversation_id = %s, seq = 1", (uuid(conversation),))


async def test_attachment_that_a_message_just_takes_is_passed_over(
    pool: Pool, folder: Folder, files: Files, conversation: bytes, alice: Credentials
) -> None:
    """At the last moment: the task neither waits for it nor removes it."""
    await send_message(pool, conversation, alice.user, b"1")
    await files.upload("taken", age_s=HOURS_25)
    await files.upload("unused", age_s=HOURS_25)
    async with connected(pool.url) as connection:
        await connection.query("begin")
        await connection.query(
            "update attachments set conversation_id = %s, seq = 1 where object_key = 'attachments/taken'",
            (uuid(conversation),),
        )
        with trio.fail_after(5):
            await Orphans(pool, folder).orphaned_attachments(JOB)
        await connection.query("commit")
    assert await files.rows() == ["taken"]
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert await files.objects() == ["taken"]


async def test_several_workers_at_once_do_it_once(
    pool: Pool, folder: Folder, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans_module, "BATCH", 7)
    for n in range(60):
        await files.upload(f"unused-{n}", age_s=HOURS_25)
        await files.put(f"attachments/unknown-{n}", age_s=HOURS_25)
    await files.upload("young")
    with capture_logs():
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(Orphans(pool, folder).orphaned_attachments, JOB)
                nursery.start_soon(Orphans(pool, folder).orphaned_objects, JOB)
    assert await files.rows() == await files.objects() == ["young"]


def a_send(conversation: bytes, sender: bytes) -> NewMessage:
    return NewMessage(conversation, sender, uuid4().bytes, "text", b"now", None, None)


_sql = sql.load("orphans")

BATCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "marking": (_sql.orphaned, {"unused_s": orphans.UNUSED_S, "limit": 100, "but": texts([])}),
    "below floors": (_sql.orphan_below_floors, {"after": uuid(bytes(16)), "limit": 100, "each": 100}),
    "removing": (_sql.remove, {}),
}


@pytest.mark.parametrize("name", BATCHES)
async def test_send_goes_through_while_a_batch_is_under_way(
    pool: Pool, files: Files, conversation: bytes, alice: Credentials, name: str
) -> None:
    """To the conversation whose attachments the batch is about, by a sender whose uploads it removes."""
    seq = await send_message(pool, conversation, alice.user, b"1", b"2")
    await files.upload("unused", age_s=HOURS_25)
    await files.upload("below", message=(conversation, 1))
    await files.upload("above", message=(conversation, seq))
    await pool.fetch("update conversations set floor_seq = 1")
    query, parameters = BATCHES[name]
    if name == "removing":
        parameters = {"ids": uuids([orphan.id for orphan in await orphans.orphaned(pool, limit=100)])}
    async with connected(pool.url) as connection:
        await connection.query("begin")
        await connection.query(query, parameters)
        with trio.fail_after(5):
            [outcome] = await send(pool, ParticipantsCache(), [a_send(conversation, alice.user)], lock_wait_s=1)
        assert isinstance(outcome, Committed)
        assert outcome.seq == 3
        [(locks,)] = await pool.fetch(
            "select count(*) from pg_locks l join pg_class c on c.oid = l.relation"
            " where c.relname = 'attachments' and l.mode = 'RowExclusiveLock'"
        )
        assert locks, "the batch was under way"
        await connection.query("rollback")


async def test_object_that_no_row_knows_is_removed_after_a_day(
    pool: Pool, folder: Folder, files: Files, conversation: bytes, alice: Credentials
) -> None:
    """Its upload crashed. Objects and thumbnails of attachments stay, and so do all other objects."""
    seq = await send_message(pool, conversation, alice.user, b"1")
    await files.upload("used", age_s=HOURS_25, message=(conversation, seq), has_thumbnail=True)
    await files.put("attachments/unknown", age_s=HOURS_25)
    await files.put("attachments/unknown-and-young", age_s=23 * 3600)
    archive = await files.put("archive/unknown", age_s=HOURS_25)
    await Orphans(pool, folder).orphaned_objects(JOB)
    assert await files.objects() == ["unknown-and-young", "used", "used.small"]
    assert [entry.key for entry in await folder.list("archive/")] == [archive]


async def test_sweep_that_takes_too_long_goes_on_where_it_was(
    pool: Pool, folder: Folder, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another worker too; at the end it begins again."""
    monkeypatch.setattr(orphans_module, "PAGE", 2)
    monkeypatch.setattr(batches, "MAX_RUN_S", 0.0)
    for n in range(5):
        await files.put(f"attachments/{n}", age_s=HOURS_25)
    left = []
    for _ in range(2):
        with pytest.raises(Snooze):
            await Orphans(pool, folder).orphaned_objects(JOB)
        left.append(await files.objects())
    await files.put("attachments/0", age_s=HOURS_25)
    await Orphans(pool, folder).orphaned_objects(JOB)
    assert left == [["2", "3", "4"], ["4"]]
    assert await files.objects() == ["0"], "a run does not look at objects it has passed"
    await Orphans(pool, folder).orphaned_objects(JOB)
    assert await files.objects() == []


async def test_without_an_object_store_nothing_is_removed(pool: Pool, files: Files) -> None:
    await files.upload("unused", age_s=HOURS_25)
    await Orphans(pool, None).orphaned_attachments(JOB)
    await Orphans(pool, None).orphaned_objects(JOB)
    assert await files.rows() == ["unused"]


LARGE = 2 * ATTACHMENT_PART_BYTES


async def declared(pool: Pool, folder: Folder, user: Credentials) -> DeclaredFile:
    """An upload of two parts, whose multipart upload has begun."""
    [row] = await attachments.declare(pool, user.user, [a_file(LARGE)], QUOTAS)
    assert await attachments.note_multipart(pool, row, await folder.begin_multipart(row.key))
    return row


async def test_multipart_upload_of_an_orphaned_upload_is_aborted(
    pool: Pool, folder: Folder, files: Files, alice: Credentials
) -> None:
    """And the bytes of the upload are given back."""
    old, young = await declared(pool, folder, alice), await declared(pool, folder, alice)
    await pool.fetch("update attachments set created = created - interval '25 hours' where id = %s", (uuid(old.id),))
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert [each.key for each in await folder.list_multiparts("attachments/")] == [young.key]
    assert await usage_of(pool, alice.user) == (LARGE, 2 * LARGE)


async def test_multipart_upload_that_no_upload_will_complete_is_aborted_after_a_day(
    pool: Pool, folder: Folder, files: Files, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process crashed before it noted it, or its upload is complete by another one. Others stay, however old."""
    noted, complete = await declared(pool, folder, alice), await declared(pool, folder, alice)
    await attachments.complete(pool, alice.user, [complete.id])
    unknown = key_of(uuid4().bytes)
    for key in (unknown, noted.key):
        await folder.begin_multipart(key)
    before = await folder.list_multiparts("attachments/")
    await Orphans(pool, folder).abandoned_multiparts(JOB)
    assert await folder.list_multiparts("attachments/") == before, "all are young"
    monkeypatch.setattr(orphans, "UNUSED_S", 0.0)
    await Orphans(pool, folder).abandoned_multiparts(JOB)
    [left] = await folder.list_multiparts("attachments/")
    assert left.key == noted.key
    assert (await attachments.uploads(pool, alice.user, [noted.id]))[0].multipart == left.upload


async def test_file_that_a_killed_process_has_not_finished_is_removed_after_a_day(
    pool: Pool, folder: Folder, tmp_path: Path
) -> None:
    """No list shows it, and a process that starts right after the crash finds it young."""
    for name, age_s in (("old", HOURS_25), ("young", 23 * 3600.0)):
        file = tmp_path / ".new" / name
        file.write_bytes(b"half")
        os.utime(file, (time.time() - age_s,) * 2)
    await Orphans(pool, folder).abandoned_multiparts(JOB)
    assert [each.name for each in (tmp_path / ".new").iterdir()] == ["young"]


async def test_sweep_of_multipart_uploads_goes_on_where_it_was(
    pool: Pool, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "UNUSED_S", 0.0)
    monkeypatch.setattr(orphans_module, "PAGE", 2)
    monkeypatch.setattr(batches, "MAX_RUN_S", 0.0)
    for n in range(5):
        await folder.begin_multipart(f"attachments/{n}")
    left = []
    for _ in range(2):
        with pytest.raises(Snooze):
            await Orphans(pool, folder).abandoned_multiparts(JOB)
        left.append([each.key[-1] for each in await folder.list_multiparts("attachments/")])
    await Orphans(pool, folder).abandoned_multiparts(JOB)
    assert left == [["2", "3", "4"], ["4"]]
    assert await folder.list_multiparts("attachments/") == []


async def test_multipart_uploads_wait_while_the_object_store_is_down(
    pool: Pool, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "UNUSED_S", 0.0)
    await folder.begin_multipart("attachments/unknown")
    faulty: Any = Faulty(folder)
    faulty.fail(Unavailable("the object store", "x", "refused"), "abort_multipart")
    with pytest.raises(Unavailable):
        await Orphans(pool, faulty).abandoned_multiparts(JOB)
    await Orphans(pool, folder).abandoned_multiparts(JOB)
    assert await folder.list_multiparts("attachments/") == []


class Stubborn(Faulty):
    """Refuses to delete what is under some keys.

    :ivar asked: the keys that it was asked to delete, or whose multipart upload it was asked to abort.
    """

    def __init__(self, folder: Folder, kept: Sequence[str]) -> None:
        super().__init__(folder)
        self.asked: list[str] = []

        async def delete(keys: Sequence[str]) -> None:
            self.asked += keys
            if set(keys) & set(kept):
                raise ObjectStoreRefused("x", "status 403 AccessDenied")
            await folder.delete(keys)

        async def abort_multipart(key: str, upload: str) -> None:
            self.asked.append(key)
            if key in kept:
                raise Unavailable("the object store", "x", "status 500 InternalError")
            await folder.abort_multipart(key, upload)

        self.instead("delete", delete)
        self.instead("abort_multipart", abort_multipart)


async def test_multipart_upload_that_cannot_be_aborted_stops_no_other(
    pool: Pool, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its page, and on those that follow. The log names it, and the job fails in the end: the next attempt meets it
    again."""
    monkeypatch.setattr(orphans, "UNUSED_S", 0.0)
    monkeypatch.setattr(orphans_module, "PAGE", 2)
    keys = [f"attachments/{n}" for n in range(5)]
    for key in keys:
        await folder.begin_multipart(key)
    stubborn: Any = Stubborn(folder, [keys[0]])
    with capture_logs() as logs, pytest.raises(Unavailable, match="InternalError"):
        await Orphans(pool, stubborn).abandoned_multiparts(JOB)
    assert [each.key for each in await folder.list_multiparts("attachments/")] == [keys[0]]
    assert [line["key"] for line in logs if line["event"] == "object_stays"] == [keys[0]]
    await Orphans(pool, folder).abandoned_multiparts(JOB)
    assert await folder.list_multiparts("attachments/") == []


async def test_attachment_that_cannot_be_deleted_stops_no_other(
    pool: Pool, folder: Folder, files: Files, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one whose object stays, nor one whose multipart upload does. Their rows stay, too."""
    monkeypatch.setattr(orphans_module, "BATCH", 2)
    row = await declared(pool, folder, alice)
    await pool.fetch("update attachments set created = created - interval '30 hours'")
    for n in range(5):
        await files.upload(f"unused-{n}", age_s=HOURS_25)
    stubborn: Any = Stubborn(folder, [row.key, "attachments/unused-1"])
    with capture_logs() as logs, pytest.raises(Unavailable, match="InternalError"):
        await Orphans(pool, stubborn).orphaned_attachments(JOB)
    assert await files.objects() == ["unused-1"]
    kept = [row.key, "attachments/unused-1"]
    assert [line["key"] for line in logs if line["event"] == "object_stays"] == kept
    assert sorted(await files.rows()) == sorted(key.rpartition("/")[2] for key in kept)
    await Orphans(pool, folder).orphaned_attachments(JOB)
    assert await files.rows() == []


async def test_object_without_a_row_that_cannot_be_deleted_stops_no_other(
    pool: Pool, folder: Folder, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans_module, "PAGE", 2)
    for n in range(5):
        await files.put(f"attachments/{n}", age_s=HOURS_25)
    stubborn: Any = Stubborn(folder, ["attachments/1"])
    with pytest.raises(ObjectStoreRefused, match="AccessDenied"):
        await Orphans(pool, stubborn).orphaned_objects(JOB)
    assert await files.objects() == ["1"]


async def test_run_stops_once_the_object_store_seems_to_be_away(
    pool: Pool, folder: Folder, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call may take a minute. The sweep stays where it was."""
    monkeypatch.setattr(orphans, "UNUSED_S", 0.0)
    count = 2 * MAX_FAILURES
    keys = [f"attachments/{n:02d}" for n in range(count)]
    for key in keys:
        await folder.begin_multipart(key)
    away: Any = Stubborn(folder, keys)
    for _ in range(2):
        away.asked.clear()
        with pytest.raises(Unavailable):
            await Orphans(pool, away).abandoned_multiparts(JOB)
        assert away.asked == keys[:MAX_FAILURES]
    await files.put("attachments/unknown", age_s=HOURS_25)
    for n in range(count):
        await files.upload(f"{n:02d}", age_s=HOURS_25)
    away = Stubborn(folder, [*keys, "attachments/unknown"])
    with pytest.raises(ObjectStoreRefused):
        await Orphans(pool, away).orphaned_attachments(JOB)
    assert len(away.asked) == count + MAX_FAILURES
    assert len(await files.rows()) == count


async def test_complete_attachment_without_an_object_is_counted_and_logged(
    pool: Pool, folder: Folder, files: Files, conversation: bytes, alice: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On each page of the sweep, also the last one; not one that was complete a moment ago, nor an orphaned one."""
    seq = await send_message(pool, conversation, alice.user, b"1")
    ids = [await new_attachment(pool, alice.user, message=(conversation, seq)) for _ in range(5)]
    await pool.fetch("update attachments set completed = completed - interval '2 hours'")
    await new_attachment(pool, alice.user)
    await attachments.give_up(pool, alice.user, [await new_attachment(pool, alice.user)])
    lost = sorted(map(key_of, ids))[::2]
    for key in map(key_of, ids):
        if key not in lost:
            await files.put(key)
    monkeypatch.setattr(orphans_module, "PAGE", 1)
    with capture_logs() as logs:
        await Orphans(pool, folder).orphaned_objects(JOB)
    found = [line["first"] for line in logs if line["event"] == "objects_missing"]
    assert sorted(key for keys in found for key in keys) == lost
    today = await analytics.today(pool)
    [day] = await analytics.days(pool, today, today)
    assert day.attachments.missing == 3
