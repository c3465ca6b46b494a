"""Notifiers: where users want to be told that messages wait, and the notices that each notifier took."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from store import sql
from store.errors import DeviceRevoked, TooManyNotifiers, UnknownNotifier
from store.postgres.driver import uuid, uuids
from store.postgres.pool import Pool
from store.quiet_hours import QuietHours

_sql = sql.load("notifiers")

MAX_NOTIFIERS: Final = 16
"""The notifiers of one user: a few devices, each with a browser or two, and a webhook. Each is a call to a service
per window."""

NOTICE_KEPT_S: Final = 28 * 86400.0
"""How long push services keep a notice for a device that is off; a notice can be withdrawn until then."""

LOOK_LEAST_S: Final = 5.0
"""When a notice is first checked for being pointless; then after a tenth of its age, up to `LOOK_MOST_S`."""

LOOK_MOST_S: Final = 3600.0
"""The longest time between two checks: a million users who stay away cost 300 checks a second, at 30 us each."""

LOOK_SOON_S: Final = 1.0
"""The delay of a check after a user reads: long enough for transactions under way to commit."""

MAX_ERROR: Final = 200
"""Characters that are kept of a notifier's error; as in the table."""


class WebhookTarget(Struct, frozen=True, tag_field="kind", tag="webhook"):
    """A URL, and the secret that signs its notices."""

    url: str
    secret: str = ""

    @property
    def place(self) -> str:
        return self.url


class EmailTarget(Struct, frozen=True, tag_field="kind", tag="email", omit_defaults=True):
    """The user's verified address (`store.emails`). Empty where the target is stored; filled in when it is read."""

    address: str = ""

    @property
    def place(self) -> str:
        return ""


class WebPushTarget(Struct, frozen=True, tag_field="kind", tag="web_push"):
    """A PushSubscription (W3C Push API); its keys in base64url, as there."""

    endpoint: str
    p256dh: str
    auth: str

    @property
    def place(self) -> str:
        return self.endpoint


class ApnsTarget(Struct, frozen=True, tag_field="kind", tag="apns"):
    """A device at Apple's push service; its token in hexadecimal."""

    token: str

    @property
    def place(self) -> str:
        return self.token


class FcmTarget(Struct, frozen=True, tag_field="kind", tag="fcm"):
    """A device at Firebase Cloud Messaging."""

    token: str

    @property
    def place(self) -> str:
        return self.token


Target: TypeAlias = WebhookTarget | EmailTarget | WebPushTarget | ApnsTarget | FcmTarget

_decode: Final = msgspec.json.Decoder(Target).decode


def kind_of(target: Target) -> str:
    """webhook, email, web_push, apns or fcm."""
    return str(target.__struct_config__.tag)


class AddedNotifier(Struct, frozen=True):
    """The outcome of adding a notifier.

    :ivar is_new: the user had no notifier for that target.
    """

    notifier: bytes
    is_new: bool


class RegisteredNotifier(Struct, frozen=True):
    """A notifier as its user sees it; times in microseconds since 1970.

    :ivar device: the device that a push service notifies.
    :ivar failing_since: None while notices succeed; otherwise `last_error` has the reason.
    """

    notifier: bytes
    device: bytes | None
    target: Target
    created: int
    failing_since: int | None
    last_error: str | None


class LastNotice(Struct, frozen=True):
    """The last notice that a notifier took; times in microseconds since 1970.

    :ivar name: of the notice.
    :ivar told: when the notifier took it.
    :ivar times: its number, from 1, since a device of the user last took or read a message.
    :ivar unread: the number of unread messages in it; 0 once it is withdrawn.
    :ivar delivered, read: the user's marks at that time (`NoticeContext`).
    :ivar is_shown: the service may still show it, and it can be withdrawn.
    """

    name: str
    told: int
    times: int
    unread: int
    delivered: int
    read: int
    is_shown: bool


class NotifierState(Struct, frozen=True):
    """A notifier, for the tasks.

    :ivar notifier: None for the deployment's webhook, which has no target here.
    :ivar device: the device that it notifies; None for other kinds.
    :ivar last: None if it has taken no notice.
    """

    notifier: bytes | None
    device: bytes | None
    target: Target | None
    last: LastNotice | None


class NoticeContext(Struct, frozen=True):
    """The facts that decide about notices for a user; times in microseconds since 1970. Leaves out conversations that
    want no notices, such as muted ones.

    :ivar is_undelivered: a message waits that no device of the user has marked delivered.
    :ivar unread_by: the devices that received messages which are unread for as long as the read window; None among them
        for an unknown device.
    :ivar oldest, newest: when the first and the last unread message were sent; None if all are read.
    :ivar delivered, read: the sums of the user's marks. If they differ from those before, a device of the user has
        taken messages, or the user has read some.
    :ivar unread, conversations: the number of unread messages, and of conversations with unread messages.
    :ivar now: by Postgres' clock.
    :ivar notifiers: those that were asked for.
    """

    is_undelivered: bool
    unread_by: frozenset[bytes | None]
    oldest: int | None
    newest: int | None
    delivered: int
    read: int
    unread: int
    conversations: int
    now: int
    quiet: QuietHours | None
    notifiers: tuple[NotifierState, ...]


async def add(pool: Pool, user: bytes, target: Target, *, device: bytes | None = None) -> AddedNotifier:
    """Register a notifier for a user.

    If the user has a notifier for that target, it gets the new secret or keys.

    :param device: for push services, the device that is notified. A notifier of another user for it is removed.
    :raises TooManyNotifiers: if the user has `MAX_NOTIFIERS`.
    :raises DeviceRevoked: if the device was revoked.
    """
    parameters = {
        "id": uuid(os.urandom(16)),
        "user": uuid(user),
        "device": device and uuid(device),
        "kind": kind_of(target),
        "target": msgspec.json.encode(target).decode(),
        "target_hash": _hash(target),
        "limit": MAX_NOTIFIERS,
    }
    [(outcome, notifier)] = await pool.fetch(_sql.add, parameters)
    if outcome == "full":
        raise TooManyNotifiers
    if outcome == "revoked":
        raise DeviceRevoked
    return AddedNotifier(notifier, outcome == "added")


def _hash(target: Target) -> bytes:
    return sha256(f"{kind_of(target)}:{target.place}".encode()).digest()


async def notifiers_of(pool: Pool, user: bytes) -> list[RegisteredNotifier]:
    """A user's notifiers, the oldest first."""
    rows = await pool.fetch(_sql.of_user, {"user": uuid(user)})
    return [
        RegisteredNotifier(notifier, device, _target(target, address), *rest)
        for notifier, device, target, address, *rest in rows
    ]


def _target(encoded: str, address: str | None) -> Target:
    target = _decode(encoded)
    return EmailTarget(address or "") if isinstance(target, EmailTarget) else target


async def remove(pool: Pool, user: bytes, notifier: bytes) -> None:
    """
    :raises UnknownNotifier: if the user has no such notifier.
    """
    if not await pool.fetch(_sql.remove, {"user": uuid(user), "notifier": uuid(notifier)}):
        raise UnknownNotifier


async def notice_context(
    pool: Pool,
    user: bytes,
    *,
    read_after_s: float,
    notifiers: Sequence[bytes] | None = None,
    to_deployment: bool = False,
) -> NoticeContext | None:
    """The facts for notices to a user, and the notices that the notifiers took last; None for an unknown user.

    :param read_after_s: the read window.
    :param notifiers: the notifiers to look at; None for all of the user's. Leaves out notifiers that cannot be used: of
        a revoked device, or e-mail without a verified address.
    :param to_deployment: look at the deployment's webhook, too.
    """
    parameters = {
        "user": uuid(user),
        "read_after_s": read_after_s,
        "notifiers": None if notifiers is None else uuids(notifiers),
        "to_deployment": to_deployment,
    }
    rows = await pool.fetch(_sql.notice_context, parameters)
    if not rows:
        return None
    is_undelivered, unread_by, oldest, newest, delivered, read, unread, conversations, now = rows[0][:9]
    from_minute, until_minute, zone = rows[0][9:12]
    return NoticeContext(
        is_undelivered,
        frozenset(unread_by),
        oldest,
        newest,
        delivered,
        read,
        unread,
        conversations,
        now,
        None if zone is None else QuietHours(from_minute, until_minute, zone),
        tuple(_notifier_state(*row[12:]) for row in rows if row[12] is not None),
    )


def _notifier_state(
    kind: str, notifier: bytes | None, device: bytes | None, target: str | None, address: str | None, *last: Any
) -> NotifierState:
    return NotifierState(
        notifier,
        device,
        None if target is None else _target(target, address),
        None if last[0] is None else LastNotice(*last),
    )


async def enqueue_notices(pool: Pool, user: bytes, *, job: int, delays_s: Mapping[bytes | None, float]) -> str:
    """Enqueue a job `notify` for notifiers of a user; return the notice's name.

    :param job: the job that the notice comes from.
    :param delays_s: notifier (None: the deployment's webhook) -> delay in seconds.
    """
    parameters = {
        "user": uuid(user),
        "job": job,
        "notifiers": uuids(list(delays_s)),
        "delays_s": [float(each) for each in delays_s.values()],
    }
    [(notice,)] = await pool.fetch(_sql.enqueue_notices, parameters)
    return str(notice)


async def note_taken(pool: Pool, user: bytes, state: NotifierState, last: LastNotice) -> None:
    """Note that a notifier took a notice, and that it no longer fails.

    :param last: the notice, with the user's state from before it was sent: any later change counts as after it.
    """
    parameters = {
        "user": uuid(user),
        "notifier": state.notifier and uuid(state.notifier),
        "notice": last.name,
        "told": last.told,
        "times": last.times,
        "unread": last.unread,
        "delivered": last.delivered,
        "read": last.read,
        "is_withdrawable": last.is_shown,
        "look_s": LOOK_LEAST_S,
    }
    await pool.fetch(_sql.note_taken, parameters)


async def note_withdrawn(pool: Pool, user: bytes, notifier: bytes | None, notice: str) -> None:
    """Note that this notice is no longer shown."""
    parameters = {"user": uuid(user), "notifier": notifier and uuid(notifier), "notice": notice}
    await pool.fetch(_sql.note_withdrawn, parameters)


async def enqueue_withdrawals(pool: Pool, *, limit: int) -> tuple[int, int]:
    """Look at notices that are shown, and enqueue the withdrawal of those whose messages are read: (looked at,
    withdrawn).

    Any number of workers may call it at once.
    """
    parameters = {"limit": limit, "least_s": LOOK_LEAST_S, "most_s": LOOK_MOST_S, "kept_s": NOTICE_KEPT_S}
    [(looked_at, pointless)] = await pool.fetch(_sql.enqueue_withdrawals, parameters)
    return looked_at, pointless


async def check_notices_soon(pool: Pool, users: Sequence[bytes]) -> None:
    """These users are reading: check in a moment whether their notices have become pointless."""
    await pool.fetch(_sql.check_notices_soon, {"users": uuids(users), "delay_s": LOOK_SOON_S})


async def note_failure(pool: Pool, notifier: bytes, error: str) -> tuple[float, int]:
    """Note a failure of the notifier; return how long it has failed (seconds), and how often."""
    # The answer of a service may have characters that Postgres refuses in a text: NUL, and lone surrogates.
    text = error.replace("\0", "").encode(errors="replace").decode()[:MAX_ERROR]
    parameters = {"notifier": uuid(notifier), "error": text}
    rows = await pool.fetch(_sql.note_failure, parameters)
    return rows[0] if rows else (0.0, 0)


async def remove_target(pool: Pool, notifier: bytes, target: Target) -> None:
    """Remove a notifier whose target is gone, unless it has another target by now."""
    kept = EmailTarget() if isinstance(target, EmailTarget) else target
    await pool.fetch(_sql.remove_target, {"notifier": uuid(notifier), "target": msgspec.json.encode(kept).decode()})
