"""A device takes the user's own settings in any order, and notices a gap in the changes of contacts."""

from __future__ import annotations

from itertools import permutations

from client.own import Own
from protocol.frames import Contact, OwnSettings


def settings(revision: int, contacts_revision: int) -> OwnSettings:
    return OwnSettings(revision, revision % 2 == 0, True, None, contacts_revision, "everybody", "everybody")


def contact(number: int, contacts_revision: int, *, is_contact: bool = True) -> Contact:
    return Contact(bytes([number]) * 16, f"user{number}", None, contacts_revision, is_contact, False)


def test_the_latest_settings_are_held_in_any_order() -> None:
    pushes = [settings(1, 0), settings(2, 0), settings(2, 3), settings(3, 3)]
    for order in permutations(pushes):
        own = Own()
        for push in order:
            own.take(push)
        assert own.settings == pushes[-1]


def test_contacts_follow_as_long_as_no_number_is_missing() -> None:
    own = Own()
    assert own.are_contacts_stale, "the contacts were never read"
    own.take_contacts([contact(1, 4)], 4)
    assert not own.are_contacts_stale
    own.take(contact(2, 5))
    own.take(contact(1, 6, is_contact=False))
    own.take(contact(3, 3))
    own.take(settings(1, 6))
    assert (list(own.contacts), own.are_contacts_stale) == ([b"\x02" * 16], False)


def test_a_number_that_is_missing_or_a_later_one_in_the_settings_makes_the_list_stale() -> None:
    for push in (contact(2, 6), settings(1, 5)):
        own = Own()
        own.take_contacts([contact(1, 4)], 4)
        own.take(push)
        own.take(contact(3, push.contacts_revision + 1))
        assert own.are_contacts_stale, push
        assert list(own.contacts) == [b"\x01" * 16], "a change that skips a revision is not applied"
        own.take_contacts([contact(1, 7), contact(2, 7), contact(3, 7)], 7)
        assert not own.are_contacts_stale
        own.take_contacts([], 6)
        assert len(own.contacts) == 3, "an older list changes nothing"
