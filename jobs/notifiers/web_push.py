"""Web Push (RFC 8030), to browsers and other clients of the Push API.

A notice is encrypted for the subscription (RFC 8291), so that the push service cannot read even these few numbers, and
a VAPID token names the sender to the service (RFC 8292). Both use the libraries below pywebpush, by the authors of
Mozilla's push service; pywebpush itself sends by requests or aiohttp.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import http_ece  # type: ignore[import-untyped]
import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02, VapidException  # type: ignore[import-untyped]

from jobs.notifiers.calls import post
from jobs.notifiers.notifier import KEPT_S, TYPE, Notice, NotifyError, TargetGone
from store.notifiers import WebPushTarget

TOKEN_S: Final = 12 * 3600
"""Lifetime of a VAPID token: at most 24 hours (RFC 8292, section 2), less the difference of clocks."""


class WebPush:
    """
    :param client: a guarded one (`jobs.notifiers.guard`): endpoints are URLs that users gave.
    :param private_key: the 32 bytes of a P-256 key, in base64url.
    :param contact: a `mailto:` or `https:` URL, for the push service's operators.
    """

    def __init__(
        self, client: httpx.AsyncClient, private_key: str, contact: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._client = client
        self._vapid = Vapid02.from_raw(private_key.encode())
        self._contact = contact
        self._clock = clock

    async def notify(self, target: WebPushTarget, notice: Notice) -> None:
        """
        :raises NotifyError: if the service refuses the notice, or does not answer in time.
        :raises TargetGone: if the subscription has ended (404, 410), or its keys are invalid.
        """
        headers = {
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(KEPT_S),
            "Urgency": "normal" if notice.is_withdrawn else "high",
            # The next notice, or the withdrawal, replaces this one (RFC 8030, section 5.4).
            "Topic": TYPE,
            **self._authorization(target.endpoint),
        }
        answer = await post(self._client, target.endpoint, encrypt(target, notice.body), headers)
        if answer.status in (404, 410):
            raise TargetGone(f"status {answer.status}")
        if not answer.is_success:
            raise answer.error(is_final=answer.is_our_fault)

    def _authorization(self, endpoint: str) -> dict[str, str]:
        parts = urlsplit(endpoint)
        claims = {
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": int(self._clock()) + TOKEN_S,
            "sub": self._contact,
        }
        try:
            signed: dict[str, str] = self._vapid.sign(claims)
        except VapidException as error:
            raise NotifyError(f"no VAPID token for {claims['aud']}: {error}", is_final=True) from None
        return signed


def encrypt(target: WebPushTarget, body: Any) -> bytes:
    """The body as JSON, encrypted for the subscription.

    :raises TargetGone: if the subscription's keys are invalid.
    """
    try:
        encrypted: bytes = http_ece.encrypt(
            msgspec.json.encode(body),
            private_key=ec.generate_private_key(ec.SECP256R1()),
            dh=_decode(target.p256dh),
            auth_secret=_decode(target.auth),
            version="aes128gcm",
        )
    except (ValueError, http_ece.ECEException) as error:
        raise TargetGone(f"invalid keys: {error}") from None
    return encrypted


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
