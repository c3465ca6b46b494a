"""A user's notifiers."""

from __future__ import annotations

from typing import Literal, TypeAlias, cast

from msgspec import UNSET, Struct, UnsetType

from server.http.encoding import IDENT, Encoding, Ident, ident_or_none
from store.notifiers import AddedNotifier, EmailTarget, RegisteredNotifier, Target, WebhookTarget, kind_of

Kind: TypeAlias = Literal["webhook", "email", "web_push", "apns", "fcm"]


class AddedNotifierAnswer(Struct, frozen=True):
    """A notifier that was added, or was there.

    :ivar secret: of a webhook alone: the key of its signatures. It is new each time, and no other answer shows it.
    """

    notifier: Ident
    kind: Kind
    secret: str | UnsetType = UNSET


class NotifierAnswer(Struct, frozen=True):
    """A notifier without its keys and tokens.

    :ivar address: the URL of a webhook, or the e-mail address; null for a push service.
    :ivar device: the device that a push service notifies.
    :ivar created: microseconds since 1970-01-01T00:00Z.
    :ivar failing_since: microseconds since 1970-01-01T00:00Z; null while notices succeed.
    :ivar last_error: the reason of the last failure; null while notices succeed.
    """

    notifier: Ident
    kind: Kind
    address: str | None
    device: Ident | None
    created: int
    failing_since: int | None
    last_error: str | None


class NotifiersAnswer(Struct, frozen=True):
    """Your notifiers, the oldest first."""

    notifiers: list[NotifierAnswer]


class NotifierKeysAnswer(Struct, frozen=True):
    """The notifiers that this deployment offers.

    :ivar vapid_public_key: the `applicationServerKey` that browsers subscribe with, in base64url.
    """

    kinds: list[Kind]
    vapid_public_key: str | None


def added_body(added: AddedNotifier, target: Target, encoding: Encoding) -> AddedNotifierAnswer:
    """The answer with a webhook's secret, which no later answer shows."""
    secret = target.secret if isinstance(target, WebhookTarget) else UNSET
    return AddedNotifierAnswer(IDENT[encoding](added.notifier), _kind(target), secret)


def notifier_body(notifier: RegisteredNotifier, encoding: Encoding) -> NotifierAnswer:
    match notifier.target:
        case WebhookTarget(url=shown) | EmailTarget(address=shown):
            pass
        case _:
            shown = ""
    return NotifierAnswer(
        notifier=IDENT[encoding](notifier.notifier),
        kind=_kind(notifier.target),
        address=shown or None,
        device=ident_or_none(notifier.device, encoding),
        created=notifier.created,
        failing_since=notifier.failing_since,
        last_error=notifier.last_error,
    )


def _kind(target: Target) -> Kind:
    return cast(Kind, kind_of(target))
