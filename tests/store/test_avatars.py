"""Avatars of users and groups: which users set and see them, and what becomes of former ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
import trio

from client.http import Credentials
from protocol.frames import Avatar
from protocol.limits import ATTACHMENT_PART_BYTES, MAX_AVATAR_BYTES, MAX_SHOWN
from store import account_deletions, analytics, attachments, contacts, conversations, orphans, participants, profiles
from store.attachments import File, Thumbnail
from store.avatars import NO_AVATAR
from store.errors import (
    AttachmentIncomplete,
    AttachmentUsed,
    BadUpload,
    DatabaseError,
    NotAGroup,
    NotAnAdministrator,
    NotAParticipant,
    QuotaExceeded,
    UnknownAttachment,
)
from store.messages import NewMessage, send
from store.objects.avatar_modes import MEDIA_TYPES, AvatarMode
from store.objects.quotas import QUOTAS, Quotas
from store.participant_lists import ParticipantsCache
from store.postgres.driver import uuid
from store.postgres.pool import Pool
from tests.people import new_direct, new_group, new_user
from tests.store.attachment_world import a_file, new_attachment, usage_of


async def avatar(pool: Pool, who: Credentials) -> bytes:
    """An upload that is complete, and that may be shown."""
    return await new_attachment(pool, who.user, avatars="encrypted")


def id_of(shown: Avatar | None) -> bytes | None:
    return None if shown is None else shown[0]


async def own(pool: Pool, who: Credentials) -> bytes | None:
    return id_of((await profiles.profile_of(pool, who.user)).avatar)


async def of_group(pool: Pool, who: Credentials, group: bytes) -> bytes | None:
    return id_of((await conversations.one(pool, who.user, group)).avatar)


async def gone(pool: Pool) -> set[bytes]:
    """The attachments that a job removes now."""
    return {each.id for each in await orphans.orphaned(pool, limit=100)}


async def readable(pool: Pool, who: Credentials, *ids: bytes) -> set[bytes]:
    return {each.id for each in await attachments.readable(pool, who.user, ids)}


OCTETS = MEDIA_TYPES["encrypted"][0]
BAD: dict[str, tuple[File, AvatarMode, str]] = {
    "a picture where avatars are encrypted": (a_file(media_type="image/png"), "encrypted", "application/octet-stream"),
    "ciphertext where avatars are public": (a_file(media_type=OCTETS), "public", "image/jpeg or image/png"),
    "a drawing with scripts": (a_file(media_type="image/svg+xml"), "public", "image/jpeg"),
    "a page": (a_file(media_type="text/html"), "public", "image/jpeg"),
    "a picture in capitals": (a_file(media_type="IMAGE/PNG"), "public", "image/jpeg"),
    "a thumbnail": (a_file(media_type=OCTETS, thumbnail=Thumbnail(1, bytes(32))), "encrypted", "no thumbnail"),
}


@pytest.mark.parametrize("name", BAD)
async def test_file_that_can_be_no_avatar_here_is_refused(pool: Pool, alice: Credentials, name: str) -> None:
    bad, mode, why = BAD[name]
    good = a_file(media_type=MEDIA_TYPES[mode][0])
    with pytest.raises(BadUpload, match=why):
        await attachments.declare(pool, alice.user, [good, bad], QUOTAS, avatars=mode)
    assert await pool.fetch("select count(*) from attachments") == [(0,)]


@pytest.mark.parametrize("media_type", MEDIA_TYPES["public"])
async def test_public_avatar_is_a_picture(pool: Pool, alice: Credentials, media_type: str) -> None:
    [row] = await attachments.declare(pool, alice.user, [a_file(media_type=media_type)], QUOTAS, avatars="public")
    await attachments.complete(pool, alice.user, [row.id])
    await profiles.change(pool, alice.user, avatar=row.id)
    [shown] = await attachments.readable(pool, alice.user, [row.id])
    assert (shown.media_type, shown.is_avatar) == (media_type, True)


async def test_avatar_has_a_limit_of_its_own_and_counts_in_the_others(pool: Pool, alice: Credentials) -> None:
    assert MAX_AVATAR_BYTES <= ATTACHMENT_PART_BYTES, "it has one part"
    quotas = Quotas(avatar_bytes=100, attachment_bytes_per_user=250, attachment_bytes_per_day=0)
    with pytest.raises(QuotaExceeded) as refused:
        await attachments.declare(pool, alice.user, [a_file(101, media_type=OCTETS)], quotas, avatars="encrypted")
    assert (refused.value.quota, refused.value.value) == ("avatar_bytes", 100)
    await attachments.declare(pool, alice.user, [a_file(101)], quotas)
    await attachments.declare(pool, alice.user, [a_file(100, media_type=OCTETS)], quotas, avatars="encrypted")
    with pytest.raises(QuotaExceeded) as refused:
        await attachments.declare(pool, alice.user, [a_file(50, media_type=OCTETS)], quotas, avatars="encrypted")
    assert refused.value.quota == "attachment_bytes_per_user"
    assert await usage_of(pool, alice.user) == (201, 201)


async def test_avatar_that_is_shown_is_no_open_upload(pool: Pool, alice: Credentials) -> None:
    quotas = Quotas(open_uploads_per_user=1)
    await profiles.change(pool, alice.user, avatar=await avatar(pool, alice))
    await attachments.declare(pool, alice.user, [a_file()], quotas)
    with pytest.raises(QuotaExceeded):
        await attachments.declare(pool, alice.user, [a_file(media_type=OCTETS)], quotas, avatars="encrypted")


async def test_user_sets_replaces_and_removes_the_avatar(pool: Pool, alice: Credentials) -> None:
    """Each change counts in the revision of the profile, and orphans the former avatar; a repeat changes nothing."""
    first, second = await avatar(pool, alice), await avatar(pool, alice)
    set_ = await profiles.change(pool, alice.user, avatar=first)
    assert (set_.is_profile_changed, set_.settings.revision) == (True, 1)
    assert set_.settings == await profiles.profile_of(pool, alice.user)
    [row] = await attachments.uploads(pool, alice.user, [first])
    assert set_.settings.avatar == (first, row.size_bytes, row.digest)
    again = await profiles.change(pool, alice.user, avatar=first)
    assert (again.is_profile_changed, again.settings.revision) == (False, 1)
    named = await profiles.change(pool, alice.user, display_name="Alice")
    assert id_of(named.settings.avatar) == first, "a change of the name leaves it"
    assert await gone(pool) == set()
    replaced = await profiles.change(pool, alice.user, avatar=second, display_name="")
    assert (id_of(replaced.settings.avatar), replaced.settings.display_name) == (second, None)
    assert await gone(pool) == {first}
    removed = await profiles.change(pool, alice.user, avatar=NO_AVATAR)
    assert (removed.settings.avatar, removed.settings.revision) == (None, 4)
    assert await gone(pool) == {first, second}
    assert not (await profiles.change(pool, alice.user, avatar=NO_AVATAR)).is_profile_changed


async def _refusals(pool: Pool, alice: Credentials, bob: Credentials) -> dict[type[Exception], list[bytes]]:
    used, given_up = await avatar(pool, alice), await avatar(pool, alice)
    await profiles.change(pool, alice.user, avatar=used)
    await attachments.give_up(pool, alice.user, [given_up])
    file = a_file(media_type=OCTETS)
    [incomplete] = await attachments.declare(pool, alice.user, [file], QUOTAS, avatars="encrypted")
    return {
        UnknownAttachment: [
            await avatar(pool, bob),
            await new_attachment(pool, alice.user),
            given_up,
            uuid4().bytes,
        ],
        AttachmentUsed: [used],
        AttachmentIncomplete: [incomplete.id],
    }


async def test_avatar_that_cannot_be_had_is_refused_and_nothing_is_changed(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """For the user and for a group: another user's, a file of a message, one that was given up, an unknown one, one
    that is shown elsewhere, one that is not complete."""
    group = await new_group(pool, alice, bob)
    of_the_group = await avatar(pool, alice)
    await participants.change_settings(pool, alice.user, group, avatar=of_the_group)
    refusals = await _refusals(pool, alice, bob)
    for error, ids in refusals.items():
        for each in ids:
            with pytest.raises(error):
                await participants.change_settings(pool, alice.user, group, avatar=each, name="Other")
    refusals[AttachmentUsed] = [of_the_group]
    for error, ids in refusals.items():
        for each in ids:
            with pytest.raises(error):
                await profiles.change(pool, alice.user, avatar=each, display_name="Other")
    seen = await conversations.one(pool, bob.user, group)
    assert (seen.name, id_of(seen.avatar)) == ("Group", of_the_group)
    assert (await profiles.profile_of(pool, alice.user)).display_name is None


async def test_only_administrators_set_the_avatar_of_a_group_and_no_direct_conversation_has_one(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    group, direct = await new_group(pool, alice, bob), await new_direct(pool, alice, bob)
    for who, where, error in (
        (bob, group, NotAnAdministrator),
        (carol, group, NotAParticipant),
        (alice, direct, NotAGroup),
        (alice, uuid4().bytes, NotAParticipant),
    ):
        for each in (await avatar(pool, who), NO_AVATAR):
            with pytest.raises(error):
                await participants.change_settings(pool, who.user, where, avatar=each)
    await participants.set_role(pool, alice.user, group, bob.user, "admin")
    theirs = await avatar(pool, bob)
    change, settings = await participants.change_settings(pool, bob.user, group, avatar=theirs)
    assert change.is_new
    assert (id_of(settings.avatar), settings.actor, settings.name) == (theirs, bob.user, "Group")
    assert change.others_settings == settings
    again, _ = await participants.change_settings(pool, bob.user, group, avatar=theirs)
    assert not again.is_new
    mine = await avatar(pool, alice)
    await participants.change_settings(pool, alice.user, group, avatar=mine)
    assert await gone(pool) >= {theirs}
    assert await of_group(pool, bob, group) == mine
    _, settings = await participants.change_settings(pool, alice.user, group, avatar=NO_AVATAR)
    assert settings.avatar is None
    assert await gone(pool) >= {mine}


async def race(pool: Pool, alice: Credentials, group: bytes, file: bytes) -> int:
    """Two owners set the file while a job looks for unused ones; returns how many were refused."""
    refused: list[Exception] = []

    async def attempt(set_: Callable[[], Awaitable[object]]) -> None:
        try:
            await set_()
        except (AttachmentUsed, UnknownAttachment) as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, lambda: profiles.change(pool, alice.user, avatar=file))
        nursery.start_soon(attempt, lambda: participants.change_settings(pool, alice.user, group, avatar=file))
        nursery.start_soon(attempt, lambda: orphans.orphaned(pool, limit=100))
    return len(refused)


async def test_two_owners_that_set_one_file_at_once_do_not_both_get_it(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    """Nor does a job orphan a file that is set at the same moment."""
    for _ in range(10):
        group, file = await new_group(pool, alice, bob), await avatar(pool, alice)
        await pool.fetch("update attachments set created = created - interval '2 days' where id = %s", (uuid(file),))
        refused = await race(pool, alice, group, file)
        shown = [await own(pool, alice) == file, await of_group(pool, alice, group) == file].count(True)
        assert shown <= 1
        assert shown + refused == 2
        [(is_shown, is_orphaned)] = await pool.fetch(
            "select is_shown, orphaned is not null from attachments where id = %s", (uuid(file),)
        )
        assert (is_shown, is_orphaned) == (bool(shown), not shown)


async def test_no_message_takes_an_avatar(pool: Pool, alice: Credentials, bob: Credentials) -> None:
    direct = await new_direct(pool, alice, bob)
    for each in (await avatar(pool, alice), await avatar(pool, alice)):
        message = NewMessage(direct, alice.user, uuid4().bytes, "text", b"x", None, None, None, [each])
        [outcome] = await send(pool, ParticipantsCache(), [message])
        assert isinstance(outcome, UnknownAttachment)
        await profiles.change(pool, alice.user, avatar=each)


async def test_avatar_that_is_shown_is_not_given_up_nor_removed(pool: Pool, alice: Credentials) -> None:
    """Not by its user, not by age, not by a mistaken statement."""
    shown = await avatar(pool, alice)
    await profiles.change(pool, alice.user, avatar=shown)
    with pytest.raises(AttachmentUsed):
        await attachments.give_up(pool, alice.user, [shown])
    with pytest.raises(DatabaseError):
        await pool.fetch("delete from attachments")
    await pool.fetch("update attachments set created = created - interval '40 days'")
    unused = await avatar(pool, alice)
    await pool.fetch("update attachments set created = created - interval '2 days' where id = %s", (uuid(unused),))
    assert await gone(pool) == {unused}
    missing = await orphans.missing_objects(pool, [], "", "")
    assert missing.count == 0, "it is not complete for an hour"
    await pool.fetch("update attachments set completed = completed - interval '2 hours'")
    missing = await orphans.missing_objects(pool, [], "", "")
    assert missing.first == [attachments.key_of(shown)]


async def test_figures_and_quotas_give_back_a_former_avatar_once_its_object_is_gone(
    pool: Pool, alice: Credentials
) -> None:
    for each in [await avatar(pool, alice) for _ in range(3)]:
        await profiles.change(pool, alice.user, avatar=each)
    assert await usage_of(pool, alice.user) == (30, 30)
    assert await orphans.remove(pool, await orphans.orphaned(pool, limit=10)) == 2
    assert await usage_of(pool, alice.user) == (10, 30)
    today = (await pool.fetch("select (now() at time zone 'UTC')::date"))[0][0]
    [day] = await analytics.days(pool, today, today)
    assert (day.attachments.uploaded, day.attachments.removed, day.attachments.stored) == (3, 2, 1)


async def test_avatar_of_a_user_is_for_all_but_users_who_block_its_owner(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    """Where they see it, they get it: in the profile, in contacts, in lists of participants."""
    mine = await avatar(pool, alice)
    await profiles.change(pool, alice.user, avatar=mine)
    direct = await new_direct(pool, alice, bob)

    async def seen(who: Credentials) -> list[bytes | None]:
        found = [id_of((await profiles.shown_to(pool, alice.user, who.user)).avatar)]
        found += [id_of(each.avatar) for each in (await contacts.list_of(pool, who.user, limit=10)).contacts]
        if who is bob:
            told = await conversations.one(pool, bob.user, direct)
            found += [id_of(each.avatar) for each in told.participants or () if each.user == alice.user]
            page = await conversations.participants_of(pool, bob.user, direct, limit=10)
            found += [id_of(each.avatar) for each in page if each.user == alice.user]
            found.append(id_of((await contacts.contact_of(pool, bob.user, alice.user)).avatar))
        return found

    assert await seen(bob) == [mine] * 5
    assert await seen(carol) == [mine]
    assert [await readable(pool, each, mine) for each in (alice, bob, carol)] == [{mine}] * 3
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=True)
    assert await seen(bob) == [None] * 5
    assert await readable(pool, bob, mine) == set()
    theirs = await avatar(pool, bob)
    await profiles.change(pool, bob.user, avatar=theirs)
    assert await readable(pool, alice, theirs) == {theirs}, "she cannot notice the block"
    await contacts.set_blocked(pool, bob.user, alice.user, is_blocked=False)
    assert await seen(bob) == [mine] * 5
    assert await readable(pool, bob, mine) == {mine}
    await profiles.change(pool, alice.user, avatar=NO_AVATAR)
    assert await readable(pool, alice, mine) == await readable(pool, bob, mine) == set()


async def test_avatar_of_a_group_is_for_its_participants(
    pool: Pool, alice: Credentials, bob: Credentials, carol: Credentials
) -> None:
    """Also for one who is asked, and not for one who was removed, or from whom the group is withheld."""
    group, shown = await new_group(pool, alice, bob), await avatar(pool, alice)
    assert await readable(pool, alice, shown) == set(), "not before it is shown"
    await participants.change_settings(pool, alice.user, group, avatar=shown)
    dave, erin = await new_user(pool, "dave"), await new_user(pool, "erin")
    await participants.add(pool, alice.user, group, dave.user)
    await contacts.set_blocked(pool, erin.user, alice.user, is_blocked=True)
    await participants.add(pool, alice.user, group, erin.user)
    people = (alice, bob, carol, dave, erin)
    assert [await readable(pool, each, shown) for each in people] == [{shown}, {shown}, set(), {shown}, set()]
    assert (await conversations.one(pool, dave.user, group)).is_request
    await participants.remove(pool, alice.user, group, bob.user)
    assert await readable(pool, bob, shown) == set()


async def test_avatars_of_participants_are_told_as_their_names_are(pool: Pool, alice: Credentials) -> None:
    """Where more than 32 take part, in pages of participants and to their owners alone."""
    others = [await new_user(pool, f"u{n}") for n in range(MAX_SHOWN)]
    group = await new_group(pool, alice, *others[:-1])
    for who in (alice, others[0]):
        await profiles.change(pool, who.user, avatar=await avatar(pool, who), display_name="Named")
    few = {each.user: each for each in (await conversations.one(pool, alice.user, group)).participants or ()}
    assert {user for user, each in few.items() if each.avatar} == {alice.user, others[0].user}
    one = await conversations.participant(pool, group, others[0].user)
    assert one is not None
    assert one.avatar is not None
    await participants.add(pool, alice.user, group, others[-1].user)
    [own_entry] = (await conversations.one(pool, alice.user, group)).participants or ()
    assert (id_of(own_entry.avatar), own_entry.display_name) == (await own(pool, alice), "Named")
    one = await conversations.participant(pool, group, others[0].user)
    assert one is not None
    assert (one.avatar, one.display_name) == (None, None)
    page = await conversations.participants_of(pool, alice.user, group, limit=100)
    assert {each.user for each in page if each.avatar} == {each.user for each in page if each.display_name}


async def test_group_whose_last_participant_leaves_lets_go_of_its_avatar(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    group, shown = await new_group(pool, alice, bob), await avatar(pool, alice)
    await participants.change_settings(pool, alice.user, group, avatar=shown)
    await participants.remove(pool, alice.user, group, alice.user)
    assert await of_group(pool, bob, group) == shown, "it is the group's, not Alice's"
    assert await gone(pool) == set()
    await participants.remove(pool, bob.user, group, bob.user)
    assert await gone(pool) == {shown}


async def test_deleted_account_lets_go_of_its_own_avatar_and_of_its_uploads_and_groups_keep_theirs(
    pool: Pool, alice: Credentials, bob: Credentials
) -> None:
    group, alone = await new_group(pool, alice, bob), await new_group(pool, alice)
    mine, unused, of_both, of_one = [await avatar(pool, alice) for _ in range(4)]
    await profiles.change(pool, alice.user, avatar=mine)
    await participants.change_settings(pool, alice.user, group, avatar=of_both)
    await participants.change_settings(pool, alice.user, alone, avatar=of_one)
    await account_deletions.close(pool, alice.user, delay_s=0, deletes_messages=False)
    while await account_deletions.leave_conversations(pool, alice.user, limit=10):
        pass
    while await account_deletions.delete_contacts(pool, alice.user, limit=10):
        pass
    assert await account_deletions.anonymise(pool, alice.user)
    assert await gone(pool) == {mine, unused, of_one}
    assert await orphans.remove(pool, await orphans.orphaned(pool, limit=10)) == 3
    assert await of_group(pool, bob, group) == of_both
    assert await readable(pool, bob, of_both) == {of_both}
    shown = await profiles.shown_to(pool, alice.user, bob.user)
    assert shown.avatar is None
