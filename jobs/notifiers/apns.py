"""Apple's push service, over HTTP/2, with tokens signed by the deployment's key (Apple: Sending notification requests
to APNs)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from jobs.notifiers.calls import post
from jobs.notifiers.notifier import KEPT_S, TYPE, Notice, TargetGone
from store.notifiers import ApnsTarget

TOKEN_S: Final = 50 * 60.0
"""How long a token is used. Apple refuses tokens older than an hour, and more than one new token in 20 minutes."""

GONE: Final = frozenset({"Unregistered", "ExpiredToken"})
"""Reasons that mean that this token will never reach the device. BadDeviceToken is not among them: Apple gives it for
all devices of the other environment (sandbox) too."""

STALE: Final = frozenset({"ExpiredProviderToken", "InvalidProviderToken"})
"""Reasons to sign a new token for the next attempt."""


class Apns:
    """
    :param client: must speak HTTP/2.
    :param url: of the service: https://api.push.apple.com, or the sandbox's.
    :param key: the text of the .p8 file (PEM).
    :param key_id: of the key, and `team_id`: of the account; ten characters each.
    :param topic: the app's bundle id.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        *,
        key: str,
        key_id: str,
        team_id: str,
        topic: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        :raises ValueError: if the key cannot be read.
        """
        loaded = load_pem_private_key(key.encode(), None)
        if not isinstance(loaded, EllipticCurvePrivateKey):
            raise ValueError("the key must be an elliptic-curve key")
        self._client = client
        self._url = url.rstrip("/")
        self._key = loaded
        self._key_id = key_id
        self._team_id = team_id
        self._topic = topic
        self._clock = clock
        self._token = ""
        self._signed = 0.0

    async def notify(self, target: ApnsTarget, notice: Notice) -> None:
        """
        :raises NotifyError: if the service refuses the notice, or does not answer in time.
        :raises TargetGone: if this token will never reach the device.
        """
        headers = {
            "authorization": f"bearer {self._our_token()}",
            "apns-topic": self._topic,
            # Apple refuses urgent background notifications.
            "apns-push-type": "background" if notice.is_withdrawn else "alert",
            "apns-priority": "5" if notice.is_withdrawn else "10",
            "apns-expiration": str(int(self._clock()) + KEPT_S),
            # The next notice, or the withdrawal, replaces this one.
            "apns-collapse-id": TYPE,
        }
        body = msgspec.json.encode({"aps": _aps(notice), **notice.body})
        answer = await post(self._client, f"{self._url}/3/device/{target.token}", body, headers)
        if answer.is_success:
            return
        reason = str(answer.json().get("reason", ""))
        if reason in GONE or answer.status == 410:
            raise TargetGone(reason or f"status {answer.status}")
        is_stale = reason in STALE
        if is_stale:
            self._token = ""
        raise answer.error(reason, is_final=answer.is_our_fault and not is_stale)

    def _our_token(self) -> str:
        now = self._clock()
        if not self._token or not 0 <= now - self._signed < TOKEN_S:
            claims = {"iss": self._team_id, "iat": int(now)}
            self._token = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
            self._signed = now
        return self._token


def _aps(notice: Notice) -> dict[str, Any]:
    """The part that the device handles by itself. The app has the words in its user's language, and may fetch and
    decrypt messages before it shows them; on a withdrawal, the app removes the notification."""
    if notice.is_withdrawn:
        return {"content-available": 1, "badge": 0}
    alert = {"loc-key": TYPE, "loc-args": [str(notice.unread), str(notice.conversations)]}
    return {"alert": alert, "badge": notice.unread, "sound": "default", "mutable-content": 1}
