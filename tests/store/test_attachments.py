"""Declarations, quotas and reads of attachments, without an object store."""

from __future__ import annotations

from hashlib import sha256
from uuid import uuid4

import pytest
import trio

from client.http import Credentials
from protocol.limits import ATTACHMENT_PART_BYTES, DIGEST_BYTES
from store import attachments, orphans
from store.attachments import File, Thumbnail, key_of
from store.errors import AttachmentUsed, BadUpload, QuotaExceeded, TokenUnknown, UnknownAttachment
from store.objects.quotas import Quotas
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from store.revisions import delete_for_everyone, delete_for_me
from tests.jobs.jobs_world import send_message
from tests.people import new_group, new_user
from tests.rows import each_row
from tests.store.attachment_world import a_file, attach, usage_of
from tests.uploads import new_upload

DIGEST = sha256(b"ciphertext").digest()
SMALL = Thumbnail(10, DIGEST)
NONE = Quotas(
    attachment_bytes=2**40,
    open_uploads_per_user=0,
    attachment_bytes_per_day=0,
    attachment_bytes_per_user=0,
    attachment_bytes_total=0,
)


async def test_file_is_declared_with_its_thumbnail(pool: Pool, alice: Credentials) -> None:
    """The digest of a file of several parts is that of their digests; its key ends with its id."""
    large = a_file(ATTACHMENT_PART_BYTES + 1, thumbnail=SMALL)
    one, small, other = await attachments.declare(pool, alice.user, [large, a_file()], NONE)
    assert (one.digest, other.digest) == (sha256(large.part_digests).digest(), a_file().part_digests)
    assert (one.thumbnail_of, small.thumbnail_of, other.thumbnail_of) == (None, one.id, None)
    assert [(part.number, part.size_bytes) for part in one.parts()] == [(1, ATTACHMENT_PART_BYTES), (2, 1)]
    assert b"".join(part.digest for part in one.parts()) == large.part_digests
    assert one.key == f"attachments/{one.id.hex()[-2:]}/{one.id.hex()}" == key_of(one.id)
    stored = {row.id: row for row in await attachments.uploads(pool, alice.user, [one.id, other.id])}
    assert stored == {row.id: row for row in (one, small, other)}
    size = large.size_bytes + SMALL.size_bytes + 10
    assert await usage_of(pool, alice.user) == (size, size)


BAD = {
    "no byte": (File(0, "image/jpeg", b""), "at least 1"),
    "no digest": (File(1, "image/jpeg", b""), "1 parts, so its digests have 32 bytes, not 0"),
    "a digest too many": (File(1, "image/jpeg", bytes(64)), "not 64"),
    "a digest too few": (File(ATTACHMENT_PART_BYTES + 1, "image/jpeg", bytes(32)), "2 parts"),
    "half a digest": (File(1, "image/jpeg", bytes(31)), "not 31"),
    "no media type": (a_file(media_type=""), "media_type"),
    "a long media type": (a_file(media_type="x" * 128), "media_type"),
    "a media type of two lines": (a_file(media_type="image/jpeg\r\nx: y"), "media_type"),
    "a thumbnail without a byte": (a_file(thumbnail=Thumbnail(0, DIGEST)), "a thumbnail"),
    "a large thumbnail": (a_file(thumbnail=Thumbnail(512 * 1024 + 1, DIGEST)), "a thumbnail must have 1 to 524288"),
    "a thumbnail with half a digest": (a_file(thumbnail=Thumbnail(1, DIGEST[:16])), "digest of a thumbnail"),
}


@each_row("name", BAD)
async def test_bad_declaration_is_refused_with_all_others_of_its_request(
    pool: Pool, alice: Credentials, name: str
) -> None:
    bad, why = BAD[name]
    with pytest.raises(BadUpload, match=why):
        await attachments.declare(pool, alice.user, [a_file(), bad], NONE)
    assert await pool.fetch("select count(*) from attachments") == [(0,)]
    assert await usage_of(pool, alice.user) == (0, 0)


QUOTAS = {
    "attachment_bytes": (Quotas(attachment_bytes=100), [100], 101),
    "attachment_bytes_per_day": (Quotas(attachment_bytes_per_day=100), [60, 40], 1),
    "attachment_bytes_per_user": (Quotas(attachment_bytes_per_user=100), [60, 40], 1),
    "attachment_bytes_total": (Quotas(attachment_bytes_total=100), [60, 40], 1),
    "open_uploads_per_user": (Quotas(open_uploads_per_user=3), [1, 1, 1], 1),
}


@pytest.mark.parametrize("name", QUOTAS)
async def test_quota_is_met_exactly_and_refused_by_name(pool: Pool, alice: Credentials, name: str) -> None:
    quotas, taken, too_many = QUOTAS[name]
    for size in taken:
        await attachments.declare(pool, alice.user, [a_file(size)], quotas)
    before = await usage_of(pool, alice.user)
    with pytest.raises(QuotaExceeded) as refused:
        await attachments.declare(pool, alice.user, [a_file(too_many)], quotas)
    assert (refused.value.quota, refused.value.value) == (name, getattr(quotas, name))
    assert await usage_of(pool, alice.user) == before
    [(rows,)] = await pool.fetch("select count(*) from attachments")
    assert rows == len(taken)


async def test_files_of_one_request_count_together_with_their_thumbnails(pool: Pool, alice: Credentials) -> None:
    quotas = Quotas(attachment_bytes_per_user=100)
    with pytest.raises(QuotaExceeded):
        await attachments.declare(pool, alice.user, [a_file(45, thumbnail=SMALL), a_file(46)], quotas)
    await attachments.declare(pool, alice.user, [a_file(45, thumbnail=SMALL), a_file(45)], quotas)


async def test_without_quotas_nothing_but_the_size_of_a_file_is_bounded(pool: Pool, alice: Credentials) -> None:
    for _ in range(12):
        await attachments.declare(pool, alice.user, [a_file(2**30)] * 10, NONE)
    assert await usage_of(pool, alice.user) == (120 * 2**30,) * 2


@pytest.mark.parametrize(
    "quotas",
    [Quotas(attachment_bytes_per_user=100), Quotas(attachment_bytes_per_day=100), Quotas(attachment_bytes_total=100)],
)
async def test_two_uploads_at_once_cannot_both_take_the_last_bytes(
    pool: Pool, alice: Credentials, quotas: Quotas
) -> None:
    outcomes: list[str] = []

    async def declare() -> None:
        try:
            await attachments.declare(pool, alice.user, [a_file(30)], quotas)
        except QuotaExceeded as error:
            outcomes.append(error.quota)

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            nursery.start_soon(declare)
    assert len(outcomes) == 9
    [(rows,)] = await pool.fetch("select count(*) from attachments")
    assert rows == 3
    assert await pool.fetch("select stored_bytes from attachment_total") == [(90,)]


async def test_quota_of_the_deployment_counts_all_users(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    quotas = Quotas(attachment_bytes_total=100)
    await attachments.declare(pool, alice.user, [a_file(60)], quotas)
    with pytest.raises(QuotaExceeded):
        await attachments.declare(pool, bob.user, [a_file(41)], quotas)
    await attachments.declare(pool, bob.user, [a_file(40)], quotas)


async def test_open_uploads_are_those_that_no_message_has(pool: Pool, alice: Credentials, direct: bytes) -> None:
    """Complete or not. Those that are given up do not count, nor do thumbnails."""
    quotas = Quotas(open_uploads_per_user=2)
    seq = await send_message(pool, direct, alice.user, b"1")
    first, _, second, _ = await attachments.declare(pool, alice.user, [a_file(thumbnail=SMALL)] * 2, quotas)
    await attachments.complete(pool, alice.user, [first.id])
    with pytest.raises(QuotaExceeded):
        await attachments.declare(pool, alice.user, [a_file()], quotas)
    await attach(pool, direct, seq, first.id)
    await attachments.declare(pool, alice.user, [a_file()], quotas)
    with pytest.raises(QuotaExceeded):
        await attachments.declare(pool, alice.user, [a_file()], quotas)
    await attachments.give_up(pool, alice.user, [second.id])
    await attachments.declare(pool, alice.user, [a_file()], quotas)


async def test_bytes_are_given_back_when_the_rows_are_removed_but_not_those_of_the_day(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    one, small = await attachments.declare(pool, alice.user, [a_file(50, thumbnail=SMALL)], NONE)
    other, kept = await attachments.declare(pool, bob.user, [a_file(30), a_file(3)], NONE)
    given_up = await attachments.give_up(pool, alice.user, [one.id])
    assert {each.id for each in given_up} == {one.id, small.id}
    given_up += await attachments.give_up(pool, bob.user, [other.id])
    assert await usage_of(pool, alice.user) == (60, 60)
    assert await orphans.remove(pool, given_up) == 3
    assert await orphans.remove(pool, given_up) == 0
    assert await usage_of(pool, alice.user) == (0, 60)
    assert await usage_of(pool, bob.user) == (3, 33)
    assert await pool.fetch("select stored_bytes from attachment_total") == [(3,)]
    assert [row.id for row in await attachments.uploads(pool, bob.user, [other.id, kept.id])] == [kept.id]


TOTAL = "select stored_bytes, complete_files, complete_bytes from attachment_total"


async def test_stored_bytes_are_the_sums_over_the_rows_whichever_statement_writes_them(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """An import and an operator write them, too: no count can be wrong, and none below 0."""
    for user in (alice, alice, bob):
        await new_upload(pool, user.user)
    open_one = await new_upload(pool, bob.user, is_complete=False)
    assert await pool.fetch(TOTAL) == [(40, 3, 30)]
    await attachments.complete(pool, bob.user, [open_one])
    await attachments.complete(pool, bob.user, [open_one])
    assert await pool.fetch(TOTAL) == [(40, 4, 40)]
    await pool.fetch("delete from attachments where id = %s", (uuid(open_one),))
    assert await pool.fetch(TOTAL) == [(30, 3, 30)]
    await pool.fetch(
        "delete from attachments where id = (select min(id::text)::uuid from attachments where user_id = %s)",
        (uuid(alice.user),),
    )
    await pool.fetch("delete from attachments where false")
    assert await pool.fetch(TOTAL) == [(20, 2, 20)]
    assert [await usage_of(pool, each.user) for each in (alice, bob)] == [(10, 0), (10, 0)]
    await pool.fetch("delete from attachments")
    assert await pool.fetch(TOTAL) == [(0, 0, 0)]
    assert [await usage_of(pool, each.user) for each in (alice, bob)] == [(0, 0), (0, 0)]


async def test_bytes_of_a_day_begin_anew_on_the_next(pool: Pool, alice: Credentials) -> None:
    quotas = Quotas(attachment_bytes_per_day=100)
    await attachments.declare(pool, alice.user, [a_file(100)], quotas)
    with pytest.raises(QuotaExceeded):
        await attachments.declare(pool, alice.user, [a_file(1)], quotas)
    await pool.fetch("update attachment_usage set day = day - 1")
    await attachments.declare(pool, alice.user, [a_file(100)], quotas)
    assert await usage_of(pool, alice.user) == (200, 100)


async def test_deleted_account_declares_no_files(pool: Pool, alice: Credentials) -> None:
    await pool.fetch("update users set deleted = now(), is_closed = true, password_hash = ''")
    with pytest.raises(TokenUnknown):
        await attachments.declare(pool, alice.user, [a_file()], NONE)
    assert await pool.fetch("select count(*) from attachment_usage") == [(0,)]


async def test_completing_is_idempotent_and_counted_once(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    """Others' uploads, unknown ones and those given up stay as they are."""
    one, small, other = await attachments.declare(pool, alice.user, [a_file(50, thumbnail=SMALL), a_file(7)], NONE)
    [foreign] = await attachments.declare(pool, bob.user, [a_file()], NONE)
    await attachments.give_up(pool, alice.user, [other.id])
    ids = [one.id, small.id, other.id, foreign.id, uuid4().bytes]
    results: list[set[bytes]] = []

    async def complete() -> None:
        results.append(await attachments.complete(pool, alice.user, ids))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(complete)
    assert results == [{one.id, small.id}] * 4
    assert await pool.fetch("select metric, value from analytics order by metric") == [
        ("attachment_bytes_uploaded", 60),
        ("attachments_uploaded", 2),
    ]
    assert all(row.is_complete for row in await attachments.uploads(pool, alice.user, [one.id]))


async def test_upload_of_another_user_and_one_of_a_message_are_not_given_up(
    pool: Pool, alice: Credentials, bob: Credentials, direct: bytes
) -> None:
    seq = await send_message(pool, direct, alice.user, b"1")
    used, free = await attachments.declare(pool, alice.user, [a_file(), a_file()], NONE)
    await attach(pool, direct, seq, used.id)
    for user, other in ((bob, used.id), (bob, free.id), (alice, uuid4().bytes)):
        with pytest.raises(UnknownAttachment):
            await attachments.give_up(pool, user.user, [free.id, other])
    with pytest.raises(AttachmentUsed):
        await attachments.give_up(pool, alice.user, [free.id, used.id])
    assert {row.id for row in await attachments.uploads(pool, alice.user, [used.id, free.id])} == {used.id, free.id}
    assert [each.id for each in await attachments.give_up(pool, alice.user, [free.id])] == [free.id]
    with pytest.raises(UnknownAttachment):
        await attachments.give_up(pool, alice.user, [free.id])


async def test_thumbnail_may_be_given_up_alone(pool: Pool, alice: Credentials) -> None:
    one, small = await attachments.declare(pool, alice.user, [a_file(thumbnail=SMALL)], NONE)
    given_up = await attachments.give_up(pool, alice.user, [small.id])
    assert [each.id for each in given_up] == [small.id]
    assert [row.id for row in await attachments.uploads(pool, alice.user, [one.id])] == [one.id]
    assert await orphans.remove(pool, given_up) == 1


async def test_multipart_upload_is_noted_by_one_of_two_requests(pool: Pool, alice: Credentials) -> None:
    [row] = await attachments.declare(pool, alice.user, [a_file(ATTACHMENT_PART_BYTES + 1)], NONE)
    assert await attachments.note_multipart(pool, row, "first")
    assert not await attachments.note_multipart(pool, row, "second")
    [row] = await attachments.uploads(pool, alice.user, [row.id])
    assert row.multipart == "first"
    await attachments.complete(pool, alice.user, [row.id])
    assert not await attachments.note_multipart(pool, row, "third")


async def test_attachments_are_readable_by_those_who_may_read_their_message(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    """Not by strangers, nor by those who left, nor once the message is deleted, hidden, or below the floor."""
    group = await new_group(pool, alice, bob)
    await send_message(pool, group, alice.user, b"1", b"2", b"3", b"4")
    rows = await attachments.declare(pool, alice.user, [a_file(thumbnail=SMALL)] * 5, NONE)
    files = rows[::2]
    ids = [row.id for row in files]
    small_of = {row.thumbnail_of: row.id for row in rows[1::2]}
    for seq, file in enumerate(files[:4], 1):
        await attach(pool, group, seq, file.id, small_of[file.id])

    async def read_by(user: Credentials) -> list[int]:
        found = [each.id for each in await attachments.readable(pool, user.user, ids)]
        assert found == [each for id_ in ids if id_ in found for each in (id_, small_of[id_])]
        return [ids.index(id_) for id_ in found[::2]]

    assert await read_by(alice) == await read_by(bob) == [0, 1, 2, 3]
    assert await read_by(carol) == await read_by(await new_user(pool, "dave")) == []
    await delete_for_me(pool, bob.user, group, 2)
    assert (await read_by(alice), await read_by(bob)) == ([0, 1, 2, 3], [0, 2, 3])
    await delete_for_everyone(pool, alice.user, group, 3)
    assert (await read_by(alice), await read_by(bob)) == ([0, 1, 3], [0, 3])
    await pool.fetch("update conversations set floor_seq = 1")
    assert (await read_by(alice), await read_by(bob)) == ([1, 3], [3])
    await pool.fetch("delete from participants where user_id = %s", (uuid(bob.user),))
    assert (await read_by(alice), await read_by(bob)) == ([1, 3], [])


async def test_readable_attachments_come_in_the_given_order_once(pool: Pool, alice: Credentials, direct: bytes) -> None:
    seq = await send_message(pool, direct, alice.user, b"1")
    rows = await attachments.declare(pool, alice.user, [a_file(thumbnail=SMALL), a_file(11)], NONE)
    one, small, other = (row.id for row in rows)
    await attach(pool, direct, seq, one, small, other)
    found = await attachments.readable(pool, alice.user, [other, one, small, other, uuid4().bytes])
    assert [each.id for each in found] == [other, one, small]
    assert [each.size_bytes for each in found] == [11, 10, 10]
    assert [each.media_type for each in found] == ["image/jpeg", "image/jpeg", "application/octet-stream"]
    assert [len(each.digest) for each in found] == [DIGEST_BYTES] * 3
    [alone] = await attachments.readable(pool, alice.user, [small])
    assert (alone.id, alone.thumbnail_of) == (small, one)
