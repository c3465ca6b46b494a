"""Firebase Cloud Messaging, by its HTTP v1 interface and a service account (Firebase: "FCM v1 API")."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import jwt
import msgspec
import trio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from jobs.notifiers.calls import Response, post
from jobs.notifiers.notifier import KEPT_S, TYPE, Notice, TargetGone
from store.notifiers import FcmTarget

SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"

ASSERTION_S: Final = 3600
"""Lifetime of the assertion that is exchanged for a token; Google accepts no longer one."""

MARGIN_S: Final = 300.0
"""A token is not used in its last minutes, since clocks differ and calls take time."""

GONE: Final = "UNREGISTERED"
"""The error code that means that this token will never reach the device. FCM uses other codes if the credentials belong
to another project."""


class ServiceAccount(Struct, frozen=True):
    """The fields of a service account's JSON file that are used here."""

    project_id: str
    client_email: str
    private_key_id: str
    private_key: str
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105  (a URL)


class Fcm:
    """
    :param client: must speak HTTP/2.
    :param url: of the service: https://fcm.googleapis.com
    :param credentials: the text of a service account's JSON file.
    """

    def __init__(
        self, client: httpx.AsyncClient, url: str, credentials: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        """
        :raises ValueError: if the credentials cannot be read.
        """
        try:
            self._account = msgspec.json.decode(credentials, type=ServiceAccount)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None
        key = load_pem_private_key(self._account.private_key.encode(), None)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("private_key must be an RSA key")
        self._key = key
        self._client = client
        self._url = f"{url.rstrip('/')}/v1/projects/{self._account.project_id}/messages:send"
        self._clock = clock
        self._token = ""
        self._expires = 0.0
        self._renewing = trio.Lock()

    async def notify(self, target: FcmTarget, notice: Notice) -> None:
        """
        :raises NotifyError: if the service refuses the notice, or does not answer in time.
        :raises TargetGone: if this token will never reach the device.
        """
        token = await self._access_token()
        message = {
            "token": target.token,
            # FCM allows only strings as values.
            "data": {name: str(value) for name, value in notice.body.items()},
            "android": {
                # The next notice, or the withdrawal, replaces this one.
                "collapse_key": TYPE,
                # FCM allows few urgent messages that the user does not see.
                "priority": "normal" if notice.is_withdrawn else "high",
                "ttl": f"{KEPT_S}s",
            },
        }
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        answer = await post(self._client, self._url, msgspec.json.encode({"message": message}), headers)
        if answer.is_success:
            return
        is_stale = answer.status == 401
        if is_stale and token == self._token:
            self._token = ""
        code = _code(answer)
        if code == GONE:
            raise TargetGone(code)
        raise answer.error(code, is_final=answer.is_our_fault and not is_stale)

    async def _access_token(self) -> str:
        """The token for the service account; one call renews it while the others wait.

        :raises NotifyError: if the service issues no token.
        """
        async with self._renewing:
            if not self._token or self._clock() >= self._expires:
                self._token, self._expires = await self._new_token()
            return self._token

    async def _new_token(self) -> tuple[str, float]:
        now = int(self._clock())
        claims = {
            "iss": self._account.client_email,
            "scope": SCOPE,
            "aud": self._account.token_uri,
            "iat": now,
            "exp": now + ASSERTION_S,
        }
        assertion = jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._account.private_key_id})
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await post(self._client, self._account.token_uri, urlencode(form).encode(), headers)
        given = answer.json()
        token, lifetime_s = given.get("access_token"), given.get("expires_in")
        if not answer.is_success or not isinstance(token, str) or not isinstance(lifetime_s, int):
            raise answer.error(f"no access token: {given.get('error', 'unknown answer')}")
        return token, now + lifetime_s - MARGIN_S


def _code(answer: Response) -> str:
    """FCM's error code; empty if the answer has none."""
    for detail in _details(answer):
        if str(detail.get("@type", "")).endswith("/google.firebase.fcm.v1.FcmError"):
            return str(detail.get("errorCode", ""))
    return ""


def _details(answer: Response) -> Iterable[dict[str, Any]]:
    error = answer.json().get("error")
    details = error.get("details") if isinstance(error, dict) else None
    return [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []
