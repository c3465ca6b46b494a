"""What can go wrong in the store, as its callers see it. Driver errors are mapped to these once, at the edges."""

from __future__ import annotations

from collections.abc import Sequence


class StoreError(Exception):
    """Base of all errors of the store."""


class Unavailable(StoreError):
    """A service cannot be reached, or the connection to it was lost. Retry; what was asked may have taken effect.

    :ivar service: "Postgres", "Redis" or "the object store".
    :ivar where: host and port, for the operator.
    """

    def __init__(self, service: str, where: str, detail: str) -> None:
        super().__init__(f"{service} at {where}: {detail}")
        self.service = service
        self.where = where
        self.detail = detail


class DatabaseError(StoreError):
    """Postgres refused a statement, and nothing was done: a fault of this program, unless a caller knows better.

    The text is Postgres' own and may repeat values: it is for logs, never for clients.

    :ivar sqlstate: five characters (https://www.postgresql.org/docs/current/errcodes-appendix.html); empty if the
        driver refused the statement before it was sent.
    :ivar constraint: the name of the constraint that the statement violated; empty if it violated none.
    """

    def __init__(self, detail: str, sqlstate: str = "", constraint: str = "") -> None:
        super().__init__(detail)
        self.sqlstate = sqlstate
        self.constraint = constraint


class Retryable(DatabaseError):
    """A concurrent transaction was in the way (unique violation, deadlock, serialization failure): the same statement
    may succeed at once, on a new snapshot."""


class BadValue(DatabaseError):
    """Postgres cannot keep a value (NUL in a text, invalid JSON, a failed check): retrying does not help."""


class PoolerRefused(StoreError):
    """A connection pooler stands between this process and Postgres. An operator has to change DATABASE_URL.

    :ivar where: host and port, for the operator.
    """

    def __init__(self, where: str) -> None:
        super().__init__(
            f"a connection pooler, such as PgBouncer, answers at {where}: give DATABASE_URL the address of Postgres"
            " itself (each process keeps few connections, prepares statements on them and cancels queries)"
        )
        self.where = where


class Overloaded(StoreError):
    """A bounded queue is full. Nothing was done; retry later.

    :ivar queue: which one.
    """

    def __init__(self, queue: str, size: int) -> None:
        super().__init__(f"{queue} already has {size} waiting")
        self.queue = queue


class Locked(StoreError):
    """What was to be written to stayed locked by somebody else. Nothing was done; retry later."""


class TooManyMails(StoreError):
    """Mails to addresses that are not verified were asked for too often. Nothing was done; retry after `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many mails were asked for; again in {wait_s:.0f} s")
        self.wait_s = wait_s


class Refused(StoreError):
    """The store understood, and the answer is no. Retrying does not help."""


class BadJob(Refused):
    """A job has arguments that Postgres cannot keep, such as a NUL, or too many. The text says what."""


class NotAParticipant(Refused):
    """The user is not a participant of the conversation, or it does not exist: the two look alike on purpose."""


class TempIdConflict(Refused):
    """The sender used this temp_id for another message."""


class TempIdExpired(Refused):
    """The temp_id is so old that whether it was used is no longer known."""


class UsernameTaken(Refused):
    """Another user has this name."""


class UnknownUser(Refused):
    """There is no user of this id or name."""


class NotAnAdministrator(Refused):
    """Only an administrator of the group may do that."""


class LastAdministrator(Refused):
    """The group would have no administrator."""


class GroupFull(Refused):
    """The group has as many participants as it may."""


class UnknownDevice(Refused):
    """The user has no such device."""


class TokenUnknown(Refused):
    """Nobody has this token."""


class TokenExpired(Refused):
    """The token was good, and is so no longer."""


class DeviceRevoked(Refused):
    """The user has revoked the device whose token it is."""


class UnknownZone(Refused):
    """Postgres knows no time zone of that name."""


class VerificationUnknown(Refused):
    """No address that somebody has now was sent this token."""


class VerificationExpired(Refused):
    """The token was sent too long ago."""


class UnsubscribeUnknown(Refused):
    """No address that somebody has now was sent this token."""


class UnknownNotifier(Refused):
    """The user has no such notifier."""


class TooManyNotifiers(Refused):
    """The user has as many notifiers as one may."""


class UnknownMessage(Refused):
    """There is no such message, or this user may not see it."""


class NotTheSender(Refused):
    """The message is another user's."""


class MessageDeleted(Refused):
    """The message was deleted, so there is nothing to edit."""


class NotAccepted(Refused):
    """Some users do not take messages, or a place in a group, from this one: by their settings.

    :ivar users: who.
    """

    def __init__(self, users: Sequence[bytes]) -> None:
        super().__init__(f"not accepted by {len(users)}")
        self.users = users


class TooManyStarts(Refused):
    """The user has begun as many conversations with strangers as may be.

    :ivar wait_s: after so many seconds there may be another.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many conversations with strangers; wait {wait_s:.0f} s")
        self.wait_s = wait_s


class NotARequest(Refused):
    """The conversation is no request, or none any more."""


class RevisionConflict(Refused):
    """The message has another revision than the one that the edit is about."""


class ExpiredCursor(Refused):
    """The cursor is so old that what has changed since is no longer known."""


class ForeignCursor(Refused):
    """The cursor is none of ours, or another user's, or of another history."""


class ObjectMissing(Refused):
    """The object store has nothing under this key.

    :ivar key: which one.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"no object {key}")
        self.key = key


class ObjectTooLarge(Refused):
    """The object has more bytes than its reader is ready to take."""

    def __init__(self, key: str, max_bytes: int) -> None:
        super().__init__(f"object {key} has more than {max_bytes} bytes")
        self.key = key


class BadKey(Refused):
    """This is no key of an object: see `store.objects.interface.Objects` for what is one."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key[:100]!r} is no key of an object")


class ObjectStoreRefused(StoreError):
    """The object store answers, and does not do what it is asked. An operator has to look at OBJECT_STORE_URL, or at
    the rights and the disk of what it names.

    :ivar where: host and bucket, or the folder.
    """

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(f"the object store at {where} refuses: {detail}; see OBJECT_STORE_URL")
        self.where = where


class BadArchive(StoreError):
    """An object is no archive of ours, of a later version, or damaged.

    :ivar key: of the object.
    """

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"archive {key}: {detail}")
        self.key = key
