"""A user's own settings can be read, and the user's own devices, and no others, are told of them by cursor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from client.http import Credentials
from client.mailbox import Mailbox
from protocol.frames import Contact
from store import contacts, conversations, participants, profiles
from store.list_pages import Digest, first_page
from store.own_settings import changed_since, own_settings_of
from store.postgres.pool import Pool
from store.quiet_hours import QuietHours, set_quiet_hours
from store.sync import SyncPush
from tests.people import new_user
from tests.store.store_world import catch_up

NIGHT = QuietHours(1320, 420, "Europe/Berlin")


class SettingsOwner:
    """Alice, whose settings change; bob, who has talked with her; carol, who is in a group with both."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def begin(self) -> None:
        self.alice, self.bob, self.carol = [await new_user(self.pool, name) for name in ("alice", "bob", "carol")]
        # The others know Alice, who has no contacts yet.
        for other in (self.bob, self.carol):
            await contacts.add(self.pool, other.user, self.alice.user)
        self.direct, _ = await conversations.add_direct(self.pool, self.alice.user, self.bob.user)
        users = [self.alice.user, self.bob.user, self.carol.user]
        self.group = await conversations.add_group(self.pool, "Group", users, admin=self.alice.user)

    async def show(self, **shown: bool) -> None:
        both = {"gives_receipts": None, "shows_presence": None, **shown}
        await profiles.change(self.pool, self.alice.user, display_name=None, **both)

    async def mute(self, conversation: bytes, seconds: float) -> None:
        await participants.mute(self.pool, self.alice.user, conversation, seconds=seconds)

    async def block(self, other: Credentials, *, is_blocked: bool) -> None:
        await contacts.set_blocked(self.pool, self.alice.user, other.user, is_blocked=is_blocked)


class SettingsDevice:
    """The reference client's mailbox; it reads its contacts when the mailbox says that they are stale."""

    def __init__(self, pool: Pool, user: bytes) -> None:
        self._pool = pool
        self._user = user
        self.mailbox = Mailbox(user)

    async def catch_up(self) -> list[SyncPush]:
        told = await catch_up(self._pool, self.mailbox)
        if self.mailbox.own.are_contacts_stale:
            await self._read_contacts()
        return told

    async def _read_contacts(self) -> None:
        listed = await contacts.list_of(self._pool, self._user, limit=100)
        told = [
            Contact(each.user, each.username, each.display_name, listed.revision, True, each.is_blocked)
            for each in listed.contacts
        ]
        self.mailbox.own.take_contacts(told, listed.revision)

    @property
    def shown(self) -> object:
        own = self.mailbox.own
        heads = {each: self.mailbox.head(each) for each in self.mailbox.conversations()}
        mutes = {each: (head.muted_until, head.own_revision) for each, head in heads.items() if head is not None}
        listed = {user: replace(each, contacts_revision=0) for user, each in own.contacts.items()}
        return own.settings, own.contacts_revision, listed, mutes


Change = Callable[[SettingsOwner], Awaitable[object]]
CHANGES: dict[str, Change] = {
    "no receipts": lambda w: w.show(gives_receipts=False),
    "no presence": lambda w: w.show(shows_presence=False),
    "quiet hours": lambda w: set_quiet_hours(w.pool, w.alice.user, NIGHT),
    "other quiet hours": lambda w: set_quiet_hours(w.pool, w.alice.user, replace(NIGHT, from_minute=1300)),
    "no quiet hours": lambda w: set_quiet_hours(w.pool, w.alice.user, None),
    "a contact": lambda w: contacts.add(w.pool, w.alice.user, w.carol.user),
    "no contact": lambda w: contacts.remove(w.pool, w.alice.user, w.carol.user),
    "a block": lambda w: w.block(w.carol, is_blocked=True),
    "no block": lambda w: w.block(w.carol, is_blocked=False),
    "muted": lambda w: w.mute(w.direct, 3600),
    "muted for longer": lambda w: w.mute(w.direct, 7200),
    "muted no more": lambda w: w.mute(w.direct, 0),
    "a group muted": lambda w: w.mute(w.group, 60),
    "receipts again": lambda w: w.show(gives_receipts=True),
}


async def test_after_each_change_a_device_that_resumes_shows_what_a_fresh_one_shows(pool: Pool) -> None:
    owner = SettingsOwner(pool)
    await owner.begin()
    resumes, away = SettingsDevice(pool, owner.alice.user), SettingsDevice(pool, owner.alice.user)
    others = [SettingsDevice(pool, each.user) for each in (owner.bob, owner.carol)]
    for device in (resumes, away, *others):
        await device.catch_up()
    for name, change in CHANGES.items():
        before = resumes.shown
        await change(owner)
        await resumes.catch_up()
        fresh = SettingsDevice(pool, owner.alice.user)
        await fresh.catch_up()
        assert resumes.shown == fresh.shown != before, name
        assert await resumes.catch_up() == [], "each change comes once"
        for other in others:
            assert await other.catch_up() == [], f"no other user learns of it: {name}"
    await away.catch_up()
    assert away.shown == resumes.shown


async def test_unchanged_settings_are_not_pushed(pool: Pool) -> None:
    owner = SettingsOwner(pool)
    await owner.begin()
    for name in ("no receipts", "quiet hours", "a contact", "a block"):
        await CHANGES[name](owner)
    device = SettingsDevice(pool, owner.alice.user)
    await device.catch_up()
    for name in ("no receipts", "quiet hours", "a contact", "a block"):
        await CHANGES[name](owner)
        assert await device.catch_up() == [], name


async def test_a_node_that_has_missed_something_finds_it(pool: Pool) -> None:
    owner = SettingsOwner(pool)
    await owner.begin()
    users = [owner.alice.user, owner.bob.user]
    for name, change in CHANGES.items():
        [(base,)] = await pool.fetch("select pg_current_snapshot()::text")
        assert await changed_since(pool, users, base) == ({}, [])
        await change(owner)
        settings, told = await changed_since(pool, users, base)
        # A conversation with a blocked user changes, too: it shows no display name.
        changed = [owner.direct] if name.startswith("muted") else [owner.group] * ("muted" in name or "block" in name)
        assert told == [(owner.alice.user, each) for each in changed], name
        own = {} if "muted" in name else {owner.alice.user: await own_settings_of(pool, owner.alice.user)}
        assert settings == own, name


async def test_a_returning_participant_has_not_muted_the_group(pool: Pool) -> None:
    owner = SettingsOwner(pool)
    await owner.begin()
    await participants.set_role(pool, owner.alice.user, owner.group, owner.bob.user, "admin")
    for _ in range(3):
        await owner.mute(owner.group, 3600)
    device = SettingsDevice(pool, owner.alice.user)
    await device.catch_up()
    await participants.remove(pool, owner.bob.user, owner.group, owner.alice.user)
    await participants.add(pool, owner.bob.user, owner.group, owner.alice.user)
    assert (await conversations.one(pool, owner.alice.user, owner.group)).muted_until is None
    await device.catch_up()
    fresh = SettingsDevice(pool, owner.alice.user)
    await fresh.catch_up()
    assert device.shown == fresh.shown


async def test_the_first_page_of_the_list_is_another_one_once_something_is_muted(pool: Pool) -> None:
    owner = SettingsOwner(pool)
    await owner.begin()

    async def version(user: bytes) -> Digest:
        return (await first_page(pool, user, limit=9)).state.version

    before, others = await version(owner.alice.user), await version(owner.bob.user)
    await owner.mute(owner.direct, 3600)
    assert await version(owner.alice.user) != before
    assert await version(owner.bob.user) == others


@pytest.mark.parametrize("limit", [1, 2, 9])
async def test_pages_of_contacts_say_of_which_list_they_are(pool: Pool, limit: int) -> None:
    owner = SettingsOwner(pool)
    await owner.begin()
    assert await contacts.list_of(pool, owner.alice.user, limit=limit) == contacts.ContactsPage(0, [])
    for other in (owner.bob, owner.carol):
        await contacts.add(pool, owner.alice.user, other.user)
    page = await contacts.list_of(pool, owner.alice.user, limit=limit)
    assert (page.revision, len(page.contacts)) == (2, min(limit, 2))
    await contacts.remove(pool, owner.alice.user, owner.bob.user)
    last = await contacts.list_of(pool, owner.alice.user, limit=limit, after=b"\xff" * 16)
    assert last == contacts.ContactsPage(3, []), "an empty page has the revision too"
