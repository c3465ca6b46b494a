"""The life of an account."""

from __future__ import annotations

from msgspec import Struct


class ResetAskedAnswer(Struct, frozen=True):
    """A mail is on its way, if there is such an account with a verified address.

    :ivar lifetime_s: how long the link in it is good.
    """

    lifetime_s: int


class DeletionAnswer(Struct, frozen=True):
    """An account that is to be deleted.

    :ivar due: when, in microseconds since 1970-01-01T00:00Z; until then a login may keep it.
    """

    due: int
