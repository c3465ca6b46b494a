"""Every error that the store raises. The modules that meet a driver map its errors to these, in one place each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from protocol.frames import ListedDevice


class StoreError(Exception):
    """Base of all errors of the store."""


class Unavailable(StoreError):
    """A service cannot be reached, or the connection to it was lost. Retry; the request may have taken effect.

    :ivar service: "Postgres", "Redis" or "the object store".
    :ivar where: host and port, for the operator.
    """

    def __init__(self, service: str, where: str, detail: str) -> None:
        super().__init__(f"{service} at {where}: {detail}")
        self.service = service
        self.where = where
        self.detail = detail


class DatabaseError(StoreError):
    """Postgres refused a statement and did nothing: a fault of this program, unless a caller knows better.

    The text is Postgres' own and may repeat values. It is for logs, never for clients.

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


class EvictingRedis(StoreError):
    """Redis may evict keys when its memory is full, such as the stream of a node. An operator has to change its policy.

    :ivar where: host and port, for the operator.
    :ivar policy: its `maxmemory-policy`.
    """

    def __init__(self, where: str, policy: str) -> None:
        super().__init__(
            f"Redis at {where} may evict keys (maxmemory-policy {policy}), which loses pushes and jobs: set"
            " maxmemory-policy to noeviction in its configuration, and at once by CONFIG SET maxmemory-policy"
            " noeviction;"
            " or give REDIS_URL, REDIS_BUS_URL or REDIS_JOBS_URL a Redis of its own"
        )
        self.where = where
        self.policy = policy


class Overloaded(StoreError):
    """A bounded queue is full. Nothing was done; retry later.

    :ivar queue: its name.
    """

    def __init__(self, queue: str, size: int) -> None:
        super().__init__(f"{queue} already has {size} waiting")
        self.queue = queue


class Locked(StoreError):
    """Another transaction kept the rows locked. Nothing was done; retry later."""


class IdentityTaken(StoreError):
    """A user has this identity of an external issuer already: another request has registered that user just now."""


class InvitationVoid(StoreError):
    """There is no invitation with this code, or it was revoked, has expired, or has no use left."""


class UnknownInvitation(StoreError):
    """There is no invitation with this id, or no longer."""

    def __init__(self, invitation: bytes) -> None:
        super().__init__(f"there is no invitation {UUID(bytes=invitation)}")


class TooManyMails(StoreError):
    """The user asked too often for mails to addresses that are not verified. Nothing was done; retry after `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many mails; try again in {wait_s:.0f} s")
        self.wait_s = wait_s


class Refused(StoreError):
    """The store understood the request and refuses it. Retrying does not help."""


class BadJob(Refused):
    """A job has arguments that Postgres cannot keep, such as a NUL, or too many. The text names them."""


class NotAParticipant(Refused):
    """The user is not a participant of the conversation, or it does not exist: the two look alike on purpose."""


class TempIdConflict(Refused):
    """The sender used this temp_id for another message."""


class TempIdExpired(Refused):
    """The temp_id is too old for the server to know whether the sender has used it."""


class UsernameTaken(Refused):
    """Another user has this name."""


class PasswordChanged(Refused):
    """The user's password is another one than when it was checked."""


class UnknownUser(Refused):
    """No user has this id or name."""


class NotAnAdministrator(Refused):
    """Only an administrator of the group may make this change."""


class NotAGroup(Refused):
    """The conversation is direct, or of a user's own devices: it has no name or avatar, and the participants stay."""


class LastAdministrator(Refused):
    """The group would have no administrator."""


class GroupFull(Refused):
    """The group has the greatest number of participants that a group may have."""


class UnknownDevice(Refused):
    """The user has no such device."""


class TokenUnknown(Refused):
    """No device has this token."""


class TokenExpired(Refused):
    """The token has expired."""


class TokenRenewed(Refused):
    """The token after this one has been shown already, so this one cannot be renewed."""


class TokenReused(Refused):
    """A token of the device was shown that had ended, so a thief may have it: the server has revoked the device."""


class DeviceRevoked(Refused):
    """The user has revoked the device that has this token."""


class UnknownZone(Refused):
    """Postgres knows no time zone of that name."""


class VerificationUnknown(Refused):
    """Unknown token, or the address has changed since."""


class VerificationExpired(Refused):
    """The server sent the token too long ago."""


class ResetUnknown(Refused):
    """Unknown token, or it is void: it was used, or the password or the address has changed since."""


class ResetExpired(Refused):
    """The server sent the token too long ago."""


class UnknownExport(Refused):
    """The user has no such export, or it is not ready, or it has no such part."""


class TooManyExports(Refused):
    """The user has asked for an export lately.

    :ivar wait_s: how many seconds until the user may ask for the next one.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many exports; wait {wait_s:.0f} s")
        self.wait_s = wait_s


class UnsubscribeUnknown(Refused):
    """Unknown token, or the address has changed since."""


class UnknownNotifier(Refused):
    """The user has no such notifier."""


class TooManyNotifiers(Refused):
    """The user has the greatest number of notifiers that a user may have."""


class AccountClosed(Refused):
    """The user has asked to delete the account."""


class AccountSuspended(Refused):
    """An operator has suspended the user."""


class RecipientDeleted(Refused):
    """The conversation is direct, and its other user is deleted."""


class UnknownMessage(Refused):
    """The message does not exist, or this user may not see it."""


class NotTheSender(Refused):
    """The message is another user's; or another device wrote it, and the request is for that device alone."""


class MessageDeleted(Refused):
    """The message was deleted, so there is nothing to edit."""


class UnknownAttachment(Refused):
    """An attachment does not exist, is another user's or a thumbnail, was declared for another purpose, or is gone."""


class AttachmentIncomplete(Refused):
    """The object store was not seen to have an attachment, or its thumbnail, as declared."""


class AttachmentUsed(Refused):
    """An attachment belongs to another message, is shown as an avatar already, or is named twice."""


ATTACHMENT_OUTCOMES: Final[dict[str, type[Refused]]] = {
    "unattachable": UnknownAttachment,
    "incomplete": AttachmentIncomplete,
    "used": AttachmentUsed,
}
"""Why a message, a user or a group cannot have an attachment: the outcomes of `refused_attachment()` and
`take_avatar()`, in store/sql/functions/."""


class NotAccepted(Refused):
    """Some users, by their settings, do not accept messages from this user, or groups that this user adds them to.

    :ivar users: those users.
    """

    def __init__(self, users: Sequence[bytes]) -> None:
        super().__init__(f"not accepted by {len(users)} users")
        self.users = users


class TooManyStarts(Refused):
    """The user has begun as many conversations with strangers as a user may.

    :ivar wait_s: how many seconds until the user may begin the next one.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many conversations with strangers; wait {wait_s:.0f} s")
        self.wait_s = wait_s


class TooManyPlaces(Refused):
    """The user has filled as many places in groups as a user may.

    :ivar wait_s: how many seconds until the user may fill as many as now.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many participants added to groups; wait {wait_s:.0f} s")
        self.wait_s = wait_s


class NotARequest(Refused):
    """The conversation is not a request, or not one any longer."""


class RevisionConflict(Refused):
    """The edit names a revision other than the message's current one."""


class StaleDevices(Refused):
    """The message was encrypted for another set of devices than the participants have now.

    :ivar version: the present version of the conversation's device set.
    :ivar users: those whose devices have changed since the version that the sender knows; some may have left.
    :ivar devices: of these users, if they were asked for; `more`: there are further ones, with greater ids.
    """

    devices: list[ListedDevice] | None = None
    more = False

    def __init__(self, version: int, users: Sequence[bytes]) -> None:
        super().__init__(f"the devices of {len(users)} users have changed")
        self.version = version
        self.users = users


class UnlistedDevices(Refused):
    """Envelopes are for devices that are not of the conversation's device set.

    :ivar devices: these.
    """

    def __init__(self, devices: Sequence[bytes]) -> None:
        super().__init__(f"{len(devices)} devices are not of the device set")
        self.devices = devices


class ControlConflict(Refused):
    """The control message follows another one than the last.

    :ivar control_seq: the last one.
    """

    def __init__(self, control_seq: int) -> None:
        super().__init__(f"the last control message is {control_seq}")
        self.control_seq = control_seq


class TooManyParts(Refused):
    """The message has as many edits with envelopes as it may: `limits.MAX_ENVELOPE_PARTS`."""


class OwnMessage(Refused):
    """The device that reports the message wrote it, and gets no envelope of it."""


class NoIdentity(Refused):
    """The device has published no identity, so no other device can encrypt for it."""


class BadUpload(Refused):
    """The declaration of a file contradicts itself, or is beyond the bounds of all deployments.

    :ivar says: which, and what is allowed: a sentence for the client.
    """

    def __init__(self, says: str) -> None:
        super().__init__(says)
        self.says = says


class QuotaExceeded(Refused):
    """The files would exceed a quota. Nothing was stored.

    :ivar quota: a field of `store.objects.quotas.Quotas`.
    :ivar value: the most that it allows.
    """

    def __init__(self, quota: str, value: int) -> None:
        super().__init__(f"quota {quota}: {value}")
        self.quota = quota
        self.value = value


class NoObjectStore(Refused):
    """The deployment has no object store."""


class ExpiredCursor(Refused):
    """The cursor is too old: the server has forgotten what changed since."""


class ForeignCursor(Refused):
    """The cursor was not issued to this user by this server's current database."""


class ForeignKeyHistory(Refused):
    """The device does not know that the database is in another history, or that keys need one. Nothing was stored."""


class ObjectMissing(Refused):
    """The object store has no object under this key.

    :ivar key: the key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"no object {key}")
        self.key = key


class ObjectDiffers(Refused):
    """The object store has other bytes, or fewer, than were declared.

    :ivar key: of the object.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"the bytes of the object {key} are not those that were declared")
        self.key = key


class ObjectTooLarge(Refused):
    """The object has more bytes than its reader accepts."""

    def __init__(self, key: str, max_bytes: int) -> None:
        super().__init__(f"object {key} has more than {max_bytes} bytes")
        self.key = key


class PartBusy(Refused):
    """Another request is writing this part, or the upload is being completed.

    :ivar key: of the object.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"another request is writing a part of {key}")
        self.key = key


class TicketInvalid(Refused):
    """The URL is no ticket of this object store, or one for another method or key."""


class TicketExpired(Refused):
    """The ticket's time is over."""


class BadKey(Refused):
    """This cannot be the key of an object: `store.objects.interface.Objects` describes keys."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key[:100]!r} cannot be the key of an object")


class ObjectStoreRefused(StoreError):
    """The object store answers and refuses the request. An operator has to check OBJECT_STORE_URL, or the rights and
    the disk of the store that it names.

    :ivar where: host and bucket, or the folder.
    """

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(f"the object store at {where} refuses: {detail}; see OBJECT_STORE_URL")
        self.where = where


class BadArchive(StoreError):
    """The object is damaged, not an archive, or an archive of a later version.

    :ivar key: the object's key.
    """

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"archive {key}: {detail}")
        self.key = key
