"""Users as others see them, profiles, and contacts."""

from __future__ import annotations

from msgspec import Struct

from server.http.answers.avatars import AvatarAnswer, avatar_or_none
from server.http.encoding import IDENT, Encoding, Ident
from store.contacts import ListedContact
from store.profiles import AcceptedFrom, ProfileSettings, ShownProfile


class UserAnswer(Struct, frozen=True):
    """A user, as you see it.

    :ivar revision: how often the display name or the avatar was changed.
    """

    user: Ident
    username: str
    display_name: str | None
    avatar: AvatarAnswer | None
    revision: int


class ProfileAnswer(UserAnswer, frozen=True):
    """Your own profile and settings.

    :ivar gives_receipts: others see how far you have read.
    :ivar shows_presence: others see whether you are online, and when you were last.
    :ivar messages_from: users from whom you take first messages.
    :ivar groups_from: users from whom you take places in groups.
    """

    gives_receipts: bool
    shows_presence: bool
    messages_from: AcceptedFrom
    groups_from: AcceptedFrom


class ContactAnswer(Struct, frozen=True):
    """A user whom you know, or block.

    :ivar created: microseconds since 1970-01-01T00:00Z.
    """

    user: Ident
    username: str
    display_name: str | None
    avatar: AvatarAnswer | None
    is_blocked: bool
    created: int


class ContactsAnswer(Struct, frozen=True):
    """A page of your contacts; users whom you block are in it.

    :ivar cursor: gets the next page; null: this page is the last.
    :ivar revision: the `contacts_revision` of the list: pages with different revisions belong to different lists.
    """

    contacts: list[ContactAnswer]
    cursor: str | None
    revision: int


def user_body(user: bytes, shown: ShownProfile, encoding: Encoding) -> UserAnswer:
    avatar = avatar_or_none(shown.avatar, encoding)
    return UserAnswer(IDENT[encoding](user), shown.username, shown.display_name, avatar, shown.revision)


def profile_body(user: bytes, settings: ProfileSettings, encoding: Encoding) -> ProfileAnswer:
    return ProfileAnswer(
        user=IDENT[encoding](user),
        username=settings.username,
        display_name=settings.display_name,
        avatar=avatar_or_none(settings.avatar, encoding),
        revision=settings.revision,
        gives_receipts=settings.gives_receipts,
        shows_presence=settings.shows_presence,
        messages_from=settings.messages_from,
        groups_from=settings.groups_from,
    )


def contact_body(contact: ListedContact, encoding: Encoding) -> ContactAnswer:
    return ContactAnswer(
        user=IDENT[encoding](contact.user),
        username=contact.username,
        display_name=contact.display_name,
        avatar=avatar_or_none(contact.avatar, encoding),
        is_blocked=contact.is_blocked,
        created=contact.created,
    )
