"""The life of an account."""

from __future__ import annotations

from msgspec import Struct

from runtime.config import RegistrationMode


class RegistrationAnswer(Struct, frozen=True):
    """Who may register at this server.

    :ivar mode: `open`: everybody; `invitation`: a user with the code of an invitation; `closed`: nobody.
    :ivar external_issuer: the issuer (`iss`) with whose tokens users may log in; null: there is none.
    """

    mode: RegistrationMode
    external_issuer: str | None


class ResetAskedAnswer(Struct, frozen=True):
    """A mail is on its way, if there is such an account with a verified address.

    :ivar lifetime_s: how long the link in it is good, at least.
    """

    lifetime_s: int


class DeletionAnswer(Struct, frozen=True):
    """An account that is to be deleted.

    :ivar due: when, in microseconds since 1970-01-01T00:00Z; until then a login may keep it.
    """

    due: int
