"""Notifiers over HTTP: the bodies of requests, and the checks of their values."""

from __future__ import annotations

import secrets
from base64 import b64encode, urlsafe_b64decode
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from server.http.decoding import InvalidBody
from store.notifiers import (
    ApnsTarget,
    EmailTarget,
    FcmTarget,
    Target,
    WebhookTarget,
    WebPushTarget,
)

MAX_URL: Final = 1024
"""In characters. Endpoints of push services have some 250."""

SECRET_BYTES: Final = 32
"""The length of a webhook's key: that of an HMAC-SHA256."""

Url = Annotated[str, Meta(max_length=MAX_URL, pattern="^[\\x21-\\x7e]+\\Z")]


class NewWebhook(Struct, tag_field="kind", tag="webhook"):
    """A webhook, which gets signed notices.

    :ivar url: an `https` URL without user and fragment.
    """

    url: Url


class NewEmail(Struct, tag_field="kind", tag="email"):
    """Mails to the address that you have verified."""


class Keys(Struct):
    """The keys of a PushSubscription.

    :ivar p256dh: a point of P-256, uncompressed, in base64url.
    :ivar auth: 16 bytes in base64url.
    """

    p256dh: Annotated[str, Meta(max_length=100)]
    auth: Annotated[str, Meta(max_length=30)]


class NewWebPush(Struct, tag_field="kind", tag="web_push"):
    """A browser: the JSON of its PushSubscription, with the kind."""

    endpoint: Url
    keys: Keys


class NewApns(Struct, tag_field="kind", tag="apns"):
    """An app on a device of Apple.

    :ivar token: the device token, in hexadecimal digits.
    """

    token: Annotated[str, Meta(pattern="^[0-9a-fA-F]{8,200}\\Z")]


class NewFcm(Struct, tag_field="kind", tag="fcm"):
    """An app that uses Firebase Cloud Messaging.

    :ivar token: the registration token.
    """

    token: Annotated[str, Meta(pattern="^[A-Za-z0-9:._-]{8,1024}\\Z")]


NewNotifier: TypeAlias = NewWebhook | NewEmail | NewWebPush | NewApns | NewFcm
NEW_NOTIFIER: Final[type[NewNotifier]] = NewNotifier  # type: ignore[assignment]
"""msgspec takes a union like a type, and its tag says which struct it is."""


def target_of(new: NewNotifier) -> Target:
    """The target that the store keeps; that of a webhook has a new secret.

    :raises InvalidBody: if its URL or its keys cannot be used.
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
                raise InvalidBody("keys.p256dh: must be a point of P-256, uncompressed, in base64url", "#/keys/p256dh")
            if len(_bytes_of(new.keys.auth)) != 16:
                raise InvalidBody("keys.auth: must be 16 bytes in base64url", "#/keys/auth")
            return WebPushTarget(new.endpoint, new.keys.p256dh, new.keys.auth)
        case NewApns():
            return ApnsTarget(new.token.lower())
        case NewFcm():
            return FcmTarget(new.token)


def _check_url(name: str, url: str) -> None:
    """The worker checks the address when it calls the URL, since a name may lead to a different address by then."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.username is not None or parts.fragment:
        raise InvalidBody(f"{name}: must be an https:// URL, without user and fragment", f"#/{name}")


def _bytes_of(text: str) -> bytes:
    """The bytes of base64url; empty if the text is not base64url."""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""


def is_of_device(target: Target) -> bool:
    """Whether it notifies the device that registers it alone, and ends when that device is revoked."""
    return isinstance(target, WebPushTarget | ApnsTarget | FcmTarget)
