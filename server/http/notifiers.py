"""How users say how they want to be told that something waits: what the HTTP interface takes, checks and answers."""

from __future__ import annotations

import secrets
from base64 import b64encode, urlsafe_b64decode
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from server.http.encoding import Encoding, InvalidBody, ident
from store.notifiers import (
    AddedNotifier,
    ApnsTarget,
    EmailTarget,
    FcmTarget,
    RegisteredNotifier,
    Target,
    WebhookTarget,
    WebPushTarget,
    kind_of,
)

MAX_URL: Final = 1024
"""Characters: endpoints of push services have some 250."""

SECRET_BYTES: Final = 32
"""Of a webhook's key: as long as what HMAC-SHA256 makes of it."""

Url = Annotated[str, Meta(max_length=MAX_URL, pattern="^[\\x21-\\x7e]+\\Z")]


class NewWebhook(Struct, tag_field="kind", tag="webhook"):
    """POST /v1/notifiers"""

    url: Url


class NewEmail(Struct, tag_field="kind", tag="email"):
    """POST /v1/notifiers: to the address that the user has verified (PUT /v1/email)."""


class Keys(Struct):
    """Of a PushSubscription."""

    p256dh: Annotated[str, Meta(max_length=100)]
    auth: Annotated[str, Meta(max_length=30)]


class NewWebPush(Struct, tag_field="kind", tag="web_push"):
    """POST /v1/notifiers: a PushSubscription as it writes itself down in JSON, with the kind."""

    endpoint: Url
    keys: Keys


class NewApns(Struct, tag_field="kind", tag="apns"):
    """POST /v1/notifiers"""

    token: Annotated[str, Meta(pattern="^[0-9a-fA-F]{8,200}\\Z")]


class NewFcm(Struct, tag_field="kind", tag="fcm"):
    """POST /v1/notifiers"""

    token: Annotated[str, Meta(pattern="^[A-Za-z0-9:._-]{8,1024}\\Z")]


NewNotifier: TypeAlias = NewWebhook | NewEmail | NewWebPush | NewApns | NewFcm
NEW_NOTIFIER: Final[type[NewNotifier]] = NewNotifier  # type: ignore[assignment]
"""A union is as good as a type to msgspec, and the tag says which."""


def target_of(new: NewNotifier) -> Target:
    """What is kept of it, with a new secret where it needs one.

    :raises InvalidBody: if it is nothing that can be told.
    """
    match new:
        case NewWebhook():
            _check_url("url", new.url)
            return WebhookTarget(new.url, f"whsec_{b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}")
        case NewEmail():
            return EmailTarget()
        case NewWebPush():
            _check_url("endpoint", new.endpoint)
            # The two lengths of RFC 8291, section 3.
            if _bytes_of(new.keys.p256dh)[:1] != b"\x04" or len(_bytes_of(new.keys.p256dh)) != 65:
                raise InvalidBody("keys.p256dh: must be a point of P-256, uncompressed, in base64url")
            if len(_bytes_of(new.keys.auth)) != 16:
                raise InvalidBody("keys.auth: must be 16 bytes in base64url")
            return WebPushTarget(new.endpoint, new.keys.p256dh, new.keys.auth)
        case NewApns():
            return ApnsTarget(new.token.lower())
        case NewFcm():
            return FcmTarget(new.token)


def _check_url(name: str, url: str) -> None:
    """Where it leads to is looked at by whoever calls it: a name may stand for another address by then."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.username is not None or parts.fragment:
        raise InvalidBody(f"{name}: must be an https:// URL, without user and fragment")


def _bytes_of(text: str) -> bytes:
    """Base64url; nothing if it is none."""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


def is_of_device(target: Target) -> bool:
    """Whether it tells the device that registers it, and goes with that."""
    return isinstance(target, WebPushTarget | ApnsTarget | FcmTarget)


def added_body(added: AddedNotifier, target: Target, encoding: Encoding) -> dict[str, Any]:
    """With a webhook's secret, which is shown this once."""
    body: dict[str, Any] = {"notifier": ident(added.notifier, encoding), "kind": kind_of(target)}
    if isinstance(target, WebhookTarget):
        body["secret"] = target.secret
    return body


def notifier_body(notifier: RegisteredNotifier, encoding: Encoding) -> dict[str, Any]:
    """Without keys and tokens."""
    match notifier.target:
        case WebhookTarget(url=shown) | EmailTarget(address=shown):
            pass
        case _:
            shown = ""
    return {
        "notifier": ident(notifier.notifier, encoding),
        "kind": kind_of(notifier.target),
        "address": shown or None,
        "device": notifier.device and ident(notifier.device, encoding),
        "created": notifier.created,
        "failing_since": notifier.failing_since,
        "last_error": notifier.last_error,
    }
