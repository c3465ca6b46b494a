"""How users want to be told that something waits for them: where to, and what became of it."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from store import sql
from store.errors import DeviceRevoked, TooManyNotifiers, UnknownNotifier
from store.pool import Pool
from store.postgres import uuid
from store.quiet_hours import QuietHours

_sql = sql.load("notifiers")

MAX_NOTIFIERS: Final = 16
"""Of one user: a few devices, each with a browser or two, and a webhook. Each is a call to somebody else per window."""

MAX_ERROR: Final = 200
"""Characters kept of how a notifier failed; as in the table."""


class WebhookTarget(Struct, frozen=True, tag_field="kind", tag="webhook"):
    """A URL, and the secret that its notices are signed with."""

    url: str
    secret: str = ""

    @property
    def place(self) -> str:
        return self.url


class EmailTarget(Struct, frozen=True, tag_field="kind", tag="email", omit_defaults=True):
    """The address that a user has verified (`store.emails`); looked up when it is needed, empty where it is kept."""

    address: str = ""

    @property
    def place(self) -> str:
        return ""


class WebPushTarget(Struct, frozen=True, tag_field="kind", tag="web_push"):
    """A PushSubscription (W3C Push API); the keys as there, in base64url."""

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


class Added(Struct, frozen=True):
    """The outcome of adding one.

    :ivar is_new: the user had no notifier for that target.
    """

    notifier: bytes
    is_new: bool


class Notifier(Struct, frozen=True):
    """A notifier as its user sees it; times in microseconds since 1970.

    :ivar device: of push services: which device is told.
    :ivar failing_since: None while it takes what it is told; else `last_error` says what is wrong.
    """

    notifier: bytes
    device: bytes | None
    target: Target
    created: int
    failing_since: int | None
    last_error: str | None


class Prospect(Struct, frozen=True):
    """What a notice for a user depends on.

    :ivar is_wanted: something is undelivered that the user may read and has not muted.
    :ivar now: by Postgres' clock, in microseconds since 1970.
    """

    is_wanted: bool
    now: int
    quiet: QuietHours | None


class Chosen(Struct, frozen=True):
    """A notifier as the task sees it.

    :ivar notice: the one that it took last.
    """

    target: Target
    notice: str | None


async def add(pool: Pool, user: bytes, target: Target, *, device: bytes | None = None) -> Added:
    """A user wants to be told in this way, too.

    For a target that the user has a notifier for, that one gets the new secret or keys.

    :param device: of push services: the one that is told. Whoever else had it there loses it.
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
    return Added(notifier, outcome == "added")


def _hash(target: Target) -> bytes:
    return sha256(f"{kind_of(target)}:{target.place}".encode()).digest()


async def notifiers_of(pool: Pool, user: bytes) -> list[Notifier]:
    """A user's notifiers, the oldest first."""
    rows = await pool.fetch(_sql.of_user, {"user": uuid(user)})
    return [
        Notifier(notifier, device, _target(target, address), *rest) for notifier, device, target, address, *rest in rows
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


async def look(pool: Pool, user: bytes) -> Prospect | None:
    """Whether a notice is wanted, and what time it is for the user; None if there is no such user."""
    rows = await pool.fetch(_sql.look, {"user": uuid(user)})
    if not rows:
        return None
    [(is_wanted, now, from_minute, until_minute, zone)] = rows
    return Prospect(is_wanted, now, None if zone is None else QuietHours(from_minute, until_minute, zone))


async def hand_out(pool: Pool, user: bytes, *, job: int, to_deployment: bool) -> tuple[str, int]:
    """Enqueue a job `notify` for each notifier of a user: the notice's name, and how many were enqueued.

    :param job: that the notice comes from.
    :param to_deployment: one more for the deployment's webhook.
    """
    parameters = {"user": uuid(user), "job": job, "to_deployment": to_deployment}
    [(notice, count)] = await pool.fetch(_sql.hand_out, parameters)
    return notice, count


async def chosen(pool: Pool, notifier: bytes) -> Chosen | None:
    """None if the notifier is gone, or is the e-mail of a user who has no verified address."""
    rows = await pool.fetch(_sql.chosen, {"notifier": uuid(notifier)})
    if not rows:
        return None
    [(encoded, notice, address)] = rows
    target = _target(encoded, address)
    return None if target == EmailTarget() else Chosen(target, notice)


async def took(pool: Pool, notifier: bytes, notice: str) -> None:
    """The notifier took this notice; it fails no longer."""
    await pool.fetch(_sql.took, {"notifier": uuid(notifier), "notice": notice})


async def failed(pool: Pool, notifier: bytes, error: str) -> tuple[float, int]:
    """The notifier failed: for how long it has (seconds), and how often."""
    # Somebody else's answer may have what a text in Postgres may not: NUL, and lone surrogates.
    text = error.replace("\0", "").encode(errors="replace").decode()[:MAX_ERROR]
    parameters = {"notifier": uuid(notifier), "error": text}
    rows = await pool.fetch(_sql.failed, parameters)
    return rows[0] if rows else (0.0, 0)


async def forget(pool: Pool, notifier: bytes, target: Target) -> None:
    """This target is gone; a notifier that has another one by now stays."""
    kept = EmailTarget() if isinstance(target, EmailTarget) else target
    await pool.fetch(_sql.forget, {"notifier": uuid(notifier), "target": msgspec.json.encode(kept).decode()})
