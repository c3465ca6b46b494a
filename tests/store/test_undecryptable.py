"""Reports of messages that devices cannot decrypt, and envelopes that are added later: which count, and what stays."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import pytest

from client.http import Credentials
from protocol.frames import Envelope, Message
from protocol.limits import MAX_ENVELOPE_PARTS, MAX_OPEN_REPORTS, MAX_REPORTS, REPORT_DAYS
from store import contacts, conversations, devices, keys, marks, messages, participants, revisions, undecryptable
from store.errors import (
    MessageDeleted,
    NoIdentity,
    NotAParticipant,
    NotTheSender,
    OwnMessage,
    QuotaExceeded,
    RevisionConflict,
    StoreError,
    TooManyParts,
    UnknownMessage,
    UnlistedDevices,
)
from store.marks import Mark
from store.messages import Committed, send
from store.participant_lists import ParticipantsCache
from store.postgres.pool import Pool
from store.sync import sync
from tests.people import make_contacts, new_device, new_direct, new_group, new_user
from tests.rows import checked_rows
from tests.store.store_world import a_message


class HealingScene(NamedTuple):
    """Alice has written message 1 of a group on her phone, and message 1 of a direct conversation with Bob. All devices
    but `silent`, which is Bob's, have an identity.

    :ivar phone, tablet: of Alice.
    :ivar bob, laptop: of Bob.
    :ivar outsider: of Dave, who is in neither.
    """

    pool: Pool
    group: bytes
    direct: bytes
    phone: Credentials
    tablet: Credentials
    bob: Credentials
    laptop: Credentials
    silent: Credentials
    carol: Credentials
    outsider: Credentials

    async def write(self, writer: Credentials, conversation: bytes, *, device: bytes | None = None) -> int:
        message = a_message(conversation, writer.user, device=device or writer.device)
        [sent] = await send(self.pool, ParticipantsCache(), [message])
        assert isinstance(sent, Committed)
        return sent.seq

    async def report(self, who: Credentials, seq: int = 1, revision: int = 0, *, where: bytes = b"") -> bool:
        return await undecryptable.report(
            self.pool, who.user, who.device, where or self.group, seq, revision, "no_session"
        )

    async def add(
        self,
        given: list[Envelope],
        seq: int = 1,
        revision: int = 0,
        *,
        by: Credentials | None = None,
        where: bytes = b"",
    ) -> revisions.MessageChange:
        writer = by or self.phone
        return await undecryptable.add_envelopes(
            self.pool, writer.user, writer.device, where or self.group, seq, revision, given
        )

    async def told(self, device: Credentials) -> list[tuple[int, bytes]]:
        """What a device is told with its welcome: (seq, the device that asks). A look at what was reported lately says
        the same."""
        found = await undecryptable.told_reports(self.pool, device.user, device.device)
        lately = await undecryptable.reported_since(self.pool, ago_s=86_400 * REPORT_DAYS)
        also = [each for each in lately if each.sender == device.user and each.is_for(device.device)]
        assert sorted(also, key=repr) == sorted(found, key=repr)
        return sorted((each.seq, each.device) for each in found)

    async def edit(self, seq: int = 1, revision: int = 0) -> None:
        await revisions.edit(
            self.pool,
            self.phone.user,
            self.group,
            seq,
            revision,
            "text",
            b"edited",
            None,
            None,
            device=self.phone.device,
        )

    async def revoke(self, device: Credentials) -> None:
        await devices.revoke_device(self.pool, device.user, device.device)

    async def block(self, blocker: Credentials, other: Credentials) -> None:
        await contacts.set_blocked(self.pool, blocker.user, other.user, is_blocked=True, is_online=False)

    async def shown(self, reader: Credentials, seq: int = 1) -> Message:
        page = await messages.history(self.pool, reader.user, self.group, limit=1, before=seq + 1, device=reader.device)
        [message] = page.messages
        assert isinstance(message, Message)
        return message


@pytest.fixture
async def scene(pool: Pool, people: list[Credentials]) -> HealingScene:
    alice, bob, carol = people
    outsider = await new_user(pool, "dave")
    tablet, laptop, silent = [await new_device(pool, user) for user in (alice.user, bob.user, bob.user)]
    for each in (alice, tablet, bob, laptop, carol, outsider):
        await keys.put(pool, each.device, b"identity")
    group, direct = await new_group(pool, alice, bob, carol), await new_direct(pool, alice, bob)
    scene = HealingScene(pool, group, direct, alice, tablet, bob, laptop, silent, carol, outsider)
    for where in (group, direct):
        assert await scene.write(alice, where) == 1
    return scene


async def test_a_report_is_told_to_the_device_that_wrote_the_message_until_an_envelope_comes(
    scene: HealingScene,
) -> None:
    assert await scene.report(scene.laptop)
    assert not await scene.report(scene.laptop)
    assert await scene.report(scene.tablet)
    assert await scene.told(scene.phone) == sorted([(1, scene.laptop.device), (1, scene.tablet.device)])
    for other in (scene.tablet, scene.bob, scene.laptop, scene.carol):
        assert await scene.told(other) == []
    change = await scene.add([(scene.laptop.device, b"for the laptop")])
    assert change.is_new
    assert change.participants == [scene.bob.user]
    assert change.envelopes == {scene.laptop.device: b"for the laptop"}
    assert await scene.told(scene.phone) == [(1, scene.tablet.device)]
    assert (await scene.shown(scene.laptop)).envelope == b"for the laptop"
    assert (await scene.shown(scene.bob)).envelope is None


async def test_no_users_many_reports_hide_those_of_others(scene: HealingScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecryptable, "MAX_TOLD_REPORTS", 2)
    assert await scene.report(scene.carol)
    seqs = [await scene.write(scene.phone, scene.group) for _ in range(3)]
    for seq in seqs:
        assert await scene.report(scene.bob, seq)
    told = await undecryptable.told_reports(scene.pool, scene.phone.user, scene.phone.device)
    assert [(each.device, each.seq) for each in told] == [(scene.bob.device, seqs[-1]), (scene.carol.device, 1)]


async def revoke_reporter(s: HealingScene) -> None:
    await s.revoke(s.laptop)


async def remove_reporter(s: HealingScene) -> None:
    await participants.remove(s.pool, s.phone.user, s.group, s.bob.user)


async def delete_message(s: HealingScene) -> None:
    await revisions.delete_for_everyone(s.pool, s.phone.user, s.group, 1)


async def grow_old(s: HealingScene) -> None:
    await s.pool.fetch(f"update undecryptable set at = now() - interval '{REPORT_DAYS} days 1 minute'")


ENDS: Final[dict[str, Callable[[HealingScene], Awaitable[None]]]] = {
    "the device is revoked": revoke_reporter,
    "its user is removed": remove_reporter,
    "the message is edited": HealingScene.edit,
    "the message is deleted for everyone": delete_message,
    "it is old": grow_old,
}


@pytest.mark.parametrize("name", ENDS)
async def test_a_report_ends(scene: HealingScene, name: str) -> None:
    await scene.report(scene.laptop)
    assert len(await scene.told(scene.phone)) == 1
    await ENDS[name](scene)
    assert await scene.told(scene.phone) == []


async def test_old_reports_are_deleted_and_others_stay(scene: HealingScene) -> None:
    await scene.report(scene.laptop)
    await grow_old(scene)
    await scene.report(scene.carol)
    assert await undecryptable.forget_reports(scene.pool, limit=10) == 1
    assert await scene.told(scene.phone) == [(1, scene.carol.device)]


async def test_if_the_device_that_wrote_has_ended_or_is_not_known_the_users_other_devices_are_told(
    scene: HealingScene,
) -> None:
    await scene.report(scene.bob)
    await scene.report(scene.tablet)
    await scene.revoke(scene.phone)
    assert await scene.told(scene.tablet) == [(1, scene.bob.device)], "but not of its own report"
    await scene.pool.fetch("update messages set device_id = null")
    assert await scene.told(scene.tablet) == [(1, scene.bob.device)]
    assert await scene.told(scene.laptop) == []


REFUSED_REPORTS: Final[dict[str, tuple[type[StoreError], Callable[[HealingScene], Awaitable[object]]]]] = {
    "by a stranger": (NotAParticipant, lambda s: s.report(s.outsider)),
    "of no conversation": (NotAParticipant, lambda s: s.report(s.bob, where=bytes(16))),
    "of no message": (UnknownMessage, lambda s: s.report(s.bob, 7)),
    "of another revision": (RevisionConflict, lambda s: s.report(s.bob, 1, 1)),
    "by the device that wrote it": (OwnMessage, lambda s: s.report(s.phone)),
    "by a device without an identity": (NoIdentity, lambda s: s.report(s.silent)),
}


async def test_reports_that_make_no_sense_are_refused(scene: HealingScene) -> None:
    with checked_rows() as rows:
        for name, (error, act) in REFUSED_REPORTS.items():
            with rows.row(name), pytest.raises(error):
                await act(scene)
    assert await scene.pool.fetch("select 1 from undecryptable") == []


async def test_deleted_messages_are_not_reported(scene: HealingScene) -> None:
    await revisions.delete_for_me(scene.pool, scene.bob.user, scene.group, 1)
    with pytest.raises(MessageDeleted):
        await scene.report(scene.bob)
    await revisions.delete_for_everyone(scene.pool, scene.phone.user, scene.group, 1)
    with pytest.raises(MessageDeleted):
        await scene.report(scene.carol)


async def test_a_message_from_before_a_user_joined_is_not_reported(scene: HealingScene) -> None:
    await make_contacts(scene.pool, scene.phone, scene.outsider)
    await participants.add(scene.pool, scene.phone.user, scene.group, scene.outsider.user)
    with pytest.raises(UnknownMessage):
        await scene.report(scene.outsider)


async def test_a_device_reports_a_message_five_times_each_after_an_answer(scene: HealingScene) -> None:
    for turn in range(MAX_REPORTS):
        assert await scene.report(scene.laptop)
        await scene.add([(scene.laptop.device, b"turn %d" % turn)])
        assert await scene.told(scene.phone) == []
    with pytest.raises(QuotaExceeded) as refused:
        await scene.report(scene.laptop)
    assert refused.value.quota == "reports_per_message"
    assert await scene.report(scene.bob), "another device has its own count"


async def test_a_device_has_some_open_reports_at_most(scene: HealingScene) -> None:
    await scene.pool.fetch(
        "insert into undecryptable (conversation_id, seq, device_id, sender_id, revision, reason, at)"
        " select gen_random_uuid(), 1, %(device)s::uuid, gen_random_uuid(), 0, 'other', now()"
        " from generate_series(2, %(most)s)",
        {"device": scene.laptop.device.hex(), "most": MAX_OPEN_REPORTS},
    )
    assert await scene.report(scene.laptop)
    with pytest.raises(QuotaExceeded) as refused:
        await scene.report(scene.laptop, await scene.write(scene.phone, scene.group))
    assert refused.value.quota == "open_reports_per_device"
    await scene.add([(scene.laptop.device, b"envelope")])
    assert await scene.report(scene.laptop, 2), "one is healed"


async def test_the_sender_is_told_of_no_report_from_a_request_or_across_a_block(scene: HealingScene) -> None:
    asked, _ = await conversations.add_direct(scene.pool, scene.outsider.user, scene.carol.user)
    await scene.write(scene.outsider, asked)
    assert not await scene.report(scene.carol, where=asked)
    assert await scene.told(scene.outsider) == []
    await scene.block(scene.bob, scene.phone)
    assert not await scene.report(scene.laptop, where=scene.direct)
    assert not (await scene.add([(scene.bob.device, b"past the block")], where=scene.direct)).is_new
    assert await scene.told(scene.phone) == []
    assert await scene.pool.fetch("select 1 from envelopes") == []


async def test_an_added_envelope_changes_nothing_else_of_the_message(scene: HealingScene) -> None:
    """The place in the order, times, revision, marks and unread counts stay; devices find it by their cursors."""
    await scene.write(scene.bob, scene.group)
    await marks.mark(scene.pool, [[Mark(scene.group, scene.carol.user, 2, 2)]])
    cursor = (await sync(scene.pool, scene.bob.user, None, device=scene.bob.device)).cursor

    async def seen() -> list[object]:
        rows = await scene.pool.fetch(
            "select last_seq, active_at, quiet_count, shown_seq, control_seq, participants_version from conversations"
            " order by id"
        )
        lists = [await conversations.list_of(scene.pool, each.user, limit=9) for each in (scene.bob, scene.carol)]
        return [rows, [(each.unread_count, each.active_at, each.last_seq) for page in lists for each in page]]

    before, was = await seen(), await scene.shown(scene.bob)
    given: list[Envelope] = [(scene.bob.device, b"late")]
    assert (await scene.add(given)).is_new
    assert not (await scene.add(given)).is_new, "a repeat changes nothing"
    assert await seen() == before
    now = await scene.shown(scene.bob)
    assert (now.envelope, now.has_envelopes, now.revision, now.edited) == (b"late", True, None, None)
    assert (now.seq, now.message, now.created, now.content) == (was.seq, was.message, was.created, was.content)
    page = await sync(scene.pool, scene.bob.user, cursor, device=scene.bob.device)
    assert [each.envelope for each in page.pushes if isinstance(each, Message)] == [b"late"]
    page = await sync(scene.pool, scene.bob.user, page.cursor, device=scene.bob.device)
    assert page.pushes == [], "and once"


async def test_an_edit_is_still_recognised_after_envelopes_were_added(scene: HealingScene) -> None:
    await scene.edit()
    await scene.add([(scene.bob.device, b"for the edit")], revision=1)
    await scene.edit()
    shown = await scene.shown(scene.bob)
    assert (shown.revision, shown.envelope) == (1, b"for the edit")


async def test_a_later_envelope_takes_the_place_of_those_before_and_parts_are_bounded(scene: HealingScene) -> None:
    for turn in range(3):
        await scene.add([(scene.bob.device, b"%d" % turn), (scene.carol.device, b"c%d" % turn)])
        await scene.add([(scene.bob.device, b"%d again" % turn)])
    assert (await scene.shown(scene.bob)).envelope == b"2 again"
    assert (await scene.shown(scene.carol)).envelope == b"c2"
    [(parts,)] = await scene.pool.fetch("select count(*) from envelopes")
    assert parts == 2
    await scene.pool.fetch(
        "insert into envelopes select conversation_id, seq, part + n, revision, array[gen_random_uuid()], array[1],"
        " 'x', now() from envelopes e, generate_series(10, %(most)s) n where part = (select max(part) from envelopes)",
        {"most": 9 + MAX_ENVELOPE_PARTS},
    )
    with pytest.raises(TooManyParts):
        await scene.add([(scene.tablet.device, b"one more")])


REFUSED_ENVELOPES: Final[dict[str, tuple[type[StoreError], Callable[[HealingScene], Awaitable[object]]]]] = {
    "by a stranger": (NotAParticipant, lambda s: s.add([(s.bob.device, b"x")], by=s.outsider)),
    "to no message": (UnknownMessage, lambda s: s.add([(s.bob.device, b"x")], 7)),
    "by another user": (NotTheSender, lambda s: s.add([(s.phone.device, b"x")], by=s.bob)),
    "by another device of the user": (NotTheSender, lambda s: s.add([(s.bob.device, b"x")], by=s.tablet)),
    "to another revision": (RevisionConflict, lambda s: s.add([(s.bob.device, b"x")], 1, 1)),
    "for a device without an identity": (UnlistedDevices, lambda s: s.add([(s.silent.device, b"x")])),
    "for a device of a stranger": (UnlistedDevices, lambda s: s.add([(s.outsider.device, b"x"), (s.bob.device, b"x")])),
}


async def test_envelopes_that_may_not_be_added_are_refused_and_nothing_is_stored(scene: HealingScene) -> None:
    with checked_rows() as rows:
        for name, (error, act) in REFUSED_ENVELOPES.items():
            with rows.row(name), pytest.raises(error):
                await act(scene)
    await scene.revoke(scene.laptop)
    with pytest.raises(UnlistedDevices) as refused:
        await scene.add([(scene.laptop.device, b"x"), (scene.bob.device, b"x")])
    assert refused.value.devices == [scene.laptop.device]
    assert await scene.pool.fetch("select 1 from envelopes") == []
    assert not (await scene.shown(scene.bob)).has_envelopes
