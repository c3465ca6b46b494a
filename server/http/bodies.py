"""Bodies of requests as structs with the bounds of their fields.

`/openapi.json` has them, with the texts of `:ivar` in the docstrings.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID
from zoneinfo import available_timezones

from msgspec import Meta, Struct

from protocol.limits import (
    MAX_CLIENT_BYTES,
    MAX_GROUP_STATE_BYTES,
    MAX_LIFETIME_S,
    MAX_SEQ,
    MIN_LIFETIME_S,
    MIN_PASSWORD_CHARACTERS,
)
from runtime import usernames
from runtime.email_address import BadAddress, normal
from runtime.usernames import BadUsername, ReservedUsername
from server.http.decoding import InvalidBody
from server.http.password_rules import MAX_TYPED_CHARACTERS
from server.http.problem_codes import ProblemCode
from server.http.texts import DisplayName, Title
from store.profiles import AcceptedFrom
from store.quiet_hours import QuietHours

Username = Annotated[str, Meta(min_length=1, max_length=usernames.MAX_TYPED_CHARACTERS)]
"""A username that a user chooses; `username_in` checks the rest."""
Password = Annotated[str, Meta(min_length=MIN_PASSWORD_CHARACTERS, max_length=MAX_TYPED_CHARACTERS)]
"""A password that a user chooses; `server.http.passwords` checks the rest."""
Invitation = Annotated[str, Meta(max_length=64)]
"""The code of an invitation."""
ExternalToken = Annotated[str, Meta(max_length=8192)]
"""A JWT: those with groups and roles have some KB."""
Minute = Annotated[int, Meta(ge=0, le=1439)]
Client = Annotated[str, Meta(min_length=1, max_length=MAX_CLIENT_BYTES, pattern="^[ -~]*$")]


class Register(Struct, omit_defaults=True):
    """A new user.

    :ivar username: 1 to 32 letters and digits of one script, and the signs `_.-`; the first is a letter or a digit.
        The server keeps it in lower case and composed, as the answer shows it. It does not change.
    :ivar password: 8 to 256 characters, none of them a control character; neither common nor close to the username.
    :ivar invitation: the code of an invitation, if the server takes users with one alone.
    """

    username: Username
    password: Password
    invitation: Invitation | None = None


class LogIn(Struct, kw_only=True, omit_defaults=True):
    """A user who logs in with a new device: with username and password, or with a token of the external issuer.

    :ivar username: with an external token: the one that a new user chooses; it changes nothing for other users.
    :ivar external_token: a JWT of the external issuer, if this server has one.
    :ivar invitation: of a new user with an external token: the code of an invitation, if the server wants one.
    :ivar name: of the device.
    :ivar keeps_account: if you have asked to delete the account, it is not deleted.
    :ivar client: name and version of the program, to be shown in the list of devices: visible ASCII.
    """

    username: str | None = None
    password: str | None = None
    external_token: ExternalToken | None = None
    invitation: Invitation | None = None
    name: Title
    keeps_account: bool = False
    client: Client | None = None

    def __post_init__(self) -> None:
        if self.external_token is None and (self.username is None or self.password is None):
            raise ValueError("give username and password, or external_token")
        if self.external_token is not None and self.password is not None:
            raise ValueError("give password or external_token, one of the two")


class DeleteAccount(Struct):
    """Your wish to delete your account.

    :ivar deletes_messages: your messages are deleted for everyone; else they stay, as those of a deleted user.
    """

    deletes_messages: bool = False


class Confirm(Struct, omit_defaults=True):
    """The password, shown once more, or a token of a new login at the external issuer: one of the two."""

    password: str | None = None
    external_token: ExternalToken | None = None

    def __post_init__(self) -> None:
        if (self.password is None) == (self.external_token is None):
            raise ValueError("give password or external_token, one of the two")


class ChangePassword(Struct):
    """A new password.

    :ivar ends_other_sessions: your other devices are revoked.
    """

    old_password: str
    new_password: Password
    ends_other_sessions: bool = False


class NewDirect(Struct, tag_field="kind", tag="direct"):
    """A direct conversation.

    :ivar participants: the other user.
    """

    participants: Annotated[list[UUID], Meta(min_length=1, max_length=1)]


class NewSelf(Struct, tag_field="kind", tag="self"):
    """The conversation of your own devices."""


class NewGroup(Struct, tag_field="kind", tag="group"):
    """A group.

    :ivar participants: the other users; you are added, as administrator.
    """

    name: Title
    participants: Annotated[list[UUID], Meta(min_length=1, max_length=999)]


class PatchConversation(Struct):
    """Changes of the settings of a conversation.

    :ivar name: of the group.
    :ivar avatar: of the group: an upload of yours that was declared as an avatar, and is complete. The nil UUID (all
        zero) removes it.
    :ivar joiners_see_all: users who join see earlier messages.
    :ivar lifetime_s: the seconds that messages live: 60 or more, or 0 for no lifetime.
    """

    name: Title | None = None
    avatar: UUID | None = None
    joiners_see_all: bool | None = None
    lifetime_s: Annotated[int, Meta(ge=0, le=MAX_LIFETIME_S)] | None = None

    def __post_init__(self) -> None:
        if self.lifetime_s and self.lifetime_s < MIN_LIFETIME_S:
            raise ValueError(f"lifetime_s must be 0 (no lifetime) or {MIN_LIFETIME_S} to {MAX_LIFETIME_S} seconds")


class PatchProfile(Struct):
    """Changes of your profile and settings.

    :ivar display_name: the empty text removes it.
    :ivar avatar: an upload of yours that was declared as an avatar, and is complete. The nil UUID (all zero) removes
        it.
    :ivar gives_receipts: others see how far you have read.
    :ivar shows_presence: others see whether you are online, and when you were last.
    :ivar messages_from: users from whom you take first messages.
    :ivar groups_from: users from whom you take places in groups.
    """

    display_name: DisplayName | None = None
    avatar: UUID | None = None
    gives_receipts: bool | None = None
    shows_presence: bool | None = None
    messages_from: AcceptedFrom | None = None
    groups_from: AcceptedFrom | None = None


class PutEmail(Struct):
    """Your address, and the mails that you want.

    :ivar address: it may be international (RFC 6531).
    :ivar wants_digest: a daily mail with the number of unread messages.
    :ivar wants_device_notice: a mail when a new device logs in.
    :ivar digest_hour: of the day in `zone`.
    :ivar zone: a time zone of the IANA database, such as `Europe/Berlin`.
    """

    address: Annotated[str, Meta(max_length=320)]
    wants_digest: bool = False
    wants_device_notice: bool = True
    digest_hour: Annotated[int, Meta(ge=0, le=23)] = 8
    # Digits are allowed in Etc zones alone: Postgres would read other names with digits as rules of its own.
    zone: Annotated[
        str, Meta(max_length=64, pattern="^(UTC|Etc/GMT([+-][0-9]{1,2})?|[A-Z][A-Za-z_-]*(/[A-Z][A-Za-z_-]*){1,2})\\Z")
    ] = "UTC"


class AskPasswordReset(Struct):
    """An account whose password you do not know: one of the two.

    :ivar username: of the account.
    :ivar address: the account's verified e-mail address.
    """

    username: Annotated[str, Meta(max_length=256)] | None = None
    address: Annotated[str, Meta(max_length=320)] | None = None

    def __post_init__(self) -> None:
        if (self.username is None) == (self.address is None):
            raise ValueError("give username or address, one of the two")


class ResetPassword(Struct):
    """The token from the link of a mail, and another password."""

    token: Annotated[str, Meta(max_length=64)]
    new_password: Password


class ResetPasswordForm(Struct):
    """The form of the page that the mail leads to. The page says what is wrong with the password."""

    new_password: str = ""


class Verify(Struct):
    """The token from the link of a mail."""

    token: Annotated[str, Meta(max_length=64)]


class PutContact(Struct):
    """A contact, or a user whom you block."""

    is_blocked: bool = False


class PutQuietHours(Struct):
    """Your quiet hours.

    :ivar from_minute: of the day.
    :ivar until_minute: of the day; if it is before `from_minute`, of the next day.
    :ivar zone: a time zone of the IANA database, such as `Europe/Berlin`.
    """

    from_minute: Minute
    until_minute: Minute
    zone: Annotated[str, Meta(max_length=64)]


class PutGroupState(Struct):
    """The state of a conversation's cryptography after its last control message.

    :ivar control_seq: that control message.
    :ivar state: with MLS a GroupInfo with the ratchet tree.
    """

    control_seq: Annotated[int, Meta(ge=1, le=MAX_SEQ)]
    state: Annotated[bytes, Meta(min_length=1, max_length=MAX_GROUP_STATE_BYTES)]


class AddParticipant(Struct):
    """A user who takes part in the group from now on."""

    user: UUID


class PatchParticipant(Struct):
    """The role of a participant."""

    role: Literal["admin", "member"]


class Mute(Struct):
    """How long a conversation is muted.

    :ivar seconds: 0 ends the mute.
    """

    seconds: Annotated[int, Meta(ge=0, le=3650 * 86400)]


NewConversation: TypeAlias = NewDirect | NewGroup | NewSelf
NEW_CONVERSATION: Final[type[NewConversation]] = NewConversation  # type: ignore[assignment]
"""msgspec takes a union like a type, and its tag says which struct it is."""


class InvalidUsername(InvalidBody):
    code = ProblemCode.INVALID_USERNAME


class UsernameReserved(InvalidBody):
    code = ProblemCode.USERNAME_RESERVED


def username_in(typed: str) -> str:
    """The field `username` as the server keeps it.

    :raises InvalidUsername: if no user can have it, or a reader would take it for another one.
    :raises UsernameReserved: if it is reserved.
    """
    try:
        return usernames.new_username(typed)
    except ReservedUsername as error:
        raise UsernameReserved(f"the username {error} - at `$.username`", "#/username") from None
    except BadUsername as error:
        raise InvalidUsername(f"the username {error} - at `$.username`", "#/username") from None


def address_in(body: PutEmail | AskPasswordReset) -> str:
    """The address as the server keeps it.

    :raises InvalidBody: if it is not an address.
    """
    try:
        return normal(body.address or "")
    except BadAddress as error:
        raise InvalidBody(f"the address {error} - at `$.address`", "#/address") from None


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def quiet_hours_of(body: PutQuietHours) -> QuietHours:
    """
    :raises InvalidBody: if the zone does not exist, or the hours are empty.
    """
    if body.zone not in _zones():
        raise InvalidBody("zone: must be a time zone of the IANA database, such as Europe/Berlin", "#/zone")
    if body.from_minute == body.until_minute:
        raise InvalidBody("until_minute: must differ from from_minute; DELETE ends quiet hours", "#/until_minute")
    return QuietHours(body.from_minute, body.until_minute, body.zone)
