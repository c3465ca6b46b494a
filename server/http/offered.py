"""The kinds of notifiers that this deployment offers: those that its workers have keys for."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Struct

from runtime.config import Config


class Offered(Struct, frozen=True):
    """The notifiers that this deployment offers.

    :ivar kinds: kinds of notifiers that workers have keys for.
    :ivar vapid_public_key: the `applicationServerKey` of browsers, in base64url.
    """

    kinds: frozenset[str] = frozenset({"webhook"})
    vapid_public_key: str | None = None


WEBHOOKS: Final = Offered()
"""Webhooks alone, which need no keys."""


def offered_by(config: Config) -> Offered:
    """The kinds that workers with this configuration can notify."""
    kinds = {
        "webhook": True,
        "email": bool(config.smtp_url),
        "web_push": bool(config.vapid_private_key),
        "apns": bool(config.apns_key),
        "fcm": bool(config.fcm_credentials),
    }
    return Offered(
        frozenset(kind for kind, is_offered in kinds.items() if is_offered),
        _public_key(config.vapid_private_key) if config.vapid_private_key else None,
    )


def _public_key(private_key: str) -> str:
    number = int.from_bytes(urlsafe_b64decode(private_key + "=" * (-len(private_key) % 4)), "big")
    key = ec.derive_private_key(number, ec.SECP256R1()).public_key()
    return urlsafe_b64encode(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).rstrip(b"=").decode()
