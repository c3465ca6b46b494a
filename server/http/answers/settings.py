"""A user's mails and quiet hours."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict

from store.emails import EmailSettings
from store.quiet_hours import QuietHours


class EmailAnswer(Struct, frozen=True):
    """Your address, and the mails that you want.

    :ivar address: null if you have none.
    :ivar digest_hour: of the day in `zone`.
    :ivar zone: a time zone of the IANA database.
    """

    address: str | None
    is_verified: bool
    wants_digest: bool
    wants_device_notice: bool
    digest_hour: int
    zone: str


class ChangedEmailAnswer(EmailAnswer, frozen=True):
    """Your address, and the mails that you want.

    :ivar sends_mail: whether a mail goes to the address, to verify it.
    """

    sends_mail: bool


class QuietHoursAnswer(Struct, frozen=True):
    """Your quiet hours; null in each field if you have none.

    :ivar from_minute: of the day, 0 to 1439.
    :ivar until_minute: of the day, 0 to 1439; if it is before `from_minute`, of the next day.
    :ivar zone: a time zone of the IANA database.
    """

    from_minute: int | None
    until_minute: int | None
    zone: str | None


def email_body(settings: EmailSettings) -> EmailAnswer:
    return EmailAnswer(**asdict(settings))


def changed_email_body(settings: EmailSettings, *, sends_mail: bool) -> ChangedEmailAnswer:
    return ChangedEmailAnswer(**asdict(settings), sends_mail=sends_mail)


def quiet_hours_body(quiet: QuietHours | None) -> QuietHoursAnswer:
    if quiet is None:
        return QuietHoursAnswer(None, None, None)
    return QuietHoursAnswer(quiet.from_minute, quiet.until_minute, quiet.zone)
